"""What the client does with answers, and with servers that misbehave."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import pytest

from gateway.http_client import (
    HttpBodyError,
    HttpClient,
    HttpConnectionError,
    HttpError,
    HttpProtocolError,
    HttpRequest,
    HttpSettings,
    HttpStatusError,
    HttpTimeout,
    encode_url,
)
from tests.http_client.servers import Received, Reply, Stub, running


class Pauses:
    """Stands in for sleeping, and keeps how long."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def hasty(pauses: Pauses) -> AsyncIterator[HttpClient]:
    async with HttpClient(sleep=pauses) as client:
        yield client


# ---- answers ----


async def test_an_answer_has_status_reason_headers_and_body(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(201, {"a": 1}, [("X-One", "1"), ("x-one", "2")], reason="Créé"))
    reply = await http.get(stub.url("/"))
    assert (reply.status, reply.reason, reply.ok, reply.json()) == (201, "Créé", True, {"a": 1})
    assert reply.headers.get_all("X-ONE") == ["1", "2"]
    assert reply.headers.grouped() == {"X-One": "1", "x-one": "2", "Content-Length": "8"}


async def test_parameters_are_appended(stub: Stub, http: HttpClient) -> None:
    await http.get(stub.url("/w?a=1"), params={"q": "Berlin, Mitte", "unit": 1, "n": None})
    assert stub.one.target == "/w?a=1&q=Berlin%2C%20Mitte&unit=1&n"


async def test_each_method_is_sent_as_itself(stub: Stub, http: HttpClient) -> None:
    for send in (http.get, http.post, http.put, http.patch, http.delete):
        await send(stub.url("/"))
    await http.request("options", stub.url("/"))
    assert [r.method for r in stub.received] == ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def test_an_error_status_is_an_error_only_when_asked(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(404, {"why": "gone"}, reason="Not Found"))
    reply = await http.get(stub.url("/"))
    with pytest.raises(HttpStatusError) as e:
        reply.raise_for_status()
    assert (e.value.code, str(e.value)) == ("404", "Not Found")
    assert e.value.variables == {"response": {"headers": {"Content-Length": "15"}, "body": {"why": "gone"}}}


async def test_cookies_are_not_kept(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(headers=[("Set-Cookie", "session=1; Path=/")]))
    await http.get(stub.url("/"))
    await http.get(stub.url("/"))
    assert stub.received[1].all("Cookie") == []


async def test_text_is_decoded_by_the_charset_of_the_answer(stub: Stub, http: HttpClient) -> None:
    stub.reply(
        Reply(body=b"\xfc", headers=[("Content-Type", "text/plain; charset=iso-8859-1")]),
        Reply(body="ü".encode()),
        Reply(body=b"u", headers=[("Content-Type", "text/plain; charset=unknown")]),
    )
    assert [(await http.get(stub.url("/"))).text for _ in range(3)] == ["ü", "ü", "u"]


async def test_a_body_that_is_no_json_says_so(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body=b"<html>"))
    with pytest.raises(HttpBodyError, match="is not JSON"):
        (await http.get(stub.url("/"))).json()


async def test_packed_answers_are_unpacked_and_their_headers_stay(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body=gzip.compress(b'{"a":1}'), headers=[("Content-Encoding", "gzip")]))
    reply = await http.get(stub.url("/"))
    assert (reply.json(), reply.headers["content-encoding"]) == ({"a": 1}, "gzip")


