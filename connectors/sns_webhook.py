"""AWS SNS Inbound: notifications of Amazon SNS topics (Camunda docs, "Amazon SNS connector: inbound").

The first message of a topic asks whether the subscription is wanted: it is confirmed, and then an event like any other, with
`connectorData.snsEventType = "Subscription"`. Processes that want notifications only say so in their activation condition.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from gateway import (
    ActivationConditionNotMet,
    InboundContext,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    webhook_connector,
)
from gateway.http_client import HttpError
from gateway.webhooks import SnsSignatures, confirmation_url, request_entry

_TOPIC: Final = "x-amz-sns-topic-arn"
_EVENT_TYPES: Final = {"Notification": "Notification", "SubscriptionConfirmation": "Subscription"}


class SnsInbound(BaseModel):
    securitySubscriptionAllowedFor: Literal["any", "specific"] = "any"  # noqa: N815 - the properties' own names
    topicsAllowList: list[str] | None = None  # noqa: N815

    _signatures: SnsSignatures = PrivateAttr(default_factory=SnsSignatures)

    @model_validator(mode="after")
    def _has_topics(self) -> Self:
        if self.securitySubscriptionAllowedFor == "specific" and not any(self.topicsAllowList or ()):
            raise ValueError("topicsAllowList: expected the topics that are allowed, but got none")
        return self


class SnsSettings(BaseModel):
    inbound: SnsInbound = Field(default_factory=SnsInbound)


@webhook_connector("AWS SNS Inbound", type="io.camunda:aws-sns-webhook:1")
async def sns_webhook(settings: SnsSettings, request: WebhookRequest, source: InboundContext) -> WebhookResponse:
    """Topic, signature, confirmation, event."""
    inbound = settings.inbound
    source.log("INFO", request.method, request_entry(request))
    topic = request.headers.get(_TOPIC)
    if inbound.securitySubscriptionAllowedFor == "specific" and topic not in (inbound.topicsAllowList or ()):
        raise WebhookRefused(403, "Reason: FORBIDDEN. Details: the topic is not allowed here")
    message = request.body
    await inbound._signatures.verify(message, topic, source.http, time.time())
    event_type = _EVENT_TYPES.get(message["Type"])
    if event_type is None:
        source.log("WARNING", "Subscription", f"The subscription of {topic} has ended")
        return WebhookResponse()
    if event_type == "Subscription":
        await _confirm(source, message)
    outcome = await source.correlate(
        {
            "request": {"body": message, "headers": request.headers, "params": request.params},
            "connectorData": {"snsEventType": event_type},
            "documents": [],
        }
    )
    if event_type == "Subscription" and isinstance(outcome, ActivationConditionNotMet):
        return WebhookResponse()  # the subscription stands, whether or not a process wants to know
    return WebhookResponse.of(outcome)


async def _confirm(source: InboundContext, message: Mapping[str, Any]) -> None:
    """Raises WebhookRefused (503) when SNS cannot be told: it asks again."""
    url = confirmation_url(message)
    try:
        reply = await source.http.get(url)
        reason = f"status {reply.status}" if reply.status >= 400 else None
    except HttpError as e:
        reason = str(e)
    if reason is not None:
        source.log("ERROR", "Subscription", f"The subscription of {message['TopicArn']} cannot be confirmed: {reason}")
        raise WebhookRefused(503, "the subscription cannot be confirmed now", headers={"Retry-After": "10"})
    source.log("INFO", "Subscription", f"The subscription of {message['TopicArn']} is confirmed")
