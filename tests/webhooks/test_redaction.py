"""The activity log's view of a request: enough to find a fault, nothing to log in with."""

import pytest
from hypothesis import given

from gateway.webhooks import WebhookRequest, request_entry
from tests.webhooks.requests import FORM, REQUESTS, a_request


def test_an_entry_is_the_request_line_the_headers_and_the_body() -> None:
    request = a_request(b'{"a": 1}', query="a=1&b", content_type="application/json", x_fine="fine")
    assert request_entry(request).splitlines() == [
        "POST /inbound/hook?a=1&b",
        "content-type: application/json",
        "x-fine: fine",
        '{"a": 1}',
    ]


@pytest.mark.parametrize("name", ["authorization", "proxy-authorization", "cookie", "x-api-key"])
def test_credentials_are_withheld(name: str) -> None:
    assert request_entry(a_request(b"", **{name: "s3cret"})).splitlines()[1] == f"{name}: [redacted]"


def test_other_headers_are_withheld_where_they_are_named() -> None:
    request = a_request(x_signature="s3cret", x_other="shown")
    assert "s3cret" in request_entry(request)
    assert request_entry(request, ["X-Signature "]).splitlines()[1:] == ["x-signature: [redacted]", "x-other: shown"]


@pytest.mark.parametrize("name", ["token", "access_token", "signature", "api_key", "apikey", "TOKEN", "%74oken"])
def test_secret_parameters_are_withheld_in_queries_and_forms(name: str) -> None:
    fields = f"a=1&{name}=s3cret=s3cret&b=2&token"
    for request in (a_request(query=fields), a_request(fields.encode(), content_type=FORM)):
        entry = request_entry(request)
        assert f"a=1&{name}=[redacted]&b=2&token" in entry
        assert "s3cret" not in entry


def test_without_the_query_as_it_came_the_parameters_are_shown() -> None:
    request = WebhookRequest("GET", "/p", "http://x/p", {}, {"a": "x y", "token": "s3cret"}, b"")
    assert request_entry(request) == "GET /p?a=x+y&token=[redacted]"


def test_a_long_body_is_cut_after_a_thousand_bytes() -> None:
    entry = request_entry(a_request(b"x" * 1500))
    assert entry.count("x") == 1000
    assert entry.endswith("... (500 more bytes)")
    assert request_entry(a_request("ä".encode() * 700)).count("ä") == 500


def test_a_body_that_is_no_text_is_only_counted() -> None:
    assert request_entry(a_request(b"\x89PNG\0\0")).splitlines()[1:] == ["(6 bytes)"]


def test_long_values_and_long_lists_are_cut() -> None:
    entry = request_entry(a_request(b"", query="q=" + "x" * 5000, **{f"h{n}": "y" * 5000 for n in range(80)}))
    assert len(entry) < 30_000
    assert entry.splitlines()[-1] == "... and 30 more headers"


def test_parts_are_listed_without_their_contents() -> None:
    head = b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    raw = (
        head % (b"note", b"")
        + b"s3cret\r\n"
        + head % (b"file", b'; filename="a.zip"\r\nContent-Type: application/zip')
        + b"12345\r\n--B--"
    )
    request = a_request(raw, content_type="multipart/form-data; boundary=B")
    assert request_entry(request).splitlines()[2:] == [
        "part note, 6 bytes",
        "part file, file a.zip, application/zip, 5 bytes",
    ]


def test_many_parts_are_not_all_listed() -> None:
    raw = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 60 + b"--B--"
    assert (
        request_entry(a_request(raw, content_type="multipart/form-data; boundary=B")).splitlines()[-1]
        == "... and 10 more parts"
    )


def test_parts_that_cannot_be_read_are_told_as_such() -> None:
    request = a_request(b"nothing", content_type="multipart/form-data; boundary=B")
    assert "(7 bytes. The multipart body is malformed" in request_entry(request)


@given(REQUESTS)
def test_every_request_has_an_entry(request: WebhookRequest) -> None:
    entry = request_entry(request)
    assert entry.startswith(request.method)
    assert len(entry) < 20_000