async def test_a_streamed_answer_comes_in_chunks(stub: Stub, http: HttpClient) -> None:
    stub.reply(
        Reply(headers=[("Transfer-Encoding", "chunked")], chunks=[b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"], gap=0.05)
    )
    async with http.stream("GET", stub.url("/")) as response:
        assert [chunk async for chunk in response.stream()] == [b"abc", b"def"]


async def test_a_download_with_an_error_status_raises_it(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(403, b"no"))
    with pytest.raises(HttpStatusError) as e:
        async with http.download(stub.url("/")):
            pytest.fail("entered")
    assert e.value.status == 403


async def test_interim_answers_are_skipped(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(raw=b"HTTP/1.1 103 Early\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    assert (await http.get(stub.url("/"))).text == "ok"


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_is_empty(stub: Stub, http: HttpClient, status: int) -> None:
    stub.reply(Reply(status, b""))
    assert (await http.get(stub.url("/"))).content == b""


# ---- connections ----


async def test_connections_are_used_again(stub: Stub, http: HttpClient) -> None:
    for _ in range(5):
        await http.post(stub.url("/"), json={})
    assert stub.connections == 1
    assert http.statistics().idle == 1


async def test_a_connection_with_an_unread_answer_is_dropped(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body=b"x" * 1_000_000))
    async with http.stream("GET", stub.url("/")) as response:
        assert http.statistics().in_flight == 1
        assert response.status == 200
    await http.get(stub.url("/"))
    assert stub.connections == 2
    assert http.statistics().in_flight == 0


async def test_a_connection_the_server_closed_meanwhile_is_no_error_for_a_post(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(close=True))  # without saying so in a header
    for _ in range(10):
        await http.post(stub.url("/"), json={})
        await asyncio.sleep(0.02)
    assert len(stub.received) == 10


async def test_an_ended_event_loop_turn_is_enough_to_notice_a_closed_connection(http: HttpClient) -> None:
    closed = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        closed.set()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for _ in range(20):
        assert (await http.post(url)).status == 200
        await closed.wait()
        closed.clear()
    server.close()


async def test_many_requests_share_the_client(stub: Stub, http: HttpClient) -> None:
    replies = await asyncio.gather(*(http.get(stub.url(f"/{n}")) for n in range(50)))
    assert [r.status for r in replies] == [200] * 50
    assert sorted(int(r.target[1:]) for r in stub.received) == list(range(50))
    assert http.statistics().in_flight == 0


async def test_a_cancelled_request_leaves_nothing_behind(stub: Stub, http: HttpClient) -> None:
    arrived = asyncio.Event()

    def answer(request: Received) -> Reply:
        arrived.set()
        return Reply(delay=30)

    stub.answer = answer
    task = asyncio.create_task(http.get(stub.url("/")))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert http.statistics().in_flight == 0


# ---- redirects ----


async def test_redirects_are_not_followed_unless_asked(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(302, headers=[("Location", "/to")]))
    assert (await http.get(stub.url("/from"))).status == 302


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", ("GET", b"", None)),
        (302, "POST", ("GET", b"", None)),
        (303, "PUT", ("GET", b"", None)),
        (302, "PUT", ("PUT", b"x", "text/plain")),
        (307, "POST", ("POST", b"x", "text/plain")),
        (308, "PATCH", ("PATCH", b"x", "text/plain")),
    ],
)
async def test_a_redirect_keeps_or_changes_the_method(
    stub: Stub, http: HttpClient, status: int, method: str, then: tuple[str, bytes, str | None]
) -> None:
    stub.reply(Reply(status, headers=[("Location", "to")]), Reply())
    await http.request(
        method, stub.url("/a/from"), data=b"x", headers={"Content-Type": "text/plain"}, follow_redirects=True
    )
    second = stub.received[1]
    assert (second.method, second.body, second.header("Content-Type")) == then
    assert second.target == "/a/to"


async def test_credentials_stay_on_the_origin(stub: Stub, http: HttpClient) -> None:
    secret = {"Authorization": "Bearer t", "Cookie": "c=1", "X-Other": "kept"}
    async with running(Stub()) as elsewhere:
        stub.reply(
            Reply(307, headers=[("Location", "/again")]), Reply(307, headers=[("Location", elsewhere.url("/x"))])
        )
        await http.get(stub.url("/"), headers=secret, follow_redirects=True)
        assert stub.received[1].header("Authorization") == "Bearer t"
        names = {n.lower() for n, _ in elsewhere.one.headers}
        assert names.isdisjoint({"authorization", "cookie"})
        assert elsewhere.one.header("X-Other") == "kept"
        assert elsewhere.one.header("Host") == f"127.0.0.1:{elsewhere.port}"


async def test_endless_redirects_end(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(302, headers=[("Location", "/")]))
    with pytest.raises(HttpProtocolError):
        await http.get(stub.url("/"), follow_redirects=True)
    assert len(stub.received) == 51


async def test_a_redirect_without_a_location_is_an_answer(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(302))
    assert (await http.get(stub.url("/"), follow_redirects=True)).status == 302


# ---- the silent retry ----


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_a_busy_server_is_asked_again_after_a_second(
    stub: Stub, hasty: HttpClient, pauses: Pauses, status: int, method: str
) -> None:
    stub.reply(Reply(status), Reply(body=b"done"))
    assert (await hasty.request(method, stub.url("/"), data=b"x")).text == "done"
    assert len(stub.received) == 2
    assert 1 <= pauses.taken[0] < 1.2


async def test_a_server_that_stays_busy_is_asked_twice(stub: Stub, hasty: HttpClient) -> None:
    stub.reply(Reply(429))
    assert (await hasty.get(stub.url("/"))).status == 429
    assert len(stub.received) == 2


@pytest.mark.parametrize(("value", "low", "high"), [("7", 7, 7.2), ("0", 0, 0.2), ("junk", 1, 1.2)])
async def test_at_least_the_asked_time_is_waited(
    stub: Stub, hasty: HttpClient, pauses: Pauses, value: str, low: float, high: float
) -> None:
    stub.reply(Reply(503, headers=[("Retry-After", value)]), Reply())
    await hasty.get(stub.url("/"))
    assert low <= pauses.taken[0] <= high


async def test_a_date_to_retry_after_is_understood(stub: Stub, hasty: HttpClient, pauses: Pauses) -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    stub.reply(Reply(503, headers=[("Retry-After", date)]), Reply())
    await hasty.get(stub.url("/"))
    assert 27 < pauses.taken[0] <= 30.2


async def test_a_wait_longer_than_allowed_is_not_begun(stub: Stub, hasty: HttpClient, pauses: Pauses) -> None:
    stub.reply(Reply(429, headers=[("Retry-After", "3600")]))
    reply = await hasty.send(HttpRequest("GET", encode_url(stub.url("/")), max_pause=20))
    assert (reply.status, pauses.taken, len(stub.received)) == (429, [], 1)


@pytest.mark.parametrize(("method", "calls"), [("GET", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)])
async def test_a_dropped_connection_is_tried_again_where_that_is_safe(
    stub: Stub, hasty: HttpClient, method: str, calls: int
) -> None:
    stub.reply(Reply(drop=True))
    with pytest.raises(HttpConnectionError) as e:
        await hasty.request(method, stub.url("/"))
    assert (e.value.code, len(stub.received)) == ("408", calls)
    assert str(e.value) == "An error occurred while executing the request, or the connection was aborted"


async def test_a_streamed_body_is_sent_anew_on_the_second_try(stub: Stub, hasty: HttpClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"

    stub.reply(Reply(drop=True), Reply())
    await hasty.put(stub.url("/"), data=chunks)
    assert [r.body for r in stub.received] == [b"abc", b"abc"]


async def test_the_retry_can_be_switched_off(stub: Stub) -> None:
    stub.reply(Reply(503))
    async with HttpClient(HttpSettings(retry=False)) as http:
        assert (await http.get(stub.url("/"))).status == 503
    assert len(stub.received) == 1


# ---- errors ----


async def test_a_refused_connection_is_a_connection_error(http: HttpClient) -> None:
    with pytest.raises(HttpConnectionError) as e:
        await http.get("http://127.0.0.1:1/")
    assert not e.value.established


async def test_an_unknown_host_is_a_connection_error(http: HttpClient) -> None:
    with pytest.raises(HttpConnectionError):
        await http.get("http://nowhere.invalid/")


async def test_silence_is_a_timeout(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(delay=30))
    started = time.monotonic()
    with pytest.raises(HttpTimeout) as e:
        await http.send(HttpRequest("GET", encode_url(stub.url("/")), read_timeout=0.2))
    assert time.monotonic() - started < 5
    assert (e.value.code, len(stub.received)) == ("408", 1)
    assert str(e.value) == "The request timed out. Please try increasing the read and connection timeouts."


async def test_silence_in_the_middle_of_a_body_is_a_timeout(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(headers=[("Content-Length", "9")], chunks=[b"abc"], gap=30))
    with pytest.raises(HttpTimeout):
        await http.send(HttpRequest("GET", encode_url(stub.url("/")), read_timeout=0.2))


async def test_drops_that_never_end_are_ended_by_the_whole_time(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(headers=[("Content-Length", "1000")], chunks=[b"x"] * 1000, gap=0.02))
    started = time.monotonic()
    with pytest.raises(HttpTimeout):
        await http.get(stub.url("/"), timeout=0.3)
    assert time.monotonic() - started < 5


async def test_a_slow_server_does_not_hold_up_others(stub: Stub, http: HttpClient) -> None:
    def answer(request: Received) -> Reply:
        return Reply(delay=30) if request.target == "/slow" else Reply()

    stub.answer = answer
    slow = [asyncio.create_task(http.get(stub.url("/slow"))) for _ in range(20)]
    started = time.monotonic()
    assert (await http.get(stub.url("/fast"))).ok
    assert time.monotonic() - started < 2
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_protocol_error(stub: Stub, http: HttpClient, raw: bytes) -> None:
    stub.reply(Reply(raw=raw))
    with pytest.raises(HttpProtocolError) as e:
        await http.get(stub.url("/"))
    assert e.value.code == "500"


async def test_a_long_header_is_no_error(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(headers=[("X", "a" * 30_000)]))
    assert len((await http.get(stub.url("/"))).headers["X"]) == 30_000


async def test_a_body_cut_short_is_a_connection_error(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", close=True))
    with pytest.raises(HttpConnectionError):
        await http.get(stub.url("/"))


async def test_no_error_text_holds_a_secret(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(drop=True))
    for url in (stub.url("/?key=hush"), "http://127.0.0.1:1/?key=hush"):
        with pytest.raises(HttpError) as e:
            await http.post(url, headers={"Authorization": "hush"}, data=b"hush")
        assert "hush" not in str(e.value) + repr(e.value)
        assert e.value.__cause__ is None
