"""Signatures by a shared secret, as the webhook's properties describe them (Camunda docs, "HTTP Webhook connector")."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from gateway.webhooks.request import WebhookRequest


class HmacSettings(BaseModel):
    """The properties `inbound.*` that describe a signature: a base of the connector's model."""

    shouldValidateHmac: Literal["enabled", "disabled"] | None = None
    hmacSecret: str | None = Field(None, repr=False)
    hmacSecretPrevious: str | None = Field(None, repr=False)
    hmacHeader: str | None = None
    hmacAlgorithm: Literal["sha_1", "sha_256", "sha_512"] | None = None
    hmacScopes: Sequence[Literal["url", "body", "parameters", "timestamp"]] | None = None
    hmacTimestampHeader: str | None = None
    hmacToleranceSeconds: int | None = None

    def hmac_signature(self) -> "HmacSignature | None":
        """What checks the signature; None where it is not enabled. Call it once, at activation. Raises ValueError."""
        raise NotImplementedError


class HmacSignature:
    """A signature by the properties; `gateway.webhooks.signatures.Signature` in its methods."""

    tolerance: float

    def verify(self, request: WebhookRequest, now: float) -> None:
        """Raises WebhookRefused (401; 400 for a body that must be read for it and cannot be)."""
        raise NotImplementedError

    def replay_key(self, request: WebhookRequest) -> str | None:
        """After `verify`: what names this signed request; None without the scope `timestamp`."""
        raise NotImplementedError
