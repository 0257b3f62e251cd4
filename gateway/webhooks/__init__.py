"""Webhooks as connectors see them: the request and what stands in it, signatures, authorization.

Nothing here does I/O, but the fetch of keys that tokens and messages of Amazon SNS are checked with. Time is an argument, in seconds
since 1970. What is refused raises `WebhookRefused`; what is set up wrongly raises ValueError when it is set up. The names are loaded
when they are first used: schemas and tokens take some time to load, and most have no need of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gateway.webhooks.request import Part, WebhookRefused, WebhookRequest

if TYPE_CHECKING:
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

_HOMES = {
    "authorization": {
        "ApiKeyAuthorization",
        "BasicAuthorization",
        "JwtAuthorization",
        "JwtSettings",
        "NoAuthorization",
        "WebhookAuthorization",
        "authorize",
    },
    "hmac": {"HmacSettings", "HmacSignature"},
    "redaction": {"request_entry"},
    "schema": {"BodySchema"},
    "signatures": {"SCHEMES", "Signature", "signature"},
    "sns": {"SnsSignatures", "confirmation_url"},
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
