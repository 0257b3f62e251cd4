"""How a request is turned away."""

from collections.abc import Mapping
from typing import Any


class WebhookRefused(Exception):  # noqa: N818 - reads as what it is
    """The request is answered with this status, and with `{"reason": ...}`, unless `body` says otherwise. Nothing else happens.

    The reason goes to the sender: no secret and nothing of the inside in it.
    """

    def __init__(self, status: int, reason: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.body = {"reason": reason} if body is None else body
        self.headers = dict(headers or {})


def invalid_credentials(details: str) -> WebhookRefused:
    """401, in the original's words. There is no `WWW-Authenticate`: senders are programs, and browsers would ask their users."""
    return WebhookRefused(401, f"Reason: INVALID_CREDENTIALS. Details: {details}")


def invalid_signature(details: str) -> WebhookRefused:
    """401, in the original's words."""
    return WebhookRefused(401, f"Reason: INVALID_SIGNATURE. Details: {details}")


def forbidden(details: str) -> WebhookRefused:
    """403, in the original's words."""
    return WebhookRefused(403, f"Reason: FORBIDDEN. Details: {details}")


def come_again(details: str, seconds: int) -> WebhookRefused:
    """503: the trouble is on this side, and not the sender's fault."""
    return WebhookRefused(503, details, headers={"Retry-After": str(seconds)})
