"""Requests and answers as values."""

import pytest

from gateway.http_client import Headers, HttpReply, HttpRequest, HttpStatusError, TlsMaterial, encode_url

HEADERS = Headers([("X-One", "1"), ("x-one", "2"), ("X-One", "3"), ("Empty", "")])


def test_headers_are_found_in_any_spelling() -> None:
    assert (HEADERS["x-ONE"], HEADERS.get("nothing", "d"), HEADERS.get_all("X-ONE")) == ("1", "d", ["1", "2", "3"])
    assert "EMPTY" in HEADERS
    assert 5 not in HEADERS
    with pytest.raises(KeyError):
        HEADERS["nothing"]


def test_headers_keep_order_and_spelling() -> None:
    assert list(HEADERS) == ["X-One", "x-one", "Empty"]
    assert HEADERS.items() == HEADERS.pairs
    assert HEADERS.grouped() == {"X-One": ["1", "3"], "x-one": "2", "Empty": ""}


def test_the_text_of_headers_and_replies_shows_no_value() -> None:
    reply = HttpReply(200, "OK", Headers([("Set-Cookie", "hush")]), b"hush")
    assert "hush" not in repr(reply)


@pytest.mark.parametrize("status", [200, 204, 302, 399])
def test_below_400_is_no_error(status: int) -> None:
    HttpReply(status, "", Headers(), b"").raise_for_status()


def test_an_error_status_carries_headers_and_body() -> None:
    with pytest.raises(HttpStatusError) as e:
        HttpReply(500, "", Headers([("A", "1")]), b"[1]").raise_for_status()
    assert (e.value.status, e.value.code, str(e.value)) == (500, "500", "")
    assert e.value.variables == {"response": {"headers": {"A": "1"}, "body": [1]}}


@pytest.mark.parametrize(
    ("location", "same"),
    [
        ("/x", True),
        ("http://H:80/x", True),
        ("http://h:81/x", False),
        ("https://h/x", False),
        ("http://other/x", False),
        ("//other/x", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(location: str, same: bool) -> None:
    tls = TlsMaterial("CERT", "KEY", None, "CA")
    request = HttpRequest("GET", encode_url("http://h/"), (("Authorization", "a"), ("Host", "h"), ("B", "b")), tls=tls)
    then = request.redirected(307, location)
    assert then.headers == (request.headers if same else (("B", "b"),))
    assert then.tls == (tls if same else TlsMaterial(trusted="CA"))
