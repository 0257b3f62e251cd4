"""A TCP relay that keeps every byte that goes to its target."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class Recorder:
    """Listens on a free port, forwards to `port`, and keeps in `sent` what the client wrote, one entry per connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.sent: list[bytearray] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def bytes(self) -> bytes:
        return b"\n".join(self.sent)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        kept = bytearray()
        self.sent.append(kept)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_pump(reader, up_writer, kept), _pump(up_reader, writer, None))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            if kept is not None:
                kept += chunk
            writer.write(chunk)
            await writer.drain()
        writer.close()
