"""Who may call a webhook: `inbound.auth` (Camunda docs, "HTTP Webhook connector").

Where the original answers 500 to what a sender did wrong, this answers 401: a missing header, an unknown or unfit key, a token that is
not valid yet, base64 that is none. A key server that does not answer is a 503: the sender may come again.
"""

import base64
import hmac
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import jwt
from pydantic import BaseModel, Field, PrivateAttr, model_validator

from gateway import jsontext
from gateway.http_client import HttpClient
from gateway.webhooks.keys import ALGORITHMS, KeySet
from gateway.webhooks.refusals import WebhookRefused, forbidden, invalid_credentials
from gateway.webhooks.request import WebhookRequest

Function = Callable[[Mapping[str, Any]], Any]
"""A FEEL expression that is evaluated for each request."""

_MAX_TOKEN: Final = 32_768  # characters


class NoAuthorization(BaseModel):
    """Anybody may."""

    type: Literal["NONE"] = "NONE"


class BasicAuthorization(BaseModel):
    """A user's name and password, in the `Authorization` header (RFC 7617)."""

    type: Literal["BASIC"]
    username: str = Field(min_length=1)
    password: str = Field(min_length=1, repr=False)


class ApiKeyAuthorization(BaseModel):
    """A key. apiKeyLocator: of `request`, with `body`, `headers` and `params`, makes what must equal it."""

    type: Literal["APIKEY"]
    apiKey: str = Field(min_length=1, repr=False)  # noqa: N815 - the properties' own names
    apiKeyLocator: Function  # noqa: N815


class JwtSettings(BaseModel):
    """permissionsExpression: of the claims of a token, makes the list of its permissions. requiredPermissions: all must be in it."""

    jwkUrl: str = Field(min_length=1)  # noqa: N815
    permissionsExpression: Function | None = None  # noqa: N815
    requiredPermissions: list[str] | None = None  # noqa: N815

    @model_validator(mode="after")
    def _permissions_can_be_told(self) -> "JwtSettings":
        if self.requiredPermissions and self.permissionsExpression is None:
            raise ValueError("permissionsExpression must be given where requiredPermissions are")
        return self


class JwtAuthorization(BaseModel):
    """A token that is signed with a key of a key set (RFC 7519). Neither issuer nor audience are looked at.

    Keeps the keys it fetched: bind it once, at activation.
    """

    type: Literal["JWT"]
    jwt: JwtSettings
    _keys: KeySet = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        self._keys = KeySet(self.jwt.jwkUrl)


Authorization = NoAuthorization | BasicAuthorization | ApiKeyAuthorization | JwtAuthorization

WebhookAuthorization = Annotated[Authorization, Field(discriminator="type")]
"""For the field `auth` of a connector's model."""


async def authorize(
    auth: Authorization, request: WebhookRequest, http: HttpClient, now: float
) -> Mapping[str, Any] | None:
    """Whether the sender may. The claims of its token; None where there is none.

    Raises WebhookRefused: 401, 403 for a permission that is missing, 503 when the keys for tokens cannot be fetched.
    """
    if isinstance(auth, BasicAuthorization):
        _check_basic(auth, request)
    elif isinstance(auth, ApiKeyAuthorization):
        _check_api_key(auth, request)
    elif isinstance(auth, JwtAuthorization):
        return await _check_token(auth, request, http, now)
    return None


