"""The transport on our own HTTP/2: gRPC over HTTP/2 (the protocol's specification, `PROTOCOL-HTTP2.md` of gRPC) for what the
gateway calls, unary calls and server streams, at a fraction of what a general library costs per call.

Messages are asked for uncompressed. A stream holds at most its window unread, so one that nobody reads stalls the engine.
"""

import asyncio
import random
import re
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway.engine import Aborted, DeadlineExceeded, EngineError, EngineFailure, ResourceExhausted, Unavailable
from gateway.engine.http2 import (
    ENHANCE_YOUR_CALM,
    REFUSED_STREAM,
    Headers,
    Http2Connection,
    encode_headers,
)
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

_STREAM_WINDOW: Final = 32 * 1024
_HIDDEN: Final = frozenset({b"authorization"})
_MAX_BLOCKS: Final = 256
_TARGET: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:]*)):(?P<port>[0-9]+)")
_STATUS_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


# ---- calls -----------------------------------------------------------------------------------------------------------


class _Call:
    """One call on the wire: collects headers and messages, and knows how it ended. Subclasses say what happens with them."""

    __slots__ = ("_buffer", "_connection", "_limit", "_link", "_status", "_stream", "_timer", "ended")

    def __init__(self, link: "_Link", limit: int) -> None:
        self._link = link
        self._limit = limit
        self._buffer = b""
        self._status: tuple[int, str] | None = None
        self._connection: Http2Connection | None = None
        self._stream: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False

    def send(self, connection: Http2Connection, block: bytes, request: bytes, timeout: float | None) -> None:
        if timeout is not None:
            self._timer = self._link.loop.call_later(timeout, self._too_late, timeout)
        self._connection = connection
        body = b"\0" + len(request).to_bytes(4, "big") + request
        self._stream = connection.request(block, body, self)

    # -- the Exchange of the connection

    def headers_received(self, headers: Headers, end: bool) -> None:
        fields = dict(headers)
        status = fields.get(b":status")
        if status is not None and status.startswith(b"1"):
            return
        if status is not None and (refusal := _refusal(status, fields)) is not None:
            self.finish(refusal, tell=not end)
            return
        code = fields.get(b"grpc-status")
        if code is not None:
            self._status = (int(code) if code.isdigit() else 2, _text(fields.get(b"grpc-message", b"")))
        if end:
            self._complete()

    def data_received(self, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def reset(self, code: int) -> None:
        if code == REFUSED_STREAM:
            self.finish(Unavailable("the engine refused the call before it looked at it", may_have_arrived=False))
        elif code == ENHANCE_YOUR_CALM:
            self.finish(ResourceExhausted("the engine's door asks for less (ENHANCE_YOUR_CALM)"))
        else:
            self.finish(error_of_status(13, f"Received RST_STREAM with error code {code}"))

    def lost(self, reason: str, sent: bool) -> None:
        self.finish(Unavailable(f"{self._link.lost or reason}", may_have_arrived=sent))

    # -- how it ends

    def _complete(self) -> None:
        """The peer has said all."""
        if self._status is None:
            self.finish(EngineFailure("the engine's answer ended without a gRPC status"))
        elif self._status[0]:
            self.finish(error_of_status(*self._status))
        elif self._buffer:
            self.finish(EngineFailure("the engine's answer ended within a message"))
        else:
            self.finish(None)

    def _too_late(self, timeout: float) -> None:
        self._timer = None
        self.finish(DeadlineExceeded(f"no answer within {timeout:g} s"), tell=True)

    def finish(self, error: EngineError | None, *, tell: bool = False) -> None:
        """The end, once. tell: the peer has to know that we want no more."""
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if tell:
            self.drop()
        self._finished(error)

    def drop(self) -> None:
        if self._connection is not None and self._stream is not None:
            self._connection.cancel(self._stream)

    def take(self, size: int) -> None:
        """So many bytes need no place in the window any more."""
        if size and self._connection is not None and self._stream is not None:
            self._connection.take(self._stream, size)

    def _finished(self, error: EngineError | None) -> None:
        raise NotImplementedError

    # -- messages

    def _messages(self, data: bytes) -> list[bytes]:
        """The whole messages in what has come; the rest is kept."""
        data = self._buffer + data if self._buffer else data
        found: list[bytes] = []
        at, size = 0, len(data)
        while size - at >= 5:
            length = int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at]:
                raise _Unreadable("a compressed message, which was not asked for")
            if length > self._limit:
                raise _Unreadable(f"Received message larger than max ({length} vs. {self._limit})")
            if size - at - 5 < length:
                break
            found.append(data[at + 5 : at + 5 + length])
            at += 5 + length
        self._buffer = data[at:]
        return found

    def _unreadable(self, error: "_Unreadable", end: bool) -> None:
        self.finish(EngineFailure(str(error)), tell=not end)


