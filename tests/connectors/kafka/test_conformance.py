"""The conformance suite on a real node: a topic of three partitions, a consumer that reaches the node by way of a proxy."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from connectors.kafka._membership import DRAIN_SECONDS
from connectors.kafka.consumer import kafka_consumer
from gateway import sdk
from gateway.testing.conformance import CHECKS, Check, SourceUnderTest, a_poison_event_stops_no_other
from tests.connectors.kafka.conftest import Kafka, properties
from tests.proxy import FaultProxy

pytestmark = pytest.mark.real

PARTITIONS = 3


class KafkaSource(SourceUnderTest):
    """Records whose values are the ids, by turns in the partitions. policy: of the connector, for what it cannot handle."""

    connector = kafka_consumer
    window = 6
    patience = 20.0
    drain = DRAIN_SECONDS

    def __init__(self, kafka: Kafka, proxy: FaultProxy, topic: str, **policy: str) -> None:
        self._kafka = kafka
        self._proxy = proxy
        self._topic = topic
        self._policy = policy
        self._put = 0

    def properties(self) -> Mapping[str, str]:
        quick = '={"session.timeout.ms": 3000, "heartbeat.interval.ms": 300, "retry.backoff.ms": 50}'
        address = f"127.0.0.1:{self._proxy.port}"
        more = {"maxInFlight": str(self.window), "additionalProperties": quick, **self._policy}
        return properties(address, self._topic, **more)

    async def put(self, ids: Sequence[str]) -> None:
        for each in ids:
            await self._kafka.send(self._topic, each, partition=self._put % PARTITIONS)
            self._put += 1

    def id_of(self, event: sdk.Event) -> str:
        return str(event["value"])

    async def held(self) -> Collection[str]:
        """What lies behind the committed offsets."""
        committed = await self._kafka.committed(f"group-{self._topic}", self._topic)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka.broker.address)
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            left = 0
            for which, end in (await consumer.end_offsets(partitions)).items():
                start = committed.get(which.partition, 0)
                consumer.seek(which, start)
                left += end - start
            found: list[str] = []
            while len(found) < left:
                found += [(await consumer.getone()).value.decode()]
            return found
        finally:
            await consumer.stop()

    async def interrupt(self) -> None:
        await self._proxy.refuse()
        self._proxy.reset()

    async def restore(self) -> None:
        await self._proxy.accept()


@pytest.fixture
async def proxy(kafka: Kafka) -> AsyncIterator[FaultProxy]:
    """Stands before the node; the node sends who comes by it back to it."""
    proxy = FaultProxy(kafka.broker.proxied_port)
    proxy.port = kafka.broker.advertised_port
    async with proxy:
        yield proxy


@pytest.mark.parametrize("check", CHECKS)
async def test_the_consumer_keeps_what_is_promised(kafka: Kafka, proxy: FaultProxy, check: Check) -> None:
    await check(KafkaSource(kafka, proxy, await kafka.topic(PARTITIONS), poisonPolicy="skip"))


async def test_poison_sent_to_the_dead_letter_topic_stops_no_other(kafka: Kafka, proxy: FaultProxy) -> None:
    dead = await kafka.topic(1)
    source = KafkaSource(kafka, proxy, await kafka.topic(PARTITIONS), poisonPolicy="dead-letter", deadLetterTopic=dead)
    await a_poison_event_stops_no_other(source)
    (record,) = await kafka.records(dead, 1)
    assert record.value == b"e-1"
