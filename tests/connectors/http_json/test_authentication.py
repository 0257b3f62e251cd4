"""How the connector authenticates."""

import base64
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.connectors.http_json.conftest import Work
from tests.http_client.servers import Received, Reply, Stub


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("authentication", [None, {"type": "noAuth"}, {"type": "noAuth", "token": "unused"}])
async def test_without_authentication_nothing_is_sent(stub: Stub, work: Work, authentication: Any) -> None:
    await work(authentication=authentication)
    assert stub.one.header("Authorization") is None


@pytest.mark.parametrize(
    ("password", "sent"), [("pä:ß", "pä:ß"), (None, ""), ("SPEC_PASSWORD_EMPTY_PATTERN", ""), (12, "12")]
)
async def test_basic_is_utf8_and_knows_the_empty_password(stub: Stub, work: Work, password: Any, sent: str) -> None:
    await work(authentication={"type": "basic", "username": "jürgen", "password": password})
    assert stub.one.header("Authorization") == basic("jürgen", sent)


async def test_a_bearer_token_of_blanks_passes(stub: Stub, work: Work) -> None:
    await work(authentication={"type": "bearer", "token": "  "})
    assert b"\r\nAuthorization: Bearer   \r\n" in stub.one.head


async def test_an_api_key_may_be_a_header(stub: Stub, work: Work) -> None:
    key = {"type": "apiKey", "apiKeyLocation": "Headers", "name": "X-Key", "value": "k"}
    await work(authentication=key, headers={"A": "1"})
    assert stub.one.headers[:2] == [("X-Key", "k"), ("A", "1")]


async def test_an_api_key_may_be_a_parameter_before_the_users(stub: Stub, work: Work) -> None:
    key = {"type": "apiKey", "apiKeyLocation": "query", "name": "key", "value": "k/1 2"}
    await work("/q?a=1", authentication=key, queryParameters={"b": "2"})
    assert stub.one.target == "/q?a=1&key=k%2F1%202&b=2"


@pytest.mark.parametrize("inner", [{"type": "basic", "username": "u", "password": "p"}, None])
async def test_a_bound_credential_wins_as_a_whole(stub: Stub, work: Work, inner: Any) -> None:
    await work(
        authentication={"type": "bearer", "token": "inline"}, authenticationConfiguration={"authentication": inner}
    )
    assert stub.one.header("Authorization") == (basic("u", "p") if inner else None)


async def test_unknown_keys_inside_of_authentication_are_ignored(stub: Stub, work: Work) -> None:
    await work(authentication={"type": "bearer", "token": "t", "internal_region": "bru-2", "x": {"y": []}})
    assert stub.one.header("Authorization") == "Bearer t"


@pytest.mark.parametrize(
    ("authentication", "message"),
    [
        ({"type": "bearer", "token": ""}, "Property: authentication.token: Validation failed. Original message: must not be empty"),
        ({"type": "bearer"}, "Property: authentication.token: Validation failed. Original message: must not be empty"),
        ({"type": "basic", "username": None}, "authentication.username: Validation failed. Original message: must not be empty"),
        ({"type": "apiKey", "name": "n", "value": "v"}, "authentication.apiKeyLocation: Validation failed. Original message: must not be null"),
        ({"type": "oauth-client-credentials-flow", "oauthTokenEndpoint": "ftp://x", "clientId": "i", "clientSecret": "s", "clientAuthentication": "credentialsBody"},
         "authentication.oauthTokenEndpoint: Validation failed. Original message: Must be a http(s) URL"),
        ({"type": "kerberos"}, "authentication"),
        ({"type": None}, "authentication"),
        ({}, "authentication"),
        ("text", "authentication"),
    ],
)  # fmt: skip
async def test_bad_authentication_is_an_input_error(stub: Stub, work: Work, authentication: Any, message: str) -> None:
    outcome = await work(authentication=authentication)
    assert (outcome.kind, outcome.retries, stub.received) == ("failed", 0, [])
    assert message in (outcome.message or "")


# ---- OAuth ----


def oauth(stub: Stub, **more: Any) -> dict[str, Any]:
    return {
        "type": "oauth-client-credentials-flow",
        "oauthTokenEndpoint": stub.url("/token"),
        "clientId": "id",
        "clientSecret": "hush",
        "audience": "aud",
        "scopes": "read",
        "clientAuthentication": "credentialsBody",
        **more,
    }


def answering(stub: Stub, **token: Any) -> None:
    """The token endpoint answers with this, everything else with `{}`."""

    def answer(request: Received) -> Reply:
        return Reply(body={"access_token": "tok", **token}) if request.target == "/token" else Reply()

    stub.answer = answer


def targets(stub: Stub) -> list[str]:
    return [r.target for r in stub.received]


async def test_client_credentials_fetch_a_token_and_use_it(stub: Stub, work: Work) -> None:
    answering(stub)
    await work("/api", authentication=oauth(stub))
    assert targets(stub) == ["/token", "/api"]
    assert dict(parse_qsl(stub.received[0].body.decode())) == {
        "grant_type": "client_credentials", "audience": "aud", "scope": "read", "client_id": "id", "client_secret": "hush",
    }  # fmt: skip
    assert stub.received[1].header("Authorization") == "Bearer tok"


async def test_a_token_is_used_again_by_the_next_job(stub: Stub, work: Work) -> None:
    answering(stub, expires_in=300)
    await work("/api", authentication=oauth(stub))
    await work("/api", authentication=oauth(stub))
    assert targets(stub) == ["/token", "/api", "/api"]


async def test_a_401_of_the_api_keeps_the_token(stub: Stub, work: Work) -> None:
    def answer(request: Received) -> Reply:
        token = {"access_token": "tok", "expires_in": 300}
        return Reply(body=token) if request.target == "/token" else Reply(401, reason="Unauthorized")

    stub.answer = answer
    for _ in range(2):
        assert (await work("/api", authentication=oauth(stub))).error["code"] == "401"
    assert targets(stub) == ["/token", "/api", "/api"]


async def test_a_refresh_token_is_exchanged(stub: Stub, work: Work) -> None:
    answering(stub)
    grant = {
        "type": "oauth-refresh-token",
        "oauthTokenEndpoint": stub.url("/token"),
        "clientId": "i",
        "refreshToken": "r",
    }
    await work("/api", authentication=grant)
    assert stub.received[0].body == b"grant_type=refresh_token&client_id=i&refresh_token=r"
    assert stub.received[1].header("Authorization") == "Bearer tok"


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (Reply(401, {"error": "invalid_client"}, reason="Unauthorized"), "401", "Unauthorized"),
        (Reply(body={}), "OAUTH_TOKEN_ERROR", "OAuth token response does not contain an access_token field"),
        (Reply(drop=True), "408", "An error occurred while executing the request, or the connection was aborted"),
    ],
)
async def test_a_token_that_cannot_be_had_fails_the_job(
    stub: Stub, work: Work, reply: Reply, code: str, message: str
) -> None:
    stub.reply(reply)
    outcome = await work("/api", authentication=oauth(stub))
    assert (outcome.error["code"], outcome.error["message"], outcome.retries) == (code, message, 2)
    assert set(targets(stub)) == {"/token"}
    assert "hush" not in repr(outcome)


async def test_an_unknown_client_authentication_names_both(stub: Stub, work: Work) -> None:
    outcome = await work("/api", authentication=oauth(stub, clientAuthentication="nope"))
    assert "'basicAuthHeader' or 'credentialsBody'" in (outcome.message or "")
    assert stub.received == []
