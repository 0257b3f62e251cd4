"""What a flow gets back."""

import gzip
from typing import Any

import pytest

from tests.connectors.http_json.conftest import Work
from tests.http_client.servers import Reply, Stub

HTML = b"<html>"


async def result(work: Work, **variables: Any) -> Any:
    outcome = await work(**variables)
    assert outcome.kind == "completed", outcome.message
    return outcome.variables["r"]


async def test_the_response_has_five_members(stub: Stub, work: Work) -> None:
    stub.reply(Reply(201, {"id": 7}, [("X-One", "1")], reason="Created"))
    assert await result(work, method="POST", body={}) == {
        "status": 201,
        "headers": {"X-One": "1", "Content-Length": "9"},
        "body": {"id": 7},
        "reason": "Created",
        "document": None,
    }


async def test_headers_of_one_spelling_are_a_list(stub: Stub, work: Work) -> None:
    stub.reply(Reply(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("set-cookie", "c=3"), ("X-E", "")]))
    headers = (await result(work))["headers"]
    assert headers == {"Set-Cookie": ["a=1", "b=2"], "set-cookie": "c=3", "X-E": "", "Content-Length": "2"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[1,{"a":null}]', [1, {"a": None}]),
        (HTML, "<html>"),
        (b'"quoted"', '"quoted"'),
        (b"12", "12"),
        (b"null", "null"),
        (b'{"a": 1} garbage', {"a": 1}),
        (b'{"a": NaN}', '{"a": NaN}'),
        ('{"t":"grüße €"}'.encode(), {"t": "grüße €"}),
        (b"\xfc", "\ufffd"),
        (b"", None),
        (b" \n", None),
    ],
)
async def test_the_body_is_json_or_text_whatever_its_type(stub: Stub, work: Work, body: bytes, expected: Any) -> None:
    stub.reply(Reply(body=body, headers=[("Content-Type", "application/octet-stream; charset=iso-8859-1")]))
    assert (await result(work))["body"] == expected


@pytest.mark.parametrize("status", [204, 304, 302])
async def test_answers_without_a_body_are_results(stub: Stub, work: Work, status: int) -> None:
    stub.reply(Reply(status, b"", reason="R"))
    response = await result(work)
    assert (response["status"], response["body"], response["reason"]) == (status, None, "R")


async def test_a_packed_body_is_unpacked_and_its_headers_stay(stub: Stub, work: Work) -> None:
    packed = gzip.compress(b'{"a":1}')
    stub.reply(Reply(body=packed, headers=[("Content-Encoding", "gzip")]))
    response = await result(work)
    assert response["body"] == {"a": 1}
    assert response["headers"] == {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}


@pytest.mark.parametrize(("follow", "status"), [(False, 302), (True, 200), ("true", 200), (None, 302)])
async def test_redirects_are_followed_when_asked(stub: Stub, work: Work, follow: Any, status: int) -> None:
    stub.reply(Reply(302, headers=[("Location", "/to")]), Reply())
    response = await result(work, url="/from", followRedirects=follow)
    assert response["status"] == status


async def test_an_api_key_header_does_not_follow_to_another_origin(stub: Stub, work: Work) -> None:
    elsewhere = f"http://localhost:{stub.port}/to"
    stub.reply(Reply(302, headers=[("Location", elsewhere)]), Reply())
    key = {"type": "apiKey", "apiKeyLocation": "headers", "name": "X-Key", "value": "hush"}
    await result(work, authentication=key, followRedirects=True)
    assert [r.header("X-Key") for r in stub.received] == ["hush", None]


# ---- documents ----


async def test_a_stored_response_is_a_document(stub: Stub, work: Work) -> None:
    stub.reply(Reply(body=b"\x00\xff", headers=[("Content-Type", "image/png")]))
    response = await result(work, storeResponse=True)
    assert response["body"] is None
    assert response["document"]["camunda.document.type"] == "camunda"
    assert response["document"]["metadata"]["contentType"] == "image/png"
    assert response["document"]["metadata"]["size"] == 2


