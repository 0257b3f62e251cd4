import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from gateway.admin import ServerLimits, application, serve
from gateway.observe import Metrics
from tests.admin.models import raw

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = ServerLimits(head_seconds=0.4, idle_seconds=1.0, stalled_seconds=0.4, max_head_bytes=4096)


class Server:
    """A running server. `seen`: the targets that reached a handler; `/held` answers when `release` is set."""

    def __init__(self) -> None:
        self.port = 0
        self.metrics = Metrics(process=False)
        self.seen: list[str] = []
        self.release = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.raw_path)
        await request.read()
        if request.path == "/held":
            await self.release.wait()
        return web.Response(body=b"x" * 50_000_000 if request.path == "/big" else b"here")

    def figure(self, name: str) -> float:
        found = [s for family in self.metrics.families() for s in family.samples if name in s.labels.values()]
        return sum(sample.value for sample in found if sample.labels.get("server") == "server")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, path: str = "/next") -> bytes:
        return await raw(self.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


@asynccontextmanager
async def serving(limits: ServerLimits) -> AsyncIterator[Server]:
    server = Server()
    app = application([web.route("*", path, server.answer) for path in ("/p", "/next", "/held", "/big")])
    async with serve(app, "127.0.0.1", 0, limits=limits, metrics=server.metrics) as port:
        server.port = port
        try:
            yield server
        finally:
            server.release.set()
            for writer in server.writers:
                writer.transport.abort()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(QUICK) as found:
        yield found


async def rest(reader: asyncio.StreamReader, seconds: float = 5.0) -> bytes:
    """All until the other side closes; TimeoutError when it doesn't."""
    found = b""
    async with asyncio.timeout(seconds):
        with suppress(ConnectionResetError):
            while chunk := await reader.read(65536):
                found += chunk
    return found


# ---- slow senders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "answer"),
    [
        (b"", b""),
        (b"GET", b"HTTP/1.1 408"),
        (b"GET /p HTTP/1.1\r\nHost: x\r\nA: b\r\n", b"HTTP/1.1 408"),
    ],
)
async def test_who_does_not_come_to_the_end_of_a_head_is_cut_off(server, begun, answer):
    reader, writer = await server.connect()
    began = asyncio.get_running_loop().time()
    writer.write(begun)
    found = await rest(reader)
    assert found.startswith(answer)
    assert bool(found) == bool(answer)
    assert 0.3 < asyncio.get_running_loop().time() - began < 2


async def test_one_byte_after_the_other_buys_no_time(server):
    reader, writer = await server.connect()

    async def drip() -> None:
        for byte in b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    began = asyncio.get_running_loop().time()
    assert (await rest(reader)).startswith(b"HTTP/1.1 408")
    assert asyncio.get_running_loop().time() - began < 2
    dripping.cancel()


async def test_a_head_in_pieces_within_the_time_is_served(server):
    reader, writer = await server.connect()
    for piece in (b"GE", b"T /p HTTP/1.1\r", b"\nHost: x\r\nConnec", b"tion: close\r\n\r", b"\n"):
        writer.write(piece)
        await asyncio.sleep(0.03)
    assert (await rest(reader)).startswith(b"HTTP/1.1 200")


async def test_a_second_head_has_its_time_from_its_first_byte_on(server):
    reader, writer = await server.connect()
    writer.write(NEXT)
    assert b"here" in await reader.read(65536)
    await asyncio.sleep(0.6)  # longer than a head may take, shorter than a connection may be idle
    writer.write(NEXT)
    assert b"here" in await reader.read(65536)
    writer.write(b"GET /next HT")
    assert (await rest(reader)).startswith(b"HTTP/1.1 408")


async def test_an_idle_connection_is_closed_without_a_word(server):
    reader, writer = await server.connect()
    writer.write(NEXT)
    assert b"here" in await reader.read(65536)
    began = asyncio.get_running_loop().time()
    assert await rest(reader) == b""
    assert 0.8 < asyncio.get_running_loop().time() - began < 3


async def test_a_handler_may_take_longer_than_a_head(server):
    reader, writer = await server.connect()
    writer.write(NEXT.replace(b"/next", b"/held") + NEXT)
    await asyncio.sleep(1.2)
    server.release.set()
    assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
    assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
    assert server.seen == ["/held", "/next"]


