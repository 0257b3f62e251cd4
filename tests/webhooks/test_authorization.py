"""Who may call a webhook: each type of authorization, and every way to fail it."""

import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gateway.binding import Binder
from gateway.http_client import HttpClient
from gateway.webhooks import (
    JwtAuthorization,
    NoAuthorization,
    WebhookAuthorization,
    WebhookRefused,
    WebhookRequest,
    authorize,
)
from tests.http_client.servers import Reply, Stub, running
from tests.webhooks.requests import NOW, REQUESTS, Compared, a_request


class Inbound(BaseModel):
    auth: WebhookAuthorization = NoAuthorization()


_BIND = Binder(Inbound)
BASIC = {"type": "BASIC", "username": "bob", "password": "pä:ss"}
API_KEY = {"type": "APIKEY", "apiKey": "k3y", "apiKeyLocator": "=request.headers.`x-key`"}


def bound(auth: Mapping[str, Any] | None) -> Any:
    return _BIND({} if auth is None else {"auth": auth}).auth


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running(Stub()) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient() as client:
        yield client


async def refusal(auth: Any, request: WebhookRequest, http: HttpClient, now: float = NOW) -> tuple[int, str]:
    with pytest.raises(WebhookRefused) as caught:
        await authorize(auth, request, http, now)
    assert not {name.lower() for name in caught.value.headers} & {"www-authenticate"}
    return caught.value.status, caught.value.body["reason"]


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


# ---- none, a password, a key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, {"type": "NONE"}])
async def test_without_a_type_anybody_may(auth: Any, http: HttpClient) -> None:
    assert await authorize(bound(auth), a_request(), http, NOW) is None


@pytest.mark.parametrize(
    "header", [basic("bob:pä:ss"), basic("bob:pä:ss").replace("Basic", "bAsIc"), basic("bob:pä:ss") + " "]
)
async def test_name_and_password_are_let_in(header: str, http: HttpClient) -> None:
    assert await authorize(bound(BASIC), a_request(authorization=header), http, NOW) is None


@pytest.mark.parametrize(
    ("header", "details"),
    [
        (None, "Basic auth header is missing"),
        ("", "Basic auth header is missing"),
        ("Bearer abc", "The Authorization header is not of the scheme Basic"),
        ("Basic", "Invalid username or password"),
        ("Basic n!t base64", "The Authorization header holds no base64"),
        ("Basic YWI", "The Authorization header holds no base64"),
        ("Basic \ud800", "The Authorization header holds no base64"),
        (basic("bob"), "Invalid username or password"),
        (basic("bob:"), "Invalid username or password"),
        (basic("bob:pä:ss "), "Invalid username or password"),
        (basic("Bob:pä:ss"), "Invalid username or password"),
        (basic(b"\xff\xfe:"), "Invalid username or password"),
    ],
)
async def test_anything_but_name_and_password_is_a_401(header: str | None, details: str, http: HttpClient) -> None:
    request = a_request() if header is None else a_request(authorization=header)
    assert await refusal(bound(BASIC), request, http) == (401, f"Reason: INVALID_CREDENTIALS. Details: {details}")


async def test_a_key_is_looked_for_where_the_expression_says(http: HttpClient) -> None:
    for locator, request in (
        ("=request.headers.`x-key`", a_request(x_key="k3y")),
        ("=request.params.key", a_request(query="key=k3y")),
        ("=request.body.auth.key", a_request(b'{"auth": {"key": "k3y"}}')),
    ):
        assert await authorize(bound(API_KEY | {"apiKeyLocator": locator}), request, http, NOW) is None
    assert (
        await authorize(bound(API_KEY | {"apiKey": "7", "apiKeyLocator": "=request.body"}), a_request(b"7"), http, NOW)
        is None
    )


