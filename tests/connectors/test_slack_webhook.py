import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from connectors.slack_webhook import slack_webhook
from gateway.sdk import ActivationConditionNotMet, EngineRefused, MessageAlreadyCorrelated
from tests.connectors.receiving import Hook, Reply, receiving

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
PROPERTIES = {"inbound.slackSigningSecret": "{{secrets.SLACK}}"}
CHALLENGE = '=if body.type = "url_verification" then {body: {challenge: body.challenge}, statusCode: 200} else null'
EXECUTED = {"response_type": "ephemeral", "text": "Command executed"}


def slack(properties: dict[str, str] | None = None, **options: Any):
    return receiving(slack_webhook, {**PROPERTIES, **(properties or {})}, secrets={"SLACK": SECRET}, **options)


async def send(
    hook: Hook, body: bytes, *, form: bool = False, secret: str = SECRET, age: int = 0, **more: str
) -> Reply:
    stamp = str(int(time.time()) - age)
    signature = "v0=" + hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, "sha256").hexdigest()
    headers = {
        "X_Slack_Request_Timestamp": stamp,
        "X_Slack_Signature": signature,
        "Content_Type": "application/x-www-form-urlencoded" if form else "application/json",
    }
    return await hook(body, **{**headers, **more})


async def test_a_command_is_an_event_of_its_fields_and_gets_a_short_answer():
    fields = {"command": "/order", "text": "7 & 8=9", "user_name": "jörg"}
    async with slack() as hook:
        reply = await send(hook, urlencode(fields).encode(), form=True)
    assert (reply.status, reply.json()) == (200, EXECUTED)
    (event,) = hook.events
    assert event == {
        "request": {"body": fields, "headers": {"Content-Type": "application/json; charset=utf-8"}, "params": {}},
        "connectorData": fields,
        "documents": [],
    }


async def test_an_interaction_is_an_event_of_its_payload():
    payload = {"type": "block_actions", "actions": [{"value": "a=b&c"}]}
    async with slack() as hook:
        reply = await send(hook, urlencode({"payload": json.dumps(payload)}).encode(), form=True)
        bad = await send(hook, b"payload=nope", form=True)
    assert (reply.status, reply.json(), bad.status) == (200, EXECUTED, 400)
    (event,) = hook.events
    assert (event["request"]["body"], event["connectorData"]) == (payload, {})
    assert event["request"]["headers"]["x-slack-signature"].startswith("v0=")


async def test_an_event_is_echoed():
    body = {"type": "event_callback", "event": {"type": "app_mention"}}
    async with slack() as hook:
        reply = await send(hook, json.dumps(body).encode())
    assert (reply.status, reply.json()) == (200, body)
    assert (hook.events[0]["request"]["body"], hook.events[0]["connectorData"]) == (body, {})


async def test_the_challenge_is_answered_and_starts_nothing():
    async with slack({"inbound.verificationExpression": CHALLENGE}) as hook:
        reply = await send(hook, b'{"type":"url_verification","challenge":"c-1"}')
        assert (reply.status, reply.json()) == (200, {"challenge": "c-1"})
        assert not hook.events
        assert (await send(hook, b'{"type":"event_callback"}')).status == 200
        assert len(hook.events) == 1


async def test_what_slack_did_not_sign_just_now_is_401_and_starts_nothing():
    body = b'{"type":"url_verification","challenge":"c-1"}'
    async with slack({"inbound.verificationExpression": CHALLENGE}) as hook:
        replies = [
            await send(hook, body, secret="other"),
            await send(hook, body, age=3600),
            await send(hook, body, age=-3600),
            await send(hook, body, X_Slack_Signature="v0="),
            await hook(body),
        ]
    assert [reply.status for reply in replies] == [401] * 5
    assert all(reply.json()["reason"].startswith("Reason: INVALID_SIGNATURE") for reply in replies)
    assert not hook.events


@pytest.mark.parametrize("body", [b"[1]", b'"text"', b"{nope"])
async def test_a_body_that_is_no_object_is_400(body):
    async with slack() as hook:
        assert (await send(hook, body)).status == 400
        assert not hook.events


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (MessageAlreadyCorrelated, 200),
        (lambda element: ActivationConditionNotMet(True), 200),
        (lambda element: ActivationConditionNotMet(False), 422),
        (lambda element: EngineRefused("UNAVAILABLE", ""), 503),
    ],
)
async def test_the_fixed_answer_is_for_what_is_done(outcome, status):
    async with slack(outcome=outcome) as hook:
        reply = await send(hook, b"command=%2Fx", form=True)
    assert reply.status == status
    assert (reply.json() == EXECUTED) is (status == 200)


async def test_a_verification_that_fails_is_422_and_one_that_describes_no_answer_500():
    for expression, status in (('=assert(1 = 2, "no")', 422), ("=1", 500)):
        async with slack({"inbound.verificationExpression": expression}) as hook:
            assert (await send(hook, b"{}")).status == status
            assert not hook.events


async def test_without_a_secret_it_is_not_activated():
    with pytest.raises(AssertionError, match=r"not activated.*slackSigningSecret"):
        async with receiving(slack_webhook, {"inbound.slackSigningSecret": " "}):
            pass
