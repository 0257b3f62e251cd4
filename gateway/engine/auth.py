"""Who we are to the engine: nobody, a user with a password, or an OAuth client with a token.

The commands ask `Credentials` before each attempt, so that what waited in a queue goes out with a token that is still
good, and tell it what the engine refused.
"""

import asyncio
import random
import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from gateway.engine import DeadlineExceeded, EngineError, EngineFailure, Unauthenticated, Unavailable
from gateway.engine.settings import AuthSettings, SettingsError
from gateway.engine.tls import Identity, load_identity, token_context
from gateway.engine.token_file import TokenFile

_DEFAULT_LIFETIME: Final = 300.0  # where the answer has no expires_in (RFC 6749, 5.1, only recommends it)
_MAX_ANSWER: Final = 1024 * 1024
_MAX_BACKOFF: Final = 30.0
_ASSERTION_LIFETIME: Final = 300
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Credentials(Protocol):
    """Gives the Authorization value of each attempt."""

    async def authorization(self, timeout: float) -> str | None:
        """The value to send now; None for none. Waits at most `timeout` seconds, and rarely at all.

        Raises Unauthenticated when the authorization server refuses us, Unavailable when it cannot be asked,
        DeadlineExceeded when it takes too long; in all cases the command never left.
        """

    def refused(self, authorization: str | None) -> None:
        """The engine did not accept this value: it is not given out again."""

    async def close(self) -> None: ...


class FixedCredentials:
    """The same value each time, or none."""

    def __init__(self, value: str | None = None) -> None:
        self._value = value

    async def authorization(self, timeout: float) -> str | None:
        return self._value

    def refused(self, authorization: str | None) -> None:
        """Nothing better can be had."""

    async def close(self) -> None:
        """Nothing to end."""


def basic_credentials(username: str, password: str) -> FixedCredentials:
    """A user's name and password, as in RFC 7617."""
    return FixedCredentials("Basic " + b64encode(f"{username}:{password}".encode()).decode())


def make_credentials(auth: AuthSettings) -> Credentials:
    """The credentials that resolved settings ask for. Reads key files; SettingsError names the one that is wrong."""
    if auth.method == "oidc":
        return OidcCredentials(auth)
    if auth.method == "basic" and auth.username and auth.password:
        return basic_credentials(auth.username, auth.password)
    return FixedCredentials()


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    """A token and until when (on our clock) it is used, and from when on a newer one is fetched beside it."""

    authorization: str
    usable_until: float
    renew_from: float


class _RefusedError(Exception):
    """The authorization server's no, or an answer without sense: asking again at once changes nothing."""


class _RetryableError(Exception):
    """The authorization server is away or busy."""


