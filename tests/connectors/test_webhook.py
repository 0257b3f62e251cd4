import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.webhook import webhook
from gateway.sdk import (
    ActivationConditionNotMet,
    CorrelationFailed,
    EngineRefused,
    InvalidInput,
    MessageAlreadyCorrelated,
    MessageCorrelated,
    MessagePublished,
    ProcessInstanceCreated,
    ProcessInstanceCreatedWithResult,
    WebhookResponse,
)
from tests.connectors.receiving import receiving

FORM = "application/x-www-form-urlencoded"
BASIC = {"inbound.auth.type": "BASIC", "inbound.auth.username": "bob", "inbound.auth.password": "pw"}
HMAC = {
    "inbound.shouldValidateHmac": "enabled",
    "inbound.hmacSecret": "key",
    "inbound.hmacHeader": "X-Sig",
    "inbound.hmacAlgorithm": "sha_256",
}


def sha256(body: bytes, key: str = "key") -> str:
    return hmac.new(key.encode(), body, "sha256").hexdigest()


def basic(user: str = "bob", password: str = "pw") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# ---- the event -------------------------------------------------------------------------------------------------------


async def test_an_event_holds_the_request_and_a_success_is_an_empty_200():
    async with receiving(webhook, {}) as hook:
        reply = await hook({"order": 7}, query="?a=1&b", X_Thing="Two")
    assert (reply.status, reply.body) == (200, b"")
    (event,) = hook.events
    assert event["request"]["body"] == {"order": 7}
    assert event["request"]["params"] == {"a": "1", "b": ""}
    assert event["request"]["headers"]["x-thing"] == "Two"
    assert (event["connectorData"], event["documents"]) == ({}, [])


@pytest.mark.parametrize(
    ("body", "content_type", "wanted"),
    [
        (b'[1, {"a": 2}]', "application/json", [1, {"a": 2}]),
        (b'{"a": 1}', "", {"a": 1}),
        (b"", "application/json", {}),
        (b"", FORM, {}),
        (b"a=1&b=x+y&empty&c=%C3%A4&q=a%26b%3Dc", FORM, {"a": "1", "b": "x y", "empty": "", "c": "ä", "q": "a&b=c"}),
        (b"a=1", f"{FORM}; charset=UTF-8", {"a": "1"}),
        (b"<a>\xc3\xa4</a>", "text/xml", "<a>ä</a>"),
        (b"just words", "text/plain", "just words"),
        (b'{"a": 1}', "text/plain", {"a": 1}),
    ],
)
async def test_the_body_is_read_by_its_content_type(body, content_type, wanted):
    async with receiving(webhook, {}) as hook:
        reply = await hook(body, **({"Content_Type": content_type} if content_type else {}))
    assert reply.status == 200
    assert hook.events[0]["request"]["body"] == wanted


async def test_a_body_that_is_not_what_it_says_is_400_and_starts_nothing():
    async with receiving(webhook, {}) as hook:
        reply = await hook(b"{nope", Content_Type="application/json")
        assert reply.status == 400
        assert "reason" in reply.json()
        assert not hook.events


async def test_each_part_of_a_form_with_files_is_a_document():
    body = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n'
        b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\nplain\r\n--B--\r\n'
    )
    async with receiving(webhook, {"inbound.responseExpression": "={body: documents}"}) as hook:
        reply = await hook(body, Content_Type="multipart/form-data; boundary=B")
        (event,) = hook.events
        assert event["request"]["body"] == {}
        assert event["documents"][0].metadata.file_name == "a.txt"
        assert [document.metadata.content_type for document in event["documents"]] == [
            "text/plain",
            "application/octet-stream",
        ]
        assert [await document.read() for document in event["documents"]] == [b"hello", b"plain"]
        assert [each["camunda.document.type"] for each in reply.json()] == ["camunda", "camunda"]


