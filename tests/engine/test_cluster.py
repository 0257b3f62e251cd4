import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Literal

import grpc
import pytest
import trustme

from gateway.engine import JobActivation, Unavailable, Unimplemented
from gateway.engine.cluster import connect
from gateway.engine.settings import AuthSettings, CloudSettings, ConnectionSettings, SettingsError
from tests.engine.conftest import connected
from tests.engine.gateway_stub import StubGateway
from tests.engine.rest_stub import RestStub
from tests.real.processes import free_port


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


Transport = Literal["grpcio", "lean"]


@pytest.fixture(params=["grpcio", "lean"])
def transport(request: pytest.FixtureRequest) -> Transport:
    found: Transport = request.param
    return found


@pytest.fixture
async def tls_stub(authority: trustme.CA) -> AsyncIterator[StubGateway]:
    """A server whose certificate is for localhost and engine.example.org."""
    issued = authority.issue_cert("localhost", "engine.example.org")
    pair = (issued.private_key_pem.bytes(), b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    async with StubGateway(grpc.ssl_server_credentials([pair])) as gateway:
        yield gateway


@pytest.fixture
async def web() -> AsyncIterator[RestStub]:
    async with RestStub() as web:
        yield web


async def test_connecting_does_not_wait_for_the_engine() -> None:
    start = monotonic()
    async with connected(
        ConnectionSettings(
            grpc_address=f"http://127.0.0.1:{free_port()}", rest_address=f"http://127.0.0.1:{free_port()}"
        )
    ) as engine:
        assert monotonic() - start < 1
        with pytest.raises(Unavailable):
            await engine.topology()
        with pytest.raises(Unavailable):
            await engine.search("jobs")


async def test_commands_go_by_grpc_and_queries_by_rest(stub: StubGateway, web: RestStub) -> None:
    web.answer(200, {"items": [], "page": {}})
    async with connected(
        ConnectionSettings(grpc_address=f"http://127.0.0.1:{stub.port}", rest_address=web.url)
    ) as engine:
        await engine.topology()
        await engine.search("jobs")
        assert stub.methods() == ["Topology"]
        assert stub.calls[0].metadata["user-agent"].startswith("connector-gateway")
        assert [one.path for one in web.requests] == ["/v2/jobs/search"]
        assert web.requests[0].headers["User-Agent"].startswith("connector-gateway")


async def test_all_goes_by_rest_where_that_is_preferred(stub: StubGateway, web: RestStub) -> None:
    web.answer(200, {"gatewayVersion": "8.9"})
    async with connected(
        ConnectionSettings(
            grpc_address=f"http://127.0.0.1:{stub.port}", rest_address=web.url, prefer_rest_over_grpc=True
        )
    ) as engine:
        assert (await engine.topology()).gateway_version == "8.9"
        with pytest.raises(Unimplemented):
            await engine.stream_jobs(JobActivation("t", "w", 1000)).read()
        assert stub.calls == []


async def test_both_doors_have_the_same_credentials(stub: StubGateway, web: RestStub) -> None:
    web.answer(200, {"items": []})
    async with connected(
        ConnectionSettings(
            grpc_address=f"http://127.0.0.1:{stub.port}",
            rest_address=web.url,
            auth=AuthSettings(username="u", password="p"),
        )
    ) as engine:
        await engine.topology()
        await engine.search("jobs")
        assert stub.calls[0].metadata["authorization"] == web.requests[0].headers["Authorization"] == "Basic dTpw"


@pytest.mark.parametrize(("prefix", "path"), [(True, "/physical-tenants/blue/v2/topology"), (False, "/v2/topology")])
async def test_a_physical_tenant_is_in_the_metadata_and_unless_turned_off_in_the_path(
    stub: StubGateway, web: RestStub, prefix: bool, path: str
) -> None:
    settings = {"physical_tenant_id": "blue", "prefix_physical_tenant_path": prefix, "rest_address": web.url}
    web.answer(200, {})
    async with connected(ConnectionSettings(prefer_rest_over_grpc=True, **settings)) as by_rest:  # type: ignore[arg-type]
        await by_rest.topology()
        assert web.requests[0].path == path
    async with connected(ConnectionSettings(grpc_address=f"http://127.0.0.1:{stub.port}", **settings)) as by_grpc:  # type: ignore[arg-type]
        await by_grpc.topology()
        assert stub.calls[0].metadata["camunda-physical-tenant"] == "blue"


async def test_https_with_an_authority_of_our_own_by_grpc(
    tls_stub: StubGateway, ca_file: Path, transport: Transport
) -> None:
    address = f"https://localhost:{tls_stub.port}"
    async with connected(
        ConnectionSettings(grpc_address=address, ca_certificate_path=ca_file, transport=transport)
    ) as engine:
        assert (await engine.topology()).gateway_version == "8.8.9"
    async with connected(ConnectionSettings(grpc_address=address, transport=transport)) as stranger:
        with pytest.raises(Unavailable) as caught:
            await stranger.topology(timeout=5)
        assert not caught.value.may_have_arrived


async def test_the_authority_can_be_another_name_than_the_address(
    tls_stub: StubGateway, ca_file: Path, transport: Transport
) -> None:
    address = f"https://127.0.0.1:{tls_stub.port}"
    async with connected(
        ConnectionSettings(
            grpc_address=address,
            ca_certificate_path=ca_file,
            override_authority="engine.example.org",
            transport=transport,
        )
    ) as engine:
        await engine.topology()
    async with connected(
        ConnectionSettings(grpc_address=address, ca_certificate_path=ca_file, transport=transport)
    ) as plain:
        with pytest.raises(Unavailable):
            await plain.topology(timeout=5)


async def test_https_with_an_authority_of_our_own_by_rest(authority: trustme.CA, ca_file: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    async with RestStub(tls) as web:
        web.answer(200, {"items": []})
        async with connected(ConnectionSettings(rest_address=web.url, ca_certificate_path=ca_file)) as engine:
            assert (await engine.search("jobs")).items == []
        async with connected(ConnectionSettings(rest_address=web.url)) as stranger:
            with pytest.raises(Unavailable) as caught:
                await stranger.search("jobs")
            assert not caught.value.may_have_arrived


async def test_several_addresses_of_a_name_can_share_the_load(stub: StubGateway) -> None:
    async with connected(
        ConnectionSettings(grpc_address=f"http://127.0.0.1:{stub.port}", use_client_side_load_balancing=True)
    ) as engine:
        assert (await engine.topology()).gateway_version == "8.8.9"


async def test_where_addresses_share_the_load_the_grpcio_package_does_it(stub: StubGateway) -> None:
    async with connected(
        ConnectionSettings(
            grpc_address=f"http://127.0.0.1:{stub.port}", use_client_side_load_balancing=True, transport="lean"
        )
    ) as engine:
        await engine.topology()
        assert "grpc-python-asyncio" in stub.calls[0].metadata["user-agent"]


async def test_wrong_settings_are_told_before_anything_is_opened() -> None:
    with pytest.raises(SettingsError, match=r"auth\.client-id"):
        await connect(ConnectionSettings(cloud=CloudSettings(cluster_id="c")))
    with pytest.raises(SettingsError, match="ca-certificate-path"):
        await connect(
            ConnectionSettings(grpc_address="https://localhost", ca_certificate_path=Path("/nonexistent/ca.pem"))
        )


async def test_closing_twice_is_no_error(stub: StubGateway) -> None:
    engine = await connect(ConnectionSettings(grpc_address=f"http://127.0.0.1:{stub.port}"))
    await engine.topology()
    await engine.close()
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.topology()
