"""What an operator can set, and requests through proxies."""

import ssl

import pytest
import trustme

from gateway.http_client import (
    HttpClient,
    HttpConnectionError,
    HttpProtocolError,
    HttpRequest,
    HttpSettings,
    ProxySettingsError,
    TlsMaterial,
    encode_url,
)
from tests.http_client.servers import ConnectProxy, Stub, proxying, running


def environment(proxy: ConnectProxy, scheme: str = "HTTP", **more: str) -> dict[str, str]:
    prefix = f"CONNECTOR_{scheme}_PROXY_"
    return {prefix + "HOST": "127.0.0.1", prefix + "PORT": str(proxy.port), **{prefix + k: v for k, v in more.items()}}


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = HttpSettings.from_environment({})
    assert (settings.max_body_size, settings.retry, settings.egress.enabled) == (52_428_800, True, False)
    assert settings.proxy_for(encode_url("http://h/")) is None


def test_size_and_retry_are_read() -> None:
    settings = HttpSettings.from_environment(
        {"CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE": "1024", "CONNECTOR_HTTP_CLIENT_RETRY": "FALSE"}
    )
    assert (settings.max_body_size, settings.retry) == (1024, False)


def test_a_size_that_is_none_names_its_variable() -> None:
    with pytest.raises(
        ValueError, match="CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE: expected a number of bytes, but got '5MB'"
    ):
        HttpSettings.from_environment({"CONNECTOR_HTTP_CLIENT_MAX_BODY_SIZE": "5MB"})


def test_the_proxy_is_chosen_by_the_scheme_of_the_target() -> None:
    settings = HttpSettings.from_environment(
        {
            "CONNECTOR_HTTP_PROXY_HOST": "plain",
            "CONNECTOR_HTTP_PROXY_PORT": "3128",
            "CONNECTOR_HTTPS_PROXY_HOST": "secure",
            "CONNECTOR_HTTPS_PROXY_PORT": "3129",
            "CONNECTOR_HTTPS_PROXY_SCHEME": "https",
            "CONNECTOR_HTTPS_PROXY_USER": "u",
            "CONNECTOR_HTTPS_PROXY_PASSWORD": "hush",
        }
    )
    plain, secure = settings.proxy_for(encode_url("http://h/")), settings.proxy_for(encode_url("https://h/"))
    assert plain is not None
    assert secure is not None
    assert (plain.url, plain.authorization) == ("http://plain:3128", None)
    assert (secure.url, secure.authorization) == ("https://secure:3129", "Basic dTpodXNo")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("given", [{"HOST": "p"}, {"PORT": "1"}, {"HOST": " ", "PORT": "1"}, {"HOST": "p", "PORT": ""}])
def test_host_and_port_are_both_needed(given: dict[str, str]) -> None:
    settings = HttpSettings.from_environment({f"CONNECTOR_HTTP_PROXY_{k}": v for k, v in given.items()})
    assert settings.proxy_for(encode_url("http://h/")) is None


@pytest.mark.parametrize(("key", "value"), [("PORT", "0"), ("PORT", "65536"), ("PORT", "http"), ("SCHEME", "socks5")])
async def test_a_proxy_that_cannot_be_used_is_reported_by_the_request(key: str, value: str) -> None:
    given = {"HOST": "p", "PORT": "1", key: value}
    settings = HttpSettings.from_environment({f"CONNECTOR_HTTP_PROXY_{k}": v for k, v in given.items()})
    async with HttpClient(settings) as http:
        with pytest.raises(ProxySettingsError, match=f"CONNECTOR_HTTP_PROXY_{key}: expected .*'{value}'"):
            await http.get("http://h/")


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.internal.example", True),
        ("internal.example", False),
        ("10.1.2.3", True),
        ("110.1.2.3", False),
        ("xlocalhost", False),
        ("localhost.evil.example", False),
    ],
)
def test_hosts_reached_directly_are_matched_whole(host: str, direct: bool) -> None:
    settings = HttpSettings.from_environment(
        {
            "CONNECTOR_HTTP_PROXY_HOST": "p",
            "CONNECTOR_HTTP_PROXY_PORT": "1",
            "CONNECTOR_HTTP_NON_PROXY_HOSTS": "localhost|*.internal.example| 10.* ",
        }
    )
    assert (settings.proxy_for(encode_url(f"http://{host}/")) is None) is direct


async def test_a_plain_request_goes_to_the_proxy_with_the_whole_url() -> None:
    async with proxying(ConnectProxy("user:pass")) as proxy:
        settings = HttpSettings.from_environment(environment(proxy, USER="user", PASSWORD="pass"))
        async with HttpClient(settings) as http:
            assert (await http.get("http://target.example:81/a b?x=ü")).text == "proxied"
    assert proxy.asked[0].line == "GET http://target.example:81/a%20b?x=%C3%BC HTTP/1.1"
    assert proxy.asked[0].header("Host") == "target.example:81"


async def test_a_secure_request_goes_through_a_tunnel_and_the_proxy_sees_nothing_of_it() -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("server.test").configure_cert(context)
    tls = TlsMaterial(trusted=authority.cert_pem.bytes().decode())
    async with proxying(ConnectProxy("user:pass")) as proxy, running(Stub(), context) as stub:
        settings = HttpSettings.from_environment(environment(proxy, "HTTPS", USER="user", PASSWORD="pass"))
        async with HttpClient(settings) as http:
            url = encode_url(stub.url("/secret", "server.test"))
            reply = await http.send(HttpRequest("GET", url, (("Authorization", "Bearer hush"),), tls=tls))
        assert reply.ok
        assert stub.one.target == "/secret"
        assert stub.one.header("Proxy-Authorization") is None
        assert proxy.asked[0].line == f"CONNECT server.test:{stub.port} HTTP/1.1"
        assert b"hush" not in proxy.asked[0].head


async def test_a_proxy_that_refuses_is_a_protocol_error_without_its_password() -> None:
    async with proxying(ConnectProxy("user:pass")) as proxy:
        settings = HttpSettings.from_environment(environment(proxy, "HTTPS", USER="user", PASSWORD="hush"))
        async with HttpClient(settings) as http:
            with pytest.raises(HttpProtocolError) as e:
                await http.get("https://server.test/")
    assert "hush" not in str(e.value)


async def test_a_proxy_that_is_away_is_a_connection_error() -> None:
    env = {"CONNECTOR_HTTP_PROXY_HOST": "127.0.0.1", "CONNECTOR_HTTP_PROXY_PORT": "1"}
    async with HttpClient(HttpSettings.from_environment(env)) as http:
        with pytest.raises(HttpConnectionError):
            await http.get("http://h/")


async def test_the_process_environment_is_not_looked_at(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONNECTOR_HTTP_PROXY_HOST", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("CONNECTOR_HTTP_PROXY_PORT", "1")
    async with HttpClient() as http:
        assert (await http.get(stub.url("/"))).ok
