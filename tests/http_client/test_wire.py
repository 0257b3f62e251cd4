"""Requests byte for byte."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http_client import HttpClient, HttpProtocolError, HttpRequest, InvalidHeader, encode_url
from gateway.http_client.wire import Message, header_pair, latin1
from tests.http_client.servers import Stub


async def test_a_get_holds_four_headers_and_nothing_else(stub: Stub, http: HttpClient) -> None:
    await http.get(stub.url("/a"))
    assert stub.one.head == (
        b"GET /a HTTP/1.1\r\n"
        b"Accept-Encoding: gzip, deflate, x-gzip\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Connection: keep-alive\r\n"
        b"User-Agent: gateway/test\r\n\r\n" % stub.port
    )


async def test_a_body_is_framed_by_its_length_after_the_host(stub: Stub, http: HttpClient) -> None:
    await http.post(stub.url("/a"), headers=[("X-B", "2"), ("x-b", "1"), ("X-B", "3")], json={"ü": 1})
    assert stub.one.head == (
        b"POST /a HTTP/1.1\r\n"
        b"X-B: 2\r\nx-b: 1\r\nX-B: 3\r\n"
        b"Accept-Encoding: gzip, deflate, x-gzip\r\n"
        b"Host: 127.0.0.1:%d\r\n"
        b"Content-Length: 8\r\n"
        b"Content-Type: application/json\r\n"
        b"Connection: keep-alive\r\n"
        b"User-Agent: gateway/test\r\n\r\n" % stub.port
    )
    assert stub.one.body == '{"ü":1}'.encode()


async def test_own_headers_replace_the_clients_where_they_stand(stub: Stub, http: HttpClient) -> None:
    own = [("user-agent", "me"), ("HOST", "other"), ("Accept-Encoding", ""), ("connection", "close")]
    await http.get(stub.url("/"), headers=own)
    assert stub.one.headers == own


async def test_the_default_user_agent_names_product_and_version(stub: Stub) -> None:
    async with HttpClient() as http:
        await http.get(stub.url("/"))
    assert (stub.one.header("User-Agent") or "").startswith("connector-gateway/")


async def test_header_values_are_latin1_and_what_does_not_fit_is_a_question_mark(stub: Stub, http: HttpClient) -> None:
    await http.get(stub.url("/"), headers={"X": "ü€😀ÿ\x85"})
    assert b"\r\nX: \xfc???\xff?\r\n" in stub.one.head


async def test_a_line_break_in_a_value_is_a_space(stub: Stub, http: HttpClient) -> None:
    await http.get(stub.url("/"), headers={"X": "a\r\nEvil: 1\tb"})
    assert stub.one.header("X") == "a  Evil: 1\tb"
    assert stub.one.header("Evil") is None


@pytest.mark.parametrize("value", ["a\x00b", "\x01", "\x0b", "\x0c", "\x1b[0m", "\x7f"])
async def test_other_control_characters_are_refused_before_the_socket(stub: Stub, http: HttpClient, value: str) -> None:
    with pytest.raises(InvalidHeader, match="the value of X holds a control character"):
        await http.get(stub.url("/"), headers={"X": value})
    assert stub.connections == 0


@pytest.mark.parametrize("name", ["", "X Y", "X:Y", "X\nY", "Ü", "X\r\nEvil", "("])
async def test_a_name_that_is_no_token_is_refused_before_the_socket(stub: Stub, http: HttpClient, name: str) -> None:
    with pytest.raises(InvalidHeader, match="headers: expected a name of letters"):
        await http.get(stub.url("/"), headers={name: "1"})
    assert stub.connections == 0


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "Transfer-Encoding"])
async def test_framing_headers_are_refused(stub: Stub, http: HttpClient, name: str) -> None:
    with pytest.raises(HttpProtocolError):
        await http.post(stub.url("/"), headers={name: "3"}, data=b"abc")
    assert stub.connections == 0


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_name_and_no_value_can_end_a_header(name: str, value: str) -> None:
    try:
        pair = header_pair(name, value)
    except InvalidHeader:
        return
    head = Message("GET", "/", [pair, ("Host", "h")]).head()
    assert head.count(b"\r\n") == 4
    assert head.count(b"\r") == head.count(b"\n") == 4
    assert head.endswith(b"\r\nHost: h\r\n\r\n")


@given(value=st.text(alphabet=st.characters(max_codepoint=0x24F), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_becomes_one_byte_for_each_character_of_the_basic_plane(value: str) -> None:
    assert len(latin1(value)) == len(value)


async def test_a_streamed_body_goes_out_in_chunks(stub: Stub, http: HttpClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    await http.put(stub.url("/"), data=chunks)
    assert stub.one.header("Transfer-Encoding") == "chunked"
    assert stub.one.header("Content-Length") is None
    assert stub.one.body == b"abcdef"


async def test_a_streamed_body_of_known_length_is_not_chunked(stub: Stub, http: HttpClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    await http.send(HttpRequest("PUT", encode_url(stub.url("/")), body=chunks, length=6))
    assert (stub.one.header("Content-Length"), stub.one.header("Transfer-Encoding")) == ("6", None)
    assert stub.one.body == b"abcdef"


async def test_a_large_body_arrives_whole(stub: Stub, http: HttpClient) -> None:
    body = bytes(range(256)) * 20_000
    await http.post(stub.url("/"), data=body)
    assert stub.one.body == body


async def test_a_post_without_a_body_has_length_zero_and_a_delete_has_none(stub: Stub, http: HttpClient) -> None:
    await http.post(stub.url("/"))
    await http.delete(stub.url("/"))
    assert [r.header("Content-Length") for r in stub.received] == ["0", None]


def test_the_text_of_a_request_shows_no_header_and_no_body() -> None:
    request = HttpRequest("POST", encode_url("http://h/"), (("Authorization", "Bearer hush"),), b"hush")
    assert "hush" not in repr(request)
    assert "hush" not in repr(request.message("ua", "Basic hush", absolute=False))
