"""The Java client's properties in this client's terms."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from pydantic import ValidationError

from connectors.kafka._client import Arguments, arguments, reason, words
from connectors.kafka._consuming import CONSUMER
from connectors.kafka._producing import PRODUCER
from connectors.kafka._settings import Authentication, Topic, jaas_options, java_properties
from gateway import ConnectorInputException
from gateway.http_client import HttpRequest
from gateway.testing import FakeHttp
from tests.real.processes import free_port

TOPIC = Topic(bootstrapServers="a:1, b:2", topicName="orders")


def given(
    additional: dict[str, Any] | None = None, *, username: str | None = None, password: str | None = None
) -> Arguments:
    """The consumer's arguments."""
    login = Authentication(username=username, password=password)
    return arguments(java_properties(TOPIC, login, additional), CONSUMER)


def test_without_anything_more_the_defaults_are_those_of_the_original() -> None:
    found = given()
    assert found.client == {
        "bootstrap_servers": ["a:1", "b:2"],
        "request_timeout_ms": 30000,
        "security_protocol": "PLAINTEXT",
    }
    assert found.own == {"session_timeout_ms": 45000, "heartbeat_interval_ms": 3000}
    assert found.unknown == ()


@pytest.mark.parametrize("password", ["secret", 's"ec\\ret;', "='x'"])
def test_a_user_and_a_password_are_sasl_over_tls(password: str) -> None:
    client = given(username="al;ice", password=password).client
    assert (client["security_protocol"], client["sasl_mechanism"]) == ("SASL_SSL", "PLAIN")
    assert (client["sasl_plain_username"], client["sasl_plain_password"]) == ("al;ice", password)
    assert client["ssl_context"].check_hostname


@pytest.mark.parametrize("pair", [("alice", None), ("", "word"), (" ", "word")])
def test_one_of_user_and_password_is_not_enough(pair: tuple[str, str | None]) -> None:
    with pytest.raises(ValidationError, match="Username / password pair is required"):
        Authentication(username=pair[0], password=pair[1])


def test_a_password_is_in_no_text() -> None:
    found = given(username="alice", password="s3cret")
    assert "s3cret" not in repr(found)
    assert "s3cret" not in repr(Authentication(username="alice", password="s3cret"))


def test_additional_properties_override_all_that_comes_before() -> None:
    more = {
        "bootstrap.servers": "SASL_SSL://c:3",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required username='bob' password='x';",
        "session.timeout.ms": 6000,
        "request.timeout.ms": "5000",
    }
    found = given(more, username="alice", password="word")
    assert found.client == {
        "bootstrap_servers": ["c:3"],
        "request_timeout_ms": 5000,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "bob",
        "sasl_plain_password": "x",
    }
    assert found.own["session_timeout_ms"] == 6000


def test_properties_of_the_consumer_have_their_arguments() -> None:
    more = {
        "group.instance.id": "one",
        "max.poll.interval.ms": "1000",
        "max.poll.records": 5,
        "isolation.level": "READ_COMMITTED",
        "fetch.min.bytes": "1",
        "fetch.max.wait.ms": "100",
        "check.crcs": False,
        "client.id": "me",
        "connections.max.idle.ms": "-1",
        "partition.assignment.strategy": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor,"
        "org.apache.kafka.clients.consumer.RoundRobinAssignor",
    }
    found = given(more)
    assert found.own["partition_assignment_strategy"][0].name == "roundrobin"
    assert {**found.own, "partition_assignment_strategy": None} == {
        "session_timeout_ms": 45000,
        "heartbeat_interval_ms": 3000,
        "group_instance_id": "one",
        "max_poll_interval_ms": 1000,
        "max_poll_records": 5,
        "isolation_level": "read_committed",
        "fetch_min_bytes": 1,
        "fetch_max_wait_ms": 100,
        "check_crcs": False,
        "partition_assignment_strategy": None,
    }
    assert (found.client["client_id"], found.client["connections_max_idle_ms"]) == ("me", None)


