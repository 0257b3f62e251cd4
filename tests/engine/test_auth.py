import asyncio
import ssl
import stat
import traceback
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from gateway.engine import DeadlineExceeded, Engine, Unauthenticated, Unavailable
from gateway.engine.auth import FixedCredentials, OidcCredentials, basic_credentials, make_credentials
from gateway.engine.settings import AuthSettings, ClientAssertionSettings, ConnectionSettings, SettingsError
from tests.engine.conftest import connected
from tests.engine.gateway_stub import StatusError, StubGateway, until
from tests.engine.token_server import TokenServer
from tests.real.processes import free_port

SECRET = "s3cret-do-not-show"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def oidc(server: TokenServer, clock: Clock) -> AsyncIterator[Callable[..., OidcCredentials]]:
    """Makes credentials for the server, on a clock of the test, and closes them."""
    made: list[OidcCredentials] = []

    def make(**changes: Any) -> OidcCredentials:
        made.append(OidcCredentials(replace(settings_for(server), **changes), clock=clock, sleep=clock.sleep))
        return made[-1]

    yield make
    for credentials in made:
        await credentials.close()


Make = Callable[..., OidcCredentials]


@asynccontextmanager
async def closing(credentials: OidcCredentials) -> AsyncIterator[OidcCredentials]:
    try:
        yield credentials
    finally:
        await credentials.close()


def settings_for(server: TokenServer) -> AuthSettings:
    return AuthSettings(
        method="oidc",
        client_id="me",
        client_secret=SECRET,
        token_url=f"{server.url}/token",
        audience="zeebe-api",
    )


# ---- without tokens


async def test_without_authentication_there_is_no_header() -> None:
    credentials = make_credentials(AuthSettings(method="none"))
    assert await credentials.authorization(1) is None
    credentials.refused(None)
    await credentials.close()


async def test_basic_credentials_are_user_and_password_in_base64() -> None:
    credentials = make_credentials(AuthSettings(method="basic", username="zoë", password="a:b"))
    kind, _, value = str(await credentials.authorization(1)).partition(" ")
    assert (kind, b64decode(value).decode()) == ("Basic", "zoë:a:b")
    assert isinstance(basic_credentials("a", "b"), FixedCredentials)


# ---- fetching


async def test_a_token_is_fetched_with_all_that_is_set(server: TokenServer, oidc: Make) -> None:
    credentials = oidc(scope="me/.default", resource="urn:r")
    assert await credentials.authorization(5) == "Bearer token-1"
    assert server.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": "me",
            "client_secret": SECRET,
            "audience": "zeebe-api",
            "scope": "me/.default",
            "resource": "urn:r",
        }
    ]


async def test_what_is_not_set_is_not_sent(server: TokenServer, oidc: Make) -> None:
    await oidc(audience=None).authorization(5)
    assert set(server.forms[0]) == {"grant_type", "client_id", "client_secret"}


async def test_fifty_calls_wait_for_one_fetch(server: TokenServer, oidc: Make) -> None:
    credentials = oidc()
    server.delay = lambda: asyncio.sleep(0.05)
    values = await asyncio.gather(*(credentials.authorization(5) for _ in range(50)))
    assert set(values) == {"Bearer token-1"}
    assert len(server.forms) == 1


async def test_a_token_is_kept_until_it_nears_its_end_and_then_renewed_beside_it(
    server: TokenServer, oidc: Make, clock: Clock
) -> None:
    server.lifetime = 100
    credentials = oidc(proactive_token_refresh_threshold=30.0)
    await credentials.authorization(5)
    clock.now += 69
    assert await credentials.authorization(5) == "Bearer token-1"
    await asyncio.sleep(0.05)
    assert len(server.forms) == 1
    clock.now += 2
    assert await credentials.authorization(5) == "Bearer token-1"
    await until(lambda: len(server.forms) == 2)
    await asyncio.sleep(0.05)
    assert await credentials.authorization(5) == "Bearer token-2"