async def test_an_answer_without_a_body_is_not_stored(stub: Stub, work: Work) -> None:
    stub.reply(Reply(204, b""))
    assert (await result(work, storeResponse=True))["document"] is None


async def test_a_store_that_fails_has_a_code(stub: Stub, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("disk full")

    monkeypatch.setattr("gateway.documents.Documents.create", refuse)
    outcome = await work(storeResponse=True)
    assert outcome.error["code"] == "500"
    assert outcome.error["message"] == "Error while executing an HTTP request: Failed to create document: disk full"


@pytest.mark.parametrize(
    ("chosen", "body", "expected"),
    [
        ({"choice": "JSON"}, b'"scalar"', "scalar"),
        ({"choice": "JSON"}, b"12", 12),
        ({"choice": "JSON"}, b'{"a":1}', {"a": 1}),
        ({"choice": "TEXT"}, b'{"a":1}', '{"a":1}'),
        ({"choice": "TEXT", "encoding": ""}, "ü".encode(), "ü"),
        ({"choice": "TEXT", "encoding": "ISO-8859-1"}, b"\xfc", "ü"),
        ({"choice": "TEXT"}, b"", ""),
        ({"choice": ""}, b"12", "12"),
        ({}, b"12", "12"),
    ],
)  # fmt: skip
async def test_the_return_format_decides(stub: Stub, work: Work, chosen: Any, body: bytes, expected: Any) -> None:
    stub.reply(Reply(body=body))
    response = await result(work, documentReturnFormat=chosen)
    assert (response["body"], response["document"], response["status"]) == (expected, None, 200)


async def test_the_return_format_document_stores_the_body(stub: Stub, work: Work) -> None:
    stub.reply(Reply(body=b"x" * 2_000_000, headers=[("Content-Type", "text/csv")]))
    response = await result(work, documentReturnFormat={"choice": "DOCUMENT"})
    assert response["body"] is None
    assert response["document"]["metadata"]["contentType"] == "text/csv"
    assert response["document"]["metadata"]["size"] == 2_000_000


@pytest.mark.parametrize(
    ("chosen", "reply", "message", "retries"),
    [
        ({"choice": "JSON"}, Reply(204, b""), "JSON response format selected but payload was empty or could not be parsed.", 2),
        ({"choice": "JSON"}, Reply(body=HTML), "JSON response format selected but payload is not valid JSON", 2),
        ({"choice": "TEXT"}, Reply(body=b"x" * 1_572_865), "Document reference", 2),
        ({"choice": "TEXT"}, Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", close=True), "Failed to read payload for document response conversion: ", 2),
        ({"choice": "json"}, Reply(), "documentReturnFormat.choice must be one of DOCUMENT, TEXT, JSON. Got: json", 0),
        ({"choice": "TEXT", "encoding": "nope"}, Reply(), "documentReturnFormat.encoding", 0),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_fit_the_format_fails_without_a_code(
    stub: Stub,
    work: Work,
    chosen: Any,
    reply: Reply,
    message: str,
    retries: int,
) -> None:
    stub.reply(reply)
    outcome = await work(documentReturnFormat=chosen)
    assert message in outcome.error["message"]
    assert ("code" in outcome.error, outcome.retries) == (False, retries)


async def test_no_connection_is_left_in_use(stub: Stub, work: Work, http: Any) -> None:
    for chosen in (None, {"choice": "JSON"}, {"choice": "TEXT"}, {"choice": "DOCUMENT"}):
        for reply in (Reply(), Reply(500), Reply(body=b"x" * 1_600_000), Reply(204, b"")):
            stub.reply(reply)
            await work(documentReturnFormat=chosen)
            await work(storeResponse=True)
    assert http.statistics().in_flight == 0