async def test_names_of_files_that_no_store_takes_are_made_fit():
    body = (
        b'--B\r\nContent-Disposition: form-data; name="f"; filename="a\x01\xc2\x85.txt"\r\n'
        b"Content-Type: text/\x01plain\r\n\r\nhello\r\n--B--\r\n"
    )
    async with receiving(webhook, {}) as hook:
        assert (await hook(body, Content_Type="multipart/form-data; boundary=B")).status == 200
    (document,) = hook.events[0]["documents"]
    assert document.metadata.file_name == "a__.txt"
    assert document.metadata.content_type == "application/octet-stream"


async def test_nothing_is_stored_when_no_element_wants_the_event():
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello\r\n--B--\r\n'
    async with receiving(webhook, {}) as hook:
        hook.run.unwanted = lambda event: ActivationConditionNotMet(False)
        stored: list[Any] = []
        hook.run.executable.documents.create = lambda *a, **k: stored.append(a)  # type: ignore[method-assign,assignment]
        reply = await hook(body, Content_Type="multipart/form-data; boundary=B")
    assert (reply.status, reply.json()) == (422, {"consumeUnmatched": False})
    assert not hook.events
    assert not stored


async def test_the_activity_log_shows_the_request_without_credentials():
    async with receiving(webhook, {}) as hook:
        await hook(
            {"a": 1},
            query="?token=t0ken&x=1",
            Authorization="Bearer abc",
            Cookie="c00kie",
            X_Api_Key="k3y",
            X_Fine="fine",
        )
        (entry,) = [entry for entry in hook.run.log if entry.tag == "POST"]
    told = f"{entry.message} {json.dumps(entry.data)}"
    assert entry.severity == "INFO"
    assert "/inbound/hook" in told
    assert "fine" in told
    for secret in ("t0ken", "Bearer abc", "c00kie", "k3y"):
        assert secret not in told


# ---- order: verification, method, signature, authorization ---------------------------------------------------------


async def test_a_verification_answers_before_method_and_authorization_and_starts_nothing():
    expression = '=if request.body.type = "challenge" then {body: {c: request.body.c}, statusCode: 201, headers: {X: "y"}} else null'
    more = {**BASIC, **HMAC, "inbound.method": "get", "inbound.verificationExpression": expression}
    async with receiving(webhook, more) as hook:
        reply = await hook({"type": "challenge", "c": "abc"})
        assert (reply.status, reply.json(), reply.headers["X"]) == (201, {"c": "abc"}, "y")
        assert (await hook({"type": "other"})).status == 405
        assert (await hook(method="GET")).status == 401
        assert not hook.events


async def test_a_verification_without_the_body_works_with_any_body():
    more = {"inbound.verificationExpression": '=if request.params.v = "1" then {body: "ok"} else null', **BASIC}
    async with receiving(webhook, more) as hook:
        assert (await hook(b"{nope", query="?v=1", Content_Type="application/json")).body == b"ok"
        assert (await hook(b"{nope", Content_Type="application/json")).status == 401
        assert (await hook(b"{nope", Content_Type="application/json", Authorization=basic())).status == 400


async def test_a_verification_that_fails_is_422_with_its_text_but_no_secret():
    more = {"inbound.verificationExpression": '=assert("{{secrets.S}}" = "x", "no")'}
    async with receiving(webhook, {**more}, secrets={"S": "hunter2"}) as hook:
        reply = await hook({})
    assert reply.status == 422
    assert set(reply.json()) == {"reason", "expression"}
    assert reply.json()["expression"] == more["inbound.verificationExpression"]


@pytest.mark.parametrize("method", ["post", "POST"])
async def test_another_method_than_the_elements_is_405(method):
    async with receiving(webhook, {"inbound.method": method}) as hook:
        for other in ("GET", "PUT", "DELETE"):
            reply = await hook(method=other)
            assert (reply.status, reply.json()) == (405, {"reason": f"Method {other} not supported"})
        assert (await hook(method="HEAD")).status == 405
        assert not hook.events
        assert (await hook({})).status == 200


@pytest.mark.parametrize("properties", [{}, {"inbound.method": "any"}, {"inbound.method": "ANY"}])
async def test_any_method_is_taken_unless_the_element_names_one(properties):
    async with receiving(webhook, properties) as hook:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            assert (await hook(method=method)).status == 200
        assert len(hook.events) == 5


