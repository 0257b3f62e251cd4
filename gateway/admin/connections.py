"""Connections of the HTTP servers, bounded: in number, in the time and size of a request's head, in idleness, in unread answers.

aiohttp reads requests and writes answers; what it has no limits for is added to its protocol here. Someone who opens many
connections and sends little (slowloris) holds each for seconds only, and takes no place from others: where all places are taken,
the connection goes that has waited longest for a request.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.admin.application import SERVER_NAME, problem

log = structlog.get_logger(__name__)

_SWEEP_SECONDS: Final = 1.0
_TITLES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """max_head_bytes: of request line and headers together. head_seconds: from the first byte of a request, or the opening of the
    connection, to the end of its headers. idle_seconds: between two requests. stalled_seconds: how long a peer may leave an answer
    unread. max_connections: open at once.
    """

    max_head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 30.0
    max_connections: int = 8192


class Connections(web.Server):
    """The connections of one server. `watch` and `stop` begin and end the look at their times.

    Keyword arguments go to aiohttp's `RequestHandler`.
    """

    def __init__(self, handler: Any, limits: ServerLimits, **options: Any) -> None:
        super().__init__(
            handler,
            keepalive_timeout=limits.idle_seconds,
            max_line_size=limits.max_head_bytes,
            max_field_size=limits.max_head_bytes,
            **options,
        )
        self.limits = limits
        self._options = {
            "keepalive_timeout": limits.idle_seconds,
            "max_line_size": limits.max_head_bytes,
            "max_field_size": limits.max_head_bytes,
            **{
                name: value
                for name, value in options.items()
                if name not in {"request_factory", "handler_cancellation"}
            },
        }
        self._open: dict[Connection, asyncio.Transport] = {}
        self._waiting: dict[Connection, None] = {}  # for a request, the longest first
        self._refused = {"slow": 0, "too large": 0, "full": 0, "evicted": 0, "unread": 0}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> "Connection":
        return Connection(self, asyncio.get_running_loop(), self._options)

    def statistics(self) -> Mapping[str, float]:
        """`limit`, `open`, `waiting` (for a request), and how many were `refused` so far, by reason."""
        refused = {f"refused {reason}": float(count) for reason, count in self._refused.items()}
        return {
            "limit": self.limits.max_connections,
            "open": len(self._open),
            "waiting": len(self._waiting),
            **refused,
        }

    def watch(self) -> None:
        interval = min(_SWEEP_SECONDS, self.limits.head_seconds / 4, self.limits.stalled_seconds / 4)
        self._timer = asyncio.get_running_loop().call_later(interval, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._waiting):
            if connection.late(now):
                self._refused["slow"] += 1
                connection.refuse(408)
        for connection, transport in list(self._open.items()):
            if connection.stalled(now, transport):
                self._refused["unread"] += 1
                transport.abort()
        self.watch()

    # ---- what connections tell ----

    def admits(self, connection: "Connection", transport: asyncio.Transport) -> bool:
        """Takes a new connection in, where need be in the place of one that does nothing."""
        if len(self._open) >= self.limits.max_connections:
            if not self._waiting:
                self._refused["full"] += 1
                return False
            oldest = next(iter(self._waiting))
            self._refused["evicted"] += 1
            self._waiting.pop(oldest)
            self._open.pop(oldest).abort()
        self._open[connection] = transport
        return True

    def waits(self, connection: "Connection") -> None:
        if connection in self._open:
            self._waiting[connection] = None

    def works(self, connection: "Connection") -> None:
        self._waiting.pop(connection, None)

    def left(self, connection: "Connection") -> None:
        self._waiting.pop(connection, None)
        self._open.pop(connection, None)

    def too_large(self) -> None:
        self._refused["too large"] += 1


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with limits. It waits for a request, or works on one or several."""

    __slots__ = ("_began", "_body", "_connections", "_head_bytes", "_unsent", "_unsent_since", "_waits")

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop, options: Mapping[str, Any]) -> None:
        super().__init__(connections, loop=loop, **options)
        self._connections = connections
        self._began: float | None = None  # when the first byte of the head came
        self._head_bytes = 0
        self._body: StreamReader = EMPTY_PAYLOAD  # of the newest request
        self._unsent = 0
        self._unsent_since = 0.0
        self._waits = False

    def late(self, now: float) -> bool:
        """Whether the head of a request is over its time."""
        return self._began is not None and now - self._began > self._connections.limits.head_seconds

    def stalled(self, now: float, transport: asyncio.Transport) -> bool:
        """Whether the other side takes nothing of what was written, all this time."""
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since > self._connections.limits.stalled_seconds and unsent > 0

    def refuse(self, status: int) -> None:
        """Ends the connection; with an answer, if anything came that it could be an answer to."""
        if self.transport is not None and self._head_bytes:
            self.transport.write(_answer(status))
        self.force_close()

    # ---- aiohttp's protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if not self._connections.admits(self, writable):
            writable.write(_answer(503))
            writable.close()
            return
        super().connection_made(transport)
        self._wait()
        self._began = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._waits or not self._body.is_eof():
            self._receive(data)
            return
        if self._began is None:
            self._began = self._loop.time()
        before = self._head_bytes
        self._head_bytes += len(data)
        over = self._head_bytes > self._connections.limits.max_head_bytes
        if over and before + data.find(b"\r\n\r\n") > self._connections.limits.max_head_bytes:
            self._too_large()
        elif self._receive(data):
            self._waits = False
            self._connections.works(self)
        elif over:
            self._too_large()

    def _receive(self, data: bytes) -> bool:
        """Whether a whole head was among the data."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count == heads:
            return False
        if not self._body.is_eof():
            # Something after a body without an end: aiohttp has found it wrong, and has not told who reads it.
            self._body.set_exception(web.RequestPayloadError("the body is not as HTTP has it"))
        if self._messages:
            self._body = self._messages[-1][1]
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if not self._messages:  # else the next request is here already
            self._wait()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, or to a request whose handler raised; the connection ends. Nothing of either is shown."""
        if status >= 500:
            log.error("a request could not be answered", exc_info=exc)
        elif isinstance(exc, LineTooLong) or (message or "").startswith("Too many headers"):
            status = 431
            self._connections.too_large()
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = problem(status, _TITLES.get(status, "Internal Server Error"), headers={"Server": SERVER_NAME})
        response.force_close()
        return response

    # ---- states ----

    def _wait(self) -> None:
        self._waits = True
        self._began, self._head_bytes = None, 0
        self._connections.waits(self)

    def _too_large(self) -> None:
        self._connections.too_large()
        self.refuse(431)


def _answer(status: int) -> bytes:
    """An answer without a body, beside aiohttp: no request is known that it could write one for."""
    return (
        f"HTTP/1.1 {status} {_TITLES[status]}\r\nServer: {SERVER_NAME}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()
