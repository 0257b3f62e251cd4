"""What the connector sends."""

import email
import email.policy
from typing import Any

import pytest

from connectors.http_json import http_json
from gateway.http_client import HttpClient
from gateway.testing import run_job
from tests.connectors.http_json.conftest import Work, inline
from tests.http_client.servers import Received, Stub

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data"}


def test_the_connector_asks_for_its_variables_in_order() -> None:
    assert (http_json.name, http_json.type) == ("HTTP REST", "io.camunda:http-json:1")
    assert http_json.input_variables == (
        "url", "method", "authentication", "clientTls", "headers", "queryParameters", "skipEncoding",
        "connectionTimeoutInSeconds", "readTimeoutInSeconds", "body", "storeResponse", "documentReturnFormat",
        "groupSetCookieHeaders", "ignoreNullValues", "followRedirects", "authenticationConfiguration",
    )  # fmt: skip


async def test_a_get_is_sent_as_these_bytes(stub: Stub, work: Work) -> None:
    await work("/a", headers={"X-One": "1"}, body={"ignored": True})
    assert stub.one.head.decode() == (
        "GET /a HTTP/1.1\r\nX-One: 1\r\nAccept-Encoding: gzip, deflate, x-gzip\r\n"
        f"Host: 127.0.0.1:{stub.port}\r\nConnection: keep-alive\r\nUser-Agent: gateway/test\r\n\r\n"
    )
    assert stub.one.body == b""


async def test_a_post_is_sent_as_these_bytes(stub: Stub, work: Work) -> None:
    await work("/a", method="POST", authentication={"type": "bearer", "token": "t"}, headers={"X": "1"}, body={"a": 1})
    assert stub.one.head.decode() == (
        "POST /a HTTP/1.1\r\nAuthorization: Bearer t\r\nContent-Type: application/json\r\nX: 1\r\n"
        f"Accept-Encoding: gzip, deflate, x-gzip\r\nHost: 127.0.0.1:{stub.port}\r\nContent-Length: 7\r\n"
        "Connection: keep-alive\r\nUser-Agent: gateway/test\r\n\r\n"
    )
    assert stub.one.body == b'{"a":1}'


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "get", "Post", " put "])
async def test_methods_match_in_any_case(stub: Stub, work: Work, method: str) -> None:
    await work(method=method)
    assert stub.one.method == method.strip().upper()


# ---- URL and query ----


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, "/a%20b?x=1%202"),
        ({"queryParameters": {"p q": "r/s", "n": None, "e": "", "i": 5, "t": True}}, "/a%20b?x=1%202&p%20q=r%2Fs&n&e=&i=5&t=true"),
        ({"queryParameters": {}}, "/a%20b?x=1%202"),
    ],
)  # fmt: skip
async def test_urls_are_encoded_and_parameters_appended(
    stub: Stub, work: Work, variables: dict[str, Any], target: str
) -> None:
    await work("/a b?x=1 2", **variables)
    assert stub.one.target == target


@pytest.mark.parametrize(
    ("skip", "target"), [("true", "/a%2Cb+c"), (True, "/a%2Cb+c"), ("True", "/a,b%2Bc"), (False, "/a,b%2Bc"), ("", "/a,b%2Bc")]
)  # fmt: skip
async def test_only_the_text_true_skips_the_encoding(stub: Stub, work: Work, skip: Any, target: str) -> None:
    await work("/a%2Cb+c", skipEncoding=skip)
    assert stub.one.target == target


async def test_digits_of_a_number_survive_in_text(stub: Stub, http: HttpClient) -> None:
    given = '"headers": {"X": 1.50, "Y": [true]}, "queryParameters": {"p": 12345678901234567890}'
    await run_job(http_json, f'{{"url": "{stub.url("/")}", "method": "GET", {given}}}', http=http)
    assert (stub.one.header("X"), stub.one.header("Y")) == ("1.50", "true")
    assert stub.one.target == "/?p=12345678901234567890"


# ---- headers ----


async def test_headers_go_out_in_order_and_nulls_are_empty(stub: Stub, work: Work) -> None:
    await work(headers={"b-Second": "2", "A": None, "Accept": "text/plain"})
    assert stub.one.headers[:3] == [("b-Second", "2"), ("A", ""), ("Accept", "text/plain")]


