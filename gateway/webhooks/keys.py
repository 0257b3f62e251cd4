"""The public keys of a token issuer: a JSON Web Key Set behind a URL (RFC 7517), fetched when needed and kept for a while."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.http_client import HttpClient, HttpError
from gateway.webhooks.refusals import come_again, invalid_credentials

KEPT: Final = 600.0  # seconds
PAUSE: Final = 6.0  # seconds between fetches: at most ten in a minute
FETCH_TIMEOUT: Final = 5.0  # seconds
MAX_SIZE: Final = 512 * 1024  # bytes
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048  # RFC 7518, 3.3

CURVES: Final = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
ALGORITHMS: Final = ("RS256", "RS384", "RS512", *CURVES)

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a set, raw. algorithm: the one it is for, where the set says so."""

    raw: Mapping[str, Any] = field(repr=False)
    algorithm: str | None

    def public(self, algorithm: str) -> PublicKey:
        """The key, to be used with one of `ALGORITHMS`. Raises ValueError when it is none for it, or is weak."""
        try:
            key = jwt.PyJWK(dict(self.raw), algorithm).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise ValueError(f"not a key for {algorithm}") from e
        if isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):  # a set that shows too much
            key = key.public_key()
        if algorithm in CURVES:
            if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVES[algorithm]:
                return key
        elif isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
            return key
        raise ValueError(f"not a key for {algorithm}")


@dataclass(slots=True)
class KeySet:
    """The keys behind one URL. A fetch is shared by all who wait for it, and goes on when they are gone."""

    url: str
    _keys: Mapping[str | None, Key] = field(default_factory=dict, repr=False)
    _fetched: float | None = None
    _tried: float | None = None
    _failure: HttpError | ValueError | None = None
    _fetch: asyncio.Task[None] | None = field(default=None, repr=False)

    async def find(self, identity: str | None, http: HttpClient, now: float) -> Key:
        """The key of this `kid`; without one, the only key of the set.

        An unknown one makes the set be fetched again, but not twice within `PAUSE`. Raises WebhookRefused: 401 when there is no such key,
        503 when the keys cannot be fetched.
        """
        key = self._known(identity) if _within(self._fetched, now, KEPT) else None
        if key is None:
            await self._refresh(http, now)
            key = self._known(identity) if _within(self._fetched, now, KEPT) else None
        if key is not None:
            return key
        if self._failure is not None:
            raise come_again("The keys that tokens are checked with cannot be fetched now", 10) from self._failure
        raise invalid_credentials("The token is signed with an unknown key")

    def _known(self, identity: str | None) -> Key | None:
        if identity is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(identity)

    async def _refresh(self, http: HttpClient, now: float) -> None:
        if self._fetch is None:
            if _within(self._tried, now, PAUSE):
                return
            self._tried = now
            self._fetch = asyncio.create_task(self._load(http, now), name=f"keys of {self.url}")
        await asyncio.shield(self._fetch)

    async def _load(self, http: HttpClient, now: float) -> None:
        try:
            reply = await http.get(self.url, headers={"Accept": "application/json"}, timeout=FETCH_TIMEOUT)
            if reply.status != 200:
                raise ValueError(f"the key server answered {reply.status}")
            if len(reply.content) > MAX_SIZE:
                raise ValueError(f"the key set is larger than {MAX_SIZE} bytes")
            self._keys = _keys(reply.json())
            self._fetched, self._failure = now, None
        except (HttpError, ValueError) as e:
            self._failure = e
        finally:
            self._fetch = None


def _within(then: float | None, now: float, seconds: float) -> bool:
    return then is not None and 0 <= now - then < seconds


def _keys(document: Any) -> Mapping[str | None, Key]:
    """The signing keys of a set by `kid`. Raises ValueError for what is no set; keys that are of another kind are left out."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("the key server's answer is no JSON Web Key Set")  # noqa: TRY004 - of data, not of a call
    found: dict[str | None, Key] = {}
    for raw in listed[:MAX_KEYS]:
        if isinstance(raw, Mapping) and raw.get("kty") in {"RSA", "EC"} and raw.get("use", "sig") == "sig":
            identity, algorithm = raw.get("kid"), raw.get("alg")
            found.setdefault(
                identity if isinstance(identity, str) else None,
                Key(raw, algorithm if isinstance(algorithm, str) else None),
            )
    return found