def _equal(one: str, other: str) -> bool:
    """In a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _check_basic(auth: BasicAuthorization, request: WebhookRequest) -> None:
    header = request.headers.get("authorization", "")
    if not header.strip():
        raise invalid_credentials("Basic auth header is missing")
    scheme, _, packed = header.strip().partition(" ")
    if scheme.lower() != "basic":
        raise invalid_credentials("The Authorization header is not of the scheme Basic")
    try:
        given = base64.b64decode(packed.strip(), validate=True)
    except ValueError:
        raise invalid_credentials("The Authorization header holds no base64") from None
    if not hmac.compare_digest(f"{auth.username}:{auth.password}".encode(), given):
        raise invalid_credentials("Invalid username or password")


def _check_api_key(auth: ApiKeyAuthorization, request: WebhookRequest) -> None:
    try:
        body = request.body
    except WebhookRefused:  # that the body cannot be read is told to those who may send one
        body = None
    context = {"request": {"body": body, "headers": dict(request.headers), "params": dict(request.params)}}
    try:
        located = auth.apiKeyLocator(context)
    except Exception:
        raise invalid_credentials("The API key cannot be located in the request") from None
    if isinstance(located, (int, float)) and not isinstance(located, bool):
        located = str(located)
    if not isinstance(located, str) or not located:
        raise invalid_credentials("API key is missing")
    if not _equal(auth.apiKey, located):
        raise invalid_credentials("Invalid API key")


# ---- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Head:
    algorithm: str
    key: str | None


async def _check_token(
    auth: JwtAuthorization, request: WebhookRequest, http: HttpClient, now: float
) -> Mapping[str, Any]:
    token = _token(request)
    head = _head(token)
    key = await auth._keys.find(head.key, http, now)
    algorithm = key.algorithm or head.algorithm
    if algorithm not in ALGORITHMS:
        raise invalid_credentials("The algorithm of the key is not supported")
    claims = _verified(token, key.public, algorithm)
    _check_times(claims, now)
    if auth.jwt.requiredPermissions:
        _check_permissions(auth.jwt, claims)
    return claims


def _token(request: WebhookRequest) -> str:
    header = request.headers.get("authorization", "").strip()
    if not header:
        raise invalid_credentials("JWT is missing: expected the header `Authorization: Bearer ...`")
    token = header[6:].strip() if header[:6].lower() == "bearer" else header
    if not token or len(token) > _MAX_TOKEN or not token.isascii():
        raise invalid_credentials("The Authorization header holds no JWT")
    return token


def _head(token: str) -> _Head:
    """What the token says of itself, not yet verified: which key to look for, and nothing that would be trusted for it."""
    packed = token.partition(".")[0]
    try:
        head = jsontext.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode())
    except ValueError:
        head = None
    if not isinstance(head, dict):
        raise invalid_credentials("The Authorization header holds no JWT")
    algorithm, key = head.get("alg"), head.get("kid")
    if algorithm not in ALGORITHMS:
        raise invalid_credentials(f"The algorithm of the JWT is not supported: expected {', '.join(ALGORITHMS)}")
    if "crit" in head or not (key is None or isinstance(key, str)):
        raise invalid_credentials("The header of the JWT cannot be understood")
    return _Head(algorithm, key)


def _verified(token: str, key: Callable[[str], Any], algorithm: str) -> Mapping[str, Any]:
    """The claims of the token, its signature checked with this one algorithm. The times in it are not."""
    try:
        payload = jwt.api_jws.decode(token, key(algorithm), algorithms=[algorithm])
        claims = jsontext.loads(payload.decode())
    except (jwt.PyJWTError, ValueError, TypeError):
        raise invalid_credentials("The signature of the JWT is not valid") from None
    if not isinstance(claims, dict):
        raise invalid_credentials("The JWT holds no claims")
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """No leeway: the original has none."""
    if (expires := _time(claims, "exp")) is not None and expires <= now:
        raise invalid_credentials("The JWT has expired")
    for name in ("nbf", "iat"):
        if (since := _time(claims, name)) is not None and since > now:
            raise invalid_credentials("The JWT is not valid yet")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, (bool, str)) or not math.isfinite(seconds := float(value)):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise invalid_credentials(f"The claim {name} of the JWT is no time") from None
    return seconds


def _check_permissions(settings: JwtSettings, claims: Mapping[str, Any]) -> None:
    assert settings.permissionsExpression is not None
    try:
        found = settings.permissionsExpression(claims)
    except Exception:
        raise forbidden("The permissions of the JWT cannot be told") from None
    granted: Sequence[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    if any(required not in granted for required in settings.requiredPermissions or ()):
        raise forbidden("Missing required permissions")