async def test_an_ended_token_is_never_given_out(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.lifetime = 100
    credentials = oidc()
    await credentials.authorization(5)
    clock.now += 99.5
    assert await credentials.authorization(5) == "Bearer token-2"


async def test_a_token_of_one_second_is_fresh_for_each_attempt(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.lifetime = 1
    credentials = oidc()
    for number in range(1, 6):
        assert await credentials.authorization(5) == f"Bearer token-{number}"
        clock.now += 0.6


async def test_a_token_without_a_lifetime_is_kept_for_minutes(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.lifetime = None
    credentials = oidc()
    await credentials.authorization(5)
    clock.now += 200
    assert await credentials.authorization(5) == "Bearer token-1"
    clock.now += 100
    assert await credentials.authorization(5) == "Bearer token-2"


async def test_a_refused_token_is_dropped_but_not_the_one_that_took_its_place(server: TokenServer, oidc: Make) -> None:
    credentials = oidc()
    old = await credentials.authorization(5)
    credentials.refused(old)
    assert await credentials.authorization(5) == "Bearer token-2"
    credentials.refused(old)
    assert await credentials.authorization(5) == "Bearer token-2"
    assert len(server.forms) == 2


async def test_a_slow_authorization_server_costs_no_more_than_the_deadline(server: TokenServer, oidc: Make) -> None:
    server.delay = lambda: asyncio.sleep(0.5)
    credentials = oidc()
    with pytest.raises(DeadlineExceeded) as caught:
        await credentials.authorization(0.05)
    assert not caught.value.may_have_arrived
    assert await credentials.authorization(5) == "Bearer token-1"
    assert len(server.forms) == 1


async def test_closing_frees_those_who_wait(server: TokenServer, oidc: Make) -> None:
    server.delay = lambda: asyncio.sleep(5)
    credentials = oidc()
    waiting = asyncio.create_task(credentials.authorization(5))
    await until(lambda: bool(server.forms))
    await credentials.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await credentials.authorization(5)


# ---- discovery


async def test_the_token_url_is_discovered_from_the_issuer_once(server: TokenServer, oidc: Make, clock: Clock) -> None:
    credentials = oidc(token_url=None, issuer_url=f"{server.url}/realm/")
    await credentials.authorization(5)
    clock.now += 10_000
    assert await credentials.authorization(5) == "Bearer token-2"
    assert server.discoveries == 1


async def test_the_well_known_url_wins_over_the_issuer(server: TokenServer, oidc: Make) -> None:
    url = f"{server.url}/realm/.well-known/openid-configuration"
    credentials = oidc(token_url=None, issuer_url="http://nowhere.invalid", well_known_configuration_url=url)
    assert await credentials.authorization(5) == "Bearer token-1"


# ---- failures


async def test_a_busy_server_is_asked_again_with_growing_pauses(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.refuse(503, times=3)
    assert await oidc(token_fetch_initial_backoff=1.0).authorization(5) == "Bearer token-4"
    assert clock.slept == pytest.approx([1, 2, 4], rel=0.2)


async def test_a_server_that_stays_away_makes_the_engine_unavailable(server: TokenServer, oidc: Make) -> None:
    server.refuse(503, times=4)
    with pytest.raises(Unavailable, match="/token answered 503") as caught:
        await oidc().authorization(5)
    assert not caught.value.may_have_arrived
    assert len(server.forms) == 4


async def test_a_server_that_cannot_be_reached_makes_the_engine_unavailable(oidc: Make) -> None:
    credentials = oidc(token_url=f"http://127.0.0.1:{free_port()}/token", token_fetch_max_retries=0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await credentials.authorization(5)


async def test_a_server_that_says_nothing_is_given_up_after_the_read_timeout(server: TokenServer, oidc: Make) -> None:
    server.delay = lambda: asyncio.sleep(5)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await oidc(read_timeout=0.1, token_fetch_max_retries=0).authorization(5)


async def test_a_refusal_is_not_repeated_until_it_cooled_down(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.refuse(401, error="invalid_client", error_description="no such client")
    credentials = oidc(token_fetch_non_retryable_cooldown=30.0)
    for _ in range(3):
        with pytest.raises(Unauthenticated, match="401: invalid_client, no such client"):
            await credentials.authorization(5)
        clock.now += 9
    assert len(server.forms) == 1
    clock.now += 9
    assert await credentials.authorization(5) == "Bearer token-2"


async def test_a_renewal_that_is_refused_leaves_the_token_in_use(server: TokenServer, oidc: Make, clock: Clock) -> None:
    server.lifetime = 100
    credentials = oidc()
    await credentials.authorization(5)
    clock.now += 75
    server.refuse(400, error="nope")
    for _ in range(3):
        assert await credentials.authorization(5) == "Bearer token-1"
        await asyncio.sleep(0.03)
    assert len(server.forms) == 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.json_response({"token": "x"}),
        lambda: web.json_response({"access_token": "x\r\nX-Other: y"}),
        lambda: web.json_response({"access_token": "x", "expires_in": "soon"}),
        lambda: web.json_response(["x"]),
        lambda: web.Response(text="<html>log in</html>"),
        lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda: web.Response(body=b" " * 2_000_000),
    ],
)
async def test_an_answer_that_is_no_token_is_a_refusal(
    server: TokenServer, oidc: Make, answer: Callable[[], web.Response]
) -> None:
    server.answers.append(answer)
    with pytest.raises(Unauthenticated):
        await oidc().authorization(5)


async def test_no_secret_is_in_an_error_or_a_representation(server: TokenServer, oidc: Make) -> None:
    server.refuse(401, error="invalid_client", error_description=f"{SECRET} is wrong")
    credentials = oidc(token_url=f"{server.url}/token?code={SECRET}")
    with pytest.raises(Unauthenticated) as caught:
        await credentials.authorization(5)
    shown = "".join(traceback.format_exception(caught.value)) + repr(credentials) + repr(settings_for(server))
    assert SECRET not in shown
    assert "***" in str(caught.value)


# ---- the file


async def test_a_token_is_kept_in_a_private_file_for_the_next_process(
    server: TokenServer, oidc: Make, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "credentials"
    await oidc(credentials_cache_path=path).authorization(5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await oidc(credentials_cache_path=path).authorization(5) == "Bearer token-1"
    assert len(server.forms) == 1


async def test_a_refused_token_is_not_taken_from_the_file_again(
    server: TokenServer, oidc: Make, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"
    await oidc(credentials_cache_path=path).authorization(5)
    credentials = oidc(credentials_cache_path=path)
    credentials.refused(await credentials.authorization(5))
    assert await credentials.authorization(5) == "Bearer token-2"


async def test_an_ended_token_in_the_file_is_not_used(server: TokenServer, oidc: Make, tmp_path: Path) -> None:
    server.lifetime = 0
    path = tmp_path / "credentials"
    await oidc(credentials_cache_path=path).authorization(5)
    assert await oidc(credentials_cache_path=path).authorization(5) == "Bearer token-2"


# ---- keys


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture
def identity_file(authority: trustme.CA, tmp_path: Path) -> Path:
    issued = authority.issue_cert("me", common_name="me", key_type=trustme.KeyType.RSA)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    return tmp_path / "me.pem"


@pytest.fixture
def identity_pem(identity_file: Path) -> bytes:
    return identity_file.read_bytes()


async def test_a_client_assertion_takes_the_place_of_the_secret(
    server: TokenServer, oidc: Make, identity_file: Path, identity_pem: bytes
) -> None:
    credentials = oidc(client_secret=None, client_assertion=ClientAssertionSettings(keystore_path=identity_file))
    await credentials.authorization(5)
    form = server.forms[0]
    assert "client_secret" not in form
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    public = x509.load_pem_x509_certificates(identity_pem)[0].public_key()
    claims = jwt.decode(form["client_assertion"], public, ["RS256"], audience=f"{server.url}/token")  # type: ignore[arg-type]
    assert (claims["iss"], claims["sub"]) == ("me", "me")
    assert claims["exp"] - claims["iat"] == 300
    assert {"x5t", "x5t#S256"} <= set(jwt.get_unverified_header(form["client_assertion"]))


async def test_a_key_from_pkcs12_signs_as_well(
    server: TokenServer, oidc: Make, identity_pem: bytes, tmp_path: Path
) -> None:
    store = serialize_key_and_certificates(
        b"gate",
        load_pem_private_key(identity_pem, None),  # type: ignore[arg-type]
        x509.load_pem_x509_certificates(identity_pem)[0],
        None,
        BestAvailableEncryption(b"pw"),
    )
    path = tmp_path / "me.p12"
    path.write_bytes(store)
    assertion = ClientAssertionSettings(keystore_path=path, keystore_password="pw", keystore_key_alias="Gate")
    await oidc(client_secret=None, client_assertion=assertion).authorization(5)
    assert "client_assertion" in server.forms[0]
    with pytest.raises(SettingsError, match="alias 'other'"):
        oidc(client_assertion=replace(assertion, keystore_key_alias="other"))


async def test_the_token_server_may_ask_for_a_client_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    async with TokenServer(tls) as server:
        trusting = replace(settings_for(server), truststore_path=tmp_path / "ca.pem", token_fetch_max_retries=0)
        async with closing(OidcCredentials(replace(trusting, keystore_path=tmp_path / "me.pem"))) as known:
            assert await known.authorization(5) == "Bearer token-1"
        for settings in (trusting, replace(trusting, truststore_path=None)):
            async with closing(OidcCredentials(settings)) as stranger:
                with pytest.raises(Unavailable, match="cannot be reached"):
                    await stranger.authorization(5)


# ---- with the engine


@pytest.fixture
async def engine(server: TokenServer, stub: StubGateway) -> AsyncIterator[Engine]:
    settings = ConnectionSettings(grpc_address=f"http://127.0.0.1:{stub.port}", auth=settings_for(server))
    async with connected(settings) as engine:
        yield engine


async def test_calls_carry_the_token(stub: StubGateway, server: TokenServer, engine: Engine) -> None:
    await asyncio.gather(*(engine.topology() for _ in range(50)))
    assert {call.metadata["authorization"] for call in stub.calls} == {"Bearer token-1"}
    assert len(server.forms) == 1


async def test_after_a_refusal_the_next_call_has_a_new_token(
    stub: StubGateway, server: TokenServer, engine: Engine
) -> None:
    revoked = StatusError(grpc.StatusCode.UNAUTHENTICATED, "revoked")
    stub.gate = lambda metadata: revoked if metadata.get("authorization") == "Bearer token-1" else None
    with pytest.raises(Unauthenticated, match="revoked"):
        await engine.complete_job(1, "{}")
    await engine.complete_job(1, "{}")
    assert [call.metadata["authorization"] for call in stub.calls] == ["Bearer token-1", "Bearer token-2"]


async def test_without_a_token_nothing_is_sent(stub: StubGateway, server: TokenServer, engine: Engine) -> None:
    server.refuse(400, error="unauthorized_client")
    with pytest.raises(Unauthenticated, match="unauthorized_client") as caught:
        await engine.create_process_instance(bpmn_process_id="p")
    assert not caught.value.may_have_arrived
    assert stub.calls == []
