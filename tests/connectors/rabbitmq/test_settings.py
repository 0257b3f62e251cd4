"""What the properties of a RabbitMQ consumer say, and what is wrong with them."""

from collections.abc import Mapping

import aiormq
import pytest

from connectors.rabbitmq import RabbitMqSettings, rabbitmq
from gateway.inbound.executable import State
from gateway.testing.inbound import run_inbound
from tests.connectors.rabbitmq.conftest import CREDENTIALS, URI, settings


def credentials(user: str, password: str, vhost: str) -> RabbitMqSettings:
    known = {"authType": "credentials", "userName": user, "password": password}
    return settings(authentication=known, routing={"virtualHost": vhost, "hostName": "broker", "port": 5673})


def test_a_uri_says_all_and_may_say_more() -> None:
    url = settings().url("order/start")
    assert str(url.with_query(None)) == "amqp://u:p@broker:5673/v"
    assert dict(url.query) == {"heartbeat": "8", "name": "order/start"}
    own = {"authType": "uri", "uri": "amqps://u:p@broker/v?heartbeat=30&cafile=/ca.pem"}
    url = settings(authentication=own).url("x")
    assert (url.scheme, url.query["heartbeat"], url.query["cafile"]) == ("amqps", "30", "/ca.pem")


@pytest.mark.parametrize("vhost", ["/", "v", "a/b c", "ä?#@:"])
async def test_credentials_and_virtual_hosts_may_hold_any_character(vhost: str) -> None:
    url = credentials("u@:/#%", "p w%2F?&=+", vhost).url("x")
    connection = aiormq.Connection(url)
    assert (url.user, url.password, url.host, url.port) == ("u@:/#%", "p w%2F?&=+", "broker", 5673)
    assert connection.vhost == vhost


async def refusal(properties: Mapping[str, str]) -> str:
    """Why the connector does not start with these properties."""
    async with run_inbound(rabbitmq, properties) as run:
        await run.until(lambda: run.state is State.FAILED, "a refusal")
        return run.health.error_message or ""


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        (URI | {"authentication.uri": "http://x"}, "Property 'authentication.uri': must be a URI that starts with"),
        (URI | {"authentication.uri": "amqp://u:hush@h:port/"}, "Property 'authentication.uri': must be a URI"),
        (URI | {"authentication.uri": "amqp:///v"}, "Property 'authentication.uri': must be a URI"),
        (URI | {"queueName": " "}, "Property 'queueName': must not be blank"),
        (URI | {"prefetchCount": "0"}, "Property 'prefetchCount': must be greater than or equal to 1"),
        (URI | {"arguments": "x-priority"}, "arguments"),
        (CREDENTIALS | {"authentication.password": ""}, "Property 'authentication.password': must not be blank"),
        (CREDENTIALS | {"routing.port": "none"}, "routing.port"),
        ({k: v for k, v in CREDENTIALS.items() if k != "routing.hostName"}, "Property 'routing.hostName'"),
        ({k: v for k, v in CREDENTIALS.items() if "routing" not in k}, "Property 'routing.virtualHost'"),
    ],
)
async def test_what_is_wrong_names_the_property(properties: Mapping[str, str], words: str) -> None:
    reason = await refusal(properties)
    assert words in reason
    assert "hush" not in reason


async def test_what_a_template_leaves_beside_a_uri_counts_for_nothing() -> None:
    reason = await refusal(URI | {"routing.port": "", "routing.hostName": "", "consumerTag": "", "exclusive": ""})
    assert "queue 'q' at 127.0.0.1: " in reason, "it tried to connect"
    assert "Connect call failed" in reason
