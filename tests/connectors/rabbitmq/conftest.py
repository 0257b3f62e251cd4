"""A real RabbitMQ node, queues of it as seen from beside the gateway, and properties of consumers."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiormq
import pytest
import trustme
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from connectors import rabbitmq as module
from connectors.rabbitmq import RabbitMqSettings
from gateway import sdk
from gateway.testing.inbound import InboundRun, an_element
from tests.real.rabbitmq.broker import Broker, require_rabbitmq, running_broker

AWAY = sdk.EngineRefused("UNAVAILABLE", "the engine is away")
FAILED = sdk.CorrelationFailed("the result expression fails")
INVALID = sdk.InvalidInput("not what the process expects")
DONE = sdk.MessagePublished(an_element({}), 1, "<default>")

URI = {"authentication.authType": "uri", "authentication.uri": "amqp://u:p@127.0.0.1:1/", "queueName": "q"}
CREDENTIALS = {
    "authentication.authType": "credentials",
    "authentication.userName": "u",
    "authentication.password": "p",
    "routing.virtualHost": "/",
    "routing.hostName": "127.0.0.1",
    "routing.port": "1",
    "queueName": "q",
}


def settings(**given: Any) -> RabbitMqSettings:
    uri = {"authType": "uri", "uri": "amqp://u:p@broker:5673/v"}
    return RabbitMqSettings.model_validate({"authentication": uri, "queueName": "q", **given})


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(folder / "key.pem")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="session")
def broker(certificates: Path) -> Iterator[Broker]:
    """A node that these tests share; each has a queue of its own."""
    require_rabbitmq()
    lines = [
        "listeners.ssl.1 = 127.0.0.1:{tls_port}",
        f"ssl_options.cacertfile = {certificates}/ca.pem",
        f"ssl_options.certfile = {certificates}/server.pem",
        f"ssl_options.keyfile = {certificates}/key.pem",
    ]
    with running_broker(*lines) as node:
        yield node


class Queue:
    """A queue of a test, seen from beside the gateway."""

    def __init__(self, port: int, channel: AbstractChannel, name: str) -> None:
        self.port = port
        self.channel = channel
        self.name = name

    @property
    def properties(self) -> dict[str, str]:
        return {
            "authentication.authType": "uri",
            "authentication.uri": f"amqp://guest:guest@127.0.0.1:{self.port}/",
            "queueName": self.name,
        }

    async def declare(self, **arguments: Any) -> None:
        given: dict[str, Any] = {name.replace("_", "-"): value for name, value in arguments.items()}
        await self.channel.queue_declare(self.name, durable=True, arguments=given)

    async def put(self, *bodies: bytes, **properties: Any) -> None:
        for body in bodies:
            await self.channel.basic_publish(
                body, routing_key=self.name, properties=Basic.Properties(delivery_mode=2, **properties)
            )

    async def ready(self) -> int:
        """How many messages nobody holds."""
        found = await self.channel.queue_declare(self.name, passive=True)
        return found.message_count or 0

    async def until_ready(self, count: int, timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            while await self.ready() != count:  # noqa: ASYNC110 - a broker tells nobody
                await asyncio.sleep(0.02)


@asynccontextmanager
async def queue_at(port: int) -> AsyncIterator[Queue]:
    async with aiormq.connect(f"amqp://guest:guest@127.0.0.1:{port}/") as connection:
        yield Queue(port, await connection.channel(), f"q{uuid.uuid4().hex[:10]}")


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[Queue]:
    async with queue_at(broker.port) as made:
        await made.declare()
        yield made


async def up(run: InboundRun, timeout: float = 10.0) -> None:
    await run.until(lambda: run.health.status == "UP", "health UP", timeout=timeout)


async def down(run: InboundRun, words: str = "", timeout: float = 10.0) -> None:
    await run.until(
        lambda: run.health.status == "DOWN" and words in (run.health.error_message or ""),
        f"health DOWN with {words!r}",
        timeout=timeout,
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are short."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


def number(event: sdk.Event) -> int:
    found: int = event["message"]["body"]
    return found