class _Unreadable(Exception):  # noqa: N818 - a signal within this module
    """The peer sends what we cannot take."""


class _UnaryCall(_Call):
    __slots__ = ("answer", "message")

    def __init__(self, link: "_Link", limit: int) -> None:
        super().__init__(link, limit)
        self.message: bytes | None = None
        self.answer: asyncio.Future[bytes] = link.loop.create_future()

    def data_received(self, data: bytes, end: bool) -> None:
        self.take(len(data))
        try:
            for message in self._messages(data):
                if self.message is not None:
                    raise _Unreadable("more than one message as the answer")
                self.message = message
        except _Unreadable as e:
            self._unreadable(e, end)
            return
        if end:
            self._complete()

    def _finished(self, error: EngineError | None) -> None:
        if self.answer.done():
            return
        if error is None and self.message is None:
            error = EngineFailure("the engine's answer holds no message")
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(self.message or b"")


class _StreamCall(_Call):
    """A server stream: messages wait here until they are read; what is read is given back to the window."""

    __slots__ = ("_error", "_opening", "_reader", "_ready", "_uncredited", "cancelled", "on_silent")

    def __init__(self, link: "_Link", limit: int, on_silent: Callable[[], None] | None) -> None:
        super().__init__(link, limit)
        self.on_silent = on_silent
        self.cancelled = False
        self._ready: deque[tuple[bytes, int]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._error: EngineError | None = None
        self._uncredited = 0  # bytes of the message that is still coming
        self._opening: asyncio.Task[None] | None = None
        link.streams.add(self)

    def open(self, start: "asyncio.Task[None]") -> None:
        """Keeps the task that makes the connection and sends the call."""
        self._opening = start

    @property
    def waiting(self) -> bool:
        return self._reader is not None and not self._ready

    async def read(self) -> bytes | None:
        while not self._ready:
            if self.ended:
                error, self._error = self._error, None
                if error is not None and not self.cancelled:
                    raise error
                return None
            self._credit_partial()
            self._reader = self._link.loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
            finally:
                self._reader = None
        message, size = self._ready.popleft()
        self.take(size)
        return message

    def data_received(self, data: bytes, end: bool) -> None:
        try:
            messages = self._messages(data)
        except _Unreadable as e:
            self._unreadable(e, end)
            return
        self._uncredited += len(data)
        for message in messages:
            size = min(self._uncredited, len(message) + 5)
            self._uncredited -= size
            self._ready.append((message, size))
        if end:
            self._complete()
        elif self._reader is not None:
            self._credit_partial()
        if self._ready:
            self._wake()

    def _credit_partial(self) -> None:
        """A message that is larger than the window comes on only if its beginning counts as taken."""
        if self._uncredited and not self._ready:
            self.take(self._uncredited)
            self._uncredited = 0

    def _finished(self, error: EngineError | None) -> None:
        self._link.streams.discard(self)
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def abandon(self) -> None:
        self._ready.clear()
        self.finish(Unavailable(self._link.lost or "the connection to the engine was lost"), tell=True)

    def cancel(self) -> None:
        self.cancelled = True
        self._ready.clear()
        if self._opening is not None:
            self._opening.cancel()
        self.finish(None, tell=True)


# ---- the connection --------------------------------------------------------------------------------------------------


class _Link:
    """The way to the server: made with the first call, made again after it broke, not sooner than the back-off says."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.connection: Http2Connection | None = None
        self.lost: str | None = None  # why it was given up, for the calls that it takes along
        self.watched_since = self.loop.time()
        self.streams: set[_StreamCall] = set()
        self.calls: set[_UnaryCall] = set()
        self._settings = settings
        self._connecting: asyncio.Task[Http2Connection] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._before: float | None = None  # when the connection before this one received something
        self._failed: str | None = None
        self._not_before = 0.0
        self._delay = 0.1
        self._keep_alive = settings.keep_alive
        self._blocks: dict[tuple[str, str, Metadata], bytes] = {}

    @property
    def last_received(self) -> float | None:
        current = self.connection.last_received if self.connection is not None else None
        return self._before if current is None else current

    @property
    def ready(self) -> bool:
        return self.connection is not None and self.connection.usable

    def block(self, method: str, timeout: float | None, metadata: Metadata) -> bytes:
        """The encoded headers of a call. The engine's deadline is a little after ours, so that few spellings occur."""
        limit = "" if timeout is None else f"{max(1, -(-int(timeout * 1000) // 100))}00m"
        key = (method, limit, metadata)
        block = self._blocks.get(key)
        if block is None:
            settings = self._settings
            headers = [
                (b":method", b"POST"),
                (b":scheme", b"http" if settings.context is None else b"https"),
                (b":path", method.encode()),
                (b":authority", (settings.authority or settings.target).encode()),
                (b"te", b"trailers"),
                *(((b"grpc-timeout", limit.encode()),) if limit else ()),
                (b"content-type", b"application/grpc"),
                (b"user-agent", f"{settings.user_agent} grpc-python-lean/1".encode()),
                *((name.lower().encode(), value.encode()) for name, value in metadata),
            ]
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            block = self._blocks[key] = encode_headers(headers, hidden=_HIDDEN)
        return block

    async def connected(self) -> Http2Connection:
        """The connection, made if need be. Raises Unavailable (never sent): it cannot be made, or could not be just now."""
        if self.connection is not None and self.connection.usable:
            return self.connection
        if self.lost is not None:
            raise Unavailable(self.lost, may_have_arrived=False)
        if self._connecting is None or self._connecting.done():
            if self._failed is not None and self.loop.time() < self._not_before:
                raise Unavailable(self._failed, may_have_arrived=False)
            self._connecting = asyncio.create_task(self._connect(), name="engine connection attempt")
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Http2Connection:
        settings = self._settings
        host, port = split_target(settings.target)
        if self.connection is not None:
            self._before = self.connection.last_received or self._before
        options: dict[str, Any] = {}
        if settings.context is not None:
            options = {"ssl": settings.context, "server_hostname": (settings.authority or host).partition(":")[0]}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                transport, connection = await self.loop.create_connection(
                    lambda: Http2Connection(stream_window=_STREAM_WINDOW, max_header_bytes=settings.max_metadata_size),
                    host,
                    port,
                    **options,
                )
                await _settled(connection)
        except (OSError, TimeoutError) as e:
            raise self._refused(_reason(e)) from None
        if settings.context is not None:
            secured = transport.get_extra_info("ssl_object")
            if secured is None or secured.selected_alpn_protocol() != "h2":
                transport.abort()
                raise self._refused("the server speaks no HTTP/2 over TLS (ALPN)")
        self._failed, self._delay = None, 0.1
        self.connection = connection
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = asyncio.create_task(self._keep(connection), name="engine connection keep-alive")
        return connection

    def _refused(self, reason: str) -> Unavailable:
        """Remembers a failed attempt: the next one comes after a growing pause."""
        self._failed = f"failed to connect to all addresses of {self._settings.target}: {reason}"
        self._not_before = self.loop.time() + self._delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
        self._delay = min(MAX_BACKOFF, self._delay * 1.6)
        return Unavailable(self._failed, may_have_arrived=False)

    async def _keep(self, connection: Http2Connection) -> None:
        """Pings while nothing comes; a ping without an answer ends the connection."""
        while not connection.closed.done():
            last = connection.last_received or self.loop.time()
            due = last + self._keep_alive - self.loop.time()
            if due > 0:
                await asyncio.wait({connection.closed}, timeout=due)
                continue
            answered = connection.ping()
            await asyncio.wait({answered}, timeout=self._settings.keep_alive_timeout)
            if not answered.done():
                answered.cancel()
                connection.abort("the connection answers no ping")
        if connection.peer_calm:
            self._keep_alive *= 2

    async def probe(self, method: str, timeout: float) -> Answer:
        if not self.ready:
            return "broken"
        call = _UnaryCall(self, self._settings.max_message_size)
        assert self.connection is not None
        call.send(self.connection, self.block(method, timeout, ()), b"", timeout)
        try:
            await call.answer
        except DeadlineExceeded:
            return "silent"
        except Unavailable:
            return "broken"
        except EngineError:
            return "answered"
        finally:
            call.finish(Aborted("no longer wanted"), tell=True)
        return "answered"

    def end_calls(self, reason: str) -> None:
        self.lost = reason
        for call in tuple(self.calls):
            call.finish(Unavailable(reason), tell=True)

    async def close(self, reason: str) -> None:
        self.lost = self.lost or reason
        tasks = [task for task in (self._connecting, self._keeping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in tuple(self.calls):
            call.finish(Unavailable(self.lost), tell=True)
        for stream in tuple(self.streams):
            stream.abandon()
        if self.connection is not None:
            self.connection.close(reason)
            self.connection = None
            await asyncio.sleep(0)  # the transport's own goodbye


class LeanTransport:
    """A `Transport` on our own HTTP/2. Made on the event loop; connects with the first call."""

    def __init__(self, settings: ChannelSettings, liveness: Liveness) -> None:
        self._settings = settings
        self._watched = Watched(lambda: _Link(settings), liveness)

    async def unary(self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()) -> bytes:
        check_sendable(request, self._settings, closed=self._watched.closed)
        link = self._watched.connection
        connection = link.connection
        if connection is None or not connection.usable:
            began = link.loop.time()
            try:
                async with asyncio.timeout(timeout):
                    connection = await link.connected()
            except TimeoutError:
                raise DeadlineExceeded(f"no connection within {timeout:g} s", may_have_arrived=False) from None
            timeout = max(0.001, timeout - (link.loop.time() - began))
        call = _UnaryCall(link, self._settings.max_message_size)
        link.calls.add(call)
        try:
            call.send(connection, link.block(method, timeout, metadata), request, timeout)
            return await call.answer
        except asyncio.CancelledError:
            call.finish(Aborted("cancelled"), tell=True)
            raise
        except DeadlineExceeded:
            self._watched.suspect(link)
            raise
        finally:
            link.calls.discard(call)

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
        link = self._watched.streaming()
        call = _StreamCall(link, self._settings.max_message_size, on_silent)

        def send(connection: Http2Connection) -> None:
            call.send(connection, link.block(method, timeout, metadata), request, timeout)

        if link.connection is not None and link.connection.usable:
            send(link.connection)
        else:
            call.open(asyncio.create_task(_opened(link, call, send), name="engine connection stream"))
        return call

    def statistics(self) -> TransportStatistics:
        return self._watched.statistics()

    async def close(self) -> None:
        await self._watched.close()


async def _opened(link: _Link, call: _StreamCall, send: Callable[[Http2Connection], None]) -> None:
    """Sends a stream's call once there is a connection."""
    try:
        connection = await link.connected()
    except EngineError as e:
        call.finish(e)
        return
    if not call.ended:
        send(connection)


# ---- parts -----------------------------------------------------------------------------------------------------------


def split_target(target: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. ValueError for anything else."""
    found = _TARGET.fullmatch(target)
    if found is None:
        raise ValueError(f"expected host:port, but got {target!r}")
    return found["v6"] or found["host"], int(found["port"])


async def _settled(connection: Http2Connection) -> None:
    """Waits for the first word of the other side: until then nobody knows that it is an HTTP/2 server. Raises OSError."""
    try:
        first: set[asyncio.Future[Any]] = {connection.settled, connection.closed}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if connection.closed.done() or not connection.settled.done():
            connection.abort("no connection could be made")
    if connection.closed.done():
        raise ConnectionError(connection.closed.result())


def _reason(error: OSError | TimeoutError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, TimeoutError) and not str(error):
        return f"no connection within {CONNECT_TIMEOUT:g} s"
    return error.strerror or str(error) or type(error).__name__


def _refusal(status: bytes, fields: dict[bytes, bytes]) -> EngineError | None:
    """The error for an answer that is no gRPC: of a proxy, for example (gRPC's mapping of HTTP status codes)."""
    content_type = fields.get(b"content-type", b"")
    if status == b"200" and content_type.startswith(b"application/grpc"):
        return None
    if b"grpc-status" in fields:
        return None
    code = int(status) if status.isdigit() else 0
    shown = content_type[:100].decode("latin-1")
    return error_of_status(_STATUS_OF_HTTP.get(code, 2), f"the answer is no gRPC: HTTP {code}, content type {shown!r}")


def _text(message: bytes) -> str:
    """A grpc-message: percent-encoded UTF-8."""
    return unquote_to_bytes(message).decode("utf-8", "replace")
