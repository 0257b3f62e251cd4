"""OAuth access tokens: fetched once, kept as long as they are good."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.http_client import (
    ClientCredentials,
    HttpClient,
    HttpInputError,
    HttpSettings,
    HttpStatusError,
    OAuthError,
    RefreshToken,
    TokenCache,
    access_token,
)
from gateway.http_client.tokens import Token
from tests.http_client.servers import Received, Reply, Stub


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def http(clock: Clock) -> AsyncIterator[HttpClient]:
    async def no_pause(_: float) -> None:
        return

    async with HttpClient(HttpSettings(oauth_skew=10), clock=clock, sleep=no_pause) as client:
        yield client


def grant(stub: Stub, **more: Any) -> ClientCredentials:
    given: dict[str, Any] = {"endpoint": stub.url("/token?x=1 2"), "client_id": "id 1", "client_secret": "se&cret"}
    return ClientCredentials(**given | more)


def token(value: str = "tok-1", **more: Any) -> Reply:
    return Reply(body={"access_token": value, "token_type": "Bearer", **more})


def fields(request: Received) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), keep_blank_values=True))


# ---- requests ----


async def test_client_credentials_in_the_body(stub: Stub, http: HttpClient) -> None:
    stub.reply(token())
    assert await access_token(http, grant(stub, audience="aud", scopes="read write")) == "tok-1"
    assert (stub.one.method, stub.one.target) == ("POST", "/token?x=1%202")
    assert stub.one.header("Content-Type") == "application/x-www-form-urlencoded"
    assert stub.one.header("Authorization") is None
    assert fields(stub.one) == {
        "grant_type": "client_credentials",
        "audience": "aud",
        "scope": "read write",
        "client_id": "id 1",
        "client_secret": "se&cret",
    }


async def test_client_credentials_in_a_header(stub: Stub, http: HttpClient) -> None:
    stub.reply(token())
    await access_token(http, grant(stub, scopes=" ", client_authentication="basicAuthHeader"))
    assert stub.one.header("Authorization") == "Basic " + base64.b64encode(b"id 1:se&cret").decode()
    assert stub.one.body == b"grant_type=client_credentials&audience"


async def test_an_unknown_client_authentication_names_both_known_ones(stub: Stub, http: HttpClient) -> None:
    with pytest.raises(HttpInputError, match=r"nope\. Please use either 'basicAuthHeader' or 'credentialsBody'"):
        await access_token(http, grant(stub, client_authentication="nope"))
    assert stub.received == []


@pytest.mark.parametrize(("secret", "scopes"), [("s", "a b"), (None, None), (" ", " ")])
async def test_refresh_tokens_send_what_is_not_blank(
    stub: Stub, http: HttpClient, secret: str | None, scopes: str | None
) -> None:
    stub.reply(token())
    await access_token(http, RefreshToken(stub.url("/t"), "id", secret, "r-1", scopes))
    expected = {"grant_type": "refresh_token", "client_id": "id", "refresh_token": "r-1"}
    if secret == "s":
        expected |= {"client_secret": "s", "scope": "a b"}
    assert fields(stub.one) == expected


# ---- answers ----


@pytest.mark.parametrize(
    "body",
    [{"access_token": "t"}, {"a": {"b": [{"access_token": "t"}]}}, {"x": {"access_token": "u"}, "access_token": "t"}],
)
async def test_the_token_is_found_anywhere_in_the_object(stub: Stub, http: HttpClient, body: Any) -> None:
    stub.reply(Reply(body=body))
    assert await access_token(http, grant(stub)) == "t"


@pytest.mark.parametrize("body", [b"{}", b"", b"junk", b'{"access_token": null}', b'[{"access_token": "t"}]'])
async def test_an_answer_without_a_token_says_so(stub: Stub, http: HttpClient, body: bytes) -> None:
    stub.reply(Reply(body=body))
    with pytest.raises(OAuthError) as e:
        await access_token(http, grant(stub))
    assert (e.value.code, str(e.value)) == (
        "OAUTH_TOKEN_ERROR",
        "OAuth token response does not contain an access_token field",
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("invalid_grant", "OAUTH_REFRESH_TOKEN_EXPIRED"),
        ("interaction_required", "OAUTH_INTERACTION_REQUIRED"),
        ("slow_down", "OAUTH_TOKEN_ERROR"),
    ],
)
async def test_a_refresh_answered_with_an_error_has_a_code(stub: Stub, http: HttpClient, error: str, code: str) -> None:
    stub.reply(Reply(body={"error": error}))
    with pytest.raises(OAuthError) as e:
        await access_token(http, RefreshToken(stub.url("/t"), "id", None, "r-1"))
    assert e.value.code == code


async def test_an_error_status_of_the_endpoint_is_that_status(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(400, {"error": "invalid_grant"}, reason="Bad Request"))
    with pytest.raises(HttpStatusError) as e:
        await access_token(http, RefreshToken(stub.url("/t"), "id", None, "r-1"))
    assert e.value.code == "400"
    assert e.value.variables is not None
    assert e.value.variables["response"]["body"] == {"error": "invalid_grant"}


async def test_the_silent_retry_applies_to_the_endpoint(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(503), token())
    assert await access_token(http, grant(stub)) == "tok-1"


# ---- the cache ----


async def test_a_token_is_used_until_ten_seconds_before_it_expires(stub: Stub, http: HttpClient, clock: Clock) -> None:
    stub.reply(token("tok-1", expires_in=300), token("tok-2", expires_in=300))
    assert await access_token(http, grant(stub)) == "tok-1"
    clock.now += 289.9
    assert await access_token(http, grant(stub)) == "tok-1"
    clock.now += 0.2
    assert await access_token(http, grant(stub)) == "tok-2"
    assert len(stub.received) == 2


@pytest.mark.parametrize("expires", [None, "300", 10, 0, -5, True])
async def test_a_token_without_a_usable_lifetime_is_not_kept(stub: Stub, http: HttpClient, expires: Any) -> None:
    stub.reply(token(expires_in=expires))
    await access_token(http, grant(stub))
    await access_token(http, grant(stub))
    assert len(stub.received) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"client_id": "b"},
        {"client_secret": "b"},
        {"audience": "b"},
        {"scopes": "b"},
        {"client_authentication": "basicAuthHeader"},
    ],
)
async def test_tokens_are_told_apart_by_every_part_of_the_grant(
    stub: Stub, http: HttpClient, other: dict[str, str]
) -> None:
    stub.reply(token("tok-1", expires_in=300), token("tok-2", expires_in=300))
    assert await access_token(http, grant(stub)) == "tok-1"
    assert await access_token(http, grant(stub, **other)) == "tok-2"
    assert http.statistics().tokens == 2


async def test_concurrent_callers_fetch_once(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body={"access_token": "t"}, delay=0.1))
    assert await asyncio.gather(*(access_token(http, grant(stub)) for _ in range(20))) == ["t"] * 20
    assert len(stub.received) == 1


async def test_a_cancelled_caller_leaves_the_others_their_token(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body={"access_token": "t"}, delay=0.1))
    first, second = (asyncio.create_task(access_token(http, grant(stub))) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == "t"
    assert len(stub.received) == 1


async def test_a_failed_fetch_fails_its_waiters_and_is_not_kept(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(500, delay=0.05), token())
    found = await asyncio.gather(*(access_token(http, grant(stub)) for _ in range(3)), return_exceptions=True)
    assert [type(f) for f in found] == [HttpStatusError] * 3
    assert await access_token(http, grant(stub)) == "tok-1"


async def test_the_cache_is_bounded_and_drops_what_was_not_used(clock: Clock) -> None:
    cache, fetched = TokenCache(skew=0, clock=clock, limit=2), []

    async def use(key: str) -> None:
        async def fetch() -> Token:
            fetched.append(key)
            return Token(key, 100)

        assert await cache.get(key, fetch) == key

    for key in "abacab":
        await use(key)
    assert (fetched, len(cache)) == (["a", "b", "c", "b"], 2)
    cache.evict("b")
    await use("b")
    assert fetched[-1] == "b"


def test_keys_and_texts_hide_the_secrets(stub: Stub) -> None:
    for hidden in (grant(stub, client_secret="hush"), RefreshToken(stub.url("/t"), "id", "hush", "hush")):
        assert "hush" not in hidden.key() + repr(hidden)
    assert "hush" not in repr(Token("hush", 1))
