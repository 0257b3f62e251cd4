"""The conformance suite on a real node: a queue, a consumer that reaches it by way of a proxy."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from connectors.rabbitmq import rabbitmq
from gateway import sdk
from gateway.testing.conformance import CHECKS, Check, SourceUnderTest
from tests.connectors.rabbitmq.conftest import Queue
from tests.connectors.rabbitmq.test_events import _Raw
from tests.proxy import FaultProxy


class RabbitSource(SourceUnderTest):
    """Messages whose bodies are the ids."""

    connector = rabbitmq
    window = 5

    def __init__(self, queue: Queue, proxy: FaultProxy) -> None:
        self._queue = queue
        self._proxy = proxy

    def properties(self) -> Mapping[str, str]:
        uri = f"amqp://guest:guest@127.0.0.1:{self._proxy.port}/"
        return self._queue.properties | {"authentication.uri": uri, "prefetchCount": str(self.window)}

    async def put(self, ids: Sequence[str]) -> None:
        await self._queue.put(*(each.encode() for each in ids))

    async def put_unreadable(self) -> None:
        strange = _Raw(content_type="x", headers={}, timestamp=datetime.now(UTC))
        await self._queue.channel.basic_publish(b"?", routing_key=self._queue.name, properties=strange)

    def id_of(self, event: sdk.Event) -> str:
        return str(event["message"]["body"])

    async def held(self) -> Collection[str]:
        """Takes all there is and puts it back."""
        channel, found, last = self._queue.channel, [], None
        while (message := await channel.basic_get(self._queue.name)).delivery_tag:
            found.append(message.body.decode())
            last = message.delivery_tag
        if last is not None:
            await channel.basic_nack(last, multiple=True, requeue=True)
        return found

    async def interrupt(self) -> None:
        await self._proxy.refuse()
        self._proxy.reset()

    async def restore(self) -> None:
        await self._proxy.accept()


@pytest.fixture
async def source(queue: Queue) -> AsyncIterator[RabbitSource]:
    async with FaultProxy(queue.port) as proxy:
        yield RabbitSource(queue, proxy)


@pytest.mark.parametrize("check", CHECKS)
async def test_the_consumer_keeps_what_is_promised(source: RabbitSource, check: Check) -> None:
    await check(source)