async def test_credentials_are_checked_and_may_be_secrets():
    async with receiving(
        webhook, {**BASIC, "inbound.auth.password": "{{secrets.PW}}"}, secrets={"PW": "geheim"}
    ) as hook:
        for headers in ({}, {"Authorization": basic()}, {"Authorization": "Basic !!!"}, {"Authorization": "Bearer x"}):
            reply = await hook({}, **headers)
            assert reply.status == 401
            assert reply.json()["reason"].startswith("Reason: INVALID_CREDENTIALS")
        assert not hook.events
        assert (await hook({}, Authorization=basic(password="geheim"))).status == 200


async def test_an_api_key_is_found_by_its_locator():
    locator = '=if request.params.key != null then request.params.key else get value(request.headers, "x-api-key")'
    more = {"inbound.auth.type": "APIKEY", "inbound.auth.apiKey": "k-1", "inbound.auth.apiKeyLocator": locator}
    async with receiving(webhook, more) as hook:
        assert (await hook({}, query="?key=k-2")).status == 401
        assert (await hook({})).status == 401
        assert (await hook({}, query="?key=k-1")).status == 200
        assert (await hook({}, X_API_Key="k-1")).status == 200


async def test_a_signature_covers_the_bytes_as_they_came():
    body = '{ "a" :1.0,\t"b":"\\u00e4 ü" }\n'.encode()
    async with receiving(webhook, HMAC) as hook:
        good = sha256(body)
        for value in (good, f"sha256={good}", base64.b64encode(bytes.fromhex(good)).decode()):
            assert (await hook(body, x_sig=value)).status == 200
        for value in ("", "sha256=", good[:-2], sha256(body, "other"), sha256(body + b" ")):
            assert (await hook(body, x_sig=value)).status == 401
        assert (await hook(body)).status == 401
        assert len(hook.events) == 3


async def test_signature_and_authorization_must_both_pass():
    async with receiving(webhook, {**HMAC, **BASIC}) as hook:
        assert (await hook(b"{}", x_sig=sha256(b"{}"))).status == 401
        assert (await hook(b"{}", Authorization=basic())).status == 401
        assert (await hook(b"{}", x_sig=sha256(b"{}"), Authorization=basic())).status == 200
        assert len(hook.events) == 1


async def test_hmac_that_is_not_enabled_is_not_checked():
    async with receiving(webhook, {**HMAC, "inbound.shouldValidateHmac": "disabled"}) as hook:
        assert (await hook(b"{}")).status == 200


# ---- answers ---------------------------------------------------------------------------------------------------------

RESPONSE = {"inbound.responseExpression": "={body: correlation, statusCode: 201}"}


@pytest.mark.parametrize(
    ("outcome", "correlation"),
    [
        (lambda e: ProcessInstanceCreated(e, 7, "t"), {"processInstanceKey": 7, "tenantId": "t"}),
        (
            lambda e: ProcessInstanceCreatedWithResult(e, 7, "t", {"x": 1}),
            {"processInstanceKey": 7, "tenantId": "t", "variables": {"x": 1}},
        ),
        (lambda e: MessagePublished(e, 8, "t"), {"messageKey": 8, "tenantId": "t"}),
        (lambda e: MessageCorrelated(e, 7, 8, "t"), {"processInstanceKey": 7, "messageKey": 8, "tenantId": "t"}),
    ],
)
async def test_a_response_expression_sees_what_the_event_did(outcome, correlation):
    async with receiving(webhook, RESPONSE, outcome=outcome) as hook:
        reply = await hook({})
    came = reply.json()
    assert came.pop("activatedElement")["elementId"] == "start"
    assert (reply.status, came) == (201, correlation)