def test_properties_of_the_producer_have_their_arguments() -> None:
    more = {"acks": "ALL", "compression.type": "zstd", "linger.ms": 5, "enable.idempotence": True, "retries": 3}
    found = arguments(java_properties(TOPIC, None, more), PRODUCER)
    assert found.own == {"acks": "all", "compression_type": "zstd", "linger_ms": 5, "enable_idempotence": True}
    assert found.unknown == ("retries",)


def test_properties_of_the_java_clients_machinery_need_no_warning() -> None:
    quiet = [
        "client.dns.lookup",
        "value.deserializer",
        "enable.auto.commit",
        "basic.auth.user.info",
        "metric.reporters",
        "ssl.protocol",
    ]
    assert given(dict.fromkeys(quiet, "x")).unknown == ()
    assert given({"colour": "x", "nothing": None}).unknown == ("colour",)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"session.timeout.ms": "soon"}, "'session.timeout.ms': unexpected value 'soon'"),
        ({"security.protocol": "TLS"}, "expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, but got 'TLS'"),
        ({"security.protocol": "SASL_SSL"}, "sasl.jaas.config': expected a login module with username and password"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "DIGEST"}, "expected one of PLAIN"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "Kerberos"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "token.endpoint.url"),
        ({"partition.assignment.strategy": "mine"}, "Supported: range, roundrobin, sticky"),
    ],
)
def test_a_property_that_cannot_be_used_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConnectorInputException) as refused:
        given(more)
    assert said in str(refused.value)


def test_login_modules_quote_their_options() -> None:
    text = """a.b.Module required username="al\\"i;ce" password='w\\\\o' debug=true;"""
    assert jaas_options(text) == {"username": 'al"i;ce', "password": "w\\o", "debug": "true"}


async def test_tokens_come_from_the_token_endpoint_once() -> None:
    def answer(request: HttpRequest) -> Any:
        return {"access_token": "t", "expires_in": 3600}

    http = FakeHttp(answer)
    more = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example/token",
        "sasl.jaas.config": 'x.OAuthBearerLoginModule required clientId="me" clientSecret="s" scope="kafka";',
    }
    provider = arguments(java_properties(TOPIC, None, more), CONSUMER, http).client["sasl_oauth_token_provider"]
    assert (await provider.token(), await provider.token()) == ("t", "t")
    (request,) = http.requests
    assert b"scope=kafka" in bytes(request.body or b"")  # type: ignore[arg-type]
    await http.close()


# ---- reasons ---------------------------------------------------------------------------------------------------------


async def test_the_reason_for_no_connection_is_asked_for() -> None:
    port = free_port()
    client = {"bootstrap_servers": [f"127.0.0.1:{port}"], "security_protocol": "PLAINTEXT"}
    said = await reason(client, KafkaConnectionError("Unable to bootstrap"))
    assert said.startswith(f"Kafka at 127.0.0.1:{port} cannot be reached: 127.0.0.1:{port}: ")
    assert "Connect call failed" in said


async def test_a_host_without_an_address_is_named() -> None:
    client = {"bootstrap_servers": ["nowhere.invalid:9092"], "security_protocol": "PLAINTEXT"}
    assert "nowhere.invalid:9092: " in await reason(client, KafkaConnectionError("Unable to bootstrap"))


async def test_other_errors_speak_for_themselves() -> None:
    said = await reason({"bootstrap_servers": ["a:1"]}, UnknownTopicOrPartitionError())
    assert said == "Kafka at a:1: UnknownTopicOrPartitionError"
    assert words(ValueError("x")) == "ValueError: x"


# ---- TLS -------------------------------------------------------------------------------------------------------------


def test_a_trust_store_in_pem_is_read_from_a_file_or_the_property(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    (tmp_path / "ca.pem").write_text(pem)
    for more in ({"ssl.truststore.location": str(tmp_path / "ca.pem")}, {"ssl.truststore.certificates": pem}):
        context: ssl.SSLContext = given({"security.protocol": "SSL", **more}).client["ssl_context"]
        assert len(context.get_ca_certs()) == 1
