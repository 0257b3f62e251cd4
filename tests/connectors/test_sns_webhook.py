import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.sns_webhook import sns_webhook
from gateway.http_client import Headers, HttpReply, HttpRequest, HttpTimeout
from gateway.sdk import ActivationConditionNotMet, EngineRefused
from gateway.testing import FakeHttp
from tests.connectors.receiving import Hook, Reply, receiving
from tests.webhooks.test_sns import CERTIFICATE_URL, CONFIRMATION, NOTIFICATION, TOPIC, certificate, signed


class Amazon:
    """Gives out its certificate, and is asked to confirm subscriptions."""

    def __init__(self, confirm: Callable[[], Any] = lambda: 200) -> None:
        self.confirmed: list[str] = []
        self._confirm = confirm
        self._certificate = certificate(since=datetime.now(UTC) - timedelta(days=1))

    def __call__(self, request: HttpRequest) -> Any:
        if str(request.url) == CERTIFICATE_URL:
            return HttpReply(200, "", Headers(), self._certificate)
        self.confirmed.append(str(request.url))
        answer = self._confirm()
        return HttpReply(answer, "", Headers(), b"")


def sns(amazon: Amazon, properties: dict[str, str] | None = None, **options: Any):
    return receiving(sns_webhook, properties or {}, http=FakeHttp(amazon), **options)


async def send(hook: Hook, message: Any, topic: str | None = TOPIC) -> Reply:
    headers = {"Content_Type": "text/plain; charset=UTF-8"} | ({"X_Amz_Sns_Topic_Arn": topic} if topic else {})
    return await hook(json.dumps(message).encode(), **headers)


async def test_a_notification_is_an_event_of_its_envelope():
    message = signed(NOTIFICATION)
    async with sns(Amazon()) as hook:
        reply = await send(hook, message)
    assert (reply.status, reply.body) == (200, b"")
    (event,) = hook.events
    assert event["request"]["body"] == message
    assert event["request"]["headers"]["x-amz-sns-topic-arn"] == TOPIC
    assert (event["connectorData"], event["documents"]) == ({"snsEventType": "Notification"}, [])


async def test_a_subscription_is_confirmed_and_then_an_event():
    amazon = Amazon()
    async with sns(amazon) as hook:
        assert (await send(hook, signed(CONFIRMATION))).status == 200
    assert [url.partition("?")[2].split("&")[0] for url in amazon.confirmed] == ["Action=ConfirmSubscription"]
    assert [event["connectorData"] for event in hook.events] == [{"snsEventType": "Subscription"}]


async def test_a_subscription_that_no_process_wants_to_know_of_is_confirmed_all_the_same():
    amazon = Amazon()
    async with sns(amazon, outcome=lambda element: ActivationConditionNotMet(False)) as hook:
        assert (await send(hook, signed(CONFIRMATION))).status == 200
        assert (await send(hook, signed(NOTIFICATION))).status == 422
    assert len(amazon.confirmed) == 1


def _timeout() -> Any:
    raise HttpTimeout


@pytest.mark.parametrize("confirm", [_timeout, lambda: 500, lambda: 403])
async def test_a_subscription_that_cannot_be_confirmed_is_asked_for_again(confirm):
    async with sns(Amazon(confirm)) as hook:
        reply = await send(hook, signed(CONFIRMATION))
        assert (reply.status, reply.headers["Retry-After"]) == (503, "10")
        assert not hook.events


async def test_the_end_of_a_subscription_is_noted_and_starts_nothing():
    amazon = Amazon()
    async with sns(amazon) as hook:
        reply = await send(hook, signed({**CONFIRMATION, "Type": "UnsubscribeConfirmation"}))
        assert reply.status == 200
        assert any(entry.severity == "WARNING" and TOPIC in entry.message for entry in hook.run.log)
    assert not hook.events
    assert not amazon.confirmed


@pytest.mark.parametrize("listed", [f"arn:other, {TOPIC}", f'=["{TOPIC}"]'])
async def test_topics_may_be_limited(listed):
    limits = {"inbound.securitySubscriptionAllowedFor": "specific", "inbound.topicsAllowList": listed}
    async with sns(Amazon(), limits) as hook:
        assert (await send(hook, signed(NOTIFICATION))).status == 200
        for topic in ("arn:aws:sns:us-west-2:123456789012:Other", None):
            reply = await send(hook, signed(NOTIFICATION), topic)
            assert (reply.status, reply.json()["reason"].partition(".")[0]) == (403, "Reason: FORBIDDEN")
        assert len(hook.events) == 1


@pytest.mark.parametrize(
    "message",
    [
        {**signed(NOTIFICATION), "Message": "other"},
        {},
        [],
        "text",
        {**NOTIFICATION, "Type": 1},
        {**signed(NOTIFICATION), "Type": "X"},
    ],
)
async def test_what_amazon_did_not_sign_is_401_and_starts_nothing(message):
    amazon = Amazon()
    async with sns(amazon) as hook:
        assert (await send(hook, message)).status == 401
        assert not hook.events
    assert not amazon.confirmed


async def test_a_message_without_the_header_of_its_topic_is_401():
    async with sns(Amazon()) as hook:
        assert (await send(hook, signed(NOTIFICATION), None)).status == 401


async def test_while_the_engine_is_away_the_message_is_sent_again():
    async with sns(Amazon(), outcome=lambda element: EngineRefused("UNAVAILABLE", "")) as hook:
        reply = await send(hook, signed(NOTIFICATION))
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")


async def test_a_list_of_topics_without_topics_is_refused_at_once():
    with pytest.raises(AssertionError, match=r"not activated.*topicsAllowList"):
        async with sns(Amazon(), {"inbound.securitySubscriptionAllowedFor": "specific", "inbound.topicsAllowList": ""}):
            pass
