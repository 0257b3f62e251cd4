"""Key sets: fetched when needed, shared, kept for a while, and never asked for too often."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.http_client import HttpClient
from gateway.webhooks import WebhookRefused
from gateway.webhooks.keys import KEPT, MAX_KEYS, MAX_SIZE, PAUSE, Key, KeySet
from tests.http_client.servers import Received, Reply, Stub, running
from tests.webhooks.requests import NOW
from tests.webhooks.test_authorization import EC, RSA, public


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with running(Stub()) as server:
        server.reply(a_set("a", "b"))
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async def no_pause(seconds: float) -> None:
        pass

    async with HttpClient(sleep=no_pause) as client:
        yield client


def a_set(*names: str) -> Reply:
    return Reply(body={"keys": [public(RSA, kid=name) for name in names]})


async def status(keys: KeySet, identity: str | None, http: HttpClient, now: float) -> int:
    try:
        await keys.find(identity, http, now)
    except WebhookRefused as e:
        return e.status
    return 200


async def test_a_set_is_kept_for_ten_minutes(stub: Stub, http: HttpClient) -> None:
    keys = KeySet(stub.url())
    for later in (0, 1, KEPT - 1):
        assert await status(keys, "a", http, NOW + later) == 200
    assert len(stub.received) == 1
    stub.reply(a_set("c"))
    assert await status(keys, "a", http, NOW + KEPT) == 401
    assert await status(keys, "c", http, NOW + KEPT) == 200
    assert len(stub.received) == 2


async def test_a_new_key_is_found_at_once(stub: Stub, http: HttpClient) -> None:
    keys = KeySet(stub.url())
    await keys.find("a", http, NOW)
    stub.reply(a_set("a", "new"))
    assert await status(keys, "new", http, NOW + PAUSE) == 200


async def test_unknown_keys_cannot_make_it_ask_more_than_ten_times_in_a_minute(stub: Stub, http: HttpClient) -> None:
    keys = KeySet(stub.url())
    for n in range(600):
        assert await status(keys, f"unknown{n}", http, NOW + n / 10) == 401
        assert await status(keys, "a", http, NOW + n / 10) == 200
    assert len(stub.received) == 10


async def test_those_who_come_at_once_share_a_fetch(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body=a_set("a").body, delay=0.05))
    keys = KeySet(stub.url())
    assert await asyncio.gather(*(status(keys, "a", http, NOW) for _ in range(20))) == [200] * 20
    assert len(stub.received) == 1


async def test_a_fetch_goes_on_when_its_request_is_gone(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body=a_set("a").body, delay=0.05))
    keys = KeySet(stub.url())
    first = asyncio.create_task(keys.find("a", http, NOW))
    second = asyncio.create_task(keys.find("a", http, NOW))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).raw["kid"] == "a"
    assert len(stub.received) == 1


OUTAGES = [
    Reply(status=500),
    Reply(status=503),
    Reply(status=404),
    Reply(status=302, headers=[("Location", "/elsewhere")]),
    Reply(drop=True),
    Reply(body=b"<html>"),
    Reply(body=[]),
    Reply(body={"keys": {}}),
    Reply(body=b" " * (MAX_SIZE + 1)),
]


@pytest.mark.parametrize("reply", OUTAGES)
async def test_an_outage_is_a_503_and_the_server_is_not_hammered(reply: Reply, stub: Stub, http: HttpClient) -> None:
    keys, failing = KeySet(stub.url()), True

    def answer(request: Received) -> Reply:
        return reply if failing else a_set("a")

    stub.answer = answer
    assert [await status(keys, "a", http, NOW + n) for n in range(5)] == [503] * 5
    assert len(stub.received) <= 2  # the client repeats what broke once
    failing = False
    assert await status(keys, "a", http, NOW + PAUSE) == 200


async def test_known_keys_outlive_an_outage_as_long_as_they_are_kept(stub: Stub, http: HttpClient) -> None:
    keys = KeySet(stub.url())
    await keys.find("a", http, NOW)
    stub.reply(Reply(status=500))
    assert await status(keys, "new", http, NOW + 10) == 503
    assert await status(keys, "a", http, NOW + 10) == 200
    assert await status(keys, "a", http, NOW + KEPT) == 503


async def test_a_clock_that_is_put_back_makes_it_ask_again(stub: Stub, http: HttpClient) -> None:
    keys = KeySet(stub.url())
    assert await status(keys, "a", http, NOW) == 200
    assert await status(keys, "a", http, NOW - 3600) == 200
    assert len(stub.received) == 2


async def test_a_url_that_is_none_is_a_503(http: HttpClient) -> None:
    for url in ("nonsense", "http://127.0.0.1:1/", "ftp://x/"):
        assert await status(KeySet(url), "a", http, NOW) == 503


async def test_a_token_without_a_key_id_takes_the_only_key(stub: Stub, http: HttpClient) -> None:
    assert await status(KeySet(stub.url()), None, http, NOW) == 401
    stub.reply(a_set("only"))
    assert await status(KeySet(stub.url()), None, http, NOW) == 200


async def test_a_set_has_a_limit_of_keys(stub: Stub, http: HttpClient) -> None:
    stub.reply(Reply(body={"keys": [{"kty": "RSA", "kid": str(n)} for n in range(MAX_KEYS + 1)]}))
    keys = KeySet(stub.url())
    assert await status(keys, str(MAX_KEYS - 1), http, NOW) == 200
    assert await status(keys, str(MAX_KEYS), http, NOW) == 401


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_what_its_algorithm_needs() -> None:
    assert isinstance(Key(public(RSA), None).public("RS512"), rsa.RSAPublicKey)
    assert isinstance(Key(public(EC["ES384"]), None).public("ES384"), ec.EllipticCurvePublicKey)


@pytest.mark.parametrize(
    ("raw", "algorithm"),
    [
        (public(RSA), "ES256"),
        (public(EC["ES256"]), "RS256"),
        (public(EC["ES256"]), "ES384"),
        (public(EC["ES512"]), "ES256"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "RS256"),
        ({"kty": "RSA"}, "RS256"),
        ({"kty": "RSA", "n": 7, "e": None}, "RS256"),
        ({"kty": "EC", "crv": "P-256"}, "ES256"),
        ({}, "RS256"),
    ],
)
def test_any_other_key_is_an_error(raw: dict[str, Any], algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"not a key for {algorithm}"):
        Key(raw, None).public(algorithm)


def test_a_private_key_in_a_set_is_used_as_its_public_one() -> None:
    raw = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)) | {"key_ops": ["verify"]}
    assert "d" in raw
    assert isinstance(Key(raw, None).public("RS256"), rsa.RSAPublicKey)
