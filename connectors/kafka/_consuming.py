"""The consumer put together: its client's arguments, its group, how values are read, where records go that cannot be handled."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from connectors.kafka._avro import AvroSchema
from connectors.kafka._client import Arguments, arguments, words
from connectors.kafka._events import Decode, Record, inline_avro, plain, registered_avro, registered_json
from connectors.kafka._handling import Handling, Policy
from connectors.kafka._membership import Membership, Subscription
from connectors.kafka._registry import SchemaRegistry
from connectors.kafka._settings import java_properties
from connectors.kafka.consumer import KafkaConsumerSettings, SchemaStrategy
from gateway import InboundContext

GROUP_ID_LENGTH: Final = 250
DEAD_LETTER_SECONDS: Final = 30.0


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


CONSUMER: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
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


async def consume(settings: KafkaConsumerSettings, source: InboundContext) -> None:
    """Runs until it is cancelled. Raises ConnectorInputException for properties that cannot work."""
    properties = java_properties(settings.topic, settings.authentication, settings.additionalProperties)
    given = arguments(properties, CONSUMER, source.http)
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