@pytest.mark.parametrize(
    ("locator", "request_", "details"),
    [
        ("=request.headers.`x-key`", a_request(), "API key is missing"),
        ("=request.headers.`x-key`", a_request(x_key=""), "API key is missing"),
        ("=request.headers.`x-key`", a_request(x_key="k3"), "Invalid API key"),
        ("=request.headers.`x-key`", a_request(x_key="K3Y"), "Invalid API key"),
        ("=request.headers.`x-key`", a_request(x_key="\ud800"), "Invalid API key"),
        ("=request.body", a_request(b'["k3y", "k3y"]'), "API key is missing"),
        ("=request.body", a_request(b"true"), "API key is missing"),
        ("=request.body.key", a_request(b"{nope"), "API key is missing"),
        (
            '=assert(request.body.key, request.body.key != null, "x")',
            a_request(b"{}"),
            "The API key cannot be located in the request",
        ),
    ],
)
async def test_a_key_that_is_missing_or_another_is_a_401(
    locator: str, request_: WebhookRequest, details: str, http: HttpClient
) -> None:
    auth = bound(API_KEY | {"apiKeyLocator": locator})
    assert await refusal(auth, request_, http) == (401, f"Reason: INVALID_CREDENTIALS. Details: {details}")


async def test_comparing_takes_constant_time(monkeypatch: pytest.MonkeyPatch, http: HttpClient) -> None:
    compared = Compared(monkeypatch)
    for auth, request in ((BASIC, a_request(authorization=basic("bob:x"))), (API_KEY, a_request(x_key="k3z"))):
        await refusal(bound(auth), request, http)
    assert compared.count == 2


@pytest.mark.parametrize(
    "auth",
    [
        BASIC | {"username": ""},
        BASIC | {"password": ""},
        {"type": "BASIC"},
        API_KEY | {"apiKey": ""},
        {"type": "APIKEY", "apiKey": "k"},
        {"type": "JWT"},
        {"type": "JWT", "jwt": {"jwkUrl": ""}},
        {"type": "JWT", "jwt": {"jwkUrl": "https://x", "requiredPermissions": ["a"]}},
        {"type": "OTHER"},
    ],
)
def test_what_cannot_work_is_told_at_activation(auth: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Inbound.model_validate({"auth": auth})


def test_secrets_are_not_shown() -> None:
    assert "pä:ss" not in repr(bound(BASIC))
    assert "k3y" not in repr(bound(API_KEY | {"apiKeyLocator": "=1"}))


# ---- tokens ----------------------------------------------------------------------------------------------------------

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
EC = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}


def public(key: Any, **more: Any) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    found: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return found | more


KEYS = {
    "keys": [
        public(RSA, kid="rsa", use="sig"),
        public(RSA, kid="rsa256", alg="RS256"),
        public(RSA, kid="enc", use="enc"),
        public(RSA, kid="hs", alg="HS256"),
        public(WEAK_RSA, kid="weak"),
        *(public(key, kid=name) for name, key in EC.items()),
        {"kty": "oct", "kid": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": 7},
        {"kty": "EC", "kid": "off", "crv": "P-256", "x": "AA", "y": "AA"},
        "nonsense",
    ]
}


def token(claims: Mapping[str, Any] | None = None, key: Any = RSA, algorithm: str = "RS256", **head: Any) -> str:
    return jwt.encode(dict(claims or {}), key, algorithm, headers={"kid": "rsa"} | head)


def bearing(value: str) -> WebhookRequest:
    return a_request(authorization=f"Bearer {value}")


@pytest.fixture
def auth(stub: Stub) -> Callable[..., JwtAuthorization]:
    stub.reply(Reply(body=KEYS))

    def made(**more: Any) -> JwtAuthorization:
        found = bound({"type": "JWT", "jwt": {"jwkUrl": stub.url("/keys")} | more})
        assert isinstance(found, JwtAuthorization)
        return found

    return made


Auth = Callable[..., JwtAuthorization]


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
async def test_a_signed_token_is_let_in_and_its_claims_are_known(algorithm: str, auth: Auth, http: HttpClient) -> None:
    key, kid = (EC[algorithm], algorithm) if algorithm in EC else (RSA, "rsa")
    request = bearing(token({"sub": "üser>?", "n": 1}, key, algorithm, kid=kid))
    assert await authorize(auth(), request, http, NOW) == {"sub": "üser>?", "n": 1}


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "{}", "  Bearer   {} "])
async def test_the_word_bearer_is_taken_away(header: str, auth: Auth, http: HttpClient) -> None:
    assert await authorize(auth(), a_request(authorization=header.format(token())), http, NOW) == {}


