"""Our own HTTP/2 against peers that do what no good server does: always a clean error, then a new connection; never a hang."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import hpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.engine import DeadlineExceeded, EngineError, EngineFailure, NotFound, ResourceExhausted, Unavailable
from gateway.engine.http2 import PREFACE, Http2Connection, _moves_table, encode_headers
from gateway.engine.lean import LeanTransport, split_target
from gateway.engine.transport import ChannelSettings, Liveness

METHOD = "/gateway_protocol.Gateway/Topology"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def block(*fields: tuple[str, str]) -> bytes:
    return encode_headers([(name.encode(), value.encode()) for name, value in fields])


HELLO = frame(SETTINGS)
HEAD = block((":status", "200"), ("content-type", "application/grpc"))
OK = block(("grpc-status", "0"))


def message(body: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(body)) + body


def good(stream: int, body: bytes = b"hello") -> bytes:
    return frame(HEADERS, 4, stream, HEAD) + frame(DATA, 0, stream, message(body)) + frame(HEADERS, 5, stream, OK)


class Peer:
    """A server of bytes. `script(peer, stream)`: what it writes when the headers of a request have come."""

    def __init__(self) -> None:
        self.script: Callable[[Peer, int], Awaitable[None]] = self.well
        self.hello = HELLO
        self.accepted = 0
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.decoder = hpack.Decoder()
        self.writer: asyncio.StreamWriter | None = None
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def well(self, peer: "Peer", stream: int) -> None:
        await self.write(good(stream))

    async def write(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)
        await self.writer.drain()

    def of(self, kind: int) -> list[tuple[int, int, bytes]]:
        return [(flags, stream, payload) for each, flags, stream, payload in self.frames if each == kind]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writer = writer
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            await self.write(self.hello)
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                self.frames.append((kind, flags, stream, payload))
                if kind == HEADERS:
                    await self.script(self, stream)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def peers(**channel: Any) -> AsyncIterator[tuple[Peer, LeanTransport]]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    target = f"127.0.0.1:{peer.port}"
    liveness = Liveness(probe_method=METHOD, probe_timeout=0.2)
    transport = LeanTransport(ChannelSettings(target=target, **channel), liveness)
    try:
        yield peer, transport
    finally:
        await transport.close()
        server.close()
        if peer.writer is not None:
            peer.writer.close()
        await asyncio.sleep(0)


def writes(data: bytes) -> Callable[[Peer, int], Awaitable[None]]:
    async def script(peer: Peer, stream: int) -> None:
        await peer.write(data)

    return script


async def heals(peer: Peer, transport: LeanTransport) -> bool:
    """Whether the next calls, on a new connection if need be, soon have their answer.

    A peer that stopped within a frame has its next bytes taken for the rest of it: that connection is silent, and replaced.
    """
    peer.script = peer.well
    for _ in range(50):
        try:
            return await transport.unary(METHOD, b"", timeout=0.5) == b"hello"
        except (Unavailable, DeadlineExceeded):
            await asyncio.sleep(0.02)
    return False


# ---- well-behaved, and odd but allowed


async def test_a_call_is_a_request_of_grpc() -> None:
    async with peers(user_agent="me") as (peer, transport):
        assert await transport.unary(METHOD, b"ask", timeout=3, metadata=(("Authorization", "Bearer x"),)) == b"hello"
        ((_, _, sent),) = peer.of(HEADERS)
        fields = {bytes(name).decode(): bytes(value).decode() for name, value in peer.decoder.decode(sent, raw=True)}
        assert fields["grpc-timeout"] == "3000m"
        assert (fields[":method"], fields[":path"], fields["te"]) == ("POST", METHOD, "trailers")
        assert (fields["content-type"], fields["authorization"]) == ("application/grpc", "Bearer x")
        assert "grpc-accept-encoding" not in fields
        assert b"".join(payload for _, _, payload in peer.of(DATA)) == message(b"ask")


ODD = {
    "padding": frame(HEADERS, 4 | 8, 1, b"\3" + HEAD + b"\0\0\0")
    + frame(DATA, 8, 1, b"\2" + message(b"hello") + b"\0\0")
    + frame(HEADERS, 5, 1, OK),
    "priority": frame(HEADERS, 4 | 0x20, 1, bytes(5) + HEAD) + frame(DATA, 0, 1, message(b"hello")) + frame(HEADERS, 5, 1, OK),
    "continuation": frame(HEADERS, 0, 1, HEAD[:3])
    + frame(CONTINUATION, 0, 1, HEAD[3:7])
    + frame(CONTINUATION, 4, 1, HEAD[7:])
    + frame(DATA, 0, 1, message(b"hello"))
    + frame(HEADERS, 1, 1, OK[:2])
    + frame(CONTINUATION, 4, 1, OK[2:]),
    "early hints": frame(HEADERS, 4, 1, block((":status", "103"))) + good(1),
    "split message": frame(HEADERS, 4, 1, HEAD)
    + b"".join(frame(DATA, 0, 1, bytes([byte])) for byte in message(b"hello"))
    + frame(DATA, 0, 1)
    + frame(HEADERS, 5, 1, OK),
    "unknown frames": frame(0xEE, 0xFF, 0, b"what") + frame(0x4D, 0, 1, b"ever") + good(1),
    "many settings": frame(SETTINGS, 0, 0, struct.pack(">HIHIHI", 5, 65_536, 3, 7, 99, 1)) * 20 + good(1),
    "pings": frame(PING, 0, 0, b"12345678") * 50 + good(1),
    "window updates": frame(WINDOW, 0, 0, struct.pack(">I", 1)) * 50 + frame(WINDOW, 0, 1, struct.pack(">I", 9)) + good(1),
    "priority frame": frame(PRIORITY, 0, 1, bytes(5)) + good(1),
    "indexed with a table": frame(HEADERS, 4, 1, b"\x88\x40\x0ccontent-type\x10application/grpc")
    + frame(DATA, 0, 1, message(b"hello"))
    + frame(HEADERS, 5, 1, OK),
}  # fmt: skip


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
async def test_what_is_odd_but_allowed_is_taken(data: bytes) -> None:
    async with peers() as (peer, transport):
        peer.script = writes(data)
        assert await transport.unary(METHOD, b"", timeout=3) == b"hello"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 10, 11])
async def test_bytes_may_come_in_any_pieces(size: int) -> None:
    async with peers() as (peer, transport):
        whole = good(1)

        async def pieces(peer: Peer, stream: int) -> None:
            for at in range(0, len(whole), size):
                await peer.write(whole[at : at + size])
                await asyncio.sleep(0)

        peer.script = pieces
        assert await transport.unary(METHOD, b"", timeout=3) == b"hello"


async def test_pings_and_settings_are_answered() -> None:
    async with peers() as (peer, transport):
        peer.script = writes(frame(PING, 0, 0, b"12345678") + good(1))
        await transport.unary(METHOD, b"", timeout=3)
        await asyncio.sleep(0.05)
        assert (1, 0, b"12345678") in peer.of(PING)
        assert (1, 0, b"") in peer.of(SETTINGS)


# ---- against the protocol

BROKEN = {
    "no settings first": (PING, frame(PING, 0, 0, bytes(8))),
    "a frame too large": (None, struct.pack(">I", 20_000)[1:] + bytes([DATA, 0]) + struct.pack(">I", 1) + bytes(20_000)),
    "data on stream 0": (None, frame(DATA, 0, 0, b"x")),
    "data on a stream never opened": (None, frame(DATA, 0, 77, b"x")),
    "headers on stream 0": (None, frame(HEADERS, 4, 0, HEAD)),
    "headers on a stream never opened": (None, frame(HEADERS, 4, 77, HEAD)),
    "a push": (None, frame(PUSH, 4, 1, struct.pack(">I", 2) + HEAD)),
    "padding without an end": (None, frame(DATA, 8, 1, b"\xffx")),
    "empty padded data": (None, frame(DATA, 8, 1, b"")),
    "headers too short for their priority": (None, frame(HEADERS, 4 | 0x20, 1, b"ab")),
    "a continuation alone": (None, frame(CONTINUATION, 4, 1, HEAD)),
    "something within headers": (None, frame(HEADERS, 0, 1, HEAD) + frame(PING, 0, 0, bytes(8))),
    "a continuation of another stream": (None, frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 4, 3, b"")),
    "headers without an end": (None, frame(HEADERS, 0, 1, HEAD) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 3),
    "headers that do not decode": (None, frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff")),
    "an unknown index": (None, frame(HEADERS, 4, 1, b"\xfe")),
    "a reset of a wrong size": (None, frame(RST, 0, 1, b"abc")),
    "a reset of stream 0": (None, frame(RST, 0, 0, bytes(4))),
    "settings of a wrong size": (None, frame(SETTINGS, 0, 0, b"abc")),
    "settings on a stream": (None, frame(SETTINGS, 0, 1)),
    "an acknowledgement with content": (None, frame(SETTINGS, 1, 0, bytes(6))),
    "a window over the limit": (None, frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31))),
    "an impossible frame size": (None, frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 7))),
    "a ping of a wrong size": (None, frame(PING, 0, 0, b"1")),
    "a ping on a stream": (None, frame(PING, 0, 1, bytes(8))),
    "a goodbye of a wrong size": (None, frame(GOAWAY, 0, 0, b"1")),
    "credit of nothing": (None, frame(WINDOW, 0, 0, bytes(4))),
    "credit over the limit": (None, frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)) * 2),
    "credit of a wrong size": (None, frame(WINDOW, 0, 0, b"1")),
    "credit for a stream never opened": (None, frame(WINDOW, 0, 77, struct.pack(">I", 1))),
    "more than the window of a stream": (None, frame(HEADERS, 4, 1, HEAD) + frame(DATA, 0, 1, bytes(16_000)) * 1000),
}  # fmt: skip


@pytest.mark.parametrize(("hello", "data"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_peer_that_breaks_the_protocol_costs_the_connection_and_no_more(hello: Any, data: bytes) -> None:
    async with peers() as (peer, transport):
        if hello is not None:
            peer.hello, data = data, b""
        peer.script = writes(data)
        began = monotonic()
        with pytest.raises((Unavailable, EngineFailure)):
            await transport.unary(METHOD, b"", timeout=3)
        assert monotonic() - began < 2
        peer.hello = HELLO
        assert await heals(peer, transport)


async def test_the_peer_is_told_why() -> None:
    async with peers() as (peer, transport):
        peer.script = writes(frame(DATA, 0, 0, b"x"))
        with pytest.raises(Unavailable, match="broke the HTTP/2 protocol"):
            await transport.unary(METHOD, b"", timeout=3)
        await asyncio.sleep(0.05)
        ((_, _, payload),) = peer.of(GOAWAY)
        assert payload[4:8] == struct.pack(">I", 1)


# ---- how answers end

ENDS: dict[str, tuple[bytes, type[EngineError], str]] = {
    "a status": (frame(HEADERS, 5, 1, block((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "5"),
                 ("grpc-message", "no such job %C3%A4"))), NotFound, "no such job ä"),
    "a status that is no number": (frame(HEADERS, 4, 1, HEAD) + frame(HEADERS, 5, 1, block(("grpc-status", "x"))),
                                   EngineFailure, "gRPC status"),
    "no status": (frame(HEADERS, 4, 1, HEAD) + frame(DATA, 1, 1, message(b"x")), EngineFailure, "without a gRPC status"),
    "no message": (frame(HEADERS, 4, 1, HEAD) + frame(HEADERS, 5, 1, OK), EngineFailure, "no message"),
    "half a message": (frame(HEADERS, 4, 1, HEAD) + frame(DATA, 0, 1, message(b"hello")[:7]) + frame(HEADERS, 5, 1, OK),
                       EngineFailure, "within a message"),
    "two messages": (frame(HEADERS, 4, 1, HEAD) + frame(DATA, 0, 1, message(b"a") * 2) + frame(HEADERS, 5, 1, OK),
                     EngineFailure, "more than one message"),
    "a compressed message": (frame(HEADERS, 4, 1, HEAD) + frame(DATA, 0, 1, b"\1\0\0\0\1x"), EngineFailure, "compressed"),
    "a page of a proxy": (frame(HEADERS, 4, 1, block((":status", "502"), ("content-type", "text/html")))
                          + frame(DATA, 1, 1, b"<html>"), Unavailable, "HTTP 502"),
    "a page with 200": (frame(HEADERS, 4, 1, block((":status", "200"), ("content-type", "text/html"))) + frame(DATA, 1, 1, b"<"),
                        EngineFailure, "no gRPC"),
    "refused": (frame(RST, 0, 1, struct.pack(">I", 7)), Unavailable, "refused"),
    "reset": (frame(RST, 0, 1, struct.pack(">I", 2)), Unavailable, "RST_STREAM"),
    "calm": (frame(RST, 0, 1, struct.pack(">I", 11)), ResourceExhausted, "less"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "error", "words"), ENDS.values(), ids=ENDS.keys())
async def test_each_end_of_an_answer_is_an_error_of_the_port(data: bytes, error: type[EngineError], words: str) -> None:
    async with peers() as (peer, transport):
        peer.script = writes(data)
        with pytest.raises(error, match=words) as caught:
            await transport.unary(METHOD, b"", timeout=3)
        assert caught.value.may_have_arrived is (words != "refused")
        assert await heals(peer, transport)
        assert peer.accepted == 1


async def test_a_goodbye_lets_calls_finish_and_sends_new_ones_elsewhere() -> None:
    async with peers() as (peer, transport):

        async def going(peer: Peer, stream: int) -> None:
            await peer.write(frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
            await asyncio.sleep(0.05)
            await peer.write(good(stream))

        peer.script = going
        assert await transport.unary(METHOD, b"", timeout=3) == b"hello"
        assert await heals(peer, transport)
        assert peer.accepted == 2


async def test_what_a_goodbye_does_not_cover_was_never_looked_at() -> None:
    async with peers() as (peer, transport):
        peer.script = writes(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
        with pytest.raises(Unavailable) as caught:
            await transport.unary(METHOD, b"", timeout=3)
        assert not caught.value.may_have_arrived


# ---- flow control


async def test_a_large_request_waits_for_credit() -> None:
    async with peers(max_message_size=1 << 20) as (peer, transport):

        async def nothing(peer: Peer, stream: int) -> None:
            return

        peer.script = nothing
        call = asyncio.create_task(transport.unary(METHOD, bytes(200_000), timeout=3))
        await asyncio.sleep(0.1)
        assert sum(len(payload) for _, _, payload in peer.of(DATA)) == 65_535
        for _ in range(3):
            await peer.write(
                frame(WINDOW, 0, 0, struct.pack(">I", 70_000)) + frame(WINDOW, 0, 1, struct.pack(">I", 70_000))
            )
            await asyncio.sleep(0.05)
        assert sum(len(payload) for _, _, payload in peer.of(DATA)) == 200_005
        await peer.write(good(1))
        assert await call == b"hello"


async def test_a_smaller_window_counts_for_what_is_under_way() -> None:
    async with peers() as (peer, transport):
        peer.hello = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10))

        async def more(peer: Peer, stream: int) -> None:
            await asyncio.sleep(0.02)
            await peer.write(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 100)))
            await asyncio.sleep(0.02)
            await peer.write(good(stream))

        peer.script = more
        assert await transport.unary(METHOD, bytes(60), timeout=3) == b"hello"
        assert [len(payload) for _, _, payload in peer.of(DATA)] == [10, 55]


async def test_a_stream_that_nobody_reads_gives_no_credit_and_a_reader_gives_it_back() -> None:
    async with peers() as (peer, transport):

        async def full(peer: Peer, stream: int) -> None:
            await peer.write(frame(HEADERS, 4, stream, HEAD) + frame(DATA, 0, stream, message(bytes(8_000))) * 4)

        peer.script = full
        stream = transport.stream(METHOD, b"")
        assert len(await stream.read() or b"") == 8_000
        await asyncio.sleep(0.05)
        credit = [int.from_bytes(payload, "big") for _, of, payload in peer.of(WINDOW) if of == 1]
        assert sum(credit) == 0
        for _ in range(3):
            await stream.read()
        await asyncio.sleep(0.05)
        credit = [int.from_bytes(payload, "big") for _, of, payload in peer.of(WINDOW) if of == 1]
        assert sum(credit) >= 2 * 8_005
        stream.cancel()


async def test_a_message_larger_than_the_window_comes_through() -> None:
    async with peers() as (peer, transport):
        body = message(bytes(100_000))
        credited = 0

        async def careful(peer: Peer, stream: int) -> None:
            nonlocal credited
            await peer.write(frame(HEADERS, 4, stream, HEAD))
            peer.tasks.append(asyncio.create_task(pour(peer, stream)))

        async def pour(peer: Peer, stream: int) -> None:
            window, at = 32 * 1024, 0
            while at < len(body):
                credit = sum(int.from_bytes(payload, "big") for _, of, payload in peer.of(WINDOW) if of == stream)
                size = min(window + credit - at, 16_000, len(body) - at)
                if size > 0:
                    await peer.write(frame(DATA, 0, stream, body[at : at + size]))
                    at += size
                await asyncio.sleep(0)

        peer.script = careful
        stream = transport.stream(METHOD, b"")
        async with asyncio.timeout(5):
            assert len(await stream.read() or b"") == 100_000
        stream.cancel()


async def test_more_calls_than_the_peer_allows_wait_for_each_other() -> None:
    async with peers() as (peer, transport):
        peer.hello = frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 2))
        most = open_now = 0

        async def slowly(peer: Peer, stream: int) -> None:
            nonlocal most, open_now
            open_now += 1
            most = max(most, open_now)

            async def end() -> None:
                nonlocal open_now
                await asyncio.sleep(0.01)
                open_now -= 1
                await peer.write(good(stream))

            peer.tasks.append(asyncio.create_task(end()))

        peer.script = slowly
        answers = await asyncio.gather(*(transport.unary(METHOD, b"", timeout=3) for _ in range(20)))
        assert answers == [b"hello"] * 20
        assert most <= 2


async def test_a_call_that_waited_in_vain_was_never_sent() -> None:
    async with peers() as (peer, transport):
        peer.hello = frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 0))
        with pytest.raises(DeadlineExceeded):
            await transport.unary(METHOD, b"", timeout=0.2)
        assert peer.of(HEADERS) == []


# ---- anything


_FRAMES = st.one_of(
    st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from([0, 1, 3, 5, 2**31 - 1]),
        st.one_of(st.binary(max_size=40), st.sampled_from([HEAD, OK, message(b"x"), bytes(8), bytes(4), b"\0\0\0\1"])),
    ),
    st.sampled_from([good(1), frame(HEADERS, 4, 1, HEAD), frame(DATA, 0, 1, message(b"x")), frame(HEADERS, 5, 1, OK)]),
    st.binary(max_size=30),
)


@example([good(1)], 1)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_FRAMES, max_size=8), st.integers(0, 60))
def test_any_bytes_end_in_an_answer_or_an_error_and_the_next_call_is_well(parts: list[bytes], cut: int) -> None:
    data = b"".join(parts)
    data = data[: len(data) - cut] if cut < len(data) else data

    async def play() -> None:
        async with peers() as (peer, transport):
            peer.script = writes(data)
            stream = transport.stream(METHOD, b"")
            try:
                async with asyncio.timeout(5):
                    reading = asyncio.create_task(_all(stream))
                    with suppress(EngineError):
                        await transport.unary(METHOD, b"", timeout=0.05)
                    stream.cancel()
                    await reading
            finally:
                stream.cancel()
            assert await heals(peer, transport)

    asyncio.run(play())


async def _all(stream: Any) -> None:
    with suppress(EngineError):
        while await stream.read() is not None:
            pass


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=400)), max_size=10))
def test_encoded_headers_are_decoded_as_they_were(headers: list[tuple[bytes, bytes]]) -> None:
    found = hpack.Decoder(max_header_list_size=100_000).decode(encode_headers(headers), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in found] == headers


@pytest.mark.parametrize(
    ("target", "parts"), [("host:1", ("host", 1)), ("[::1]:26500", ("::1", 26500)), ("127.0.0.1:80", ("127.0.0.1", 80))]
)
def test_targets_are_split(target: str, parts: tuple[str, int]) -> None:
    assert split_target(target) == parts


async def test_a_connection_must_not_be_used_before_it_is_made() -> None:
    assert not Http2Connection().usable


@pytest.mark.parametrize(
    ("encoded", "moves"),
    [
        (b"\x88\x0f\x10\x10application/grpc", False),  # content-type by its static index, of two bytes
        (b"\x88\x0f\x2f\x01x", True),  # an index beyond the static table
        (b"\x0f", True),
        (b"\xbe", True),
        (b"\x40\x01a\x01b", True),
        (b"\x20\x88", True),
        (b"\x00\x01a\x01b\x88", False),
    ],
)
def test_only_blocks_that_mean_the_same_each_time_are_kept_decoded(encoded: bytes, moves: bool) -> None:
    assert _moves_table(encoded) is moves
