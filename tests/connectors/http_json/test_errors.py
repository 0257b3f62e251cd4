"""How calls fail, and what the error expression sees."""

import asyncio
import ssl
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.http_json import http_json
from gateway.http_client import EgressPolicy, HttpClient, HttpSettings
from gateway.testing import run_job
from tests.connectors.http_json.conftest import Work
from tests.http_client.servers import Reply, Stub, running

VALIDATION = (
    "jakarta.validation.ValidationException: Found constraints violated while validating input: \n - Property: "
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"why":"bad"}', {"why": "bad"}),
        (b'[{"errorCode":"X"}]', [{"errorCode": "X"}]),
        (b"boom", "boom"),
        (b'"x"', '"x"'),
        (b"", None),
    ],
)
async def test_a_status_of_400_or_above_is_an_error(stub: Stub, work: Work, body: bytes, expected: Any) -> None:
    stub.reply(Reply(404, body, [("X-Id", "7")], reason="Not Found"))
    outcome = await work()
    assert outcome.error == {
        "type": "io.camunda.connector.api.error.ConnectorException",
        "message": "Not Found",
        "code": "404",
        "variables": {"response": {"headers": {"X-Id": "7", "Content-Length": str(len(body))}, "body": expected}},
    }
    assert outcome.retries == 2


@pytest.mark.parametrize("reason", ["", "Größe"])
async def test_the_reason_is_latin1_and_may_be_empty(stub: Stub, work: Work, reason: str) -> None:
    stub.reply(Reply(418, reason=reason))
    assert (await work()).error["message"] == reason


async def test_an_error_expression_sees_code_and_body(stub: Stub, work: Work) -> None:
    stub.reply(Reply(404, {"x": "gone"}))
    expression = 'if error.code = "404" then bpmnError("E404", error.variables.response.body.x) else null'
    outcome = await work(task_headers={"errorExpression": expression})
    assert (outcome.kind, outcome.code, outcome.message) == ("bpmn error", "E404", "gone")


async def test_silence_has_the_code_408(stub: Stub, work: Work) -> None:
    stub.reply(Reply(delay=30))
    outcome = await work(readTimeoutInSeconds="1", connectionTimeoutInSeconds="20")
    assert outcome.error["code"] == "408"
    assert outcome.error["message"] == (
        "The request timed out. Please try increasing the read and connection timeouts."
    )


async def test_the_connection_timeout_counts_for_reading_when_it_stands_alone(stub: Stub, work: Work) -> None:
    stub.reply(Reply(delay=30))
    async with asyncio.timeout(10):
        assert (await work(connectionTimeoutInSeconds=1)).error["code"] == "408"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://nowhere.invalid/"])
async def test_no_connection_has_the_code_408(work: Work, url: str) -> None:
    outcome = await work(url)
    assert outcome.error["code"] == "408"
    assert outcome.error["message"] == ("An error occurred while executing the request, or the connection was aborted")


@pytest.mark.parametrize(("method", "calls"), [("POST", 1), ("GET", 2)])
async def test_a_dropped_connection_has_the_code_408(stub: Stub, work: Work, method: str, calls: int) -> None:
    stub.reply(Reply(drop=True))
    assert (await work(method=method)).error["code"] == "408"
    assert len(stub.received) == calls


async def test_a_busy_server_is_asked_once_more_within_the_job(stub: Stub, work: Work) -> None:
    stub.reply(Reply(503), Reply(body={"n": 2}))
    outcome = await work(method="POST", body={})
    assert (outcome.variables["r"]["body"], len(stub.received)) == ({"n": 2}, 2)


async def test_an_untrusted_certificate_names_the_input_that_helps(work: Work) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with running(Stub(), context) as secure:
        outcome = await work(secure.url("/"))
        assert outcome.error["code"] == "SSL_HANDSHAKE_FAILED"
        assert "clientTls.trustedCertificate" in outcome.error["message"]
        trusted = {"trustedCertificate": authority.cert_pem.bytes().decode()}
        assert (await work(secure.url("/"), clientTls=trusted)).kind == "completed"


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ({"clientCertificate": "C"}, "mTLS client authentication requires both a client certificate and a private key; only one was provided."),
        ({"clientCertificate": "C", "clientPrivateKey": "hush"}, "Failed to build SSL context for mTLS from the provided certificate material"),
    ],
)  # fmt: skip
async def test_bad_tls_material_is_an_input_error(work: Work, tls: dict[str, str], message: str) -> None:
    outcome = await work("https://127.0.0.1:1/", clientTls=tls)
    assert (outcome.error["message"], outcome.retries) == (message, 0)
    assert "hush" not in repr(outcome)


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n"])
async def test_what_is_no_http_has_the_code_500(stub: Stub, work: Work, raw: bytes) -> None:
    stub.reply(Reply(raw=raw))
    outcome = await work()
    assert (outcome.error["code"], outcome.error["message"]) == ("500", "An error with the HTTP protocol occurred")


@pytest.mark.parametrize("headers", [{"Content-Length": "3"}, {"transfer-encoding": "chunked"}])
async def test_framing_headers_have_the_code_500(stub: Stub, work: Work, headers: dict[str, str]) -> None:
    outcome = await work(method="POST", body="abc", headers=headers)
    assert (outcome.error["code"], stub.received) == ("500", [])


