"""What a message of RabbitMQ is to a process."""

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from pamqp.commands import Basic

from connectors import rabbitmq as module
from connectors.rabbitmq import rabbitmq
from gateway import jsontext
from gateway.testing.inbound import run_inbound
from tests.connectors.rabbitmq.conftest import CREDENTIALS, Queue, number


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


# ---- on the wire ------------------------------------------------------------------------------------------------------


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


_NANOSECONDS = (1_700_000_000_000_000_000).to_bytes(8, "big")


class _Raw(Basic.Properties):
    """Properties with bytes on the wire that no Python client writes."""

    __slots__: ClassVar[list[str]] = Basic.Properties.__slots__
    raw: ClassVar[dict[str, bytes]] = {
        "timestamp": _NANOSECONDS,
        "content_type": b"\x06text/\xe4",  # Latin-1
        "headers": b"\x00\x00\x00\x0b\x01kT" + _NANOSECONDS,
    }

    def encode_property(self, name: str, value: Any) -> bytes:
        return self.raw[name] if name in self.raw else super().encode_property(name, value)


async def test_a_message_with_unreadable_properties_goes_on_without_them_and_its_neighbours_flow(queue: Queue) -> None:
    strange = _Raw(content_type="x", headers={}, timestamp=datetime.now(UTC), message_id="m-2", priority=3)
    await queue.put(b"1", headers={"n": 1}, timestamp=datetime(2024, 1, 1, tzinfo=UTC))
    await queue.channel.basic_publish(b"2", routing_key=queue.name, properties=strange)
    await queue.put(b"3", content_type="text/ä")
    async with run_inbound(rabbitmq, queue.properties) as run:
        events = {number(event): event["message"]["properties"] for event, _ in await run.received(3)}
        assert len(run.events) == 3
        assert events[2] == {"priority": 3, "messageId": "m-2"}
        assert events[1]["headers"] == {"n": 1}
        assert events[3]["contentType"] == "text/ä"
        named = {e.message.rpartition(" ")[2] for e in run.log if e.severity == "WARNING"}
        assert named == {"content_type", "headers", "timestamp"}
        assert run.health.status == "UP"
    assert await queue.ready() == 0


async def test_credentials_and_a_random_consumer_tag_do_as_well(queue: Queue) -> None:
    await queue.put(b"x")
    known = {"authentication.userName": "guest", "authentication.password": "{{secrets.PASSWORD}}"}
    properties = CREDENTIALS | known | {"routing.port": str(queue.port), "queueName": queue.name}
    async with run_inbound(rabbitmq, properties, secrets={"PASSWORD": "guest"}) as run:
        ((event, _),) = await run.received(1)
    assert uuid.UUID(event["message"]["consumerTag"])
