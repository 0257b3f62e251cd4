import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from tests.proxy import FaultProxy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that echoes until the client has said its last."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def connect(proxy: FaultProxy) -> Pair:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def say(pair: Pair, text: bytes) -> bytes:
    reader, writer = pair
    writer.write(text)
    return await reader.readexactly(len(text))


async def test_it_forwards_both_ways_and_counts_the_bytes(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    assert await say(pair, b"hello") == b"hello"
    assert proxy.forwarded == {"up": 5, "down": 5}
    assert (proxy.accepted, proxy.connections) == (1, 1)
    pair[1].close()


async def test_a_delay_holds_every_chunk_back(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    proxy.delay = 0.05
    start = monotonic()
    assert await say(pair, b"x") == b"x"
    assert monotonic() - start >= 0.1
    pair[1].close()


async def test_a_throttle_limits_the_bytes_of_a_second(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    proxy.throttle = 100_000
    start = monotonic()
    assert len(await say(pair, bytes(10_000))) == 10_000
    assert monotonic() - start >= 0.2
    pair[1].close()


async def test_reset_breaks_the_connection_under_a_reader(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await say(pair, b"x")
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        await pair[0].read(1)
    pair[1].close()


async def test_drop_ends_the_connection_in_order(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await say(pair, b"x")
    assert proxy.drop() == 1
    assert await pair[0].read() == b""
    pair[1].close()


async def test_a_refusing_proxy_takes_no_new_connections_until_it_accepts_again(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await say(pair, b"x")
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    assert await say(pair, b"old ones stay") == b"old ones stay"
    port = proxy.port
    await proxy.accept()
    other = await connect(proxy)
    assert (await say(other, b"y"), proxy.port) == (b"y", port)
    pair[1].close()
    other[1].close()


async def test_a_black_hole_takes_connections_and_bytes_and_gives_nothing_until_healed(proxy: FaultProxy) -> None:
    proxy.black_hole()
    pair = await connect(proxy)
    answer = asyncio.create_task(say(pair, b"x"))
    await asyncio.sleep(0.05)
    assert not answer.done()
    assert proxy.forwarded == {"up": 0, "down": 0}
    proxy.heal()
    assert await answer == b"x"
    pair[1].close()


async def test_a_black_hole_of_one_direction_loses_the_answers_only(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    proxy.black_hole("down")
    answer = asyncio.create_task(say(pair, b"x"))
    await asyncio.sleep(0.05)
    assert not answer.done()
    assert proxy.forwarded == {"up": 1, "down": 0}
    proxy.heal()
    assert await answer == b"x"
    pair[1].close()


async def test_freezing_silences_the_open_connections_and_spares_new_ones(proxy: FaultProxy) -> None:
    old = await connect(proxy)
    await say(old, b"x")
    assert proxy.freeze() == 1
    answer = asyncio.create_task(say(old, b"y"))
    new = await connect(proxy)
    assert await say(new, b"z") == b"z"
    assert not answer.done()
    proxy.heal()
    assert await answer == b"y"
    old[1].close()
    new[1].close()


async def test_half_close_ends_one_direction_and_leaves_the_other(proxy: FaultProxy) -> None:
    pair = await connect(proxy)
    await say(pair, b"x")
    proxy.half_close("down")
    assert await pair[0].read() == b""
    pair[1].write(b"still going up")
    await asyncio.sleep(0.05)
    assert proxy.forwarded["up"] == 1 + len(b"still going up")
    pair[1].close()
