"""Where requests may not go."""

import asyncio
import socket
from typing import Any

import pytest

from gateway.http_client import BlockList, EgressDenied, EgressPolicy, HttpBlocked, HttpClient, HttpSettings, encode_url
from gateway.http_client.guard import canonical_address
from tests.http_client.servers import ConnectProxy, Reply, Stub, proxying, running

STRICT = EgressPolicy.of()


def client(policy: EgressPolicy, **settings: Any) -> HttpClient:
    return HttpClient(HttpSettings(egress=policy, **settings))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "DENY_NOT_GLOBAL_UNICAST"),
        ("127.8.9.1", "DENY_NOT_GLOBAL_UNICAST"),
        ("::1", "DENY_NOT_GLOBAL_UNICAST"),
        ("0.0.0.0", "DENY_NOT_GLOBAL_UNICAST"),
        ("::", "DENY_NOT_GLOBAL_UNICAST"),
        ("169.254.169.254", "DENY_NOT_GLOBAL_UNICAST"),
        ("fe80::1", "DENY_NOT_GLOBAL_UNICAST"),
        ("fe80::1%eth0", "DENY_NOT_GLOBAL_UNICAST"),
        ("224.0.0.1", "DENY_NOT_GLOBAL_UNICAST"),
        ("ff02::1", "DENY_NOT_GLOBAL_UNICAST"),
        ("::ffff:127.0.0.1", "DENY_NOT_GLOBAL_UNICAST"),
        ("::ffff:169.254.169.254", "DENY_NOT_GLOBAL_UNICAST"),
        ("10.1.2.3", "DENY_PRIVATE_RANGE"),
        ("172.16.0.1", "DENY_PRIVATE_RANGE"),
        ("192.168.1.1", "DENY_PRIVATE_RANGE"),
        ("fd00::1", "DENY_PRIVATE_RANGE"),
        ("::ffff:10.0.0.1", "DENY_PRIVATE_RANGE"),
        ("0.1.2.3", "DENY_RESERVED_RANGE"),
        ("100.64.0.1", "DENY_RESERVED_RANGE"),
        ("192.0.0.1", "DENY_RESERVED_RANGE"),
        ("192.0.2.1", "DENY_RESERVED_RANGE"),
        ("198.18.0.1", "DENY_RESERVED_RANGE"),
        ("203.0.113.9", "DENY_RESERVED_RANGE"),
        ("255.255.255.255", "DENY_RESERVED_RANGE"),
        ("64:ff9b::7f00:1", "DENY_RESERVED_RANGE"),
        ("2001:0:1::1", "DENY_RESERVED_RANGE"),
        ("2002:7f00:1::", "DENY_RESERVED_RANGE"),
        ("2001:db8::1", "DENY_RESERVED_RANGE"),
        ("::127.0.0.1", "DENY_RESERVED_RANGE"),
        ("8.8.8.8", None),
        ("172.32.0.1", None),
        ("2606:4700::1111", None),
    ],
)
def test_addresses_are_judged_by_their_range(address: str, reason: str | None) -> None:
    assert STRICT.denial(address) == reason


def test_allowed_ranges_win_over_everything_and_denied_ones_over_the_public() -> None:
    policy = EgressPolicy.of(allow_ranges=["10.0.0.0/24", "127.0.0.2/32"], deny_ranges=["10.0.0.0/8", "8.8.0.0/16"])
    assert [policy.denial(a) for a in ("10.0.0.9", "127.0.0.2", "10.0.1.9", "8.8.8.8", "1.1.1.1")] == [
        None,
        None,
        "DENY_USER_CONFIGURED",
        "DENY_USER_CONFIGURED",
        None,
    ]


def test_private_and_loopback_can_be_allowed_but_reserved_not() -> None:
    policy = EgressPolicy.of(allow_private=True, allow_loopback=True)
    assert [policy.denial(a) for a in ("10.0.0.1", "fd00::1", "127.0.0.1", "::1")] == [None] * 4
    assert policy.denial("169.254.169.254") == "DENY_NOT_GLOBAL_UNICAST"
    assert policy.denial("100.64.0.1") == "DENY_RESERVED_RANGE"