@pytest.mark.parametrize(
    ("outcome", "status", "body"),
    [
        (MessageAlreadyCorrelated, 200, None),
        (lambda e: ActivationConditionNotMet(True), 200, None),
        (lambda e: ActivationConditionNotMet(False), 422, {"consumeUnmatched": False}),
        (lambda e: InvalidInput("no key"), 422, {"message": "no key"}),
        (lambda e: CorrelationFailed("the inside"), 500, None),
        (
            lambda e: EngineRefused("NOT_FOUND", "no such process"),
            404,
            {"status": "NOT_FOUND", "message": "no such process"},
        ),
        (lambda e: EngineRefused("SOMETHING", "else"), 422, {"status": "SOMETHING", "message": "else"}),
    ],
)
async def test_no_response_expression_is_evaluated_for_what_did_nothing(outcome, status, body):
    async with receiving(webhook, RESPONSE, outcome=outcome) as hook:
        reply = await hook({})
    assert (reply.status, reply.json() if reply.body else None) == (status, body)


STATUSES = {
    "CANCELLED": 499, "UNKNOWN": 500, "INTERNAL": 500, "DATA_LOSS": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 412, "OUT_OF_RANGE": 416, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "UNAUTHENTICATED": 401,
}  # fmt: skip


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_what_the_engine_says_becomes_the_status(status):
    outcome = EngineRefused(status, "to 10.0.0.3")
    response = WebhookResponse.of(outcome)
    assert (response.status, response.body["status"]) == (STATUSES[status], status)
    assert ("Retry-After" in response.headers) is outcome.away
    assert ("10.0.0.3" in response.body["message"]) is (
        response.status in {400, 403, 404, 409, 412, 416, 501} and not outcome.away
    )


async def test_while_the_engine_is_away_the_sender_is_asked_to_come_again():
    async with receiving(webhook, {}, outcome=lambda e: EngineRefused("UNAVAILABLE", "to 10.0.0.3")) as hook:
        reply = await hook({})
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert b"10.0.0.3" not in reply.body


@pytest.mark.parametrize(
    ("expression", "status", "body", "headers"),
    [
        ("=null", 200, b"", {}),
        ("={}", 200, b"", {}),
        ('={body: "<b>", headers: {"Content-Type": "text/html"}}', 200, b"&lt;b&gt;", {"Content-Type": "text/html"}),
        ('={body: "<b/>", headers: {"Content-Type": "text/xml"}}', 200, b"<b/>", {"Content-Type": "text/xml"}),
        (
            '={body: request.body.a, statusCode: "202", headers: {X: 1, Y: true, Z: null}}',
            202,
            b"1",
            {"X": "1", "Y": "true"},
        ),
        ("={body: 1.5, statusCode: 200.0}", 200, b"1.5", {}),
        ("={statusCode: 204, body: 1}", 204, b"", {}),
        ("=1", 500, b"", {}),
        ('={statusCode: "many"}', 500, b"", {}),
        ("={statusCode: 200.5}", 500, b"", {}),
        ("={statusCode: true}", 500, b"", {}),
        ("={statusCode: 99}", 500, b"", {}),
        ("={headers: [1]}", 500, b"", {}),
        ("={headers: {X: {}}}", 500, b"", {}),
        ('={headers: {X: "a\\r\\nY: b"}}', 200, b"", {"X": "a  Y: b"}),
    ],
)
async def test_the_response_is_what_the_expression_says(expression, status, body, headers):
    async with receiving(webhook, {"inbound.responseExpression": expression}) as hook:
        reply = await hook({"a": 1})
        assert len(hook.events) == 1
    assert (reply.status, reply.body) == (status, body)
    assert "Y" not in reply.headers or "Y" in headers
    for name, value in headers.items():
        assert reply.headers[name] == value


async def test_a_response_expression_that_fails_is_422_after_the_instance_was_started():
    expression = '=assert(request.body.a = 2, "no")'
    async with receiving(webhook, {"inbound.responseExpression": expression}) as hook:
        reply = await hook({"a": 1})
        assert len(hook.events) == 1
    assert (reply.status, reply.json()["expression"]) == (422, expression)
    assert reply.json()["reason"]


