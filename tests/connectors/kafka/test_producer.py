"""The producer: jobs worked as the gateway works them, against a real node."""

import asyncio
import io
import json
import time
from typing import Any

import fastavro
import pytest
from aiokafka.partitioner import murmur2

from connectors.kafka._producing import Producers, opened
from connectors.kafka.producer import kafka_producer
from gateway.http_client import HttpRequest
from gateway.testing import FakeHttp, Outcome, run_job
from tests.connectors.kafka.conftest import Kafka
from tests.connectors.kafka.test_client import TOPIC
from tests.real.processes import free_port

real = pytest.mark.real

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "string"},
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {"type": "record", "name": "Line", "fields": [{"name": "n", "type": "int"}]},
            },
        },
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
VALUE = {"id": "o-1", "lines": [{"n": 1}, {"n": 2}], "note": None}


async def produce(
    kafka: Kafka | str, topic: str, message: Any, *, http: FakeHttp | None = None, secrets: Any = None, **more: Any
) -> Outcome:
    """Works one job."""
    address = kafka if isinstance(kafka, str) else kafka.broker.address
    given = {"topic": {"bootstrapServers": address, "topicName": topic}, "message": message, **more}
    client = http or FakeHttp(lambda request: (404, {"message": "Not here"}))
    return await run_job(kafka_producer, given, headers={"resultVariable": "r"}, http=client, secrets=secrets)


async def sent(kafka: Kafka, message: Any, **more: Any) -> Any:
    """The record that a job sends."""
    topic = await kafka.topic(1)
    outcome = await produce(kafka, topic, message, **more)
    assert outcome.kind == "completed", outcome.message
    (record,) = await kafka.records(topic, 1)
    return record


# ---- what is sent ----------------------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("message", "key", "value"),
    [
        ({"key": "k", "value": "text"}, b"k", b"text"),
        ({"key": 7, "value": {"a": None, "b": [1.5]}}, b"7", b'{"a":null,"b":[1.5]}'),
        ({"key": {"id": 1}, "value": True}, b'{"id":1}', b"true"),
        ({"value": ""}, b"null", b""),
        ({"key": None, "value": "ä"}, b"null", "ä".encode()),
    ],
)
async def test_keys_and_values_are_text_or_json(kafka: Kafka, message: Any, key: bytes, value: bytes) -> None:
    record = await sent(kafka, message)
    assert (record.key, record.value) == (key, value)


@real
async def test_the_response_tells_where_the_record_is(kafka: Kafka) -> None:
    topic = await kafka.topic(3)
    await kafka.send(topic, *("x" * 3), key="some key")
    before = int(time.time() * 1000)
    outcome = await produce(kafka, topic, {"key": "some key", "value": "x"})
    found = outcome.variables["r"]
    assert set(found) == {"topic", "timestamp", "offset", "partition"}
    assert (found["topic"], found["offset"]) == (topic, 3)
    assert found["partition"] == (murmur2(b"some key") & 0x7FFFFFFF) % 3
    assert before - 1000 <= found["timestamp"] <= int(time.time() * 1000) + 1000


@real
async def test_headers_are_texts(kafka: Kafka) -> None:
    record = await sent(kafka, {"value": "x"}, headers={"trace": "1", "name": "ä"})
    assert dict(record.headers) == {"trace": b"1", "name": "ä".encode()}


