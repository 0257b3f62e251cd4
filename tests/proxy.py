"""A TCP proxy that breaks connections on purpose: the faults of a network, without a network."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from tests.real.processes import free_port

Direction = Literal["up", "down"]  # up: from the client to the server; down: back

_CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: closing sends RST


@dataclass(eq=False, slots=True)
class _Link:
    """A client's connection and the one to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def close(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                with suppress(OSError):
                    sock = writer.transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Forwards TCP connections to `host:port` until told otherwise; the faults hold for open and new connections.

    `delay`: seconds that each chunk waits. `throttle`: bytes a second and direction, None for no limit.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.target = (host, port)
        self.port = 0
        self.delay = 0.0
        self.throttle: float | None = None
        self.forwarded: dict[Direction, int] = {"up": 0, "down": 0}
        self.accepted = 0
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    # ---- faults

    def black_hole(self, *directions: Direction) -> None:
        """Takes bytes and connections, forwards nothing (of these directions; of both when none is given)."""
        for direction in directions or ("up", "down"):
            self._open[direction].clear()

    def freeze(self) -> int:
        """A black hole for the connections open now, as when a NAT forgot them; new ones are forwarded."""
        for link in self._links:
            link.flowing.clear()
        return len(self._links)

    def heal(self) -> None:
        """Forwards again without delay; bytes held back by a black hole go on where the connection still is."""
        self.delay, self.throttle = 0.0, None
        for event in (*self._open.values(), *(link.flowing for link in self._links)):
            event.set()

    def reset(self) -> int:
        """Breaks all connections with RST; returns how many."""
        return self._end(reset=True)

    def drop(self) -> int:
        """Closes all connections with FIN; returns how many."""
        return self._end(reset=False)

    def half_close(self, direction: Direction) -> None:
        """Tells the receiver of this direction that no more will come; the other direction stays."""
        for link in self._links:
            writer = link.server if direction == "up" else link.client
            if writer.can_write_eof():
                writer.write_eof()

    async def refuse(self) -> None:
        """New connections are refused: nothing listens on the port. Open ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def accept(self) -> None:
        """Listens (again), on the same port as before."""
        if self._server is None:
            self.port = self.port or free_port()
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    # ---- forwarding

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.accepted += 1
        try:
            server_reader, server = await asyncio.open_connection(*self.target)
        except OSError:
            client.transport.abort()
            self._serving.discard(task)
            return
        link = _Link(client, server)
        link.flowing.set()
        self._links.add(link)
        link.tasks = [
            asyncio.create_task(self._pump("up", link, client_reader, server)),
            asyncio.create_task(self._pump("down", link, server_reader, client)),
        ]
        try:
            await asyncio.wait(link.tasks)
        finally:
            for pump in link.tasks:
                pump.cancel()
            await asyncio.gather(*link.tasks, return_exceptions=True)
            link.close(reset=False)
            self._links.discard(link)
            self._serving.discard(task)

    async def _pump(
        self, direction: Direction, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK):
                await self._open[direction].wait()
                await link.flowing.wait()
                pause = self.delay + (len(chunk) / self.throttle if self.throttle else 0.0)
                if pause:
                    await asyncio.sleep(pause)
                writer.write(chunk)
                self.forwarded[direction] += len(chunk)
                await writer.drain()
            await self._open[direction].wait()
            await link.flowing.wait()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()

    def _end(self, *, reset: bool) -> int:
        ended = len(self._links)
        for link in tuple(self._links):
            link.close(reset=reset)
            for task in link.tasks:
                task.cancel()
        return ended

    # ---- life

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        self.reset()
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