async def test_a_users_authorization_stands_beside_the_connectors(stub: Stub, work: Work) -> None:
    await work(headers={"Authorization": "own"}, authentication={"type": "bearer", "token": "t"})
    assert stub.one.all("Authorization") == ["Bearer t", "own"]


@pytest.mark.parametrize(
    ("headers", "kinds"),
    [
        (None, ["application/json"]),
        ({"content-TYPE": "application/vnd.github+json"}, ["application/vnd.github+json"]),
        ({"Content-Type": None}, ["application/json"]),
        ({"Content-Type": ""}, [""]),
    ],
)
async def test_json_is_the_default_content_type(stub: Stub, work: Work, headers: Any, kinds: list[str]) -> None:
    await work(method="POST", body={"a": 1}, headers=headers)
    assert stub.one.all("Content-Type") == kinds


# ---- bodies ----


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_without_a_body_an_empty_text_is_sent(stub: Stub, work: Work, method: str) -> None:
    await work(method=method, body=None)
    assert (stub.one.header("Content-Length"), stub.one.header("Content-Type")) == ("0", "text/plain; charset=UTF-8")


async def test_multipart_without_a_body_is_an_empty_text(stub: Stub, work: Work) -> None:
    await work(method="POST", headers=MULTIPART)
    assert (stub.one.all("Content-Type"), stub.one.body) == (["text/plain; charset=UTF-8"], b"")


async def test_without_a_body_a_given_content_type_stays(stub: Stub, work: Work) -> None:
    await work(method="POST", headers={"Content-Type": "text/xml"})
    assert stub.one.all("Content-Type") == ["text/xml"]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"ü": "€ 😀", "n": None, "l": [1, None]}, '{"ü":"€ 😀","n":null,"l":[1,null]}'),
        ([1, {"a": None}], '[1,{"a":null}]'),
        (12, "12"),
        (True, "true"),
        (1.5, "1.5"),
        (12345678901234567890123, "12345678901234567890123"),
        ("plain ü", "plain ü"),
        ("", ""),
        ('{"already": "json"}', '{"already": "json"}'),
    ],
)
async def test_text_is_sent_as_it_is_and_the_rest_as_json(stub: Stub, work: Work, body: Any, sent: str) -> None:
    await work(method="POST", body=body)
    assert stub.one.body == sent.encode()
    assert stub.one.header("Content-Type") == "application/json"


async def test_ignored_nulls_are_members_of_objects_not_items(stub: Stub, work: Work) -> None:
    body = {"a": None, "b": {"c": None, "d": 1}, "e": [None, {"f": None, "g": 2}]}
    await work(method="POST", body=body, ignoreNullValues=True)
    assert stub.one.json() == {"b": {"d": 1}, "e": [None, {"g": 2}]}


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("text/plain; charset=ISO-8859-1", b'{"a":"\xfc?"}'),
        ('text/plain; charset="utf-16-be"', '{"a":"ü€"}'.encode("utf-16-be")),
        ("text/plain", '{"a":"ü€"}'.encode()),
    ],
)
async def test_the_charset_of_the_content_type_is_used(stub: Stub, work: Work, kind: str, sent: bytes) -> None:
    await work(method="POST", body={"a": "ü€"}, headers={"Content-Type": kind})
    assert stub.one.body == sent


async def test_an_unknown_charset_is_an_input_error(stub: Stub, work: Work) -> None:
    outcome = await work(method="POST", body="x", headers={"Content-Type": "text/plain; charset=nope"})
    assert (outcome.retries, len(stub.received)) == (0, 0)
    assert "unknown charset: nope" in (outcome.message or "")


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=UTF-8"]
)
async def test_a_form_is_encoded(stub: Stub, work: Work, kind: str) -> None:
    body = {"a b": "x&ü*~", "n": None, "e": "", "i": 5, "t": True, "l": [1, None, "x"], "m": {"a": 1.5}, "d": 1e8}
    await work(method="POST", body=body, headers={"Content-Type": kind})
    assert stub.one.body == (b"a+b=x%26%C3%BC%2A~&n&e=&i=5&t=true&l=%5B1%2C+null%2C+x%5D&m=%7Ba%3D1.5%7D&d=1.0E8")
    assert stub.one.all("Content-Type") == [kind]