# ---- activation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"inbound.verificationExpression": "no expression"}, "verificationExpression"),
        ({"inbound.shouldValidateHmac": "enabled"}, "hmacSecret"),
        ({**HMAC, "inbound.hmacHeader": ""}, "hmacHeader"),
        ({**HMAC, "inbound.hmacAlgorithm": "md5"}, "hmacAlgorithm"),
        ({"inbound.auth.type": "MAGIC"}, "auth"),
        (
            {"inbound.auth.type": "APIKEY", "inbound.auth.apiKey": "k", "inbound.auth.apiKeyLocator": "no"},
            "apiKeyLocator",
        ),
        ({"inbound.signatureScheme": "github"}, "hmacSecret"),
        ({"inbound.signatureScheme": "magic"}, "signatureScheme"),
        ({"inbound.bodySchema": "{"}, "bodySchema"),
        ({"inbound.bodySchema": '{"type": 1}'}, "bodySchema"),
        ({"inbound.idempotencyHeader": "X-Key", "inbound.idempotencyTtl": "soon"}, "idempotencyTtl"),
        ({"inbound.replayProtection": "true"}, "replayProtection"),
    ],
)
async def test_properties_that_cannot_work_fail_the_activation_and_name_the_property(properties, word):
    with pytest.raises(AssertionError, match=rf"not activated.*{word}"):
        async with receiving(webhook, properties):
            pass


# ---- beyond the original ---------------------------------------------------------------------------------------------


async def test_a_body_that_does_not_fit_its_schema_is_422_and_starts_nothing():
    schema = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}
    async with receiving(webhook, {"inbound.bodySchema": json.dumps(schema)}) as hook:
        reply = await hook({"order": "seven"})
        assert reply.status == 422
        assert "order" in reply.json()["reason"]
        assert (await hook({})).status == 422
        assert not hook.events
        assert (await hook({"order": 7})).status == 200


async def test_two_secrets_are_taken_while_one_replaces_the_other():
    async with receiving(webhook, {**HMAC, "inbound.hmacSecretPrevious": "old"}) as hook:
        for key, status in (("key", 200), ("old", 200), ("other", 401)):
            assert (await hook(b"{}", x_sig=sha256(b"{}", key))).status == status


def _standard(body: bytes, identity: str, stamp: int) -> dict[str, str]:
    mac = hmac.new(b"0123456789abcdef", f"{identity}.{stamp}.".encode() + body, "sha256").digest()
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": identity, "webhook-timestamp": str(stamp), "webhook-signature": signature}


def _stripe(body: bytes, identity: str, stamp: int) -> dict[str, str]:
    mac = hmac.new(b"key", f"{stamp}.".encode() + body, "sha256").hexdigest()
    return {"stripe-signature": f"t={stamp},v1={mac}"}


def _github(body: bytes, identity: str, stamp: int) -> dict[str, str]:
    return {"x-hub-signature-256": f"sha256={sha256(body)}"}


def _slack(body: bytes, identity: str, stamp: int) -> dict[str, str]:
    mac = hmac.new(b"key", f"v0:{stamp}:".encode() + body, "sha256").hexdigest()
    return {"x-slack-request-timestamp": str(stamp), "x-slack-signature": f"v0={mac}"}


def scheme(name: str, **more: str) -> dict[str, str]:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode() if name == "standard-webhooks" else "key"
    return {"inbound.signatureScheme": name, "inbound.hmacSecret": secret, **more}


SCHEMES = [("standard-webhooks", _standard), ("stripe", _stripe), ("github", _github), ("slack", _slack)]


@pytest.mark.parametrize(("name", "sign"), SCHEMES)
async def test_requests_are_taken_that_are_signed_as_a_well_known_sender_does_it(name, sign):
    now = int(time.time())
    async with receiving(webhook, scheme(name)) as hook:
        assert (await hook(b"{}", **sign(b"{}", "msg_1", now))).status == 200
        unsigned: dict[str, str] = {}
        for bad in (sign(b"{} ", "msg_1", now), unsigned):
            assert (await hook(b"{}", **bad)).status == 401
        for stamp in (now - 3600, now + 3600):
            assert (await hook(b"{}", **sign(b"{}", "msg_1", stamp))).status == (200 if name == "github" else 401)
        assert len(hook.events) == (3 if name == "github" else 1)


