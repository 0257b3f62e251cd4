"""Kafka Consumer: records of a topic become events (Camunda docs, "Kafka consumer connector")."""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.kafka._settings import Authentication, Topic
from gateway import InboundContext, inbound_connector

PolicyKind = Literal["retry", "stop", "skip", "dead-letter"]


class SchemaStrategy(BaseModel):
    """How values are read. schema: Avro, for `inlineSchema`."""

    type: Literal["noSchema", "inlineSchema", "schemaRegistry"] = "noSchema"
    avro: str | None = Field(default=None, alias="schema")
    schemaType: Literal["avro", "json"] = "avro"  # noqa: N815 - the property's own name, here and below
    schemaRegistryUrl: str | None = None  # noqa: N815

    @model_validator(mode="after")
    def _complete(self) -> "SchemaStrategy":
        if self.type == "inlineSchema":
            from connectors.kafka._avro import AvroSchema, InvalidSchema  # takes its time to load

            try:
                AvroSchema(self.avro or "")
            except InvalidSchema as e:
                raise PydanticCustomError(
                    "schema", "schema: expected an Avro schema: {reason}", {"reason": str(e)}
                ) from None
        if self.type == "schemaRegistry" and not (self.schemaRegistryUrl and self.schemaRegistryUrl.strip()):
            raise PydanticCustomError("registry", "schemaRegistryUrl: must not be blank")
        return self


class KafkaConsumerSettings(BaseModel):
    """The properties of the consumer.

    offsets: where each partition begins, at the first assignment. maxInFlight: records at once. poisonPolicy: what becomes of a
    record that cannot be handled; poisonRetries: how often it is tried again before that, where that may help.
    """

    authentication: Authentication = Authentication()
    topic: Topic
    groupId: str | None = None  # noqa: N815
    additionalProperties: dict[str, Any] | None = None  # noqa: N815
    offsets: list[int] | None = None
    autoOffsetReset: Literal["none", "latest", "earliest"] = "latest"  # noqa: N815
    schemaStrategy: SchemaStrategy = SchemaStrategy()  # noqa: N815
    maxInFlight: int = Field(default=64, ge=1, le=10_000)  # noqa: N815
    poisonPolicy: PolicyKind = "retry"  # noqa: N815
    poisonRetries: int = Field(default=3, ge=0)  # noqa: N815
    deadLetterTopic: str | None = Field(default=None, validate_default=True)  # noqa: N815

    @field_validator("deadLetterTopic")
    @classmethod
    def _given_where_needed(cls, value: str | None, info: Any) -> str | None:
        if info.data.get("poisonPolicy") == "dead-letter" and not (value and value.strip()):
            raise PydanticCustomError("topic", "must not be blank where poisonPolicy is dead-letter")
        return value


@inbound_connector("Kafka Consumer", type="io.camunda:connector-kafka-inbound:1")
async def kafka_consumer(settings: KafkaConsumerSettings, source: InboundContext) -> None:
    """Reads a topic as a member of a consumer group, until it is cancelled. The message id is `topic-partition-offset`.

    Records of one key keep their order, others are handled side by side. An offset is committed when its record and all before it
    are done. A record that cannot be handled holds up its partition, no other.
    """
    from connectors.kafka._consuming import consume  # loads the client

    await consume(settings, source)
