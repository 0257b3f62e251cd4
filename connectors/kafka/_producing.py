"""Sending: producers that jobs share, and the bytes of keys, values and headers."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from connectors.kafka._avro import AvroSchema, DoesNotFit, InvalidSchema
from connectors.kafka._client import Arguments, arguments, reason, where
from connectors.kafka._events import lenient_json
from connectors.kafka._registry import RegistryError, SchemaRegistry, joined
from connectors.kafka._settings import java_properties
from connectors.kafka.producer import KafkaRequest, ProducerSchemaStrategy
from gateway import ConnectorException, ConnectorInputException, jsontext
from gateway.http_client import HttpClient

log = structlog.get_logger(__name__)

PRODUCERS_KEPT: Final = 32
IDLE_SECONDS: Final = 60.0
DELIVERY_SECONDS: Final = 45.0
CLOSE_SECONDS: Final = 5.0

# ---- producers, shared by jobs ---------------------------------------------------------------------------------------


def _acks(text: str) -> Any:
    if text.lower() not in {"all", "-1", "0", "1"}:
        raise ValueError("Expected all, -1, 0 or 1")
    return "all" if text.lower() in {"all", "-1"} else int(text)


def _compression(text: str) -> str | None:
    if text.lower() not in {"none", "gzip", "snappy", "lz4", "zstd"}:
        raise ValueError("Expected none, gzip, snappy, lz4 or zstd")
    return None if text.lower() == "none" else text.lower()


def _flag(text: str) -> bool:
    return text.lower() == "true"


PRODUCER: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "acks": ("acks", _acks),
    "compression.type": ("compression_type", _compression),
    "batch.size": ("max_batch_size", int),
    "linger.ms": ("linger_ms", int),
    "max.request.size": ("max_request_size", int),
    "enable.idempotence": ("enable_idempotence", _flag),
    "delivery.timeout.ms": ("delivery_timeout_ms", int),
}


@dataclass(eq=False, slots=True)
class Shared:
    """A producer, with what it was made of, and who uses it."""

    key: str
    client: Mapping[str, Any] = field(repr=False)
    producer: Any
    delivery_seconds: float
    users: int = 0
    idle_since: float = 0.0
    started: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def broken(self) -> bool:
        """Whether it could not connect, or what sends has ended: the library does not start that again."""
        sender = self.producer._sender.sender_task
        return (sender is not None and sender.done()) or _has_failed(self.started)


def _has_failed(task: "asyncio.Task[None] | None") -> bool:
    return task is not None and task.done() and (task.cancelled() or task.exception() is not None)


class Producers:
    """Producers by configuration, shared by all jobs that have the same one. At most `limit` stay open with nobody using them, and
    none for longer than `idle` seconds.
    """

    def __init__(self, limit: int = PRODUCERS_KEPT, idle: float = IDLE_SECONDS) -> None:
        self._limit = limit
        self._idle = idle
        self._open: dict[str, Shared] = {}
        self._registries: dict[str, SchemaRegistry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, properties: Mapping[str, str], http: HttpClient) -> Shared:
        """The producer of a configuration, to be used at once. Raises ConnectorInputException for one that cannot be used."""
        key = _digest(properties)
        shared = self._open.get(key)
        if shared is None or shared.broken:
            if shared is not None and not shared.users:  # else the last of them closes it
                self._close(shared)
            shared = self._open[key] = _new(key, arguments(properties, PRODUCER, http))
        return shared

    @asynccontextmanager
    async def using(self, shared: Shared) -> AsyncIterator[Any]:
        """The producer itself, connected, for as long as the block lasts. Raises KafkaError."""
        shared.users += 1
        try:
            if shared.started is None:
                shared.started = asyncio.ensure_future(shared.producer.start())
                shared.started.add_done_callback(_has_failed)  # whoever waits gets the error; nobody may wait any more
            await asyncio.shield(shared.started)
            yield shared.producer
        finally:
            shared.users -= 1
            shared.idle_since = time.monotonic()
            if shared.broken and self._open.get(shared.key) is shared:
                del self._open[shared.key]
            if not shared.users and self._open.get(shared.key) is not shared:
                self._close(shared)
            self.tidy()

    def registry(self, url: str, properties: Mapping[str, str], http: HttpClient) -> SchemaRegistry:
        """The registry at a URL, with what is known of its schemas."""
        key = _digest({**properties, "url": url})
        if key not in self._registries:
            if len(self._registries) >= self._limit:
                self._registries.clear()
            self._registries[key] = SchemaRegistry(url, http, properties)
        return self._registries[key]

    def tidy(self) -> None:
        """Closes what nobody has used for a while, and the longest unused ones that are too many."""
        unused = sorted((s.idle_since, key) for key, s in self._open.items() if not s.users)
        too_many = len(self._open) - self._limit
        for n, (since, key) in enumerate(unused):
            if n < too_many or time.monotonic() - since > self._idle:
                self._close(self._open.pop(key))

    def _close(self, shared: Shared) -> None:
        task = asyncio.create_task(_stop(shared))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes all; what is being sent may end first."""
        for shared in self._open.values():
            self._close(shared)
        self._open.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)


