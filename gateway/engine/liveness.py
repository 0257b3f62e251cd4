"""Connections that look healthy and answer nothing any more: found, replaced, read on for a while.

A connection that forwards nothing (a dropped NAT entry, a dead host) looks healthy to both ends. Keep-alive pings of HTTP/2
find it, but a server closes connections that ping more often than it allows (Zeebe: every 30 seconds). So the transport asks
with a call: when a unary call got no answer in time, or nothing at all came for `Liveness.idle` seconds while streams are
open. When that probe stays unanswered too, the connection is replaced. A network may come back, and then what the server sent
into the silence arrives after all: streams whose owner wants that are read on for `Liveness.late` seconds.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Generic, Literal, Protocol, TypeVar

from gateway.engine.transport import CLOSED, Liveness, TransportStatistics

_REPLACED: Final = "the connection to the engine answered nothing any more and was replaced"

Answer = Literal["answered", "broken", "silent"]


class WatchedStream(Protocol):
    """A stream of a connection. waiting: its reader had all that came; on_silent: told when the connection is replaced."""

    on_silent: Callable[[], None] | None

    @property
    def waiting(self) -> bool: ...

    def abandon(self) -> None:
        """Ends it because its connection is lost: `read` raises."""

    def cancel(self) -> None: ...


class WatchedConnection(Protocol):
    """What a transport's connection shows of itself."""

    watched_since: float

    @property
    def streams(self) -> Collection[WatchedStream]: ...

    @property
    def last_received(self) -> float | None: ...

    @property
    def ready(self) -> bool:
        """It was made. One that is still being made is not silent; that has a time limit of its own."""

    async def probe(self, method: str, timeout: float) -> Answer:
        """Asks once. `broken`: it is known to be, and is being made anew."""

    def end_calls(self, reason: str) -> None:
        """Ends the unary calls under way with Unavailable."""

    async def close(self, reason: str) -> None: ...


_C = TypeVar("_C", bound=WatchedConnection)


class Watched(Generic[_C]):
    """Keeps the connection of a transport, and looks after it."""

    def __init__(self, connect: Callable[[], _C], liveness: Liveness) -> None:
        self._connect = connect
        self._liveness = liveness
        self._watchdog: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._late: dict[asyncio.Task[None], _C] = {}
        self._replaced = 0
        self.closed = False
        self.connection = connect()

    def streaming(self) -> _C:
        """The connection for a new stream, watched from now on."""
        connection = self.connection
        if not connection.streams:
            connection.watched_since = asyncio.get_running_loop().time()
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch(), name="engine connection watchdog")
        return connection

    def suspect(self, connection: _C) -> None:
        """A call got no answer in time: the connection is asked."""
        if not self.closed:
            self._probe = self._start_probe(connection)

    def statistics(self) -> TransportStatistics:
        connection = self.connection
        last = connection.last_received
        return TransportStatistics(
            connected=not self.closed and connection.ready,
            streams=len(connection.streams),
            replaced=self._replaced,
            silent_for=None if last is None else asyncio.get_running_loop().time() - last,
        )

    async def close(self) -> None:
        self.closed = True
        connections = (self.connection, *self._late.values())
        tasks = [task for task in (self._watchdog, self._probe, *self._late) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            for stream in tuple(connection.streams):
                stream.cancel()
            await connection.close(CLOSED)

    async def _watch(self) -> None:
        """Asks a connection that has streams and was silent for too long."""
        loop = asyncio.get_running_loop()
        while True:
            connection = self.connection
            due = max(connection.last_received or 0.0, connection.watched_since) + self._liveness.idle - loop.time()
            if due > 0 or not connection.streams:
                await asyncio.sleep(max(due, self._liveness.idle / 10))
                continue
            connection.watched_since = loop.time()
            self._probe = self._start_probe(connection)
            await asyncio.shield(self._probe)

    def _start_probe(self, connection: _C) -> "asyncio.Task[None]":
        if self._probe is None or self._probe.done():
            return asyncio.create_task(self._ask(connection), name="engine connection probe")
        return self._probe

    async def _ask(self, connection: _C) -> None:
        answer = await connection.probe(self._liveness.probe_method, self._liveness.probe_timeout)
        if answer == "silent" and connection is self.connection and not self.closed and connection.ready:
            self._replace(connection)

    def _replace(self, connection: _C) -> None:
        """Opens a new connection in place of one that answers nothing."""
        self.connection = self._connect()
        self._replaced += 1
        connection.end_calls(_REPLACED)
        for stream in tuple(connection.streams):
            if stream.on_silent is None:
                stream.abandon()
            else:
                stream.on_silent()
        closing = asyncio.create_task(self._close_late(connection), name="engine connection replaced")
        self._late[closing] = connection
        closing.add_done_callback(self._late.pop)

    async def _close_late(self, connection: _C) -> None:
        """Closes a replaced connection when nobody reads it any more, or nothing comes through it, or no more does."""
        loop, liveness = asyncio.get_running_loop(), self._liveness
        given_up = loop.time()
        while connection.streams:
            last = connection.last_received or 0.0
            if last <= given_up:
                over = loop.time() - given_up >= liveness.late
            else:
                # Closing must take nothing along that was received and not read yet.
                read_up = all(stream.waiting for stream in connection.streams)
                over = loop.time() - last >= liveness.lull and read_up
            if over:
                break
            await asyncio.sleep(liveness.lull / 4)
        await connection.close(_REPLACED)
