"""RabbitMQ: messages of a queue become events (Camunda docs, "RabbitMQ connector", consumer; AMQP 0-9-1 with RabbitMQ's extensions).

A message is acknowledged once the process has it, and rejected when it never can. Else it is tried again where it is, unacknowledged
and with growing pauses, before it goes back into the queue: nothing spins, and a queue that counts deliveries does not take an outage
of the engine for poison. No more than `prefetchCount` messages are here at once.
"""

import asyncio
import base64
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import quote

import aiormq
from aiormq.abc import AbstractBase, AbstractChannel, DeliveredMessage
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pamqp import decode
from pamqp.commands import Basic
from pamqp.constants import FRAME_HEADER
from pamqp.header import ContentHeader
from pydantic import AfterValidator, BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from gateway import (
    ConnectorException,
    EngineRefused,
    InboundContext,
    NotBlank,
    Outcome,
    Window,
    inbound_connector,
    jsontext,
)
from gateway.sdk import Again

HEARTBEAT_SECONDS: Final = 8  # a connection that is silent for three of them is lost
CONNECT_SECONDS: Final = 15.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
ATTEMPTS: Final = 5  # before a message that is in trouble goes back into the queue
HELD_SECONDS: Final = 15 * 60.0  # of a message while the engine is away; brokers take 30 minutes for a hung consumer
_CLOSE_SECONDS: Final = 2.0
_ENDED: Final = ConnectionError("the broker has ended the consumer, as it does when the queue is deleted")

_library = logging.getLogger("aiormq")
if _library.level == logging.NOTSET:
    _library.setLevel(logging.CRITICAL)  # what it logs, with tracebacks, is what the health says

# ---- settings --------------------------------------------------------------------------------------------------------


def _amqp_uri(value: str) -> str:
    try:
        url = URL(value)
        valid = url.scheme in {"amqp", "amqps"} and bool(url.host)
    except ValueError:
        valid = False
    if not valid:
        raise PydanticCustomError("amqp_uri", "must be a URI that starts with amqp:// or amqps://")
    return value


class UriAuthentication(BaseModel):
    authType: Literal["uri"]  # noqa: N815 - the property's own name, here and below
    uri: Annotated[NotBlank, AfterValidator(_amqp_uri)] = Field(repr=False)


class CredentialsAuthentication(BaseModel):
    authType: Literal["credentials"]  # noqa: N815
    userName: NotBlank  # noqa: N815
    password: NotBlank = Field(repr=False)


class Routing(BaseModel):
    virtualHost: NotBlank  # noqa: N815
    hostName: NotBlank  # noqa: N815
    port: int = Field(ge=1, le=65535)


class RabbitMqSettings(BaseModel):
    """The properties of the consumer. prefetchCount: messages at once; 1 keeps their order."""

    authentication: Annotated[UriAuthentication | CredentialsAuthentication, Field(discriminator="authType")]
    routing: Routing | None = Field(default=None, validate_default=True)
    queueName: NotBlank  # noqa: N815
    consumerTag: str | None = None  # noqa: N815
    arguments: dict[str, Any] | None = None
    exclusive: bool = False
    prefetchCount: int = Field(default=64, ge=1, le=65535)  # noqa: N815

    @field_validator("routing", mode="before")
    @classmethod
    def _only_with_credentials(cls, value: Any, info: Any) -> Any:
        """A URI says it all: what templates leave beside it counts for nothing."""
        if not isinstance(info.data.get("authentication"), CredentialsAuthentication):
            return None
        return value if value is not None else {}

    def url(self, name: str) -> URL:
        """Where and how to connect. name: of the connection, as the broker's administrators see it."""
        known = self.authentication
        if isinstance(known, UriAuthentication):
            url = URL(known.uri)
        else:
            assert self.routing is not None
            texts = (known.userName, known.password, self.routing.virtualHost)
            user, password, vhost = (quote(text, safe="") for text in texts)
            at = f"{self.routing.hostName}:{self.routing.port}"
            url = URL(f"amqp://{user}:{password}@{at}/{vhost}", encoded=True)
        return url.with_query({"heartbeat": str(HEARTBEAT_SECONDS), "name": name, **url.query})


# ---- the connector ---------------------------------------------------------------------------------------------------


@inbound_connector("RabbitMQ Consumer", type="io.camunda:connector-rabbitmq-inbound:1")
async def rabbitmq(settings: RabbitMqSettings, source: InboundContext) -> None:
    """Consumes a queue, which must exist, until the connection is lost or the broker ends it. The message id is AMQP's.

    The event is `{message: {consumerTag, body, properties}}`; a body that is JSON is a value, any other text.
    """
    element = source.elements[0]
    url = settings.url(f"{element.bpmn_process_id}/{element.element_id}")
    where = f"queue '{settings.queueName}' at {url.host}"
    try:
        async with _channel(url, partial(_left_out, source)) as channel:
            await _consume(channel, settings, source, where)
    except (AMQPError, ChannelInvalidStateError, OSError) as e:  # a TimeoutError is an OSError
        raise _failure(where, e) from e
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _failure(where, None) from None  # the library's word for a connection that closes during a call


