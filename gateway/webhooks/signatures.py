"""Signatures as well-known senders make them."""

from collections.abc import Sequence
from typing import Protocol

from gateway.webhooks.request import WebhookRequest

SCHEMES = ("standard-webhooks", "stripe", "github", "slack")


class Signature(Protocol):
    """A rule of signing, with its secrets."""

    tolerance: float
    """Seconds that the time of signing may be away from now, both ways."""

    def verify(self, request: WebhookRequest, now: float) -> None:
        """Raises WebhookRefused (401) unless one of the secrets made the signature, within the tolerance."""

    def replay_key(self, request: WebhookRequest) -> str | None:
        """After `verify`: what names this signed request, for once-only use; None where the scheme signs no id or time.
        Remember it for twice the tolerance: later, `verify` refuses the request.
        """


def signature(scheme: str, secrets: Sequence[str], *, tolerance: float = 300.0) -> Signature:
    """The rule of one of `SCHEMES`. secrets: one, or several while they are rotated. Raises ValueError."""
    raise NotImplementedError
