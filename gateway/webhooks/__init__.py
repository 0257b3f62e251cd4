"""Webhooks as connectors see them: the request and what stands in it, signatures, authorization.

Nothing here does I/O, but the fetch of keys that tokens and messages of Amazon SNS are checked with. Time is an argument:
seconds since 1970, as `time.time()` has it. What is refused raises `WebhookRefused`; what is set up wrongly raises ValueError when it is set up.
"""

from gateway.webhooks.authorization import (
    ApiKeyAuthorization,
    BasicAuthorization,
    JwtAuthorization,
    JwtSettings,
    NoAuthorization,
    WebhookAuthorization,
    authorize,
)
from gateway.webhooks.hmac import HmacSettings, HmacSignature
from gateway.webhooks.redaction import request_entry
from gateway.webhooks.request import Part, WebhookRefused, WebhookRequest
from gateway.webhooks.schema import BodySchema
from gateway.webhooks.signatures import SCHEMES, Signature, signature
from gateway.webhooks.sns import SnsSignatures, confirmation_url

__all__ = [
    "SCHEMES",
    "ApiKeyAuthorization",
    "BasicAuthorization",
    "BodySchema",
    "HmacSettings",
    "HmacSignature",
    "JwtAuthorization",
    "JwtSettings",
    "NoAuthorization",
    "Part",
    "Signature",
    "SnsSignatures",
    "WebhookAuthorization",
    "WebhookRefused",
    "WebhookRequest",
    "authorize",
    "confirmation_url",
    "request_entry",
    "signature",
]