def _failure(where: str, error: BaseException | None) -> ConnectorException:
    reason = f"no answer within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error or "")
    return ConnectorException(f"{where}: {reason or 'the connection was closed'}")


def _left_out(source: InboundContext, name: str) -> None:
    source.log("WARNING", "Message", f"A message has a property that cannot be read, and goes on without it: {name}")


@asynccontextmanager
async def _channel(url: URL, left_out: Callable[[str], None]) -> AsyncIterator[AbstractChannel]:
    """A channel on a connection of its own. Closing it puts back into the queue what was not answered for."""
    async with asyncio.timeout(CONNECT_SECONDS):
        connection = await aiormq.connect(url, transport_factory=_Transport(left_out))
    try:
        channel = await connection.channel(publisher_confirms=False, timeout=CONNECT_SECONDS)
        try:
            yield channel
        finally:  # first: the answers go out before it
            await _close(channel)
    finally:
        await _close(connection)


async def _close(opened: AbstractBase) -> None:
    with suppress(Exception):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await opened.close()


async def _consume(channel: AbstractChannel, settings: RabbitMqSettings, source: InboundContext, where: str) -> None:
    ended = asyncio.Event()  # by the broker
    channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
    ending = asyncio.ensure_future(ended.wait())
    window = source.window(settings.prefetchCount)
    consumer = _Consumer(channel, window, settings.consumerTag)
    try:
        async with window:
            try:
                await channel.basic_qos(prefetch_count=settings.prefetchCount, timeout=CONNECT_SECONDS)
                await channel.basic_consume(
                    settings.queueName,
                    consumer.take,
                    consumer_tag=consumer.tag,
                    exclusive=settings.exclusive,
                    arguments=_table(settings.arguments or {}),
                    timeout=CONNECT_SECONDS,
                )
                source.report_health("UP")
                await asyncio.wait({channel.closing, ending}, return_when=asyncio.FIRST_COMPLETED)
                failure = _failure(where, _ENDED if ended.is_set() else channel.closing.exception())
                source.report_health("DOWN", error=failure)  # at once, not after what is under way
                raise failure
            finally:
                await consumer.stop()
    finally:
        ending.cancel()
        await consumer.answered()


class _Consumer:
    """Gives messages to the process, and answers the broker by what became of them."""

    def __init__(self, channel: AbstractChannel, window: Window, tag: str | None) -> None:
        self.tag = tag or str(uuid.uuid4())
        self._channel = channel
        self._window = window
        self._stopping = False
        self._taken: set[asyncio.Task[Any]] = set()

    async def take(self, message: DeliveredMessage) -> None:
        """Called for each message, in a task of the channel: it ends with the channel."""
        task = asyncio.current_task()
        assert task is not None
        self._taken.add(task)
        task.add_done_callback(self._taken.discard)
        tag = message.delivery_tag
        assert tag is not None
        with suppress(ChannelInvalidStateError):  # the channel is gone, and the message will come again
            if self._stopping:
                await self._channel.basic_nack(tag, requeue=True, wait=False)
            else:
                await self._answer(tag, await self._outcome(message))

    async def _outcome(self, message: DeliveredMessage) -> Outcome:
        properties = message.header.properties
        event = {
            "message": {"consumerTag": self.tag, "body": _body(message.body), "properties": _properties(properties)}
        }
        delivery = await self._window.emit(event, id=properties.message_id or None, again=_again(message))
        return await delivery

    async def _answer(self, tag: int, outcome: Outcome) -> None:
        if outcome.done:
            await self._channel.basic_ack(tag, wait=False)
        elif outcome.retryable:
            await self._channel.basic_nack(tag, requeue=True, wait=False)
        else:
            await self._channel.basic_reject(tag, requeue=False, wait=False)

    async def stop(self) -> None:
        """Takes nothing more."""
        self._stopping = True
        with suppress(Exception):
            await self._channel.basic_cancel(self.tag, timeout=_CLOSE_SECONDS)

    async def answered(self) -> None:
        """Waits until the outcomes that are there are answers on their way."""
        if self._taken:
            await asyncio.wait(self._taken, timeout=_CLOSE_SECONDS)


def _again(message: DeliveredMessage) -> Again:
    """Tries a message again in its place: as long as the engine is away, up to a limit, or a few times.

    The pauses grow, from longer ones on for a message that was back in the queue already.
    """
    returned = _times_returned(message)
    until = time.monotonic() + HELD_SECONDS

    def again(outcome: Outcome, attempts: int) -> float | None:
        if outcome.done or not outcome.retryable or time.monotonic() > until:
            return None
        away = isinstance(outcome, EngineRefused) and outcome.away
        if not away and attempts >= ATTEMPTS:
            return None
        pause = FIRST_PAUSE * 2.0 ** min(attempts - 1 + returned, 10)
        return min(pause, LONGEST_PAUSE) * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing

    return again