# ---- input errors ----


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://127.0.0.1/x", f"{VALIDATION}url: Validation failed. Original message: Must be a http(s) URL"),
        ("HTTP://x", "Must be a http(s) URL"),
        ("http://a\nb", "Must be a http(s) URL"),
        (" http://x", "Must be a http(s) URL"),
        ("", "url: Validation failed. Original message: must not be blank"),
        (None, "url: Validation failed. Original message: must not be blank"),
        ("http:///a", "Please ensure the URL includes a valid hostname."),
        ("secrets.", "Please ensure the URL includes a valid scheme."),
        ("{{x}}", "Please ensure the URL includes a valid scheme."),
    ],
)
async def test_a_bad_url_is_an_input_error(work: Work, url: Any, message: str) -> None:
    outcome = await work(url)
    assert outcome.retries == 0
    assert message in outcome.error["message"]


async def test_a_url_that_is_no_uri_is_a_plain_error(stub: Stub, work: Work) -> None:
    outcome = await work("/a b", skipEncoding="true")
    assert "Illegal character in path" in outcome.error["message"]
    assert ("code" in outcome.error, outcome.retries, stub.received) == (False, 2, [])


async def test_user_info_in_a_url_has_the_code_500_and_is_not_shown(work: Work) -> None:
    outcome = await work("http://user:hush@127.0.0.1:1/")
    assert outcome.error["code"] == "500"
    assert "hush" not in outcome.error["message"]


@pytest.mark.parametrize(
    "variables",
    [{"method": "OPTIONS"}, {"method": ""}, {"method": None}, {"headers": ""}, {"headers": {"a": {"b": 1}}},
     {"headers": {"a": ["x", "y"]}}, {"queryParameters": ""}, {"storeResponse": "yes"}, {"followRedirects": "yes"}],
)  # fmt: skip
async def test_wrong_kinds_are_input_errors_that_name_the_field(
    stub: Stub, work: Work, variables: dict[str, Any]
) -> None:
    outcome = await work(**variables)
    assert (outcome.retries, stub.received) == (0, [])
    assert next(iter(variables)) in outcome.error["message"]


# ---- operators' rules ----


async def test_a_blocked_url_names_its_block(stub: Stub, work: Work) -> None:
    env = {"CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_META": "/latest", "CAMUNDA_CONNECTOR_HTTP_BLOCK_REGEX_W": r".*a%2Cb"}
    async with HttpClient(HttpSettings.from_environment(env)) as http:
        outcome = await work("/latest/x", client=http)
        assert (outcome.error["message"], outcome.retries) == ("The provided URL is not allowed (Block Name: META)", 0)
        assert "(Block Name: W)" in (await work("/a%2Cb", client=http)).error["message"]
    assert stub.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]"])
async def test_a_host_that_may_not_be_reached_is_a_violation(stub: Stub, work: Work, host: str) -> None:
    async with HttpClient(HttpSettings(egress=EgressPolicy.of())) as http:
        outcome = await work(stub.url("/", host), client=http)
    assert (outcome.retries, stub.connections) == (0, 0)
    assert outcome.error["message"].startswith(f"{VALIDATION}url: Validation failed. Original message: Host '")
    assert outcome.error["message"].endswith("was denied: DENY_NOT_GLOBAL_UNICAST")


async def test_a_redirect_to_a_host_that_may_not_be_reached_fails(stub: Stub, work: Work) -> None:
    stub.reply(Reply(302, headers=[("Location", stub.url("/", "127.0.0.2"))]))
    async with HttpClient(HttpSettings(egress=EgressPolicy.of(allow_ranges=["127.0.0.1/32"]))) as http:
        outcome = await work(client=http, followRedirects=True)
    assert "DENY_NOT_GLOBAL_UNICAST" in outcome.error["message"]
    assert len(stub.received) == 1


# ---- secrets and injection ----


async def test_no_error_shows_what_was_sent(stub: Stub, work: Work) -> None:
    for reply in (Reply(500, reason="Oops"), Reply(drop=True), Reply(raw=b"junk\r\n\r\n")):
        stub.reply(reply)
        outcome = await work(
            method="POST",
            authentication={"type": "bearer", "token": "hush-1"},
            headers={"X": "hush-2"},
            body={"a": "hush-3"},
            queryParameters={"k": "hush-4"},
        )
        assert "hush" not in repr(outcome.variables) + str(outcome.message)


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=12), value=st.text(max_size=20), token=st.text(min_size=1, max_size=20))
def test_no_variable_can_inject_a_header(name: str, value: str, token: str) -> None:
    async def scenario() -> None:
        async with running(Stub()) as stub, HttpClient() as http:
            variables = {
                "url": stub.url("/"),
                "method": "GET",
                "headers": {name: value, "X-Last": value},
                "authentication": {"type": "bearer", "token": token},
            }
            outcome = await run_job(http_json, variables, http=http)
            if outcome.kind == "failed":
                assert stub.received == []
                return
            lines = stub.one.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            assert stub.one.head.count(b"\n") == stub.one.head.count(b"\r") == len(lines) + 1
            given = {name.lower(), "authorization", "x-last"}
            assert {n.lower() for n, _ in stub.one.headers} <= given | {
                "accept-encoding", "host", "connection", "user-agent",
            }  # fmt: skip

    asyncio.run(scenario())
