"""How bytes of gRPC calls travel: the seam `Transport` and its implementation on grpcio.

The commands know a method path and serialized messages, nothing of the library below. A transport opens one connection
and keeps it: it reconnects with growing, jittered pauses, and finds out when a connection has gone silent.

A connection that forwards nothing any more (a dropped NAT entry, a dead host) looks healthy to both ends. Keep-alive
pings of HTTP/2 find it, but a server closes connections that ping more often than it allows (Zeebe: every 30 seconds).
So the transport asks with a call: when a unary call got no answer in time, or nothing at all came for
`Liveness.idle` seconds while streams are open. When that probe stays unanswered too, the connection is replaced.
A network may come back, and then what the server sent into the silence arrives after all: streams whose owner
wants that are read on for `Liveness.late` seconds.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from gateway.engine import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    EngineError,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

Metadata = tuple[tuple[str, str], ...]

STREAM_WINDOW: Final = 64 * 1024
_CONNECT_TIMEOUT_MS: Final = 5_000
_MAX_BACKOFF_MS: Final = 5_000


class ByteStream(Protocol):
    """The messages of a server stream."""

    async def read(self) -> bytes | None:
        """The next message; None at the end, also after `cancel`. Raises EngineError when it broke. One at a time."""

    def cancel(self) -> None:
        """Ends the stream. May be called more than once, also before the end."""


class Transport(Protocol):
    """One connection to a gRPC server. Its errors are those of the engine port."""

    async def unary(self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()) -> bytes:
        """Sends one request once and gives the answer; DeadlineExceeded after `timeout` seconds."""

    def stream(
        self,
        method: str,
        request: bytes,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
        on_silent: Callable[[], None] | None = None,
    ) -> ByteStream:
        """Starts a call that answers with many messages; not reading them holds the server back.

        on_silent: called when its connection is replaced because it answers nothing. The stream then stays open for a while
        and gives what still comes through. Without it the stream breaks at that moment.
        """

    def statistics(self) -> "TransportStatistics": ...

    async def close(self) -> None:
        """Ends all calls and the connection. Streams end with None, calls under way with Unavailable."""


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """`silent_for`: seconds since anything was received; None when nothing ever was."""

    connected: bool
    streams: int
    replaced: int
    silent_for: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """When a silent connection is asked, in seconds: worst case `idle` + `probe_timeout` until it is replaced.

    late: how long one that was replaced may still bring something. Once it has, it is closed when it had nothing more to
    give for `lull` seconds.
    """

    probe_method: str
    idle: float = 15.0
    probe_timeout: float = 5.0
    late: float = 60.0
    lull: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """A channel: `target` is `host:port`; `credentials` None means plaintext. Times in seconds, sizes in bytes."""

    target: str
    credentials: grpc.ChannelCredentials | None = None
    authority: str | None = None
    user_agent: str = "connector-gateway"
    max_message_size: int = 5 * 1024 * 1024
    max_metadata_size: int = 16 * 1024
    keep_alive: float = 45.0
    keep_alive_timeout: float = 20.0
    round_robin: bool = False


# ---- status codes ----------------------------------------------------------------------------------------------------

_ERRORS: Final[dict[int, type[EngineError]]] = {
    1: Aborted,  # CANCELLED
    2: EngineFailure,  # UNKNOWN
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    6: AlreadyExists,
    7: PermissionDenied,
    8: ResourceExhausted,
    9: FailedPrecondition,
    10: Aborted,
    11: InvalidArgument,  # OUT_OF_RANGE
    12: Unimplemented,
    13: EngineFailure,  # INTERNAL
    14: Unavailable,
    15: Aborted,  # DATA_LOSS
}

# How grpc says that no connection could be made for a call: it was never sent.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "empty address list",
)
_REPLACED: Final = "the connection to the engine answered nothing any more and was replaced"
_LOCAL_CANCELLATION: Final = "Locally cancelled by application!"
# A peer or proxy that resets one HTTP/2 stream breaks the connection to the engine, whatever code it chose.
_BROKEN: Final = ("Received RST_STREAM", "Stream removed")


def error_of_status(code: int, details: str) -> EngineError:
    """The port's error for a gRPC status code.

    Too large a message is RESOURCE_EXHAUSTED by the letter, but no back-pressure: sending it again never helps. Sent
    it is InvalidArgument, received EngineFailure.
    """
    text = details or f"gRPC status {code} without a message"
    if code == 14 and details.startswith(_NEVER_SENT):
        return Unavailable(text, may_have_arrived=False)
    if code == 8 and ("message larger than max" in details or "exceeds maximum size" in details):
        too_large_for_us = "Received message larger" in details and not details.startswith("SERVER:")
        return (EngineFailure if too_large_for_us else InvalidArgument)(text)
    if code == 16:  # refused at the door, so that it may be sent again with better credentials
        return Unauthenticated(text, may_have_arrived=False)
    if code in {2, 13} and details.startswith(_BROKEN):
        return Unavailable(text)
    return _ERRORS.get(code, EngineFailure)(text)


def _error_of(e: grpc.aio.AioRpcError) -> EngineError:
    return error_of_status(int(e.code().value[0]), e.details() or "")


# ---- grpcio ----------------------------------------------------------------------------------------------------------


def _channel_options(settings: ChannelSettings) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        # A stalled stream must look stalled to the engine soon: what lies in the window is already leased.
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Without it a replaced channel would get the old one's silent connection back from the global pool.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", _MAX_BACKOFF_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),  # despite its name: the time limit of one attempt
        ("grpc.keepalive_time_ms", int(settings.keep_alive * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keep_alive_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", settings.max_message_size),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_metadata_size),
        ("grpc.primary_user_agent", settings.user_agent),
    ]
    if settings.round_robin:
        options.append(("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'))
    if settings.authority:
        options.append(("grpc.default_authority", settings.authority))
        if settings.credentials is not None:
            options.append(("grpc.ssl_target_name_override", settings.authority))
    return options


_UnaryCall = Callable[..., "grpc.aio.UnaryUnaryCall[bytes, bytes]"]


class _Connection:
    """One channel, its streams, and when it last received something."""

    def __init__(self, settings: ChannelSettings) -> None:
        options = _channel_options(settings)
        self.channel: grpc.aio.Channel = (
            grpc.aio.insecure_channel(settings.target, options=options)
            if settings.credentials is None
            else grpc.aio.secure_channel(settings.target, settings.credentials, options=options)
        )
        self.methods: dict[str, _UnaryCall] = {}
        self.streams: set[_GrpcioStream] = set()
        self.calls: set[grpc.aio.UnaryUnaryCall[bytes, bytes]] = set()
        self.last_received: float | None = None
        self.watched_since = asyncio.get_running_loop().time()
        self.lost: str | None = None  # why it was given up, for the calls that it takes along
        self.closed = False

    def unary(self, method: str) -> _UnaryCall:
        call = self.methods.get(method)
        if call is None:
            call = self.methods[method] = self.channel.unary_unary(method, None, None)
        return call

    def received(self) -> None:
        self.last_received = asyncio.get_running_loop().time()

    def silent_since(self) -> float:
        return max(self.last_received or 0.0, self.watched_since)

    def give_up(self, reason: str) -> None:
        """Ends the calls, and the streams of which nobody wants what may still come."""
        self.lost = reason
        for call in tuple(self.calls):
            call.cancel()
        for stream in tuple(self.streams):
            if stream.on_silent is None:
                stream.abandon()
            else:
                stream.on_silent()

    def is_read_up(self) -> bool:
        """Whether all streams wait for something to come, so that closing takes nothing along that was received."""
        return all(stream.waiting for stream in self.streams)

    async def close(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self.lost = self.lost or reason
            # Closing a channel does not end every call that waits on it, in older releases of grpcio.
            for stream in tuple(self.streams):
                stream.abandon()
            for call in tuple(self.calls):
                call.cancel()
            await self.channel.close(None)


class _GrpcioStream:
    def __init__(
        self,
        connection: _Connection,
        call: "grpc.aio.UnaryStreamCall[bytes, bytes]",
        on_silent: Callable[[], None] | None,
    ) -> None:
        self.on_silent = on_silent
        self.waiting = False
        self._connection = connection
        self._call = call
        self._cancelled = False
        connection.streams.add(self)

    async def read(self) -> bytes | None:
        cancellations = _cancellations()
        self.waiting = True
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            self._connection.streams.discard(self)
            if self._cancelled and _cancellations() == cancellations:
                return None
            error = await _interruption(self._connection, self._call, cancellations)
            if error is None:
                raise
            raise error from None
        except grpc.aio.AioRpcError as e:
            self._connection.streams.discard(self)
            if e.code() is not grpc.StatusCode.UNAVAILABLE:
                self._connection.received()
            raise _error_of(e) from None
        if not isinstance(message, bytes):  # grpc.aio.EOF
            self._connection.streams.discard(self)
            return None
        self.waiting = False
        self._connection.received()
        return message

    def abandon(self) -> None:
        """Ends the call because its connection is lost: `read` raises."""
        self._call.cancel()

    def cancel(self) -> None:
        self._cancelled = True
        self._connection.streams.discard(self)
        self._call.cancel()


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def _interruption(connection: _Connection, call: Any, cancellations: int) -> EngineError | None:
    """What a CancelledError out of a call means: grpc.aio raises it also when the channel was closed or the server
    cancelled the call. None: the task that waits was cancelled, and the error has to go on.
    """
    if _cancellations() > cancellations:
        return None
    if connection.lost is not None:
        return Unavailable(connection.lost)
    details = await call.details()
    return None if details == _LOCAL_CANCELLATION else Aborted(details or "the engine cancelled the call")


class GrpcioTransport:
    """A `Transport` on grpc.aio. Made on the event loop; connects with the first call."""

    def __init__(self, settings: ChannelSettings, liveness: Liveness) -> None:
        self._settings = settings
        self._liveness = liveness
        self._connection = _Connection(settings)
        self._watchdog: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._late: dict[asyncio.Task[None], _Connection] = {}
        self._replaced = 0
        self._closed = False

    async def unary(self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()) -> bytes:
        self._check(request)
        connection, cancellations = self._connection, _cancellations()
        call = connection.unary(method)(request, timeout=timeout, metadata=metadata)
        connection.calls.add(call)
        try:
            answer = await call
        except asyncio.CancelledError:
            error = await _interruption(connection, call, cancellations)
            if error is None:
                raise
            raise error from None
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._probe = self._start_probe(connection)
            elif e.code() is not grpc.StatusCode.UNAVAILABLE:
                connection.received()
            raise _error_of(e) from None
        finally:
            connection.calls.discard(call)
        connection.received()
        return answer

    def stream(
        self,
        method: str,
        request: bytes,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
        on_silent: Callable[[], None] | None = None,
    ) -> ByteStream:
        self._check(request)
        connection = self._connection
        call = connection.channel.unary_stream(method, None, None)(request, timeout=timeout, metadata=metadata)
        if not connection.streams:
            connection.watched_since = asyncio.get_running_loop().time()
        stream = _GrpcioStream(connection, call, on_silent)
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch(), name="engine connection watchdog")
        return stream

    def statistics(self) -> TransportStatistics:
        connection = self._connection
        last = connection.last_received
        return TransportStatistics(
            connected=not self._closed and connection.channel.get_state() is grpc.ChannelConnectivity.READY,
            streams=len(connection.streams),
            replaced=self._replaced,
            silent_for=None if last is None else asyncio.get_running_loop().time() - last,
        )

    async def close(self) -> None:
        self._closed = True
        connections = (self._connection, *self._late.values())
        tasks = [task for task in (self._watchdog, self._probe, *self._late) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            for stream in tuple(connection.streams):
                stream.cancel()
            await connection.close("the connection to the engine was closed")

    def _check(self, request: bytes) -> None:
        if self._closed:
            raise Unavailable("the connection to the engine is closed", may_have_arrived=False)
        limit = self._settings.max_message_size
        if len(request) > limit:
            raise InvalidArgument(
                f"the message of {len(request)} bytes is larger than max-message-size, {limit} bytes",
                may_have_arrived=False,
            )

    # ---- liveness

    async def _watch(self) -> None:
        """Asks a connection that has streams and was silent for too long."""
        loop = asyncio.get_running_loop()
        while True:
            connection = self._connection
            due = connection.silent_since() + self._liveness.idle - loop.time()
            if due > 0 or not connection.streams:
                await asyncio.sleep(max(due, self._liveness.idle / 10))
                continue
            connection.watched_since = loop.time()
            self._probe = self._start_probe(connection)
            await asyncio.shield(self._probe)

    def _start_probe(self, connection: _Connection) -> "asyncio.Task[None]":
        if self._probe is None or self._probe.done():
            return asyncio.create_task(self._ask(connection), name="engine connection probe")
        return self._probe

    async def _ask(self, connection: _Connection) -> None:
        call = connection.unary(self._liveness.probe_method)
        try:
            await call(b"", timeout=self._liveness.probe_timeout)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.UNAVAILABLE:
                return  # grpc knows that it is broken, and connects anew by itself
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                await self._replace(connection)
                return
        connection.received()  # an answer is an answer, also one that asks for credentials

    async def _replace(self, connection: _Connection) -> None:
        """Opens a new connection in place of one that answers nothing. One that was never ready is not silent but
        still being made, with a time limit of its own.
        """
        if connection is not self._connection or self._closed:
            return
        if connection.channel.get_state() is not grpc.ChannelConnectivity.READY:
            return
        self._connection = _Connection(self._settings)
        self._replaced += 1
        connection.give_up(_REPLACED)
        closing = asyncio.create_task(self._close_late(connection), name="engine connection replaced")
        self._late[closing] = connection
        closing.add_done_callback(self._late.pop)

    async def _close_late(self, connection: _Connection) -> None:
        """Closes a replaced connection when nobody reads it any more, or nothing comes through it, or no more does."""
        loop, liveness = asyncio.get_running_loop(), self._liveness
        given_up = loop.time()
        while connection.streams:
            last = connection.last_received or 0.0
            if last <= given_up:
                over = loop.time() - given_up >= liveness.late
            else:
                over = loop.time() - last >= liveness.lull and connection.is_read_up()
            if over:
                break
            await asyncio.sleep(liveness.lull / 4)
        await connection.close(_REPLACED)
