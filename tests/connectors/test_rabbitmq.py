"""The RabbitMQ consumer: its settings, what messages become, and its promises on a real node."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiormq
import pytest
import trustme
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from connectors import rabbitmq as module
from connectors.rabbitmq import RabbitMqSettings, rabbitmq
from gateway import ConnectorException, jsontext, sdk
from gateway.inbound.executable import State
from gateway.testing.inbound import InboundRun, an_element, run_inbound
from tests.proxy import FaultProxy
from tests.real.rabbitmq.broker import Broker, require_rabbitmq, running_broker

AWAY = sdk.EngineRefused("UNAVAILABLE", "the engine is away")
FAILED = sdk.CorrelationFailed("the result expression fails")
INVALID = sdk.InvalidInput("not what the process expects")
DONE = sdk.MessagePublished(an_element({}), 1, "<default>")

# ---- settings --------------------------------------------------------------------------------------------------------


def settings(**given: Any) -> RabbitMqSettings:
    uri = {"authType": "uri", "uri": "amqp://u:p@broker:5673/v"}
    return RabbitMqSettings.model_validate({"authentication": uri, "queueName": "q", **given})


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


URI = {"authentication.authType": "uri", "authentication.uri": "amqp://u:p@127.0.0.1:1/", "queueName": "q"}
CREDENTIALS = {
    "authentication.authType": "credentials",
    "authentication.userName": "u",
    "authentication.password": "p",
    "routing.virtualHost": "/",
    "routing.hostName": "127.0.0.1",
    "routing.port": "1",
    "queueName": "q",
}


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


# ---- what messages become --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        (b" [1, 2] ", [1, 2]),
        (b"12", 12),
        (b"true", True),
        (b'"text"', "text"),
        (b"null", "null"),
        (b"", ""),
        (b"plain text", "plain text"),
        (b"{'a': 1}", "{'a': 1}"),
        (b'{"a": 1} trailing', '{"a": 1} trailing'),
        ("grün".encode(), "grün"),
        (b"\xff\x00", "\ufffd\x00"),
        (b"[" * 5000, "[" * 5000),
    ],
)
def test_a_body_is_a_value_where_it_is_json_and_else_text(body: bytes, value: Any) -> None:
    assert module._body(body) == value
    assert type(module._body(body)) is type(value)


def test_numbers_keep_their_digits() -> None:
    body = b'{"sum":1.50,"id":12345678901234567890123,"tiny":1e-400}'
    assert jsontext.dumpb(module._body(body)) == body


def test_absent_properties_are_left_out() -> None:
    assert module._properties(Basic.Properties()) == {}
    assert module._properties(Basic.Properties(delivery_mode=2, app_id="")) == {"deliveryMode": 2, "appId": ""}


def test_a_table_has_json_forms() -> None:
    at = datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC)
    headers: dict[str, Any] = {
        "n": Decimal("1.50"),
        "at": at,
        "raw": bytearray(b"\xff"),
        "in": {"list": [None, b"\x01", True]},
    }
    found = module._properties(Basic.Properties(headers=headers, timestamp=at))
    assert jsontext.loads(jsontext.dumps(found)) == {
        "headers": {
            "n": Decimal("1.50"),
            "at": "2024-02-29T12:00:01.000+00:00",
            "raw": "/w==",
            "in": {"list": [None, "AQ==", True]},
        },
        "timestamp": "2024-02-29T12:00:01.000+00:00",
    }


def test_arguments_are_whole_where_they_are_whole() -> None:
    given = {"x-priority": Decimal(10), "x": [1.0, "1", {"y": 2.5}], "flag": True}
    found = module._table(given)
    assert found == {"x-priority": 10, "x": [1, "1", {"y": 2.5}], "flag": True}
    assert [type(found["x-priority"]), type(found["x"][0]), type(found["flag"])] == [int, int, bool]


# ---- when a message is tried again -----------------------------------------------------------------------------------


def delivered(headers: dict[str, Any] | None = None, *, redelivered: bool = False) -> DeliveredMessage:
    header = ContentHeader(properties=Basic.Properties(headers=headers))
    deliver = Basic.Deliver("t", 1, redelivered, "", "q")
    return DeliveredMessage(delivery=deliver, header=header, body=b"", channel=None)  # type: ignore[arg-type]


def pauses(message: DeliveredMessage, outcome: sdk.Outcome, attempts: int = 12) -> list[float | None]:
    again = module._again(message)
    return [None if (found := again(outcome, n)) is None else found for n in range(1, attempts + 1)]


@pytest.mark.parametrize(
    "outcome",
    [
        DONE,
        INVALID,
        sdk.ActivationConditionNotMet(consume_unmatched=False),
        sdk.MessageAlreadyCorrelated(an_element({})),
    ],
)
def test_what_is_done_or_hopeless_is_not_tried_again(outcome: sdk.Outcome) -> None:
    assert pauses(delivered(), outcome, 1) == [None]


@pytest.mark.parametrize("outcome", [FAILED, sdk.EngineRefused("NOT_FOUND", "no such process")])
def test_a_message_in_trouble_is_tried_a_few_times_with_growing_pauses(outcome: sdk.Outcome) -> None:
    first = pauses(delivered(), outcome)
    assert first[:4] == [pytest.approx(s, rel=0.11) for s in (1, 2, 4, 8)]
    assert first[4:] == [None] * 8


def test_the_pauses_grow_with_the_times_it_was_back_in_the_queue() -> None:
    assert pauses(delivered(redelivered=True), FAILED, 1) == [pytest.approx(4, rel=0.11)]
    assert pauses(delivered({"x-delivery-count": 3}), FAILED, 1) == [pytest.approx(8, rel=0.11)]
    assert pauses(delivered({"x-delivery-count": 99_999}), FAILED, 1) == [pytest.approx(60, rel=0.11)]


def test_while_the_engine_is_away_a_message_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pauses(delivered(), AWAY, 1000)
    assert None not in found
    assert found[-1] == pytest.approx(60, rel=0.11)
    monkeypatch.setattr(module, "HELD_SECONDS", -1.0)
    assert pauses(delivered(), AWAY, 1) == [None]


# ---- a real node -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(folder / "key.pem")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def broker(certificates: Path) -> Iterator[Broker]:
    """A node that the tests of this module share; each has a queue of its own."""
    require_rabbitmq()
    lines = [
        "listeners.ssl.1 = 127.0.0.1:{tls_port}",
        f"ssl_options.cacertfile = {certificates}/ca.pem",
        f"ssl_options.certfile = {certificates}/server.pem",
        f"ssl_options.keyfile = {certificates}/key.pem",
    ]
    with running_broker(*lines) as node:
        yield node


class Queue:
    """A queue of a test, seen from beside the gateway."""

    def __init__(self, port: int, channel: AbstractChannel, name: str) -> None:
        self.port = port
        self.channel = channel
        self.name = name

    @property
    def properties(self) -> dict[str, str]:
        return {
            "authentication.authType": "uri",
            "authentication.uri": f"amqp://guest:guest@127.0.0.1:{self.port}/",
            "queueName": self.name,
        }

    async def declare(self, **arguments: Any) -> None:
        given: dict[str, Any] = {name.replace("_", "-"): value for name, value in arguments.items()}
        await self.channel.queue_declare(self.name, durable=True, arguments=given)

    async def put(self, *bodies: bytes, **properties: Any) -> None:
        for body in bodies:
            await self.channel.basic_publish(
                body, routing_key=self.name, properties=Basic.Properties(delivery_mode=2, **properties)
            )

    async def ready(self) -> int:
        """How many messages nobody holds."""
        found = await self.channel.queue_declare(self.name, passive=True)
        return found.message_count or 0

    async def until_ready(self, count: int, timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            while await self.ready() != count:  # noqa: ASYNC110 - a broker tells nobody
                await asyncio.sleep(0.02)


@asynccontextmanager
async def queue_at(port: int) -> AsyncIterator[Queue]:
    async with aiormq.connect(f"amqp://guest:guest@127.0.0.1:{port}/") as connection:
        yield Queue(port, await connection.channel(), f"q{uuid.uuid4().hex[:10]}")


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[Queue]:
    async with queue_at(broker.port) as made:
        await made.declare()
        yield made


async def up(run: InboundRun, timeout: float = 10.0) -> None:
    await run.until(lambda: run.health.status == "UP", "health UP", timeout=timeout)


async def down(run: InboundRun, words: str = "", timeout: float = 10.0) -> None:
    await run.until(
        lambda: run.health.status == "DOWN" and words in (run.health.error_message or ""),
        f"health DOWN with {words!r}",
        timeout=timeout,
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are short."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


def number(event: sdk.Event) -> int:
    found: int = event["message"]["body"]
    return found


async def test_a_message_is_an_event_with_its_properties_and_its_id(queue: Queue) -> None:
    await queue.put(
        b'{"order": 1.50}',
        content_type="application/json",
        content_encoding="utf-8",
        headers={"tries": 3, "text": "ä", "deep": {"list": [1, None]}, "big": 2**40},
        priority=4,
        correlation_id="c",
        reply_to="r",
        expiration="60000",
        message_id="m-1",
        timestamp=datetime(2024, 2, 29, 12, tzinfo=UTC),
        message_type="order",
        app_id="shop",
        user_id="guest",
    )
    async with run_inbound(rabbitmq, queue.properties | {"consumerTag": "mine"}) as run:
        ((event, message_id),) = await run.received(1)
    assert message_id == "m-1"
    assert json.loads(jsontext.dumps(event)) == {
        "message": {
            "consumerTag": "mine",
            "body": {"order": 1.5},
            "properties": {
                "contentType": "application/json",
                "contentEncoding": "utf-8",
                "headers": {"tries": 3, "text": "ä", "deep": {"list": [1, None]}, "big": 2**40},
                "deliveryMode": 2,
                "priority": 4,
                "correlationId": "c",
                "replyTo": "r",
                "expiration": "60000",
                "messageId": "m-1",
                "timestamp": "2024-02-29T12:00:00.000+00:00",
                "type": "order",
                "userId": "guest",
                "appId": "shop",
            },
        }
    }


async def test_credentials_and_a_random_consumer_tag_do_as_well(queue: Queue) -> None:
    await queue.put(b"x")
    known = {"authentication.userName": "guest", "authentication.password": "{{secrets.PASSWORD}}"}
    properties = CREDENTIALS | known | {"routing.port": str(queue.port), "queueName": queue.name}
    async with run_inbound(rabbitmq, properties, secrets={"PASSWORD": "guest"}) as run:
        ((event, _),) = await run.received(1)
    assert uuid.UUID(event["message"]["consumerTag"])


async def test_what_is_done_is_acknowledged(queue: Queue) -> None:
    await queue.put(*[b"1"] * 20)
    outcomes = [
        DONE,
        sdk.ActivationConditionNotMet(consume_unmatched=True),
        sdk.MessageAlreadyCorrelated(an_element({})),
    ]
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: outcomes[len(run.events) % 3]
        await run.received(20)
    assert await queue.ready() == 0


@pytest.mark.parametrize("outcome", [INVALID, sdk.ActivationConditionNotMet(consume_unmatched=False)])
async def test_poison_goes_to_the_dead_letters_and_its_neighbours_flow(queue: Queue, outcome: sdk.Outcome) -> None:
    dead = Queue(queue.port, queue.channel, f"{queue.name}-dead")
    await dead.declare()
    queue.name += "-living"
    await queue.declare(x_dead_letter_exchange="", x_dead_letter_routing_key=dead.name)
    await queue.put(b"1", b'"poison"', b"2")
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: outcome if event["message"]["body"] == "poison" else DONE
        await run.received(3)
        await dead.until_ready(1)
    message = await queue.channel.basic_get(dead.name, no_ack=True)
    assert message.body == b'"poison"'
    assert await queue.ready() == 0


async def test_a_message_in_trouble_goes_back_into_the_queue_without_a_storm(queue: Queue, impatient: None) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties) as run:
        run.answer = lambda event, message_id: FAILED
        await run.received(module.ATTEMPTS + 1)
        await asyncio.sleep(0.5)
        count = len(run.events)
        assert count <= module.ATTEMPTS + 0.5 / 0.045 + 5, "one attempt in LONGEST_PAUSE"
        run.answer = lambda event, message_id: DONE
        await run.received(count + 1)
    assert await queue.ready() == 0


async def test_row_24_while_the_engine_is_away_nothing_is_acknowledged_and_no_more_is_taken(
    queue: Queue, impatient: None
) -> None:
    """A quorum queue counts what comes back; with this limit a single return would make dead letters of good messages."""
    queue.name += "-quorum"
    await queue.declare(x_queue_type="quorum", x_delivery_limit=1)
    await queue.put(*[str(n).encode() for n in range(20)])
    away = True
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "5"}) as run:
        run.answer = lambda event, message_id: AWAY if away else DONE
        await run.received(60)
        assert {number(event) for event, _ in run.events} == set(range(5))
        assert await queue.ready() == 15
        assert run.health.status == "UP"
        before, away = len(run.events), False
        await run.until(lambda: len(run.events) >= before + 20, "all events")
        assert {number(event) for event, _ in run.events[before:]} == set(range(20))
        assert all("x-delivery-count" not in (e["message"]["properties"].get("headers") or {}) for e, _ in run.events)
    assert await queue.ready() == 0


async def test_never_more_messages_here_than_the_prefetch_count(queue: Queue) -> None:
    await queue.put(*[b"1"] * 60)
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "7"}, delay=0.05) as run:
        await run.until(lambda: run.under_way == 7, "a full window")
        assert await queue.ready() >= 60 - 7 - len(run.events) - 7
        await run.received(60)
        assert run.most == 7


async def test_a_prefetch_count_of_one_keeps_the_order(queue: Queue, impatient: None) -> None:
    await queue.put(*[str(n).encode() for n in range(30)])
    tried: set[int] = set()

    def answer(event: sdk.Event, message_id: str | None) -> sdk.Outcome:
        first = number(event) not in tried
        tried.add(number(event))
        return AWAY if first and number(event) % 3 == 0 else DONE

    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "1"}, answer=answer) as run:
        await run.received(40)
    seen = [number(event) for event, _ in run.events]
    assert seen == sorted(seen)
    assert seen.count(3) == 2


async def test_arguments_may_be_feel_or_json(queue: Queue) -> None:
    """A stream gives what it had before only to who asks for it by an argument."""
    queue.name += "-stream"
    await queue.declare(x_queue_type="stream")
    await queue.put(b"1", b"2", b"3")
    for arguments in ('{"x-stream-offset": "first"}', '={"x-stream-offset": 1.0 - 1}'):
        async with run_inbound(rabbitmq, queue.properties | {"arguments": arguments}) as run:
            assert [number(event) for event, _ in (await run.received(3))[:3]] == [1, 2, 3]


async def test_an_exclusive_consumer_has_the_queue_for_itself(queue: Queue) -> None:
    async with run_inbound(rabbitmq, queue.properties | {"exclusive": "true"}) as first:
        await up(first)
        async with run_inbound(rabbitmq, queue.properties) as second:
            await down(second, "ACCESS_REFUSED")
        assert first.health.status == "UP"


# ---- ends ------------------------------------------------------------------------------------------------------------


async def test_at_the_end_what_runs_is_finished_and_the_rest_is_back_at_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three wait for another attempt, sixty are with the process, and four the broker still has."""
    await queue.put(*[str(n).encode() for n in range(67)])
    slow = asyncio.Event()
    async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "63"}) as run:
        correlate = run.executable.correlate

        async def handled(event: sdk.Event, **options: Any) -> sdk.Outcome:
            if number(event) < 3:
                return AWAY
            await slow.wait()
            return await correlate(event, **options)

        monkeypatch.setattr(run.executable, "correlate", handled)
        await up(run)
        await queue.until_ready(4)
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.5, slow.set)
        began = asyncio.get_running_loop().time()
        await run.executable.stop()
        assert asyncio.get_running_loop().time() - began < 2
        assert [number(event) for event, _ in run.events] == [*range(3, 63)]
    await queue.until_ready(7, timeout=1)
    left = [await queue.channel.basic_get(queue.name, no_ack=True) for _ in range(7)]
    assert sorted(int(message.body) for message in left) == [0, 1, 2, 63, 64, 65, 66]


