"""The transport on the grpcio package."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from gateway.engine import Aborted, EngineError, Unavailable
from gateway.engine.liveness import Answer, Watched
from gateway.engine.transport import (
    CONNECT_TIMEOUT,
    MAX_BACKOFF,
    ByteStream,
    ChannelSettings,
    Liveness,
    Metadata,
    TransportStatistics,
    check_sendable,
    error_of_status,
)

_STREAM_WINDOW: Final = 64 * 1024
_LOCAL_CANCELLATION: Final = "Locally cancelled by application!"


def _error_of(e: grpc.aio.AioRpcError) -> EngineError:
    return error_of_status(int(e.code().value[0]), e.details() or "")


def _channel_options(settings: ChannelSettings) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        # A stalled stream must look stalled to the engine soon: what lies in the window is already leased.
        ("grpc.http2.lookahead_bytes", _STREAM_WINDOW),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Without it a replaced channel would get the old one's silent connection back from the global pool.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", int(MAX_BACKOFF * 1000)),
        (
            "grpc.min_reconnect_backoff_ms",
            int(CONNECT_TIMEOUT * 1000),
        ),  # despite its name: the time limit of one attempt
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

    @property
    def ready(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def probe(self, method: str, timeout: float) -> Answer:
        try:
            await self.unary(method)(b"", timeout=timeout)
        except grpc.aio.AioRpcError as e:
            if e.code() is grpc.StatusCode.UNAVAILABLE:
                return "broken"  # grpc connects anew by itself
            if e.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return "silent"
        self.received()  # an answer is an answer, also one that asks for credentials
        return "answered"

    def end_calls(self, reason: str) -> None:
        self.lost = reason
        for call in tuple(self.calls):
            call.cancel()

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
        self._watched = Watched(lambda: _Connection(settings), liveness)

    async def unary(self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()) -> bytes:
        check_sendable(request, self._settings, closed=self._watched.closed)
        connection, cancellations = self._watched.connection, _cancellations()
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
                self._watched.suspect(connection)
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
        check_sendable(request, self._settings, closed=self._watched.closed)
        connection = self._watched.streaming()
        call = connection.channel.unary_stream(method, None, None)(request, timeout=timeout, metadata=metadata)
        return _GrpcioStream(connection, call, on_silent)

    def statistics(self) -> TransportStatistics:
        return self._watched.statistics()

    async def close(self) -> None:
        await self._watched.close()