def _digest(properties: Mapping[str, str]) -> str:
    """A key that shows nothing of the credentials."""
    return hashlib.sha256(repr(sorted(properties.items())).encode("utf-8", "surrogatepass")).hexdigest()


def _new(key: str, given: Arguments) -> Shared:
    own = {"acks": "all", **given.own}
    seconds = own.pop("delivery_timeout_ms", DELIVERY_SECONDS * 1000) / 1000
    own.setdefault("enable_idempotence", own["acks"] == "all")
    if given.unknown:
        log.warning("properties of a Kafka producer have no effect here", properties=sorted(given.unknown))
    try:
        return Shared(key, given.client, AIOKafkaProducer(**given.client, **own), seconds)
    except ValueError as e:
        raise ConnectorInputException(f"Kafka properties: {e}") from None


async def _stop(shared: Shared) -> None:
    if shared.started is not None and not shared.started.done():
        shared.started.cancel()
        await asyncio.wait({shared.started})
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await shared.producer.stop()
    except (TimeoutError, KafkaError, asyncio.CancelledError):  # what sends may have ended by being cancelled
        await shared.producer.client.close()


@asynccontextmanager
async def opened() -> AsyncIterator[Producers]:
    """A pool that closes what is unused for long, and all of it at the end."""
    pool = Producers()

    async def tidy() -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            pool.tidy()

    tidying = asyncio.create_task(tidy())
    try:
        yield pool
    finally:
        tidying.cancel()
        await asyncio.wait({tidying})
        await pool.close()


# ---- one record ------------------------------------------------------------------------------------------------------


async def send(request: KafkaRequest, http: HttpClient, pool: Producers) -> dict[str, Any]:
    """Sends the record of a job; where it is now. Raises ConnectorException with the code `FAIL`, ConnectorInputException."""
    properties = java_properties(request.topic, request.authentication, request.additionalProperties)
    shared = pool.get(properties, http)
    try:
        async with asyncio.timeout(shared.delivery_seconds):
            value = await _value(request, lambda url: pool.registry(url, properties, http))
            headers = [(name, _header(name, text)) for name, text in (request.headers or {}).items()]
            topic, key = request.topic.topicName, _text(request.message.key).encode()
            async with pool.using(shared) as producer:
                sent = await producer.send_and_wait(topic, value, key, headers=headers)
    except KafkaError as e:
        raise _failed(await reason(shared.client, e)) from e
    except TimeoutError as e:
        raise _failed(
            f"Kafka at {where(shared.client)} did not take the record within {shared.delivery_seconds:g} s"
        ) from e
    except (DoesNotFit, InvalidSchema, RegistryError) as e:
        raise _failed(str(e)) from e
    if sent is None:  # acks=0: nobody said where it is
        return {"topic": topic, "timestamp": int(time.time() * 1000), "offset": -1, "partition": -1}
    return {"topic": sent.topic, "timestamp": sent.timestamp, "offset": sent.offset, "partition": sent.partition}


def _failed(cause: str) -> ConnectorException:
    return ConnectorException(f"Error during Kafka Producer execution; error message: [{cause}]", code="FAIL")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.dumps(value)


def _header(name: str, text: str | None) -> bytes:
    if text is None:
        raise DoesNotFit(f"headers.{name}: expected a text, but got null")
    return text.encode()


async def _value(request: KafkaRequest, registry: Callable[[str], SchemaRegistry]) -> bytes:
    """The bytes of the value. Raises DoesNotFit, InvalidSchema, RegistryError."""
    strategy, value = request.schemaStrategy or ProducerSchemaStrategy(), request.message.value
    if strategy.type == "noSchema":
        return _text(value).encode()
    schema = strategy.text or ""
    if strategy.type == "inlineSchema":
        return _avro(schema).write(_parsed(value) if isinstance(value, str) else value)
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, Mapping):
        raise DoesNotFit("Message value must be a map for a schema based message")
    kind = strategy.schemaType.upper()
    payload = _avro(schema).write(value) if kind == "AVRO" else jsontext.dumpb(value)
    known = registry(strategy.schemaRegistryUrl or "")
    return joined(await known.ident(f"{request.topic.topicName}-value", schema, kind), payload)


def _parsed(text: str) -> Any:
    """The value of a JSON text; texts in it may be in single quotes. What is no JSON is a text."""
    for read in (jsontext.loads, lenient_json):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_avros: dict[str, AvroSchema] = {}


def _avro(text: str) -> AvroSchema:
    """A schema, parsed once. Raises InvalidSchema."""
    found = _avros.get(text)
    if found is None:
        found = AvroSchema(text)
        if len(_avros) >= 500:
            _avros.clear()
        _avros[text] = found
    return found