async def test_what_hangs_at_the_end_is_back_in_the_queue(queue: Queue) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties, delay=60) as run:
        await run.until(lambda: run.under_way == 1, "the event")
        await run.executable.stop(grace=0.3)
        assert run.under_way == 0
    await queue.until_ready(1, timeout=1)


async def test_the_connection_is_gone_with_the_connector(queue: Queue) -> None:
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties) as run:
            await up(run)
            assert proxy.connections == 1
        await asyncio.sleep(0.1)
        assert proxy.connections == 0


# ---- trouble ---------------------------------------------------------------------------------------------------------


async def test_a_queue_that_is_not_there_is_waited_for_and_never_made(broker: Broker) -> None:
    async with queue_at(broker.port) as queue, run_inbound(rabbitmq, queue.properties) as run:
        await down(run, f"NOT_FOUND - no queue '{queue.name}'")
        await queue.declare()
        await queue.put(b"1")
        await run.received(1)
        assert run.health.status == "UP"


async def test_a_queue_deleted_is_down_at_once_and_up_again_when_it_is_back(queue: Queue) -> None:
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties) as run:
        await run.received(1)
        await queue.channel.queue_delete(queue.name)
        await down(run, "the broker has ended the consumer", timeout=1)
        await down(run, "NOT_FOUND")
        await asyncio.sleep(2)
        assert run.executable.statistics.failures <= 3, "no hot loop"
        await queue.declare()
        await queue.put(b"2")
        await run.received(2)
        assert run.health.status == "UP"