@pytest.mark.parametrize(("name", "sign"), [each for each in SCHEMES if each[0] != "github"])
async def test_a_signed_request_counts_once_where_replays_are_refused(name, sign):
    signed, other = sign(b"{}", "msg_1", int(time.time())), sign(b"[]", "msg_2", int(time.time()))
    async with receiving(webhook, scheme(name, **{"inbound.replayProtection": "true"})) as hook:
        assert (await hook(b"{}", **signed)).status == 200
        assert (await hook(b"{}", **signed)).status == 409
        assert (await hook(b"[]", **other)).status == 200
        assert len(hook.events) == 2


async def test_a_signed_request_that_failed_may_come_again():
    signed = _stripe(b"{}", "", int(time.time()))
    more = scheme("stripe", **{"inbound.replayProtection": "true"})
    async with receiving(webhook, more, outcome=lambda e: EngineRefused("UNAVAILABLE", "")) as hook:
        for _ in range(2):
            assert (await hook(b"{}", **signed)).status == 503
        assert len(hook.events) == 2


async def test_a_time_in_a_header_may_be_part_of_what_is_signed():
    more = {**HMAC, "inbound.hmacScopes": '=["timestamp", "body"]', "inbound.hmacTimestampHeader": "X-Time"}
    more |= {"inbound.replayProtection": "true", "inbound.hmacToleranceSeconds": "60"}
    now = int(time.time())
    async with receiving(webhook, more) as hook:

        async def send(stamp: int) -> int:
            signature = sha256(f"{stamp}.".encode() + b"{}")
            return (await hook(b"{}", x_sig=signature, X_Time=str(stamp))).status

        assert [await send(now), await send(now), await send(now - 90), await send(now + 90)] == [200, 409, 401, 401]
        assert len(hook.events) == 1


ONCE = {"inbound.idempotencyHeader": "Idempotency-Key"}


async def test_a_repeated_key_gets_the_first_answer_and_starts_nothing():
    more = {**ONCE, "inbound.responseExpression": "={body: request.body, statusCode: 201}"}
    async with receiving(webhook, more) as hook:
        first = await hook({"n": 1}, Idempotency_Key="a")
        again = await hook({"n": 2}, idempotency_key="a")
        assert (first.status, first.json()) == (again.status, again.json()) == (201, {"n": 1})
        assert (await hook({"n": 3}, Idempotency_Key="b")).json() == {"n": 3}
        assert (await hook({"n": 4})).json() == {"n": 4}
        assert len(hook.events) == 3


async def test_a_key_that_is_under_way_is_409():
    async with receiving(webhook, ONCE, delay=0.2) as hook:
        first = asyncio.create_task(hook({}, Idempotency_Key="a"))
        await hook.run.until(lambda: hook.run.under_way == 1, "an event under way", timeout=2)
        assert (await hook({}, Idempotency_Key="a")).status == 409
        assert (await first).status == 200
        assert (await hook({}, Idempotency_Key="a")).status == 200
        assert len(hook.events) == 1


@pytest.mark.parametrize(
    "outcome",
    [
        lambda e: EngineRefused("UNAVAILABLE", ""),
        lambda e: InvalidInput("no"),
        lambda e: ActivationConditionNotMet(False),
    ],
)
async def test_a_request_that_failed_frees_its_key(outcome):
    async with receiving(webhook, ONCE, outcome=outcome) as hook:
        assert (await hook({}, Idempotency_Key="a")).status >= 400
        assert (await hook({}, Idempotency_Key="a")).status >= 400
        assert len(hook.events) == 2


async def test_a_key_is_forgotten_after_its_time():
    async with receiving(webhook, {**ONCE, "inbound.idempotencyTtl": "PT0.05S"}) as hook:
        await hook({}, Idempotency_Key="a")
        await asyncio.sleep(0.1)
        await hook({}, Idempotency_Key="a")
        assert len(hook.events) == 2