class OidcCredentials:
    """OAuth 2.0 client credentials (RFC 6749, 4.4) with the token kept in memory, and in a file where one is set.

    One fetch at a time, whatever the number of calls that wait for it. A token is renewed in the background from
    `proactive_token_refresh_threshold` before its end; one that lives shorter than twice that, from half its life. Its
    last second is not used. After a refusal by the authorization server it is left alone for
    `token_fetch_non_retryable_cooldown`.
    """

    def __init__(
        self,
        auth: AuthSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._auth = auth
        self._clock = clock
        self._sleep = sleep
        self._ssl = token_context(auth)
        self._identity = _assertion_identity(auth)
        self._session: aiohttp.ClientSession | None = None
        self._token_url = auth.token_url
        self._token: _Token | None = None
        self._fetch: asyncio.Task[_Token] | None = None
        self._refusal: Unauthenticated | None = None
        self._cool_until = 0.0
        self._file = None if auth.credentials_cache_path is None else TokenFile(auth.credentials_cache_path, auth)
        self._file_is_news = True
        self._closed = False

    async def authorization(self, timeout: float) -> str:
        now = self._clock()
        token = self._token
        if token is None or now >= token.usable_until:
            self._fetch = self._fetching()
            return await self._wait(self._fetch, timeout)
        if now >= token.renew_from and now >= self._cool_until:
            self._fetch = self._fetching()
        return token.authorization

    async def _wait(self, fetch: "asyncio.Task[_Token]", timeout: float) -> str:
        done, _ = await asyncio.wait((fetch,), timeout=timeout)
        if not done:
            raise DeadlineExceeded(f"no token within {timeout:g} seconds", may_have_arrived=False)
        if fetch.cancelled():
            raise Unavailable("the credentials were closed", may_have_arrived=False)
        error = fetch.exception()
        if error is None:
            return fetch.result().authorization
        # All who waited get an exception of their own: one raised twice collects the traces of both.
        raise _again(error) if isinstance(error, EngineError) else EngineFailure(f"no token: {type(error).__name__}")

    def refused(self, authorization: str | None) -> None:
        if self._token is not None and self._token.authorization == authorization:
            self._token = None

    async def close(self) -> None:
        self._closed = True
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # ---- fetching

    def _fetching(self) -> "asyncio.Task[_Token]":
        """The fetch under way, or a new one."""
        if self._closed:
            raise Unavailable("the credentials are closed", may_have_arrived=False)
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        task = asyncio.create_task(self._fetch_token(), name="token fetch")
        task.add_done_callback(_retrieve)  # nobody waits for a renewal in the background
        return task

    async def _fetch_token(self) -> _Token:
        if self._refusal is not None and self._clock() < self._cool_until:
            raise _again(self._refusal)
        token = await self._stored()
        if token is None:
            token = await self._fetch_with_retries()
        self._token = token
        return token

    async def _stored(self) -> _Token | None:
        """The token that an earlier process left in the file, asked once: later ones come from us."""
        if self._file is None or not self._file_is_news:
            return None
        self._file_is_news = False
        stored = await asyncio.to_thread(self._file.read)
        if stored is None:
            return None
        access_token, seconds_left = stored
        token = self._token_of(access_token, seconds_left, self._clock())
        return token if self._clock() < token.usable_until else None

    async def _fetch_with_retries(self) -> _Token:
        auth = self._auth
        pause = auth.token_fetch_initial_backoff
        for attempt in range(auth.token_fetch_max_retries + 1):
            try:
                return await self._ask()
            except _RefusedError as e:
                self._cool_until = self._clock() + auth.token_fetch_non_retryable_cooldown
                self._refusal = Unauthenticated(self._masked(str(e)), may_have_arrived=False)
                raise _again(self._refusal) from None
            except _RetryableError as e:
                if attempt == auth.token_fetch_max_retries:
                    raise Unavailable(self._masked(str(e)), may_have_arrived=False) from None
            await self._sleep(min(pause, _MAX_BACKOFF) * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            pause *= auth.token_fetch_backoff_multiplier
        raise AssertionError

    async def _ask(self) -> _Token:
        asked_at = self._clock()
        url = await self._discovered_token_url()
        answer = await self._request("POST", url, self._form(url))
        access_token = answer.get("access_token")
        if not isinstance(access_token, str) or not access_token.isascii() or not access_token.isprintable():
            raise _RefusedError(f"the answer of {_shown(url)} holds no access_token")
        lifetime = answer.get("expires_in", _DEFAULT_LIFETIME)
        try:
            seconds = float(lifetime)
        except (TypeError, ValueError):
            raise _RefusedError(f"expires_in in the answer of {_shown(url)}: expected seconds") from None
        if self._file is not None:
            await asyncio.to_thread(self._file.write, access_token, seconds)
        return self._token_of(access_token, seconds, asked_at)

    def _token_of(self, access_token: str, lifetime: float, since: float) -> _Token:
        end, half = since + lifetime, lifetime / 2
        return _Token(
            f"Bearer {access_token}",
            usable_until=end - min(1.0, half),
            renew_from=end - min(self._auth.proactive_token_refresh_threshold, half),
        )

    async def _discovered_token_url(self) -> str:
        """`auth.token-url`, or what OpenID Connect Discovery 1.0 says of the issuer, asked once."""
        if self._token_url is None:
            url = self._auth.well_known_configuration_url
            if url is None:
                url = f"{(self._auth.issuer_url or '').rstrip('/')}/.well-known/openid-configuration"
            found = (await self._request("GET", url)).get("token_endpoint")
            if not isinstance(found, str) or urlsplit(found).scheme not in {"http", "https"}:
                raise _RefusedError(f"the answer of {_shown(url)} holds no token_endpoint")
            self._token_url = found
        return self._token_url

    def _form(self, url: str) -> dict[str, str]:
        auth = self._auth
        form: dict[str, str | None] = {
            "grant_type": "client_credentials",
            "client_id": auth.client_id,
            "audience": auth.audience,
            "scope": auth.scope,
            "resource": auth.resource,
        }
        if self._identity is None:
            form["client_secret"] = auth.client_secret
        else:
            form |= {
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": _assertion(self._identity, auth.client_id or "", url),
            }
        return {name: value for name, value in form.items() if value}

    async def _request(self, method: str, url: str, form: dict[str, str] | None = None) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._auth.connect_timeout, sock_read=self._auth.read_timeout
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.request(
                method, url, data=form, ssl=self._ssl, allow_redirects=False, headers={"Accept": "application/json"}
            ) as response:
                body = await _read_bounded(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise _RetryableError(f"{_shown(url)} cannot be reached: {e or type(e).__name__}") from None
        answer = _json_object(body)
        if status == 200 and answer is not None:
            return answer
        what = f"{_shown(url)} answered {status}{_oauth_error(answer)}"
        if status in self._auth.token_fetch_retryable_status_codes:
            raise _RetryableError(what)
        raise _RefusedError(what)

    def _masked(self, text: str) -> str:
        secret = self._auth.client_secret
        return text.replace(secret, "***") if secret else text


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readexactly(_MAX_ANSWER)  # so large it is no token: what follows is not read
    except asyncio.IncompleteReadError as e:
        return e.partial


def _retrieve(task: "asyncio.Task[_Token]") -> None:
    if not task.cancelled():
        task.exception()


def _again(error: EngineError) -> EngineError:
    return type(error)(str(error), may_have_arrived=error.may_have_arrived)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


def _json_object(body: bytes) -> Mapping[str, Any] | None:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _oauth_error(answer: Mapping[str, Any] | None) -> str:
    """`error` and `error_description` of RFC 6749, 5.2, cut to a readable length."""
    found = [str(answer[name]) for name in ("error", "error_description") if answer.get(name)] if answer else []
    return f": {', '.join(found)[:300]}" if found else ""


# ---- signed assertions -----------------------------------------------------------------------------------------------


def _assertion_identity(auth: AuthSettings) -> Identity | None:
    settings = auth.client_assertion
    if settings is None:
        return None
    key = "auth.client-assertion.keystore-path"
    identity = load_identity(
        key,
        settings.keystore_path,
        password=settings.keystore_password,
        key_password=settings.keystore_key_password,
        alias=settings.keystore_key_alias,
    )
    try:
        _assertion(identity, "", "")
    except (TypeError, ValueError, jwt.PyJWTError):
        raise SettingsError(f"{key}: expected an RSA key or one on the curve P-256") from None
    return identity


def _assertion(identity: Identity, client_id: str, audience: str) -> str:
    """A token that proves by its signature who we are (RFC 7523, 2.2), good for five minutes and one use."""
    now = int(time.time())
    return jwt.encode(
        {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now,
            "exp": now + _ASSERTION_LIFETIME,
        },
        identity.key,  # type: ignore[arg-type]  # other keys are refused at the start
        algorithm="ES256" if isinstance(identity.key, EllipticCurvePrivateKey) else "RS256",
        headers={
            "x5t": _thumbprint(identity, hashes.SHA1()),  # noqa: S303 - a name for the certificate, not a protection
            "x5t#S256": _thumbprint(identity, hashes.SHA256()),
        },
    )


def _thumbprint(identity: Identity, algorithm: hashes.HashAlgorithm) -> str:
    return urlsafe_b64encode(identity.certificate.fingerprint(algorithm)).rstrip(b"=").decode()