async def test_the_keys_are_fetched_once(auth: Auth, http: HttpClient, stub: Stub) -> None:
    made = auth()
    for _ in range(3):
        await authorize(made, bearing(token()), http, NOW)
    assert len(stub.received) == 1


def resigned(head: Mapping[str, Any], payload: bytes = b"{}", key: Any = RSA) -> str:
    """A token with a header that no library would make, signed as RS256."""
    signed = b".".join(base64.urlsafe_b64encode(piece).rstrip(b"=") for piece in (json.dumps(head).encode(), payload))
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(signed, key)
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def confused() -> str:
    """HS256, with the public key as the secret."""
    signed = b".".join(base64.urlsafe_b64encode(p).rstrip(b"=") for p in (b'{"alg":"HS256","kid":"rsa"}', b"{}"))
    return (signed + b"." + base64.urlsafe_b64encode(hmac.digest(PEM, signed, "sha256")).rstrip(b"=")).decode()


UNSIGNED = base64.urlsafe_b64encode(b'{"alg":"none","kid":"rsa"}').decode().rstrip("=") + ".e30."


@pytest.mark.parametrize(
    ("value", "details"),
    [
        ("", "The Authorization header holds no JWT"),
        ("abc", "The Authorization header holds no JWT"),
        ("ä.b.c", "The Authorization header holds no JWT"),
        ("!.!.!", "The Authorization header holds no JWT"),
        ("W10.e30.x", "The Authorization header holds no JWT"),
        ("x" * 40_000, "The Authorization header holds no JWT"),
        (UNSIGNED, "The algorithm of the JWT is not supported"),
        (confused(), "The algorithm of the JWT is not supported"),
        (resigned({"alg": "HS256", "kid": "rsa"}), "The algorithm of the JWT is not supported"),
        (resigned({"alg": "PS256", "kid": "rsa"}), "The algorithm of the JWT is not supported"),
        (resigned({"alg": ["RS256"], "kid": "rsa"}), "The algorithm of the JWT is not supported"),
        (resigned({"kid": "rsa"}), "The algorithm of the JWT is not supported"),
        (resigned({"alg": "RS256", "kid": 7}), "The header of the JWT cannot be understood"),
        (resigned({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}), "The header of the JWT cannot be understood"),
        (token(key=OTHER_RSA), "The signature of the JWT is not valid"),
        (token() + "x", "The signature of the JWT is not valid"),
        (token().rpartition(".")[0] + ".", "The signature of the JWT is not valid"),
        (token().rpartition(".")[0], "The signature of the JWT is not valid"),
        (token(algorithm="RS384", kid="rsa256"), "The signature of the JWT is not valid"),
        (token(key=EC["ES256"], algorithm="ES256"), "The signature of the JWT is not valid"),
        (token(kid="ES256"), "The signature of the JWT is not valid"),
        (token(kid="broken"), "The signature of the JWT is not valid"),
        (token(key=EC["ES256"], algorithm="ES256", kid="off"), "The signature of the JWT is not valid"),
        (resigned({"alg": "RS256", "kid": "weak"}, key=WEAK_RSA), "The signature of the JWT is not valid"),
        (resigned({"alg": "RS256", "kid": "rsa", "b64": False}), "The signature of the JWT is not valid"),
        (resigned({"alg": "RS256", "kid": "rsa"}, b"\xff"), "The signature of the JWT is not valid"),
        (resigned({"alg": "RS256", "kid": "rsa"}, b"[]"), "The JWT holds no claims"),
        (token(kid="hs"), "The algorithm of the key is not supported"),
        (token(kid="nobody"), "The token is signed with an unknown key"),
        (token(kid="enc"), "The token is signed with an unknown key"),
        (token(kid="oct"), "The token is signed with an unknown key"),
        (resigned({"alg": "RS256"}), "The token is signed with an unknown key"),
    ],
)
async def test_any_other_token_is_a_401(value: str, details: str, auth: Auth, http: HttpClient) -> None:
    status, reason = await refusal(auth(), bearing(value), http)
    assert status == 401
    assert reason.startswith(f"Reason: INVALID_CREDENTIALS. Details: {details}")