async def test_who_is_not_authorized_cannot_take_a_key():
    async with receiving(webhook, {**ONCE, **BASIC}) as hook:
        assert (await hook({}, Idempotency_Key="a")).status == 401
        assert (await hook({}, Idempotency_Key="a", Authorization=basic())).status == 200
        assert len(hook.events) == 1


# ---- templates on this connector -------------------------------------------------------------------------------------


async def test_the_github_template():
    more = {
        "inbound.subtype": "GitHubWebhook",
        "inbound.shouldValidateHmac": "enabled",
        "inbound.hmacHeader": "X-Hub-Signature-256",
        "inbound.hmacAlgorithm": "sha_256",
        "inbound.hmacSecret": "{{secrets.GITHUB}}",
    }
    body = b"Hello, World!"  # the example of GitHub's documentation
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    async with receiving(webhook, more, secrets={"GITHUB": "It's a Secret to Everybody"}) as hook:
        assert (await hook(body, Content_Type="text/plain", X_Hub_Signature_256=signature)).status == 200
        assert (await hook(body + b"!", Content_Type="text/plain", X_Hub_Signature_256=signature)).status == 401


async def test_the_twilio_template():
    more = {**HMAC, "inbound.hmacAlgorithm": "sha_1", "inbound.hmacHeader": "x-twilio-signature"}
    more["inbound.hmacScopes"] = '=["url","body","parameters"]'
    fields = {"To": "+4930", "From": "+4940", "Body": "Hi there"}

    def sign(text: str) -> str:
        return base64.b64encode(hmac.new(b"key", text.encode(), hashlib.sha1).digest()).decode()

    async with receiving(webhook, more) as hook:
        form = b"To=%2B4930&From=%2B4940&Body=Hi+there"
        good = sign(hook.url + "".join(name + fields[name] for name in sorted(fields)))
        assert (await hook(form, Content_Type=FORM, X_Twilio_Signature=good)).status == 200
        assert (await hook(form + b"!", Content_Type=FORM, X_Twilio_Signature=good)).status == 401
        signed = sign(f"{hook.url}?a=1+2")
        assert (await hook(method="GET", query="?a=1+2", X_Twilio_Signature=signed)).status == 200


async def test_the_event_bridge_template():
    more = {
        "inbound.method": "post",
        "inbound.auth.type": "APIKEY",
        "inbound.auth.apiKey": "k-1",
        "inbound.auth.apiKeyLocator": "=request.headers.apikey",
    }
    async with receiving(webhook, more) as hook:
        assert (await hook({"detail": 1}, apikey="k-1")).status == 200
        assert (await hook({"detail": 1}, apikey="k-2")).status == 401


# ---- random requests ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_sender_can_bring_about_a_500(data):
    kinds = [
        "",
        "application/json",
        FORM,
        "text/xml",
        "text/plain; charset=utf-16",
        "multipart/form-data; boundary=B",
        "multipart/form-data",
        "a/b",
    ]
    chosen = data.draw(
        st.lists(st.sampled_from([BASIC, HMAC, {**HMAC, "inbound.hmacScopes": '=["url","body"]'}, ONCE]), max_size=2)
    )
    more = {name: value for properties in chosen for name, value in properties.items()}
    body = data.draw(st.one_of(st.binary(max_size=100), st.text(alphabet='[{"a1:,}]&=%-B\r\n').map(str.encode)))
    headers = {
        "Content-Type": data.draw(st.sampled_from(kinds)),
        "X-Sig": data.draw(st.sampled_from(["", "=", "a=b=c", sha256(body), "ä"])),
    }
    headers["Authorization"] = data.draw(st.sampled_from(["", "Basic", "Basic !", "Basic OnA=", "Basic gICA", basic()]))
    headers["Idempotency-Key"] = data.draw(st.sampled_from(["", "a"]))

    async def one() -> Any:
        expression = "=if request.body.x = 1 then {body: request.body} else null"
        async with receiving(webhook, {**more, "inbound.verificationExpression": expression}) as hook:
            return await hook(body, data.draw(st.sampled_from(["POST", "GET", "PUT", "DELETE"])), **headers)

    reply = asyncio.run(one())
    assert reply.status < 500
    assert b"Traceback" not in reply.body
