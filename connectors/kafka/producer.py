"""Kafka Producer: a task sends one record (Camunda docs, "Kafka producer connector")."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.kafka._settings import Authentication, Topic
from gateway import JobContext, outbound_connector


class Message(BaseModel):
    """key: a missing one is sent as the text `null`, as the original does, so that it goes to the same partition."""

    key: Any = None
    value: Any = Field(default=None, validate_default=True)

    @field_validator("value")
    @classmethod
    def _given(cls, value: Any) -> Any:
        if value is None:
            raise PydanticCustomError("not_null", "must not be null")
        return value


class ProducerSchemaStrategy(BaseModel):
    """How values are written. schema: Avro, or JSON schema where `schemaType` says so."""

    type: Literal["noSchema", "inlineSchema", "schemaRegistry"] = "noSchema"
    text: str | None = Field(default=None, alias="schema")
    schemaType: Literal["avro", "json"] = "avro"  # noqa: N815 - the input's own name, here and below
    schemaRegistryUrl: str | None = None  # noqa: N815

    @model_validator(mode="after")
    def _complete(self) -> "ProducerSchemaStrategy":
        if self.type != "noSchema" and _blank(self.text):
            raise PydanticCustomError("schema", "schema: must not be blank")
        if self.type == "schemaRegistry" and _blank(self.schemaRegistryUrl):
            raise PydanticCustomError("registry", "schemaRegistryUrl: must not be blank")
        return self


class KafkaRequest(BaseModel):
    """The inputs of the task. additionalProperties: of the Java client, over all others."""

    authentication: Authentication | None = None
    topic: Topic
    message: Message
    schemaStrategy: ProducerSchemaStrategy | None = None  # noqa: N815
    additionalProperties: dict[str, Any] | None = None  # noqa: N815
    headers: dict[str, str | None] | None = None


def _blank(text: str | None) -> bool:
    return not (text and text.strip())


@asynccontextmanager
async def producers() -> AsyncIterator[Any]:
    """The producers of a process, looked after."""
    from connectors.kafka._producing import opened  # loads the client

    async with opened() as pool:
        yield pool


@outbound_connector(
    "Kafka Producer",
    type="io.camunda:connector-kafka:1",
    input_variables=("authentication", "topic", "message", "schemaStrategy", "additionalProperties", "headers"),
    service=producers,
)
async def kafka_producer(request: KafkaRequest, job: JobContext, pool: Any) -> dict[str, Any]:
    """Sends one record and waits until the brokers have it. The response is `{topic, timestamp, offset, partition}`.

    Whatever fails while it is sent has the code `FAIL`. A job that is tried again sends its record again.
    """
    from connectors.kafka._producing import send

    return await send(request, job.http, pool)