def _times_returned(message: DeliveredMessage) -> int:
    """How often a message was back in its queue: quorum queues count it, others only tell that it was."""
    counted = (message.header.properties.headers or {}).get("x-delivery-count")
    if isinstance(counted, int):
        return counted
    return 2 if message.redelivered else 0


# ---- messages that the library cannot read --------------------------------------------------------------------------


class _Transport(TransportFactory):
    """Takes out of messages what the library would give up the whole connection for, again at every delivery: a time beyond the
    year 9999, a text that is not UTF-8. left_out: called with the name of the property.
    """

    def __init__(self, left_out: Callable[[str], None]) -> None:
        self._left_out = left_out

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **options)
        return cast("asyncio.StreamReader", _Reader(reader, self._left_out)), writer


class _Reader:
    """What the library reads from: the stream frame by frame (AMQP 0-9-1, 4.2.3), headers of messages readable."""

    def __init__(self, stream: asyncio.StreamReader, left_out: Callable[[str], None]) -> None:
        self._stream = stream
        self._left_out = left_out
        self._frame = b""
        self._at = 0

    def at_eof(self) -> bool:
        return self._at == len(self._frame) and self._stream.at_eof()

    async def readexactly(self, count: int) -> bytes:
        if self._at == len(self._frame):
            self._frame, self._at = await self._next(), 0
        self._at += count
        return self._frame[self._at - count : self._at]

    async def _next(self) -> bytes:
        head = await self._stream.readexactly(7)
        if head.startswith(b"AMQP"):  # no frame: how a broker refuses the version
            return head
        rest = await self._stream.readexactly(int.from_bytes(head[3:]) + 1)
        return head + (_readable(rest, self._left_out) if head[0] == FRAME_HEADER else rest)


_DELICATE: Final = Basic.Properties.flags["headers"] | Basic.Properties.flags["timestamp"]


def _readable(header: bytes, left_out: Callable[[str], None]) -> bytes:
    """A content header (4.2.6.1) of the same length without the properties that cannot be read."""
    flags, at, kept = int.from_bytes(header[12:14]), 14, b""
    if not flags & _DELICATE and header[at:-1].isascii():
        return header
    try:
        ContentHeader().unmarshal(header)
    except Exception:
        for name, flag in Basic.Properties.flags.items():
            if flags & flag:
                kind = Basic.Properties.amqp_type(name)
                value = header[at : at + _size(header[at:], kind)]
                at += len(value)
                try:
                    decode.by_type(value, kind)
                    kept += value
                except Exception:
                    flags -= flag
                    left_out(name)
        return (header[:12] + flags.to_bytes(2) + kept).ljust(len(header) - 1, b"\0") + header[-1:]
    return header


def _size(value: bytes, kind: str) -> int:
    """The bytes that a value takes, whatever is in them."""
    match kind:
        case "octet":
            return 1
        case "timestamp":
            return 8
        case "table":
            return 4 + int.from_bytes(value[:4])
    return 1 + value[0]


# ---- events ----------------------------------------------------------------------------------------------------------

_NAMES: Final = (
    ("content_type", "contentType"),
    ("content_encoding", "contentEncoding"),
    ("headers", "headers"),
    ("delivery_mode", "deliveryMode"),
    ("priority", "priority"),
    ("correlation_id", "correlationId"),
    ("reply_to", "replyTo"),
    ("expiration", "expiration"),
    ("message_id", "messageId"),
    ("timestamp", "timestamp"),
    ("message_type", "type"),
    ("user_id", "userId"),
    ("app_id", "appId"),
    ("cluster_id", "clusterId"),
)


def _properties(properties: Basic.Properties) -> dict[str, Any]:
    """The properties that the message has, under their names in AMQP."""
    found = ((name, getattr(properties, attribute)) for attribute, name in _NAMES)
    return {name: _value(value) for name, value in found if value is not None and (value != "" or name != "clusterId")}


def _body(body: bytes) -> Any:
    """JSON as a value, except null; anything else as text."""
    text = body.decode("utf-8", "replace")
    try:
        value = jsontext.loads(text)
    except ValueError:
        return text
    return text.strip() if value is None else value


def _value(value: Any) -> Any:
    """What a field table holds, as JSON has it: times as ISO 8601, bytes as base64."""
    match value:
        case dict():
            return {name: _value(each) for name, each in value.items()}
        case list():
            return [_value(each) for each in value]
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
    return value


def _table(value: Any) -> Any:
    """JSON as a field table: whole numbers are integers, whatever they are written like."""
    match value:
        case dict():
            return {name: _table(each) for name, each in value.items()}
        case list():
            return [_table(each) for each in value]
        case float() | Decimal():
            return int(value) if value == int(value) else float(value)
    return value