def test_a_range_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        EgressPolicy.of(allow_ranges=["10.0.0.0/99"])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::ffff:7f00:1", "::ffff:127.0.0.1"),
        ("example.com", None),
        ("1.2.3.4.5", None),
        ("cafe", None),
        ("999999999999", None),
    ],
)
def test_literals_are_known_in_all_their_forms(host: str, address: str | None) -> None:
    found = canonical_address(host)
    assert (found and socket.inet_pton(socket.AF_INET6 if ":" in found else socket.AF_INET, found)) == (
        address and socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    )


async def test_the_check_of_a_host_says_what_was_denied_and_why() -> None:
    with pytest.raises(EgressDenied) as e:
        await STRICT.verify_host("localhost")
    assert str(e.value) in {
        "Host 'localhost' resolved to '127.0.0.1' was denied: DENY_NOT_GLOBAL_UNICAST",
        "Host 'localhost' resolved to '::1' was denied: DENY_NOT_GLOBAL_UNICAST",
    }


async def test_a_host_that_does_not_resolve_is_denied() -> None:
    with pytest.raises(EgressDenied) as e:
        await STRICT.verify_host("nowhere.invalid")
    assert str(e.value) == "Could not resolve host 'nowhere.invalid'"


async def test_one_bad_address_of_several_denies_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"both.test": ["93.184.216.34", "10.0.0.7"]})
    with pytest.raises(EgressDenied, match=r"'both\.test' resolved to '10\.0\.0\.7' was denied: DENY_PRIVATE_RANGE"):
        await STRICT.verify_host("both.test")
    async with client(STRICT) as http:
        with pytest.raises(EgressDenied, match="DENY_PRIVATE_RANGE"):
            await http.get("http://both.test/")


async def test_without_the_policy_nothing_is_resolved_and_nothing_denied(stub: Stub) -> None:
    await EgressPolicy().verify_host("nowhere.invalid")
    async with client(EgressPolicy()) as http:
        assert (await http.get(stub.url("/"))).ok


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::1]"]
)
async def test_the_connection_itself_is_guarded_in_every_spelling(stub: Stub, host: str) -> None:
    async with client(STRICT) as http:
        with pytest.raises(EgressDenied, match="DENY_NOT_GLOBAL_UNICAST"):
            await http.get(stub.url("/", host))
    assert stub.connections == 0


async def test_decimal_addresses_reach_their_target_where_they_may(stub: Stub) -> None:
    async with client(EgressPolicy.of(allow_loopback=True)) as http:
        assert (await http.get(stub.url("/", "2130706433"))).ok
    assert stub.one.header("Host") == f"2130706433:{stub.port}"


async def test_a_redirect_is_guarded_like_the_first_request(stub: Stub) -> None:
    async with running(Stub()) as inside:
        stub.reply(Reply(302, headers=[("Location", inside.url("/", "127.0.0.2"))]))
        async with client(EgressPolicy.of(allow_ranges=["127.0.0.1/32"])) as http:
            with pytest.raises(EgressDenied, match=r"127\.0\.0\.2"):
                await http.get(stub.url("/"), follow_redirects=True)
        assert (len(stub.received), inside.connections) == (1, 0)


async def test_a_name_whose_answer_changes_is_judged_by_the_address_connected(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"rebind.test": ["93.184.216.34"]})
    await STRICT.verify_host("rebind.test")
    answers(monkeypatch, {"rebind.test": ["127.0.0.1"]})
    async with client(STRICT) as http:
        with pytest.raises(EgressDenied, match=r"'127\.0\.0\.1' was denied"):
            await http.get(stub.url("/", "rebind.test"))
    assert stub.connections == 0