@real
async def test_without_acknowledgement_nobody_knows_where_the_record_is(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    outcome = await produce(
        kafka, topic, {"value": "x"}, additionalProperties={"acks": "0", "compression.type": "zstd"}
    )
    assert (outcome.variables["r"]["offset"], outcome.variables["r"]["partition"]) == (-1, -1)
    (record,) = await kafka.records(topic, 1)
    assert record.value == b"x"


@real
async def test_an_inline_schema_writes_avro_without_framing(kafka: Kafka) -> None:
    strategy = {"type": "inlineSchema", "schema": json.dumps(ORDER)}
    for value in ({**VALUE, "unknown": 1}, json.dumps(VALUE), json.dumps(VALUE).replace('"', "'")):
        record = await sent(kafka, {"value": value}, schemaStrategy=strategy)
        read = fastavro.schemaless_reader(io.BytesIO(record.value), fastavro.parse_schema(ORDER), None)
        assert read == VALUE


def registry(request: HttpRequest) -> Any:
    """A registry that takes what it gets."""
    if (request.method, request.url.target.endswith("-value/versions")) == ("POST", True):
        return {"id": 300}
    return 404, {"message": "Not here"}


@real
@pytest.mark.parametrize("value", [VALUE, json.dumps(VALUE)], ids=["map", "text"])
async def test_a_registered_schema_writes_avro_in_wire_format(kafka: Kafka, value: Any) -> None:
    http = FakeHttp(registry)
    strategy = {"type": "schemaRegistry", "schema": json.dumps(ORDER), "schemaRegistryUrl": "http://registry"}
    record = await sent(kafka, {"value": value}, schemaStrategy=strategy, http=http)
    assert record.value[:5] == b"\x00\x00\x00\x01\x2c"
    assert fastavro.schemaless_reader(io.BytesIO(record.value[5:]), fastavro.parse_schema(ORDER), None) == VALUE
    (request,) = http.requests
    assert request.url.target == f"/subjects/{record.topic}-value/versions"


@real
async def test_a_registered_json_schema_writes_json_in_wire_format(kafka: Kafka) -> None:
    http = FakeHttp(registry)
    strategy = {
        "type": "schemaRegistry",
        "schema": '{"type":"object"}',
        "schemaType": "json",
        "schemaRegistryUrl": "http://r",
    }
    record = await sent(kafka, {"value": VALUE}, schemaStrategy=strategy, http=http)
    assert record.value[:5] == b"\x00\x00\x00\x01\x2c"
    assert json.loads(record.value[5:]) == VALUE
    assert json.loads(http.requests[0].body or b"")["schemaType"] == "JSON"  # type: ignore[arg-type]


@real
async def test_a_user_logs_in_over_tls(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    more = {"ssl.truststore.location": str(kafka.broker.authority)}
    for password, kind in (('alice"s', "completed"), ("wr0ng", "failed")):
        outcome = await produce(
            f"127.0.0.1:{kafka.broker.secure_port}",
            topic,
            {"value": "x"},
            authentication={"username": "alice", "password": "{{secrets.WORD}}"},
            additionalProperties=more,
            secrets={"WORD": password},
        )
        assert outcome.kind == kind
        assert ("Authentication failed" in (outcome.message or "")) == (kind == "failed")
        assert "wr0ng" not in repr(outcome)


# ---- what fails ------------------------------------------------------------------------------------------------------


async def failed(message: Any = None, address: str = "127.0.0.1:1", **more: Any) -> tuple[int | None, str, Any]:
    """Retries, message, and code of a job that fails."""
    outcome = await produce(address, "orders", message or {"value": "x"}, **more)
    assert outcome.kind == "failed"
    return outcome.retries, outcome.message or "", (outcome.error or {}).get("code")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"authentication": {"username": "alice"}}, "Username / password pair is required"),
        ({"message": {"key": "k", "value": None}}, "message.value"),
        ({"schemaStrategy": {"type": "inlineSchema"}}, "schema: must not be blank"),
        ({"schemaStrategy": {"type": "schemaRegistry", "schema": "{}"}}, "schemaRegistryUrl: must not be blank"),
        ({"additionalProperties": {"acks": "2"}}, "Expected all, -1, 0 or 1"),
        ({"additionalProperties": {"acks": "1", "enable.idempotence": True}}, "acks=1 not supported"),
        ({"additionalProperties": {"compression.type": "rar"}}, "Expected none, gzip"),
    ],
)
async def test_inputs_that_cannot_work_are_an_incident_at_once(given: dict[str, Any], said: str) -> None:
    retries, message, _ = await failed(**given)
    assert retries == 0
    assert said in message


