"""Signatures as well-known senders make them.

- `standard-webhooks`: the Standard Webhooks specification, also with the `svix-` names of its headers
- `stripe`: Stripe's docs, "Resolve webhook signature verification errors" and "Verify manually"
- `github`: GitHub's docs, "Validating webhook deliveries"
- `slack`: Slack's docs, "Verifying requests from Slack"

All are HMAC-SHA256. Where a time is signed it must be near: replays, and requests dated into the future, are refused.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.webhooks.refusals import invalid_signature
from gateway.webhooks.request import WebhookRequest

TOLERANCE: Final = 300.0

_MAX_SIGNATURES: Final = 20
_SECONDS = re.compile(r"[0-9]{1,12}")


class Signature(Protocol):
    """A rule of signing, with its secrets."""

    @property
    def tolerance(self) -> float:
        """Seconds that the time of signing may be away from now, both ways."""

    def verify(self, request: WebhookRequest, now: float) -> None:
        """Raises WebhookRefused (401) unless one of the secrets made the signature, within the tolerance."""

    def replay_key(self, request: WebhookRequest) -> str | None:
        """After `verify`: what names this signed request, for once-only use; None where the rule signs no id or time.

        It is made of what is signed only. Remember it for twice the tolerance: later, `verify` refuses the request.
        """


def signature(scheme: str, secrets: Sequence[str], *, tolerance: float = TOLERANCE) -> Signature:
    """The rule of one of `SCHEMES`. secrets: one, or several while they are rotated; each is accepted.

    Raises ValueError: an unknown scheme, no secret, or one that the scheme cannot use.
    """
    if scheme not in _RULES:
        raise ValueError(f"unknown signature scheme {scheme!r}: expected one of {', '.join(SCHEMES)}")
    given = [secret for secret in secrets if secret and secret.strip()]
    if not given:
        raise ValueError(f"a secret is needed for signatures of the scheme {scheme}")
    if not tolerance > 0:
        raise ValueError("the tolerance must be a positive number of seconds")
    rule, key = _RULES[scheme]
    return rule(tuple(map(key, given)), tolerance)


def check_time(text: str, now: float, tolerance: float) -> None:
    """Raises WebhookRefused unless the text is a time in seconds since 1970 that is at most `tolerance` seconds away from now."""
    if _SECONDS.fullmatch(text) is None:
        raise invalid_signature("The time of signing must be given in seconds since 1970")
    if abs(int(now) - int(text)) > tolerance:
        raise invalid_signature(f"The time of signing is more than {tolerance:g} seconds away from now")


def _header(request: WebhookRequest, name: str) -> str:
    value = request.headers.get(name)
    if not value:
        raise invalid_signature(f"The header {name} is missing")
    return value


def _digest(key: bytes, *content: bytes) -> bytes:
    mac = hmac.new(key, digestmod="sha256")
    for piece in content:
        mac.update(piece)
    return mac.digest()


def _require(keys: Iterable[bytes], claims: Sequence[str], form: Callable[[bytes], bytes], *content: bytes) -> None:
    """Raises WebhookRefused unless one of the claims is, in the given form, the digest that one of the keys makes."""
    presented = [claim.encode("utf-8", "replace") for claim in claims[:_MAX_SIGNATURES]]
    for key in keys:
        wanted = form(_digest(key, *content))
        for claim in presented:
            if hmac.compare_digest(wanted, claim):
                return
    raise invalid_signature("The signature does not match the request")


def _hex(digest: bytes) -> bytes:
    return digest.hex().encode()


def _named(scheme: str, *content: bytes) -> str:
    found = hashlib.sha256()
    for piece in content:
        found.update(piece)
    return f"{scheme}:{found.hexdigest()}"


@dataclass(frozen=True, slots=True)
class _Rule:
    keys: tuple[bytes, ...] = field(repr=False)
    tolerance: float


class _StandardWebhooks(_Rule):
    """`webhook-signature: v1,BASE64 v1,BASE64` over `ID.TIME.BODY`. An id names an event, also when it is sent again."""

    __slots__ = ()

    def verify(self, request: WebhookRequest, now: float) -> None:
        prefix = "svix" if "svix-id" in request.headers and "webhook-id" not in request.headers else "webhook"
        identity = _header(request, f"{prefix}-id")
        time = _header(request, f"{prefix}-timestamp")
        signatures = _header(request, f"{prefix}-signature")
        check_time(time, now, self.tolerance)
        if "." in identity:  # it would be open where the id ends and the time begins
            raise invalid_signature(f"The header {prefix}-id must not hold a full stop")
        claims = [claim.removeprefix("v1,") for claim in signatures.split() if claim.startswith("v1,")]
        _require(self.keys, claims, base64.b64encode, f"{identity}.{time}.".encode("utf-8", "replace"), request.raw)

    def replay_key(self, request: WebhookRequest) -> str | None:
        identity = request.headers.get("webhook-id") or request.headers.get("svix-id")
        return None if identity is None else _named("standard-webhooks", identity.encode("utf-8", "replace"))


class _Stripe(_Rule):
    """`Stripe-Signature: t=TIME,v1=HEX,v1=HEX` over `TIME.BODY`."""

    __slots__ = ()

    def verify(self, request: WebhookRequest, now: float) -> None:
        time, claims = _stripe(_header(request, "stripe-signature"))
        check_time(time, now, self.tolerance)
        _require(self.keys, claims, _hex, f"{time}.".encode(), request.raw)

    def replay_key(self, request: WebhookRequest) -> str | None:
        time, _ = _stripe(request.headers.get("stripe-signature", ""))
        return _named("stripe", f"{time}.".encode("utf-8", "replace"), request.raw)


def _stripe(header: str) -> tuple[str, list[str]]:
    pairs = [piece.strip().partition("=") for piece in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    return times[0] if len(times) == 1 else "", [value for name, _, value in pairs if name == "v1"]


class _GitHub(_Rule):
    """`X-Hub-Signature-256: sha256=HEX` over the body. There is no time in it."""

    __slots__ = ()

    def verify(self, request: WebhookRequest, now: float) -> None:
        value = _header(request, "x-hub-signature-256")
        claims = [value.removeprefix("sha256=")] if value.startswith("sha256=") else []
        _require(self.keys, claims, _hex, request.raw)

    def replay_key(self, request: WebhookRequest) -> str | None:
        return None


class _Slack(_Rule):
    """`X-Slack-Signature: v0=HEX` over `v0:TIME:BODY`."""

    __slots__ = ()

    def verify(self, request: WebhookRequest, now: float) -> None:
        time = _header(request, "x-slack-request-timestamp")
        value = _header(request, "x-slack-signature")
        check_time(time, now, self.tolerance)
        claims = [value.removeprefix("v0=")] if value.startswith("v0=") else []
        _require(self.keys, claims, _hex, f"v0:{time}:".encode(), request.raw)

    def replay_key(self, request: WebhookRequest) -> str | None:
        time = request.headers.get("x-slack-request-timestamp", "")
        return _named("slack", f"v0:{time}:".encode("utf-8", "replace"), request.raw)


def _packed_key(secret: str) -> bytes:
    text = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("a secret of the scheme standard-webhooks must be base64, with or without `whsec_` before it")
    return key


_RULES: Final[dict[str, tuple[Callable[[tuple[bytes, ...], float], Signature], Callable[[str], bytes]]]] = {
    "standard-webhooks": (_StandardWebhooks, _packed_key),
    "stripe": (_Stripe, str.encode),
    "github": (_GitHub, str.encode),
    "slack": (_Slack, str.encode),
}

SCHEMES: Final = tuple(_RULES)