async def test_the_target_behind_a_proxy_is_guarded_and_the_proxy_is_not(stub: Stub) -> None:
    async with proxying(ConnectProxy()) as proxy:
        env = {"CONNECTOR_HTTP_PROXY_HOST": "127.0.0.1", "CONNECTOR_HTTP_PROXY_PORT": str(proxy.port)}
        settings = HttpSettings.from_environment(env, egress=STRICT)
        async with HttpClient(settings) as http:
            with pytest.raises(EgressDenied):
                await http.get("http://169.254.169.254/latest/meta-data")
            assert proxy.asked == []
            assert (await http.get("http://93.184.216.34/")).text == "proxied"


def answers(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> None:
    """Makes the loop resolve these names to these addresses."""

    async def getaddrinfo(self: Any, host: str, port: Any, **_: Any) -> list[Any]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port or 0)) for a in names[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


# ---- block list ----

BLOCKED = {
    "CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_META": "metadata.internal",
    "CAMUNDA_CONNECTOR_HTTP_BLOCK_PORT_DB": "5432, 80",
    "CAMUNDA_CONNECTOR_HTTP_BLOCK_REGEX_ADMIN": r"https://[^/]*/admin(/.*)?",
    "CAMUNDA_CONNECTOR_HTTP_BLOCK_URL": "forbidden",
    "OTHER": "1",
}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://metadata.internal/x", "The provided URL is not allowed (Block Name: META)"),
        ("https://h:5432/", "The provided port is not allowed (Block Name: DB)"),
        ("http://h/", "The provided port is not allowed (Block Name: DB)"),
        ("https://h/admin/users", "The provided URL is not allowed (Block Name: ADMIN)"),
        ("https://h/forbidden", "The provided URL is not allowed (Block Name: default)"),
        ("https://h/x/admin", None),
        ("https://h:443/administrator", None),
    ],
)
def test_blocked_urls_name_their_block(url: str, message: str | None) -> None:
    blocked = BlockList.from_environment(BLOCKED)
    if message is None:
        blocked.check(encode_url(url))
        return
    with pytest.raises(HttpBlocked) as e:
        blocked.check(encode_url(url))
    assert str(e.value) == message


def test_a_url_is_judged_as_written_and_as_sent() -> None:
    blocked = BlockList.from_environment({"CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_A": "/a,b"})
    with pytest.raises(HttpBlocked):
        blocked.check(encode_url("http://h/a%2Cb"))
    blocked = BlockList.from_environment({"CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_A": "a%2Cb"})
    with pytest.raises(HttpBlocked):
        blocked.check(encode_url("http://h/a%2Cb"), "http://h/a%2Cb")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("PORT_X", "80,http", "ports, separated by commas"), ("REGEX_X", "(", "a regular expression")],
)
def test_a_block_that_cannot_be_read_names_its_variable(name: str, value: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"CAMUNDA_CONNECTOR_HTTP_BLOCK_{name}: expected {expected}"):
        BlockList.from_environment({f"CAMUNDA_CONNECTOR_HTTP_BLOCK_{name}": value})


def test_a_runaway_pattern_blocks_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.http_client.guard.PATTERN_SECONDS", 0.05)
    blocked = BlockList.from_environment({"CAMUNDA_CONNECTOR_HTTP_BLOCK_REGEX_X": r"http://h/([a-z]|a|aa)+b"})
    with pytest.raises(HttpBlocked):
        blocked.check(encode_url("http://h/" + "a" * 60))


async def test_the_block_list_applies_to_every_hop(stub: Stub) -> None:
    stub.reply(Reply(302, headers=[("Location", "/secret")]))
    blocked = BlockList.from_environment({"CAMUNDA_CONNECTOR_HTTP_BLOCK_URL_S": "/secret"})
    async with HttpClient(HttpSettings(blocked=blocked)) as http:
        with pytest.raises(HttpBlocked):
            await http.get(stub.url("/"), follow_redirects=True)
    assert len(stub.received) == 1