async def test_a_broker_that_is_away_fails_with_the_reason() -> None:
    port = free_port()
    retries, message, code = await failed(address=f"127.0.0.1:{port}")
    assert (retries, code) == (2, "FAIL")
    assert message.startswith("Error during Kafka Producer execution; error message: [Kafka at 127.0.0.1:")
    assert "Connect call failed" in message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"headers": {"trace": None}}, "headers.trace: expected a text, but got null"),
        ({"schemaStrategy": {"type": "inlineSchema", "schema": "{"}}, "not JSON"),
        (
            {"schemaStrategy": {"type": "inlineSchema", "schema": json.dumps(ORDER)}, "message": {"value": {}}},
            "$.id: expected string",
        ),
        (
            {
                "schemaStrategy": {
                    "type": "schemaRegistry",
                    "schema": json.dumps(ORDER),
                    "schemaRegistryUrl": "http://r",
                }
            },
            "Message value must be a map for a schema based message",
        ),
        (
            {
                "schemaStrategy": {
                    "type": "schemaRegistry",
                    "schema": json.dumps(ORDER),
                    "schemaRegistryUrl": "http://r",
                },
                "message": {"value": VALUE},
            },
            "The schema registry refused /subjects/orders-value/versions: 404 Not here",
        ),
    ],
)
async def test_what_cannot_be_written_fails_with_the_code_of_the_original(given: dict[str, Any], said: str) -> None:
    retries, message, code = await failed(**given)
    assert (retries, code) == (2, "FAIL")
    assert message.startswith("Error during Kafka Producer execution; error message: [")
    assert said in message


@real
async def test_a_topic_that_is_not_there_fails_in_time(kafka: Kafka) -> None:
    begin = time.monotonic()
    soon = {"request.timeout.ms": "800", "delivery.timeout.ms": 3000}
    outcome = await produce(kafka, "nowhere", {"value": "x"}, additionalProperties=soon)
    assert "UnknownTopicOrPartition" in (outcome.message or "")
    outcome = await produce(kafka, "nowhere", {"value": "x"}, additionalProperties={"delivery.timeout.ms": 500})
    assert "did not take the record within 0.5 s" in (outcome.message or "")
    assert time.monotonic() - begin < 5


# ---- producers, shared by jobs ---------------------------------------------------------------------------------------


def of(kafka: Kafka, **more: str) -> dict[str, str]:
    return {"bootstrap.servers": kafka.broker.address, **{name.replace("_", "."): text for name, text in more.items()}}


async def send(pool: Producers, properties: dict[str, str], topic: str) -> Any:
    """Sends a record; the producer that did it."""
    async with pool.using(pool.get(properties, FakeHttp(lambda _: {}))) as producer:
        await producer.send_and_wait(topic, b"x", b"k")
        return producer


@real
async def test_jobs_of_one_configuration_share_a_producer(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    async with opened() as pool:
        first, *others = await asyncio.gather(*(send(pool, of(kafka), topic) for _ in range(5)))
        assert all(each is first for each in others)
        assert await send(pool, of(kafka, client_id="me"), topic) is not first
        assert len(pool) == 2
    assert first._closed


@real
async def test_unused_producers_are_closed_and_never_too_many_are_open(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    pool = Producers(limit=2, idle=0.2)
    made = [await send(pool, of(kafka, client_id=str(n)), topic) for n in range(4)]
    assert len(pool) == 2
    await asyncio.sleep(0.05)
    assert [each._closed for each in made] == [True, True, False, False]
    await asyncio.sleep(0.2)
    pool.tidy()
    assert len(pool) == 0
    await pool.close()
    assert all(each._closed for each in made)


@real
async def test_a_producer_in_use_is_not_closed(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    pool = Producers(limit=0, idle=0.0)
    async with pool.using(pool.get(of(kafka), FakeHttp(lambda _: {}))) as producer:
        pool.tidy()
        await producer.send_and_wait(topic, b"x")
    await pool.close()
    assert producer._closed


@real
async def test_a_producer_whose_sender_has_ended_is_replaced(kafka: Kafka) -> None:
    topic = await kafka.topic(1)
    async with opened() as pool:
        first = await send(pool, of(kafka), topic)
        first._sender.sender_task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await send(pool, of(kafka), topic) is not first


def test_the_variables_are_those_of_the_original() -> None:
    assert TOPIC.topicName == "orders"
    assert kafka_producer.input_variables == (
        "authentication",
        "topic",
        "message",
        "schemaStrategy",
        "additionalProperties",
        "headers",
    )
