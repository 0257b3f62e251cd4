"""Kafka Consumer: records of a topic become events (Camunda docs, "Kafka consumer connector")."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.kafka._avro import AvroSchema, InvalidSchema
from connectors.kafka._client import Arguments, Authentication, Topic, arguments, java_properties, words
from connectors.kafka._events import Decode, Record, inline_avro, plain, registered_avro, registered_json
from connectors.kafka._handling import Handling, Policy, PolicyKind
from connectors.kafka._membership import Membership, Subscription
from connectors.kafka._registry import SchemaRegistry
from gateway import InboundContext, inbound_connector

GROUP_ID_LENGTH: Final = 250
DEAD_LETTER_SECONDS: Final = 30.0

# ---- settings --------------------------------------------------------------------------------------------------------


class SchemaStrategy(BaseModel):
    """How values are read. schema: Avro, for `inlineSchema`."""

    type: Literal["noSchema", "inlineSchema", "schemaRegistry"] = "noSchema"
    avro: str | None = Field(default=None, alias="schema")
    schemaType: Literal["avro", "json"] = "avro"  # noqa: N815 - the property's own name, here and below
    schemaRegistryUrl: str | None = None  # noqa: N815

    @model_validator(mode="after")
    def _complete(self) -> "SchemaStrategy":
        if self.type == "inlineSchema":
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


def _assignors(text: str) -> tuple[type[Any], ...]:
    """The first strategy that this client has too. It can name only one to the group; all clients of a group need one in common."""
    known = {each.name: each for each in (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor)}
    for name in text.lower().split(","):
        for word, assignor in known.items():
            if name.strip() in {word, f"org.apache.kafka.clients.consumer.{word}assignor"}:
                return (assignor,)
    raise ValueError(f"Supported: {', '.join(known)}")


def _flag(text: str) -> bool:
    return text.lower() == "true"


_CONSUMER: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "group.instance.id": ("group_instance_id", str),
    "session.timeout.ms": ("session_timeout_ms", int),
    "heartbeat.interval.ms": ("heartbeat_interval_ms", int),
    "max.poll.interval.ms": ("max_poll_interval_ms", int),
    "max.poll.records": ("max_poll_records", int),
    "isolation.level": ("isolation_level", str.lower),
    "fetch.min.bytes": ("fetch_min_bytes", int),
    "fetch.max.bytes": ("fetch_max_bytes", int),
    "fetch.max.wait.ms": ("fetch_max_wait_ms", int),
    "max.partition.fetch.bytes": ("max_partition_fetch_bytes", int),
    "check.crcs": ("check_crcs", _flag),
    "client.rack": ("client_rack", str),
    "exclude.internal.topics": ("exclude_internal_topics", _flag),
    "partition.assignment.strategy": ("partition_assignment_strategy", _assignors),
}

# ---- the connector ---------------------------------------------------------------------------------------------------


@inbound_connector("Kafka Consumer", type="io.camunda:connector-kafka-inbound:1")
async def kafka_consumer(settings: KafkaConsumerSettings, source: InboundContext) -> None:
    """Reads a topic as a member of a consumer group, until it is cancelled. The message id is `topic-partition-offset`.

    Records of one key keep their order, others are handled side by side. An offset is committed when its record and all before it
    are done. A record that cannot be handled holds up its partition, no other.
    """
    properties = java_properties(settings.topic, settings.authentication, settings.additionalProperties)
    given = arguments(properties, _CONSUMER, source.http)
    group_id = _group_id(settings, properties, source)
    if given.unknown:
        names = ", ".join(sorted(given.unknown))
        source.log("WARNING", "Configuration", f"additionalProperties that have no effect here: {names}")
    registry = _registry(settings, properties, source)
    dead_letters = _DeadLetters(given, settings.deadLetterTopic or "")
    policy = Policy(settings.poisonPolicy, settings.poisonRetries, dead_letters.send)
    size = settings.maxInFlight
    subscription = Subscription(
        settings.topic.topicName,
        group_id,
        given,
        settings.autoOffsetReset,
        settings.offsets or None,
        chunk=given.own.get("max_poll_records") or 500,
        span=max(1000, 4 * size),
    )
    async with source.window(size) as window:
        decode = _decoder(settings.schemaStrategy, registry, properties)
        handling = Handling(source, window, decode, policy, size=size, registry=registry)
        membership = Membership(subscription, source, handling)
        try:
            await membership.run()
            await asyncio.Event().wait()  # stopped by the policy: until somebody resets the connector
        finally:
            await handling.close()
            await dead_letters.close()


def _group_id(settings: KafkaConsumerSettings, properties: Mapping[str, str], source: InboundContext) -> str:
    explicit = properties.get("group.id")
    if explicit:
        return explicit
    if settings.groupId and settings.groupId.strip():
        return settings.groupId[:GROUP_ID_LENGTH]
    made = f"kafka-inbound-connector-{source.deduplication_id}"[:GROUP_ID_LENGTH]
    words = f"No groupId is given: the group is {made}. Give one, so that a change of the properties does not begin a new group"
    source.log("WARNING", "Configuration", words)
    return made


def _registry(
    settings: KafkaConsumerSettings, properties: Mapping[str, str], source: InboundContext
) -> SchemaRegistry | None:
    strategy = settings.schemaStrategy
    if strategy.type != "schemaRegistry" or strategy.schemaRegistryUrl is None:
        return None
    return SchemaRegistry(strategy.schemaRegistryUrl, source.http, properties)


def _decoder(strategy: SchemaStrategy, registry: SchemaRegistry | None, properties: Mapping[str, str]) -> Decode:
    if strategy.type == "inlineSchema":
        return inline_avro(AvroSchema(strategy.avro or ""))
    if registry is None:
        return plain
    if strategy.schemaType == "avro":
        return registered_avro(registry)
    return registered_json(registry, check=_flag(properties.get("json.fail.invalid.schema", "false")))


class _DeadLetters:
    """Sends records away as they are, with headers that say where they come from and what was wrong. Connects when needed."""

    def __init__(self, given: Arguments, topic: str) -> None:
        self._arguments = given.client
        self._topic = topic
        self._producer: Any = None
        self._starting = asyncio.Lock()

    async def send(self, record: Record, reason: str) -> None:
        """Returns when the brokers have it. Raises KafkaError, TimeoutError."""
        facts = {"reason": reason, "topic": record.topic, "partition": record.partition, "offset": record.offset}
        headers = [*record.headers, *((f"dead-letter-{name}", str(fact).encode()) for name, fact in facts.items())]
        value = b"" if record.value is None and record.key is None else record.value
        async with asyncio.timeout(DEAD_LETTER_SECONDS):
            producer = await self._started()
            try:
                await producer.send_and_wait(self._topic, value, record.key, headers=headers)
            except KafkaError as e:
                raise KafkaError(words(e)) from None

    async def _started(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(acks="all", enable_idempotence=True, **self._arguments)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(1.0):
                    await producer.stop()
            except (TimeoutError, KafkaError):
                await producer.client.close()
