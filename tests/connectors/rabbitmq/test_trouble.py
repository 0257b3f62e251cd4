"""A broker that is away, refuses, crashes or falls silent; a queue that is deleted; a connection cut anywhere."""

import asyncio
from pathlib import Path

import aiormq
import pytest

from connectors import rabbitmq as module
from connectors.rabbitmq import rabbitmq
from gateway import ConnectorException
from gateway.testing.inbound import run_inbound
from tests.connectors.rabbitmq.conftest import URI, Queue, down, number, queue_at, settings, up
from tests.proxy import FaultProxy
from tests.real.rabbitmq.broker import Broker, require_rabbitmq, running_broker


async def test_a_queue_that_is_not_there_is_waited_for_and_never_made(broker: Broker) -> None:
    async with queue_at(broker.port) as queue, run_inbound(rabbitmq, queue.properties) as run:
        await down(run, f"NOT_FOUND - no queue '{queue.name}'")
        await queue.declare()
        await queue.put(b"1")
        await run.received(1)
        assert run.health.status == "UP"


async def test_a_queue_deleted_is_down_at_once_and_up_again_when_it_is_back(queue: Queue) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties) as run:
        await run.received(1)
        await queue.channel.queue_delete(queue.name)
        await down(run, "the broker has ended the consumer", timeout=1)
        await down(run, "NOT_FOUND")
        await asyncio.sleep(2)
        assert run.executable.statistics.failures <= 3, "no hot loop"
        await queue.declare()
        await queue.put(b"2")
        await run.received(2)
        assert run.health.status == "UP"


async def test_a_refused_login_says_so_without_the_password(queue: Queue) -> None:
    uri = f"amqp://guest:{{{{secrets.PASSWORD}}}}@127.0.0.1:{queue.port}/"
    async with run_inbound(
        rabbitmq, queue.properties | {"authentication.uri": uri}, secrets={"PASSWORD": "hush-hush"}
    ) as run:
        await down(run, "ACCESS_REFUSED")
        assert "hush-hush" not in repr(run.health) + repr(run.log)


async def test_a_message_whose_acknowledgement_is_lost_comes_again(queue: Queue) -> None:
    await queue.put(b"1", message_id="m-1")
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties, delay=0.5) as run:
            await run.until(lambda: run.under_way == 1, "the event")
            proxy.reset()
            await down(run, timeout=0.4)
            assert run.under_way == 1, "down is told before what is under way has ended"
            events = await run.received(2)
            assert [message_id for _, message_id in events] == ["m-1", "m-1"]
            assert run.health.status == "UP"
    assert await queue.ready() == 0


@pytest.mark.slow
async def test_a_silent_connection_is_noticed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties) as run:
            await up(run)
            proxy.freeze()
            await queue.put(b"1")
            await down(run, timeout=15)
            await run.received(1)
            assert run.health.status == "UP"


async def test_a_connection_cut_at_any_byte_of_its_beginning_is_a_failure(queue: Queue) -> None:
    """Whatever the client library makes of it: only who cancels the connector ends it."""

    limit = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection("127.0.0.1", queue.port)

        async def up() -> None:
            while data := await reader.read(65536):
                server.write(data)

        upward, left = asyncio.create_task(up()), limit
        while left and (data := await server_reader.read(left)):
            left -= len(data)
            writer.write(data)
        upward.cancel()
        writer.close()
        server.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        uri = {"authType": "uri", "uri": f"amqp://guest:guest@127.0.0.1:{port}/"}
        given = settings(authentication=uri, queueName=queue.name)
        async with run_inbound(rabbitmq, queue.properties, start=False) as run:
            for limit in [*range(0, 480, 37), *range(500, 610, 3)]:  # noqa: B007 - `cut` reads it
                with pytest.raises(ConnectorException, match=queue.name):
                    await asyncio.wait_for(rabbitmq(given, run.executable), 10)


async def test_a_call_that_the_library_cancels_is_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(url: object, **options: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(aiormq, "connect", cancelled)
    async with run_inbound(rabbitmq, URI) as run:
        await down(run, "the connection was closed")
        await run.until(lambda: run.executable.statistics.failures == 2, "another attempt")


@pytest.mark.parametrize(
    ("query", "words"),
    [("", "CERTIFICATE_VERIFY_FAILED"), ("?cafile={folder}/ca.pem", None), ("?no_verify_ssl=1", None)],
)
async def test_tls_wants_a_certificate_that_it_can_trust_or_is_told_not_to_look(
    broker: Broker, queue: Queue, certificates: Path, query: str, words: str | None
) -> None:
    uri = f"amqps://guest:guest@127.0.0.1:{broker.tls_port}/{query.format(folder=certificates)}"
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties | {"authentication.uri": uri}) as run:
        if words is not None:
            await down(run, words)
        else:
            await run.received(1)


@pytest.mark.slow
async def test_row_19_a_broker_that_is_down_at_the_start_is_waited_for() -> None:
    require_rabbitmq()
    with running_broker() as node:
        async with queue_at(node.port) as queue:
            await queue.declare()
            await queue.put(b"1")
        node.stop()
        async with run_inbound(rabbitmq, queue.properties) as run:
            await down(run, "Connect call failed")
            await asyncio.to_thread(node.start)
            await run.received(1, timeout=30)
            assert run.health.status == "UP"


@pytest.mark.slow
async def test_row_19_a_broker_that_crashes_is_waited_for_and_nothing_is_lost() -> None:
    require_rabbitmq()
    with running_broker() as node:
        async with queue_at(node.port) as queue:
            await queue.declare()
            await queue.put(*[str(n).encode() for n in range(200)])
        async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "4"}, delay=0.01) as run:
            await run.received(50)
            node.kill()
            await down(run)
            await run.until(lambda: run.under_way == 0, "the end of what was under way")
            before = len(run.events)
            await asyncio.to_thread(node.start)
            await run.until(
                lambda: {number(event) for event, _ in run.events} == set(range(200)), "all events", timeout=40
            )
            assert len(run.events) <= 200 + before, "what comes twice had come before the crash"
            assert run.health.status == "UP"