@pytest.mark.parametrize(("body", "sent"), [("a=b&c", b"a=b&c"), ([1], b"[1]")])
async def test_what_is_no_object_is_no_form(stub: Stub, work: Work, body: Any, sent: bytes) -> None:
    await work(method="POST", body=body, headers=FORM)
    assert stub.one.body == sent


# ---- multipart ----


def parts(request: Received) -> list[tuple[Any, str | None, str, Any]]:
    """Name, file name, content type and content of the parts of a request."""
    head = f"Content-Type: {request.header('Content-Type')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get("Content-Type", ""),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


async def test_an_object_becomes_parts(stub: Stub, work: Work) -> None:
    body = {"a": "€ & y", "l": ["1", "ü", None], "n": None, "i": 5, "t": True, "o": {"left": "out"}, "m": [["y"]]}
    await work(method="POST", body=body, headers=MULTIPART | {"X": "1"})
    assert parts(stub.one) == [
        ("a", None, "", "€ & y".encode()),
        ("l", None, "", b"1"),
        ("l", None, "", "ü".encode()),
        ("i", None, "", b"5"),
        ("t", None, "", b"true"),
        ("m", None, "", b"[y]"),
    ]
    assert [n for n, _ in stub.one.headers if n.lower() in {"x", "content-length", "content-type"}] == [
        "X", "Content-Length", "Content-Type",
    ]  # fmt: skip
    assert "charset" not in (stub.one.header("Content-Type") or "")


async def test_documents_become_files(stub: Stub, work: Work) -> None:
    body = {
        "f": inline("hello", "notes ä.bin", "text/plain"),
        "g": [inline("1", "x.json", "application/json; charset=utf-8"), inline("2", "y", " ")],
    }
    await work(method="POST", body=body, headers=MULTIPART)
    assert parts(stub.one) == [
        ("f", "notes%20%C3%A4.bin", "text/plain", b"hello"),
        ("g", "x.json", "application/octet-stream", b"1"),
        ("g", "y", "application/octet-stream", b"2"),
    ]


@pytest.mark.parametrize(
    ("kind", "boundary"), [("multipart/form-data; boundary=abc", "abc"), ('Multipart/Form-Data; boundary="a b"', "a b")]
)
async def test_a_given_boundary_is_used(stub: Stub, work: Work, kind: str, boundary: str) -> None:
    await work(method="POST", body={"a": "x"}, headers={"content-type": kind})
    assert stub.one.all("Content-Type") == [kind]
    assert (
        stub.one.body
        == f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--{boundary}--\r\n'.encode()
    )


async def test_upper_case_multipart_gets_its_boundary(stub: Stub, work: Work) -> None:
    await work(method="POST", body={"a": "x"}, headers={"Content-Type": "MULTIPART/FORM-DATA"})
    assert parts(stub.one) == [("a", None, "", b"x")]


# ---- documents ----


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"d": inline("hello")}, {"d": "aGVsbG8="}),
        ({"a": [{"b": inline("z")}], "c": None}, {"a": [{"b": "eg=="}], "c": None}),
        (inline("z"), "eg=="),
        ([inline("z"), 1], ["eg==", 1]),
    ],
)
async def test_documents_in_json_are_base64(stub: Stub, work: Work, body: Any, sent: Any) -> None:
    await work(method="POST", body=body)
    assert stub.one.json() == sent


async def test_intrinsic_functions_are_resolved_in_text_and_deep_in_the_body(stub: Stub, work: Work) -> None:
    call = {"camunda.function.type": "base64", "params": [inline("z")]}
    await work(method="POST", headers={"X": call}, body={"a": [{"b": call}]})
    assert stub.one.header("X") == "eg=="
    assert stub.one.json() == {"a": [{"b": "eg=="}]}


# ---- timeouts ----


@pytest.mark.parametrize("value", ["20", 20, 20.7, "", None, 0, "0"])
async def test_timeouts_are_numbers_in_any_form(stub: Stub, work: Work, value: Any) -> None:
    outcome = await work(connectionTimeoutInSeconds=value, readTimeoutInSeconds=value)
    assert outcome.kind == "completed"


@pytest.mark.parametrize("value", ["soon", -1, {"a": 1}])
async def test_a_timeout_that_is_none_is_an_input_error(stub: Stub, work: Work, value: Any) -> None:
    outcome = await work(readTimeoutInSeconds=value)
    assert (outcome.retries, len(stub.received)) == (0, 0)
    assert "readTimeoutInSeconds" in (outcome.message or "")