async def test_a_body_may_take_longer_than_a_head(server):
    reader, writer = await server.connect()
    writer.write(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 12000\r\nConnection: close\r\n\r\n")
    for _ in range(6):
        await asyncio.sleep(0.12)
        writer.write(b"x" * 2000)
    assert (await rest(reader)).startswith(b"HTTP/1.1 200")


@pytest.mark.timeout(60)
async def test_500_slow_senders_keep_nobody_from_being_served():
    async with serving(ServerLimits(head_seconds=2.0)) as server:
        slow = await asyncio.gather(*(server.connect() for _ in range(500)))
        for _, writer in slow:
            writer.write(b"GET /p HTTP/1.1\r\nHost: x\r\n")
        loop = asyncio.get_running_loop()
        for _ in range(20):
            began = loop.time()
            assert (await server.ask()).startswith(b"HTTP/1.1 200")
            assert loop.time() - began < 1
        assert server.figure("open") >= 500
        ended = await asyncio.gather(*(rest(reader, 20) for reader, _ in slow))
        assert {answer[:12] for answer in ended} == {b"HTTP/1.1 408"}
        assert server.figure("slow") == 500
        assert server.seen == ["/next"] * 20


# ---- number ----------------------------------------------------------------------------------------------------------


async def test_where_all_places_are_taken_the_one_that_waited_longest_goes():
    async with serving(ServerLimits(max_connections=3)) as server:
        held = asyncio.create_task(server.ask("/held"))
        await asyncio.sleep(0.05)
        first, _ = await server.connect()
        second, other = await server.connect()
        await asyncio.sleep(0.05)
        assert (await server.ask()).startswith(b"HTTP/1.1 200")
        assert await rest(first) == b""
        other.write(NEXT)
        assert b"here" in await second.read(65536)
        server.release.set()
        assert (await held).startswith(b"HTTP/1.1 200")
        assert (server.figure("evicted"), server.figure("full"), server.figure("limit")) == (1, 0, 3)


async def test_where_all_are_at_work_a_new_one_is_refused():
    async with serving(ServerLimits(max_connections=2)) as server:
        held = [asyncio.create_task(server.ask("/held")) for _ in range(2)]
        await asyncio.sleep(0.1)
        reader, _ = await server.connect()
        assert (await rest(reader)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        server.release.set()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in await asyncio.gather(*held))
        assert (await server.ask()).startswith(b"HTTP/1.1 200")
        assert server.figure("full") == 1


async def test_connections_at_rest_are_none(server):
    for _ in range(20):
        await server.ask()
    await asyncio.sleep(0.05)
    assert (server.figure("open"), server.figure("waiting")) == (0, 0)


async def test_an_answer_that_is_not_read_is_given_up(server):
    reader, writer = await server.connect()
    writer.write(NEXT.replace(b"/next", b"/big"))
    await asyncio.sleep(1.5)
    assert server.figure("unread") == 1
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(50_000_000)
    assert server.figure("open") == 0


async def test_an_answer_that_is_read_slowly_but_steadily_arrives(server):
    reader, writer = await server.connect()
    writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    found = 0
    while chunk := await reader.read(1024**2):
        found += len(chunk)
        await asyncio.sleep(0.005)
    assert found > 50_000_000


# ---- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET /p HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"Ab: cdefghij\r\n" * 100 * 4 + b"\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%03d: %s\r\n" % (n, b"y" * 40) for n in range(100)) + b"\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%03d: %s\r\n" % (n, b"y" * 40) for n in range(100)),
        b"GET /" + b"p" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"p" * 9000,
        b"GET /p HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 5000,
    ],
)
@pytest.mark.parametrize("piece", [700, 1_000_000])
async def test_a_head_beyond_the_limit_is_refused(server, head, piece):
    reader, writer = await server.connect()
    answer = asyncio.create_task(rest(reader))
    for at in range(0, len(head), piece):
        writer.write(head[at : at + piece])
        await asyncio.sleep(0.01)
        if answer.done():
            break
    assert re.match(rb"HTTP/1\.[01] 431 ", await answer)
    assert server.seen == []
    assert server.figure("too large") == 1


async def test_a_head_up_to_the_limit_is_served_and_its_body_does_not_count(server):
    lines = b"".join(b"A%02d: %s\r\n" % (n, b"y" * 74) for n in range(49))
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\nConnection: close\r\n" + lines + b"\r\n"
    assert len(head) <= 4096
    assert (await raw(server.port, head + b"x" * 20000)).startswith(b"HTTP/1.1 200")


