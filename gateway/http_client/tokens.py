"""OAuth 2.0 access tokens for outgoing requests: client credentials (RFC 6749, 4.4) and refresh tokens (6), cached."""

import asyncio
import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from gateway.http_client.bodies import structure
from gateway.http_client.errors import HttpInputError, OAuthError
from gateway.http_client.messages import HttpRequest
from gateway.http_client.urls import encode_url, form_urlencode

if TYPE_CHECKING:
    from gateway.http_client.client import HttpClient

TOKENS_KEPT: Final = 1000
_REFRESH_ERRORS: Final = {
    "invalid_grant": "OAUTH_REFRESH_TOKEN_EXPIRED",
    "interaction_required": "OAUTH_INTERACTION_REQUIRED",
}


@dataclass(frozen=True, slots=True)
class Token:
    """lifetime: seconds from now; None when the server did not say, then the token is not kept."""

    value: str = field(repr=False)
    lifetime: float | None = None


class TokenCache:
    """Access tokens by key, for as long as they last less `skew` seconds; the most recently used are kept.

    Concurrent misses of one key fetch once; a waiter that is cancelled leaves the others alone.
    """

    def __init__(self, *, skew: float, clock: Callable[[], float], limit: int = TOKENS_KEPT) -> None:
        self._skew = skew
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._fetches: dict[str, asyncio.Task[Token]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: str, fetch: Callable[[], Awaitable[Token]]) -> str:
        """The token of a key, fetched when there is none. Raises what `fetch` raises."""
        kept = self._kept.get(key)
        if kept is not None:
            if self._clock() < kept[1]:
                self._kept.move_to_end(key)
                return kept[0]
            del self._kept[key]
        task = self._fetches.get(key)
        if task is None:
            task = self._fetches[key] = asyncio.ensure_future(self._fetch(key, fetch))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return (await asyncio.shield(task)).value

    async def _fetch(self, key: str, fetch: Callable[[], Awaitable[Token]]) -> Token:
        try:
            asked = self._clock()
            token = await fetch()
            if token.lifetime is not None and token.lifetime > self._skew:
                self._kept[key] = (token.value, asked + token.lifetime - self._skew)
                if len(self._kept) > self._limit:
                    self._kept.popitem(last=False)
            return token
        finally:
            self._fetches.pop(key, None)

    def evict(self, key: str) -> None:
        """Forgets a token, for callers that were told it is no longer good."""
        self._kept.pop(key, None)

    async def close(self) -> None:
        """Ends the fetches under way."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client credentials grant. client_authentication: `credentialsBody` or `basicAuthHeader`."""

    endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    audience: str | None = None
    scopes: str | None = None
    client_authentication: str = "credentialsBody"

    def key(self) -> str:
        return _digest(
            "client", self.endpoint, self.client_id, self.client_secret, self.audience, self.scopes,
            self.client_authentication,
        )  # fmt: skip

    def request(self) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
        """Form fields and headers. Raises HttpInputError for an unknown kind of authentication."""
        fields: list[tuple[str, str | None]] = [("grant_type", "client_credentials"), ("audience", self.audience)]
        if self.scopes and self.scopes.strip():
            fields.append(("scope", self.scopes))
        if self.client_authentication == "credentialsBody":
            return [*fields, ("client_id", self.client_id), ("client_secret", self.client_secret)], []
        if self.client_authentication == "basicAuthHeader":
            pair = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
            return fields, [("Authorization", f"Basic {pair}")]
        raise HttpInputError(
            f"Unsupported client authentication method: {self.client_authentication}. "
            "Please use either 'basicAuthHeader' or 'credentialsBody'."
        )


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The refresh token grant."""

    endpoint: str
    client_id: str
    client_secret: str | None = field(repr=False)
    refresh_token: str = field(repr=False)
    scopes: str | None = None

    def key(self) -> str:
        return _digest("refresh", self.endpoint, self.client_id, self.client_secret, self.refresh_token, self.scopes)

    def request(self) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
        """Form fields and headers."""
        fields: list[tuple[str, str | None]] = [
            ("grant_type", "refresh_token"),
            ("client_id", self.client_id),
            ("refresh_token", self.refresh_token),
        ]
        if self.client_secret and self.client_secret.strip():
            fields.append(("client_secret", self.client_secret))
        if self.scopes and self.scopes.strip():
            fields.append(("scope", self.scopes))
        return fields, []


Grant = ClientCredentials | RefreshToken


async def access_token(http: "HttpClient", grant: Grant) -> str:
    """The access token of a grant, from the cache or the token endpoint.

    The call has its own settings: 20 s timeouts, no client certificate, no redirects; proxies, block list and the silent retry
    apply. Raises HttpStatusError when the endpoint answers 400 or above, OAuthError when the answer holds no token.
    """
    return await http.tokens.get(grant.key(), lambda: _fetch(http, grant))


async def _fetch(http: "HttpClient", grant: Grant) -> Token:
    fields, headers = grant.request()
    headers.append(("Content-Type", "application/x-www-form-urlencoded"))
    reply = await http.send(
        HttpRequest("POST", encode_url(grant.endpoint), tuple(headers), form_urlencode(fields), follow_redirects=False)
    )
    reply.raise_for_status()
    answer = structure(reply.content.decode("utf-8", "replace"))
    if isinstance(grant, RefreshToken) and isinstance(answer, dict) and isinstance(answer.get("error"), str):
        error = answer["error"]
        raise OAuthError(f"OAuth token refresh failed: {error}", _REFRESH_ERRORS.get(error, "OAUTH_TOKEN_ERROR"))
    value = _find(answer, "access_token") if isinstance(answer, dict) else None
    if value is None:
        raise OAuthError("OAuth token response does not contain an access_token field")
    lifetime = answer.get("expires_in") if isinstance(answer, dict) else None
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float, Decimal)):
        return Token(text)
    return Token(text, float(lifetime))


def _find(value: Any, name: str) -> Any:
    """The first member of that name, anywhere in the value."""
    if isinstance(value, dict):
        if value.get(name) is not None:
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        return next((found for v in value if (found := _find(v, name)) is not None), None)
    return None


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