async def test_a_missing_header_is_a_401_and_fetches_nothing(auth: Auth, http: HttpClient, stub: Stub) -> None:
    assert (await refusal(auth(), a_request(), http))[0] == 401
    assert (await refusal(auth(), bearing(UNSIGNED), http))[0] == 401
    assert not stub.received


async def test_an_altered_payload_is_a_401(auth: Auth, http: HttpClient) -> None:
    head, _, signature = token({"admin": False}).split(".")
    payload = base64.urlsafe_b64encode(b'{"admin":true}').decode().rstrip("=")
    assert (await refusal(auth(), bearing(f"{head}.{payload}.{signature}"), http))[0] == 401


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"exp": NOW + 1}, None),
        ({"exp": NOW}, "The JWT has expired"),
        ({"exp": NOW - 1}, "The JWT has expired"),
        ({"exp": 0}, "The JWT has expired"),
        ({"nbf": NOW}, None),
        ({"nbf": NOW + 1}, "The JWT is not valid yet"),
        ({"iat": NOW + 0.5}, "The JWT is not valid yet"),
        ({"iat": NOW, "nbf": NOW - 1, "exp": NOW + 60}, None),
        ({"exp": None}, None),
    ],
)
async def test_the_times_of_a_token_have_no_leeway(
    claims: dict[str, Any], wanted: str | None, auth: Auth, http: HttpClient
) -> None:
    request = bearing(resigned({"alg": "RS256", "kid": "rsa"}, json.dumps(claims).encode()))
    if wanted is None:
        assert await authorize(auth(), request, http, NOW) == claims
    else:
        assert await refusal(auth(), request, http) == (401, f"Reason: INVALID_CREDENTIALS. Details: {wanted}")


@pytest.mark.parametrize("value", ['"1700000000"', "true", "1e400", "[]", "{}", "NaN", "9" * 400])
async def test_a_time_that_is_none_is_a_401(value: str, auth: Auth, http: HttpClient) -> None:
    request = bearing(resigned({"alg": "RS256", "kid": "rsa"}, f'{{"exp": {value}}}'.encode()))
    assert (await refusal(auth(), request, http))[0] == 401


@pytest.mark.parametrize(
    ("expression", "claims", "allowed"),
    [
        ("=roles", {"roles": ["a", "b", "c"]}, True),
        ("=roles", {"roles": ["a"]}, False),
        ("=roles", {"roles": "a b"}, False),
        ("=roles", {}, False),
        ("=roles", {"roles": {"a": 1, "b": 2}}, False),
        ('=if admin = true then ["a", "b"] else roles', {"admin": True}, True),
        ('=split(scope, " ")', {"scope": "b a"}, True),
        ('=assert(roles, false, "x")', {"roles": ["a", "b"]}, False),
    ],
)
async def test_all_required_permissions_must_be_there(
    expression: str, claims: dict[str, Any], allowed: bool, auth: Auth, http: HttpClient
) -> None:
    made = auth(permissionsExpression=expression, requiredPermissions=["a", "b"])
    if allowed:
        assert await authorize(made, bearing(token(claims)), http, NOW) == claims
    else:
        status, reason = await refusal(made, bearing(token(claims)), http)
        assert status == 403
        assert reason.startswith("Reason: FORBIDDEN. Details: ")


async def test_without_required_permissions_the_expression_is_not_asked(auth: Auth, http: HttpClient) -> None:
    made = auth(permissionsExpression='=assert(1, false, "x")', requiredPermissions=[])
    assert await authorize(made, bearing(token()), http, NOW) == {}


async def test_a_key_server_that_is_away_is_a_503_that_asks_to_come_again(
    auth: Auth, http: HttpClient, stub: Stub
) -> None:
    stub.reply(Reply(status=500))
    with pytest.raises(WebhookRefused) as caught:
        await authorize(auth(), bearing(token()), http, NOW)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "10"})
    assert str(stub.port) not in caught.value.body["reason"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(request=REQUESTS, kind=st.sampled_from(["BASIC", "APIKEY", "JWT"]))
async def test_whatever_comes_is_refused(request: WebhookRequest, kind: str, auth: Auth, http: HttpClient) -> None:
    made = {"BASIC": lambda: bound(BASIC), "APIKEY": lambda: bound(API_KEY), "JWT": auth}[kind]()
    assert (await refusal(made, request, http))[0] == 401
