"""Requests on the wire, byte for byte, on aiohttp's connections.

aiohttp adds headers of its own, writes header text as UTF-8 and normalises URLs. `ExactRequest` keeps aiohttp's connections, pools,
parser and timeouts, and writes a `Message` that is complete already.
"""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import AsyncIterablePayload

from gateway.http_client.errors import InvalidHeader

Pairs = Sequence[tuple[str, str]]

Body = bytes | Callable[[], AsyncIterator[bytes]]
"""Bytes, or a function that gives the chunks anew for each attempt."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x0b\x0c\x7f]")
_LINE_BREAK = re.compile(r"[\r\n]")
_UNFIT = re.compile(r"[\x80-\x9f\u0100-\uffff]")
_WIDE = re.compile(r"[^\x00-\uffff]")

_STREAM_WRITER: Final = "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters


def header_pair(name: str, value: str) -> tuple[str, str]:
    """A header that can be sent: a line break in the value becomes a space.

    Raises InvalidHeader: a name that is no token (RFC 9110, 5.1), a control character in the value.
    """
    if not _TOKEN.fullmatch(name):
        raise InvalidHeader(f"headers: expected a name of letters, digits and !#$%&'*+-.^_`|~, but got {name!r}")
    if _CONTROL.search(value):
        raise InvalidHeader(f"headers: the value of {name} holds a control character")
    return name, _LINE_BREAK.sub(" ", value)


def latin1(text: str) -> bytes:
    """ISO-8859-1; a question mark for each UTF-16 unit that it has no printable character for."""
    if text.isascii():
        return text.encode("ascii")
    return _UNFIT.sub("?", _WIDE.sub("??", text)).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, complete: nothing is added to it. length: of a streamed body, None for chunks."""

    method: str
    target: str
    headers: Pairs = field(repr=False)
    body: Body | None = field(default=None, repr=False)
    length: int | None = None

    def head(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        return latin1("\r\n".join(lines)) + b"\r\n\r\n"


class ExactRequest(aiohttp.ClientRequest):
    """A request of aiohttp that sends its `message` and nothing else."""

    message: Message

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        protocol = conn.protocol
        if protocol is None or protocol.transport is None or protocol.transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        message, writer = self.message, StreamWriter(protocol, self.loop)
        task: asyncio.Task[None] | None = None
        if callable(message.body):
            protocol.transport.write(message.head())
            task = self._stream(message, writer, conn)
        else:
            protocol.transport.write(message.head() + (message.body or b""))
            protocol.start_timeout()
        answer = self._answer(task, writer)
        self.response = answer  # type: ignore[assignment]
        return answer

    def _stream(self, message: Message, writer: StreamWriter, conn: Connection) -> asyncio.Task[None]:
        assert callable(message.body)
        if message.length is None:
            writer.enable_chunking()
        self._body = AsyncIterablePayload(message.body())
        task = asyncio.get_running_loop().create_task(self.write_bytes(writer, conn, message.length))
        self._writer = task
        return task

    def _answer(self, task: "asyncio.Task[None] | None", writer: StreamWriter) -> aiohttp.ClientResponse:
        more: dict[str, Any] = {"stream_writer": writer} if _STREAM_WRITER else {}
        return aiohttp.ClientResponse(
            self.method,
            self.original_url,
            writer=task,  # type: ignore[arg-type, unused-ignore]
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self._session,
            **more,
        )
