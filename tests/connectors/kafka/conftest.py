"""A real Kafka node for the tests of both connectors, and what they do with it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from connectors.kafka.consumer import kafka_consumer
from gateway.testing.inbound import InboundRun, run_inbound
from tests.real.kafka.broker import Broker, missing, needed, running_broker

_NUMBERS = itertools.count(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The first start brings jars, which may take longer than one test is given."""
    if not session.config.option.collectonly and any("broker" in getattr(i, "fixturenames", ()) for i in session.items):
        missing()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A node that all tests of a session share."""
    needed()
    with running_broker() as node:
        yield node


@dataclass
class Kafka:
    """The node, as producers and administrators see it."""

    broker: Broker
    admin: Any
    producer: Any

    async def topic(self, partitions: int = 3) -> str:
        """A new topic."""
        name = f"topic-{next(_NUMBERS)}"
        await self.admin.create_topics([NewTopic(name, partitions, 1)])
        return name

    async def send(
        self,
        topic: str,
        *values: str | bytes | None,
        key: str | None = None,
        partition: int | None = None,
        headers: Any = (),
    ) -> None:
        """Sends values and waits until the broker has them."""
        raw = [each.encode() if isinstance(each, str) else each for each in values]
        name = key.encode() if key is not None else None
        sent = [await self.producer.send(topic, each, name, partition, headers=list(headers)) for each in raw]
        await asyncio.gather(*sent)

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """The committed offsets by partition."""
        offsets = await self.admin.list_consumer_group_offsets(group)
        return {
            which.partition: found.offset
            for which, found in offsets.items()
            if which.topic == topic and found.offset >= 0
        }

    async def until_committed(self, group: str, topic: str, wanted: dict[int, int], seconds: float = 10.0) -> None:
        await until(lambda: self._has(group, topic, wanted), f"commit of {wanted}", seconds)

    async def _has(self, group: str, topic: str, wanted: dict[int, int]) -> bool:
        return wanted.items() <= (await self.committed(group, topic)).items()

    async def members(self, group: str) -> int:
        """How many members a group has, once it is stable; -1 before."""
        for answer in await self.admin.describe_consumer_groups([group]):
            for row in answer.groups:
                if row[2] in {"Stable", "Empty"}:
                    return len(row[5])
        return -1

    async def records(self, topic: str, count: int) -> list[Any]:
        """The first records of a topic."""
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.broker.address, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with asyncio.timeout(10):
                return [await consumer.getone() for _ in range(count)]
        finally:
            await consumer.stop()


@pytest.fixture
async def kafka(broker: Broker) -> AsyncIterator[Kafka]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, linger_ms=2)
    await started(admin)
    await started(producer)
    try:
        yield Kafka(broker, admin, producer)
    finally:
        await producer.stop()
        await admin.close()


async def started(client: Any) -> None:
    """Starts a client, as soon as the node answers."""
    end = time.monotonic() + 20
    while True:
        try:
            await client.start()
            return
        except KafkaError:
            with suppress(Exception):
                await client._client.close()
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)


async def until(true: Callable[[], Awaitable[bool]], what: str, seconds: float = 10.0) -> None:
    """Waits until something is so; AssertionError when it is not in time."""
    end = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < end, f"no {what} within {seconds:g} s"
        await asyncio.sleep(0.05)


def properties(address: str, topic: str, **more: str) -> dict[str, str]:
    """Properties of a consumer as the template writes them; `_` in names is a dot. The group is named after the topic."""
    given = {
        "authenticationType": "credentials",
        "topic.bootstrapServers": address,
        "topic.topicName": topic,
        "groupId": f"group-{topic}",
        "autoOffsetReset": "earliest",
        "schemaStrategy.type": "noSchema",
    }
    return given | {name.replace("_", "."): text for name, text in more.items()}


QUICK = {"additionalProperties": '={"session.timeout.ms": 2000, "heartbeat.interval.ms": 300, "retry.backoff.ms": 50}'}
"""Properties of a consumer that notices soon what happens to its group."""

Consume = Callable[..., AbstractAsyncContextManager[InboundRun]]


@pytest.fixture
def consume(broker: Broker) -> Consume:
    """Runs the consumer: `async with consume(topic, maxInFlight="8", answer=..., delay=...) as run`."""

    def run(topic: str, *, address: str | None = None, **given: Any) -> AbstractAsyncContextManager[InboundRun]:
        options = {name: given.pop(name) for name in ("answer", "delay", "http", "secrets", "start") if name in given}
        return run_inbound(kafka_consumer, properties(address or broker.address, topic, **given), **options)

    return run


def numbers(run: InboundRun) -> list[Any]:
    """The values of the events so far."""
    return [event["value"] for event, _ in run.events]


def words(run: InboundRun, severity: str, tag: str) -> list[str]:
    """What the activity log says of something."""
    return [each.message for each in run.log if each.severity == severity and each.tag == tag]
