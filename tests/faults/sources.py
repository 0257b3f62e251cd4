"""Inbound connectors that fail, or tell what they should not, as their properties say."""

import asyncio
import base64
import json
import logging
from typing import Literal
from urllib.parse import quote_plus

from pydantic import BaseModel

from gateway import (
    ConnectorException,
    InboundContext,
    WebhookRefused,
    WebhookRequest,
    WebhookResponse,
    inbound_connector,
    webhook_connector,
)
from gateway.sdk.inbound import Severity

log = logging.getLogger("sources")


@inbound_connector("Failing", type="fault:failing")
async def failing(source: InboundContext) -> None:
    """Never gets to work."""
    raise ConnectorException("it always fails", code="FAULT")


class Told(BaseModel):
    """do: how the secret gets out."""

    do: Literal["raise", "chain", "log", "health", "details", "exit", "answer"]
    secret: str


class Numbers(BaseModel):
    """What a secret cannot be bound to."""

    do: int
    secret: str


@inbound_connector("Leaky", type="fault:leaky")
async def leaky(settings: Told, source: InboundContext) -> None:
    """Tells its secret in each way there is, and then goes on, or fails."""
    secret = settings.secret
    match settings.do:
        case "raise":
            raise ConnectorException(f"refused {secret}", code="REFUSED", variables={secret: [secret]})
        case "chain":
            try:
                raise ValueError(secret)
            except ValueError as e:
                raise RuntimeError(f"cannot use {secret!r} {json.dumps(secret)}") from e
        case "log":
            log.warning("the secret is %s, as an object: %r", secret, {"secret": secret})
            severities: tuple[Severity, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")
            for severity in severities:
                source.log(severity, secret[:50], f"the secret is {secret}", {"secret": secret, secret: [secret]})
        case "health":
            source.report_health("DOWN", error=ValueError(f"refused {secret}"))
            source.report_health("DOWN", error=f"refused {secret}")
        case "details":
            source.report_health("UP", details={"at": {"deep": [secret]}, secret: quote_plus(secret)})
        case "exit":
            lost = asyncio.create_task(_lose(secret))
            await asyncio.wait([lost])
            raise TypeError(base64.b64encode(secret.encode()).decode())
        case "answer":
            outcome = await source.correlate({"n": 1, "number": {"secret": secret}})
            source.report_health("UP", details={"outcome": str(outcome)})
    await asyncio.Event().wait()


@inbound_connector("Numbers", type="fault:numbers")
async def numbers(settings: Numbers, source: InboundContext) -> None:
    """Never gets to work: its settings do not fit."""
    await asyncio.Event().wait()


@webhook_connector("Leaky webhook", type="fault:leaky-webhook")
async def leaky_webhook(settings: Told, request: WebhookRequest, source: InboundContext) -> WebhookResponse:
    """Tells its secret to the sender."""
    secret = settings.secret
    match settings.do:
        case "raise":
            raise ConnectorException(f"refused {secret}", code="REFUSED")
        case "chain":
            raise RuntimeError(f"refused {secret}")
        case "health":
            raise WebhookRefused(409, f"refused {secret}", body={"reason": {"deep": [secret, quote_plus(secret)]}})
        case "details":
            raise WebhookRefused(400, "refused", headers={"X-Reason": quote_plus(secret)})
        case "log":
            source.log("ERROR", request.method, f"the secret is {secret}")
            log.error("the secret is %s", secret)
    return WebhookResponse(502, {"secret": [secret]})


async def _lose(secret: str) -> None:
    raise RuntimeError(f"nobody looks at {secret}")
