"""Slack Inbound: slash commands, interactions and events of a Slack app (Camunda docs, "Slack connector: inbound").

Requests are signed by Slack ("Verifying requests from Slack", in Slack's docs): a wrong or an old signature is a 401. The answers
are fixed: a short text for commands and interactions, the request's body for events.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from gateway import (
    ConnectorInputException,
    InboundContext,
    NotBlank,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    webhook_connector,
)
from gateway.feel import FeelError
from gateway.webhooks import Signature, request_entry, signature
from gateway.webhooks.bodies import read_body

_VERIFICATION: Final = "inbound.verificationExpression"
_EXECUTED: Final = {"response_type": "ephemeral", "text": "Command executed"}
_COMMAND_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}


class SlackInbound(BaseModel):
    slackSigningSecret: NotBlank = Field(repr=False)  # noqa: N815 - the properties' own names
    verificationExpression: Callable[[Mapping[str, Any]], Any] | None = None  # noqa: N815

    _signature: Signature = PrivateAttr()

    @model_validator(mode="after")
    def _prepared(self) -> Self:
        self._signature = signature("slack", [self.slackSigningSecret])
        return self


class SlackSettings(BaseModel):
    inbound: SlackInbound


@webhook_connector("Slack Inbound", type="io.camunda:slack-webhook:1")
async def slack_webhook(settings: SlackSettings, request: WebhookRequest, source: InboundContext) -> WebhookResponse:
    """Signature, challenge, event, answer."""
    inbound = settings.inbound
    source.log("INFO", request.method, request_entry(request, ["x-slack-signature"]))
    inbound._signature.verify(request, time.time())
    body = request.body
    if not isinstance(body, Mapping):
        raise WebhookRefused(400, "expected a form or a JSON object as the body")
    challenged = _challenged(inbound, source, request, body)
    if challenged is not None:
        return challenged
    event, answer = _understood(request, body)
    outcome = await source.correlate(event)
    return answer if outcome.done else WebhookResponse.of(outcome)


def _challenged(
    inbound: SlackInbound, source: InboundContext, request: WebhookRequest, body: Mapping[str, Any]
) -> WebhookResponse | None:
    """What the verification expression answers at once: to Slack's `url_verification`."""
    if inbound.verificationExpression is None:
        return None
    try:
        value = inbound.verificationExpression({"body": body, "headers": request.headers, "params": request.params})
        return None if value is None else WebhookResponse.described(value)
    except FeelError as e:
        expression = source.elements[0].properties.get(_VERIFICATION)  # as it is written: without secrets
        raise WebhookRefused(422, str(e), body={"reason": str(e), "expression": expression}) from None
    except ConnectorInputException as e:
        source.log("ERROR", "Response", f"The verification expression describes no response: {e}")
        return WebhookResponse(500)


def _understood(request: WebhookRequest, body: Mapping[str, Any]) -> tuple[dict[str, Any], WebhookResponse]:
    """The event, and the answer to a success: for a slash command, an interaction, or an event."""
    if "command" in body:
        return _event(body, _COMMAND_HEADERS, body), WebhookResponse(200, _EXECUTED)
    if set(body) == {"payload"}:
        payload = body["payload"]  # JSON in a form's field
        payload = read_body("application/json", payload.encode()) if isinstance(payload, str) else payload
        return _event(payload, request.headers, {}), WebhookResponse(200, _EXECUTED)
    return _event(body, request.headers, {}), WebhookResponse(200, body)


def _event(body: Any, headers: Mapping[str, str], data: Mapping[str, Any]) -> dict[str, Any]:
    return {"request": {"body": body, "headers": headers, "params": {}}, "connectorData": data, "documents": []}