async def test_a_refused_login_says_so_without_the_password(queue: Queue) -> None:
    uri = f"amqp://guest:{{{{secrets.PASSWORD}}}}@127.0.0.1:{queue.port}/"
    async with run_inbound(
        rabbitmq, queue.properties | {"authentication.uri": uri}, secrets={"PASSWORD": "hush-hush"}
    ) as run:
        await down(run, "ACCESS_REFUSED")
        assert "hush-hush" not in repr(run.health) + repr(run.log)


async def test_a_message_whose_acknowledgement_is_lost_comes_again(queue: Queue) -> None:
    await queue.put(b"1", message_id="m-1")
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties, delay=0.5) as run:
            await run.until(lambda: run.under_way == 1, "the event")
            proxy.reset()
            await down(run, timeout=0.4)
            assert run.under_way == 1, "down is told before what is under way has ended"
            events = await run.received(2)
            assert [message_id for _, message_id in events] == ["m-1", "m-1"]
            assert run.health.status == "UP"
    assert await queue.ready() == 0


@pytest.mark.slow
async def test_a_silent_connection_is_noticed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    async with FaultProxy(queue.port) as proxy:
        properties = queue.properties | {"authentication.uri": f"amqp://guest:guest@127.0.0.1:{proxy.port}/"}
        async with run_inbound(rabbitmq, properties) as run:
            await up(run)
            proxy.freeze()
            await queue.put(b"1")
            await down(run, timeout=15)
            await run.received(1)
            assert run.health.status == "UP"


