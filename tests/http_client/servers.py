"""Local servers that keep every byte of a request and answer as they are told."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """A request as it came. head: request line and headers; connection: the number of the connection it came on."""

    head: bytes
    body: bytes
    connection: int
    at: float

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ", 1)[0]

    @property
    def target(self) -> str:
        return self.line.split(" ", 1)[1].rsplit(" ", 1)[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]

    def all(self, name: str) -> list[str]:
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """raw: written as it is. drop: the connection is cut instead. chunks: written one by one, `gap` seconds apart."""

    status: int = 200
    body: Any = b"{}"
    headers: list[tuple[str, str]] = field(default_factory=list)
    reason: str = "OK"
    raw: bytes | None = None
    drop: bool = False
    delay: float = 0.0
    chunks: list[bytes] | None = None
    gap: float = 0.0
    close: bool = False

    def head(self) -> bytes:
        body = self.content()
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{n}: {v}" for n, v in self.headers)]
        if self.chunks is None and self.status not in {204, 304}:
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Received], Awaitable[Reply] | Reply]


class Stub:
    """Answers with `replies` in turn, the last one again and again, or with what `answer` returns."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.replies: list[Reply] = []
        self.answer: Answer | None = None
        self.connections = 0
        self.port = 0
        self.scheme = "http"

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def reply(self, *replies: Reply) -> None:
        self.replies = list(replies)

    @property
    def one(self) -> Received:
        assert len(self.received) == 1, [r.line for r in self.received]
        return self.received[0]

    async def _next(self, request: Received) -> Reply:
        if self.answer is not None:
            reply = self.answer(request)
            return reply if isinstance(reply, Reply) else await reply
        if not self.replies:
            return Reply()
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await _body(head, reader)
                request = Received(head, body, number, asyncio.get_running_loop().time())
                self.received.append(request)
                reply = await self._next(request)
                await asyncio.sleep(reply.delay)
                if not await _write(reply, writer):
                    break


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    lower = head.lower()
    if b"\r\ncontent-length:" in lower:
        length = int(lower.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return await reader.readexactly(length)
    body = b""
    if b"transfer-encoding: chunked" in lower:
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    return body


async def _write(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Writes an answer; whether the connection stays open."""
    if reply.drop:
        return False
    if reply.raw is not None:
        writer.write(reply.raw)
    else:
        writer.write(reply.head() + (b"" if reply.chunks is not None else reply.content()))
    for chunk in reply.chunks or []:
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(reply.gap)
    await writer.drain()
    if reply.close:
        writer.write_eof()
        await asyncio.sleep(0.05)
    return not reply.close


@asynccontextmanager
async def running(stub: Stub, context: ssl.SSLContext | None = None) -> AsyncIterator[Stub]:
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await stub.serve(reader, writer)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, limit=2**20)
    stub.port = server.sockets[0].getsockname()[1]
    stub.scheme = "https" if context else "http"
    try:
        yield stub
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class ConnectProxy:
    """A proxy that tunnels with CONNECT and keeps what it was asked; with credentials it insists on them."""

    def __init__(self, credentials: str | None = None) -> None:
        self.asked: list[Received] = []
        self.credentials = credentials
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            request = Received(await reader.readuntil(b"\r\n\r\n"), b"", 0, 0.0)
            self.asked.append(request)
            expected = base64.b64encode((self.credentials or "").encode()).decode()
            if self.credentials and request.header("Proxy-Authorization") != f"Basic {expected}":
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            elif request.method == "CONNECT":
                host, _, port = request.target.rpartition(":")
                there, back = await asyncio.open_connection("127.0.0.1" if host.endswith("test") else host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nproxied")
                await writer.drain()
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def proxying(proxy: ConnectProxy) -> AsyncIterator[ConnectProxy]:
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