async def test_the_rest_of_a_refused_body_is_no_head(server):
    """A body that nobody reads, longer than a head may be: the answer has come, and stays the only one."""
    reader, writer = await server.connect()
    writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    assert b"404" in (await reader.read(65536)).split(b"\r\n")[0]
    for _ in range(3):
        writer.write(b"x" * 33000)
        await asyncio.sleep(0.02)
    writer.write(NEXT)
    assert (await reader.read(65536)).startswith(b"HTTP/1.1 200")


# ---- requests that two servers could read in two ways ----------------------------------------------------------------

HEAD = b"POST /p HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

AMBIGUOUS = {
    "two equal lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with a space": HEAD + b"Content-Length: 5 5\r\n\r\nhello",
    "an endless length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "an empty length": HEAD + b"Content-Length:\r\n\r\nhello",
    "length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "chunks, then identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + END,
    "a coding within the chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "chunks twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "a vertical tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + END,
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + END,
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + END,
    "a folded header": HEAD + b"A: b\r\n c\r\n\r\n",
    "a fold at the beginning": b"POST /p HTTP/1.1\r\n Host: x\r\n\r\n",
    "CR in a value": HEAD + b"A: b\rc\r\n\r\n",
    "LF in a value": HEAD + b"A: b\nX: c\r\n\r\n",
    "LF alone": b"POST /p HTTP/1.1\nHost: x\n\n",
    "NUL in a value": HEAD + b"A: b\0c\r\n\r\n",
    "no host": b"POST /p HTTP/1.1\r\n\r\n",
    "two hosts": HEAD + b"Host: y\r\n\r\n",
    "a target with another host": b"POST http://evil/p HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a host": b"POST http://x/p HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a chunk size that is none": CHUNKED + b"zz\r\nhello\r\n" + END,
    "a chunk size in C": CHUNKED + b"0x5\r\nhello\r\n" + END,
    "a negative chunk size": CHUNKED + b"-5\r\nhello\r\n" + END,
    "an endless chunk size": CHUNKED + b"ffffffffffffffff1\r\nhello\r\n" + END,
    "a chunk longer than it says": CHUNKED + b"5\r\nhelloX" + END,
    "chunks with LF alone": CHUNKED + b"5\nhello\n0\n\n",
    "another version": HEAD.replace(b"1.1", b"1.2") + b"\r\n",
    "no version": b"POST /p\r\n\r\n",
    "a method in small letters": HEAD.replace(b"POST", b"post") + b"\r\n",
    "a space in a name": HEAD + b"A b: c\r\n\r\n",
    "an empty name": HEAD + b": c\r\n\r\n",
    "a space in the target": b"POST /p /q HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"POST /p\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("request_", [pytest.param(each, id=name) for name, each in AMBIGUOUS.items()])
async def test_what_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(server, request_, caplog):
    reader, writer = await server.connect()
    writer.write(request_ + NEXT)
    found = await rest(reader)
    assert re.match(rb"HTTP/1\.[01] (400|501) ", found), found
    assert len(re.findall(rb"HTTP/1\.[01] ", found)) == 1
    assert "/next" not in server.seen
    assert b"aiohttp" not in found.lower()
    assert b"evil" not in found
    assert caplog.records == []


async def test_a_bad_chunk_that_comes_late_ends_the_request(server):
    reader, writer = await server.connect()
    writer.write(CHUNKED + b"5\r\nhello\r\n")
    await asyncio.sleep(0.05)
    writer.write(b"zz\r\n" + NEXT)
    found = await rest(reader)
    assert re.match(rb"HTTP/1\.[01] 400 ", found), found
    assert server.seen == ["/p"]


async def test_chunks_as_they_should_be_are_read(server):
    reader, writer = await server.connect()
    writer.write(CHUNKED + b"5;a=b\r\nhello\r\n" + END + NEXT)
    await asyncio.sleep(0.1)
    assert server.seen == ["/p", "/next"]
    assert (await reader.read(65536)).count(b"HTTP/1.1 200") == 2


def test_the_limits_hold_on_the_faster_event_loop_too():
    uvloop = pytest.importorskip("uvloop")

    async def run() -> tuple[bytes, bytes, bytes]:
        async with serving(QUICK) as server:
            reader, writer = await server.connect()
            writer.write(b"GET /p HT")
            served = await server.ask()
            large = await raw(server.port, b"GET /p HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 5000)
            return served, await rest(reader), large

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        served, slow, large = runner.run(run())
    assert served.startswith(b"HTTP/1.1 200")
    assert slow.startswith(b"HTTP/1.1 408")
    assert re.match(rb"HTTP/1\.[01] 431 ", large)