async def test_a_connection_cut_at_any_byte_of_its_beginning_is_a_failure(queue: Queue) -> None:
    """Whatever the client library makes of it: only who cancels the connector ends it."""

    limit = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection("127.0.0.1", queue.port)

        async def up() -> None:
            while data := await reader.read(65536):
                server.write(data)

        upward, left = asyncio.create_task(up()), limit
        while left and (data := await server_reader.read(left)):
            left -= len(data)
            writer.write(data)
        upward.cancel()
        writer.close()
        server.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        uri = {"authType": "uri", "uri": f"amqp://guest:guest@127.0.0.1:{port}/"}
        given = settings(authentication=uri, queueName=queue.name)
        async with run_inbound(rabbitmq, queue.properties, start=False) as run:
            for limit in [*range(0, 480, 37), *range(500, 610, 3)]:  # noqa: B007 - `cut` reads it
                with pytest.raises(ConnectorException, match=queue.name):
                    await asyncio.wait_for(rabbitmq(given, run.executable), 10)


async def test_a_call_that_the_library_cancels_is_a_failure_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(url: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(aiormq, "connect", cancelled)
    async with run_inbound(rabbitmq, URI) as run:
        await down(run, "the connection was closed")
        await run.until(lambda: run.executable.statistics.failures == 2, "another attempt")


@pytest.mark.parametrize(
    ("query", "words"),
    [("", "CERTIFICATE_VERIFY_FAILED"), ("?cafile={folder}/ca.pem", None), ("?no_verify_ssl=1", None)],
)
async def test_tls_wants_a_certificate_that_it_can_trust_or_is_told_not_to_look(
    broker: Broker, queue: Queue, certificates: Path, query: str, words: str | None
) -> None:
    uri = f"amqps://guest:guest@127.0.0.1:{broker.tls_port}/{query.format(folder=certificates)}"
    await queue.put(b"1")
    async with run_inbound(rabbitmq, queue.properties | {"authentication.uri": uri}) as run:
        if words is not None:
            await down(run, words)
        else:
            await run.received(1)


@pytest.mark.slow
async def test_row_19_a_broker_that_is_down_at_the_start_is_waited_for() -> None:
    require_rabbitmq()
    with running_broker() as node:
        async with queue_at(node.port) as queue:
            await queue.declare()
            await queue.put(b"1")
        node.stop()
        async with run_inbound(rabbitmq, queue.properties) as run:
            await down(run, "Connect call failed")
            await asyncio.to_thread(node.start)
            await run.received(1, timeout=30)
            assert run.health.status == "UP"


@pytest.mark.slow
async def test_row_19_a_broker_that_crashes_is_waited_for_and_nothing_is_lost() -> None:
    require_rabbitmq()
    with running_broker() as node:
        async with queue_at(node.port) as queue:
            await queue.declare()
            await queue.put(*[str(n).encode() for n in range(200)])
        async with run_inbound(rabbitmq, queue.properties | {"prefetchCount": "4"}, delay=0.01) as run:
            await run.received(50)
            node.kill()
            await down(run)
            await run.until(lambda: run.under_way == 0, "the end of what was under way")
            before = len(run.events)
            await asyncio.to_thread(node.start)
            await run.until(
                lambda: {number(event) for event, _ in run.events} == set(range(200)), "all events", timeout=40
            )
            assert len(run.events) <= 200 + before, "what comes twice had come before the crash"
            assert run.health.status == "UP"
