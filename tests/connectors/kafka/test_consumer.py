"""The consumer against a real node: what records become, groups, offsets, records that cannot be handled."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import BaseModel

from connectors.kafka.consumer import KafkaConsumerSettings, kafka_consumer
from gateway.engine.embedded import EmbeddedEngine
from gateway.http_client import HttpRequest
from gateway.inbound.properties import Properties
from gateway.sdk import (
    ActivationConditionNotMet,
    ConnectorInputException,
    EngineRefused,
    Event,
    InvalidInput,
    Outcome,
)
from gateway.secrets import MapSecrets, Masker, Secrets
from gateway.testing import FakeHttp
from gateway.testing.inbound import an_element, published
from tests.connectors.kafka.conftest import QUICK, Consume, Kafka, numbers, properties, words

real = pytest.mark.real

ORDER = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}, {"name": "n", "type": "long"}]}


def avro(value: Any, schema: Any = ORDER) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def refusing(*bad: Any, by: Outcome, times: int = 1 << 30) -> Callable[[Event, str | None], Outcome]:
    """Answers so for events with these values, so many times each; others are published."""
    left = dict.fromkeys(bad, times)

    def answer(event: Event, message_id: str | None) -> Outcome:
        value = event["value"] if not isinstance(event["value"], dict) else None
        if left.get(value, 0) > 0:
            left[value] -= 1
            return by
        return published(event, message_id)

    return answer


UNWANTED = ActivationConditionNotMet(consume_unmatched=False)


# ---- settings --------------------------------------------------------------------------------------------------------


async def bound(**given: str) -> KafkaConsumerSettings:
    """The settings as the gateway binds them."""
    known = properties("localhost:9092", "orders")
    element = an_element(
        {"inbound.type": kafka_consumer.type, **known, **{n.replace("_", "."): v for n, v in given.items()}}
    )
    engine = EmbeddedEngine()
    try:
        return await Properties(Secrets([MapSecrets({"WORD": 's"3cret'})], Masker()), engine).bind(
            KafkaConsumerSettings, element
        )
    finally:
        await engine.close()


async def test_settings_are_bound_from_the_properties_of_the_template() -> None:
    found = await bound(
        authentication_username="alice",
        authentication_password="{{secrets.WORD}}",
        topic_bootstrapServers='="a:1" + ",b:2"',
        additionalProperties='={"max.poll.records": "5", "check.crcs": false}',
        offsets="=[1, 2]",
        autoOffsetReset="EARLIEST",
        maxInFlight="8",
    )
    assert found.authentication.password == 's"3cret'
    assert found.topic.bootstrapServers == "a:1,b:2"
    assert found.additionalProperties == {"max.poll.records": "5", "check.crcs": False}
    assert (found.offsets, found.autoOffsetReset, found.maxInFlight) == ([1, 2], "earliest", 8)
    assert 's"3cret' not in repr(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"topic_topicName": " "}, "topic.topicName': must not be blank"),
        ({"authentication_username": "alice"}, "Username / password pair is required"),
        ({"autoOffsetReset": "first"}, "expected one of 'none', 'latest', 'earliest', but got 'first'"),
        ({"offsets": "1,x"}, "offsets"),
        ({"maxInFlight": "0"}, "maxInFlight"),
        ({"schemaStrategy_type": "inlineSchema", "schemaStrategy_schema": "{"}, "expected an Avro schema"),
        ({"schemaStrategy_type": "schemaRegistry"}, "schemaRegistryUrl: must not be blank"),
        ({"poisonPolicy": "dead-letter"}, "deadLetterTopic': must not be"),
        ({"poisonPolicy": "ignore"}, "expected one of 'retry', 'stop', 'skip', 'dead-letter', but got 'ignore'"),
    ],
)
async def test_settings_that_cannot_work_are_refused_by_name(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConnectorInputException) as refused:
        await bound(**given)
    assert said in str(refused.value)


async def test_offsets_may_be_one_number_or_none() -> None:
    assert (await bound(offsets="10")).offsets == [10]
    assert not (await bound(offsets="")).offsets


def test_the_models_names_are_those_of_the_template() -> None:
    assert issubclass(KafkaConsumerSettings, BaseModel)
    assert kafka_consumer.type == "io.camunda:connector-kafka-inbound:1"
    assert kafka_consumer.name == "Kafka Consumer"


# ---- what records become ---------------------------------------------------------------------------------------------


@real
async def test_a_record_becomes_an_event_and_its_place_the_message_id(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    async with consume(topic) as run:
        await kafka.send(
            topic, '{"a": [1.50, null]}', key="7", headers=[("trace", b"1"), ("trace", b"2"), ("none", None)]
        )
        await kafka.send(topic, None, key="gone")
        await kafka.send(topic, "just text")
        (first, place), (second, _), (third, _) = await run.received(3)
        assert place == f"{topic}-0-0"
        assert first["key"] == 7
        assert first["rawValue"] == '{"a": [1.50, null]}'
        assert str(first["value"]["a"][0]) == "1.50"
        assert first["headers"] == {"trace": "2", "none": None}
        assert second == {"key": "gone", "rawValue": None, "value": None, "headers": None}
        assert third == {"key": None, "rawValue": "just text", "value": "just text", "headers": None}


@real
@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_topics_are_read(kafka: Kafka, consume: Consume, compression: str) -> None:
    topic = await kafka.topic()
    producer = AIOKafkaProducer(bootstrap_servers=kafka.broker.address, compression_type=compression, linger_ms=20)
    await producer.start()
    await asyncio.gather(
        *[await producer.send(topic, json.dumps({"n": n, "x": "y" * 200}).encode()) for n in range(200)]
    )
    await producer.stop()
    async with consume(topic) as run:
        await run.received(200)
        assert {event["value"]["n"] for event, _ in run.events} == set(range(200))


@real
async def test_values_in_avro_are_read_by_the_schema_in_the_properties(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    schema = {"schemaStrategy_type": "inlineSchema", "schemaStrategy_schema": json.dumps(ORDER)}
    async with consume(topic, **schema) as run:
        await kafka.send(topic, avro({"id": "o-1", "n": 21}), None, key="k")
        (first, _), (second, _) = await run.received(2)
        assert (first["value"], first["rawValue"]) == ({"id": "o-1", "n": 21}, None)
        assert second["value"] is None


def registry(request: HttpRequest) -> Any:
    """A schema registry with one schema, for those who know the word."""
    if dict(request.headers).get("Authorization") != "Basic YWxpY2U6d29yZA==":
        return 401, {"error_code": 401, "message": "Unauthorized"}
    if request.url.target == "/schemas/ids/7":
        return {"schema": json.dumps(ORDER)}
    return 404, {"error_code": 40403, "message": "Schema not found"}


@real
async def test_values_in_avro_are_read_by_the_schema_that_the_registry_has(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    http = FakeHttp(registry)
    strategy = {"schemaStrategy_type": "schemaRegistry", "schemaStrategy_schemaRegistryUrl": "http://registry"}
    user = '={"basic.auth.credentials.source": "USER_INFO", "basic.auth.user.info": "alice:word"}'
    async with consume(topic, http=http, **strategy, additionalProperties=user) as run:
        await kafka.send(topic, *(b"\x00\x00\x00\x00\x07" + avro({"id": "x", "n": n}) for n in range(50)))
        await run.received(50)
        assert sorted(event["value"]["n"] for event, _ in run.events) == list(range(50))
        assert len(http.requests) == 1


# ---- groups and offsets ----------------------------------------------------------------------------------------------


@real
async def test_a_group_is_made_from_the_deduplication_id_where_none_is_given(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    async with consume(topic, groupId="") as run:
        await kafka.send(topic, "1")
        await run.received(1)
        group = f"kafka-inbound-connector-{run.executable.deduplication_id}"
        await kafka.until_committed(group, topic, {0: 1})
        (warning,) = words(run, "WARNING", "Configuration")
        assert group in warning


@real
async def test_long_group_ids_are_cut_unless_they_are_additional_properties(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    async with consume(topic, groupId="g" * 260) as run:
        await run.until(lambda: run.health.status == "UP", "health UP")
        assert (run.health.details or {})["group-id"] == "g" * 250
    async with consume(topic, additionalProperties=f'={{"group.id": "{"h" * 251}", "max.poll.records": "5"}}') as run:
        await run.until(lambda: run.health.status == "UP", "health UP")
        assert (run.health.details or {})["group-id"] == "h" * 251


@real
async def test_the_health_tells_the_group_its_generation_and_the_members_own_name(
    kafka: Kafka, consume: Consume
) -> None:
    topic = await kafka.topic(1)
    named = '={"group.instance.id": "one", "colour": "blue"}'
    async with consume(topic, additionalProperties=named) as run:
        await run.until(lambda: run.health.status == "UP", "health UP")
        assert run.health.details == {
            "group-id": f"group-{topic}",
            "group-instance-id": "one",
            "group-generation-id": 1,
        }
        assert words(run, "WARNING", "Configuration") == ["additionalProperties that have no effect here: colour"]


@real
async def test_another_connector_takes_a_group_over_where_it_is(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, *map(str, range(30)))
    async with consume(topic, maxInFlight="4") as first:
        await first.received(30)
    await kafka.send(topic, *map(str, range(30, 40)))
    async with consume(topic, groupId="", additionalProperties=f'={{"group.id": "group-{topic}"}}') as second:
        await second.received(10)
        await asyncio.sleep(0.3)
        assert sorted(numbers(second)) == list(range(30, 40))


@real
async def test_offsets_say_where_each_partition_begins_at_the_first_assignment_only(
    kafka: Kafka, consume: Consume
) -> None:
    topic = await kafka.topic(2)
    for p in (0, 1):
        await kafka.send(topic, *(str(10 * p + n) for n in range(4)), partition=p)
    async with consume(topic, offsets="=[1, 3]", autoOffsetReset="none", **QUICK) as run:
        await run.received(4)
        async with consume(topic, autoOffsetReset="none", **QUICK) as other:  # makes the group assign anew, twice
            await other.until(lambda: other.health.status == "UP", "health UP")
        await kafka.send(topic, "99", partition=0)
        await run.until(lambda: 99 in numbers(run), "a record after it")
        await asyncio.sleep(0.5)
        assert sorted(numbers(run)) == [1, 2, 3, 13, 99]


@real
async def test_offsets_must_be_as_many_as_partitions(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(2)
    async with consume(topic, offsets="1,2,3") as run:
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert (
            run.health.error_message
            == f"Property 'offsets': expected 2, one for each partition of '{topic}', but got 3"
        )


@real
async def test_without_a_committed_offset_none_says_so_and_latest_begins_at_the_end(
    kafka: Kafka, consume: Consume
) -> None:
    topic = await kafka.topic(1)
    await kafka.send(topic, "1", "2")
    async with consume(topic, autoOffsetReset="none") as run:
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert "no committed offset" in (run.health.error_message or "")
    async with consume(topic, autoOffsetReset="latest") as run:
        await kafka.until_committed(f"group-{topic}", topic, {0: 2})
    await kafka.send(topic, "3")  # while nobody reads
    async with consume(topic, autoOffsetReset="latest") as run:
        await run.received(1)
        assert numbers(run) == [3]


@real
async def test_markers_of_transactions_leave_no_lag(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.broker.address, transactional_id=f"tx-{topic}")
    await producer.start()
    async with producer.transaction():
        await producer.send_and_wait(topic, b"1")
    await producer.stop()
    async with consume(topic, additionalProperties='={"isolation.level": "read_committed"}') as run:
        await run.received(1)
        await kafka.until_committed(f"group-{topic}", topic, {0: 2})


# ---- order and bounds ------------------------------------------------------------------------------------------------


@real
async def test_keys_keep_their_order_and_others_go_side_by_side(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic()
    for n in range(200):
        await kafka.producer.send(topic, str(n).encode(), f"key-{n % 20}".encode())
    await kafka.producer.flush()
    async with consume(topic, delay=0.01, maxInFlight="16") as run:
        await run.received(200)
        assert run.most == 16
        for k in range(20):
            assert [v for v in numbers(run) if v % 20 == k] == list(range(k, 200, 20))


@real
async def test_one_busy_key_does_not_hold_up_its_neighbours(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    await kafka.send(topic, *map(str, range(100)), key="busy")
    await kafka.send(topic, *map(str, range(100, 150)))
    async with consume(topic, delay=0.05, maxInFlight="4") as run:
        await run.until(lambda: sum(n >= 100 for n in numbers(run)) == 50, "all records without a key", timeout=5)
        assert sum(n < 100 for n in numbers(run)) < 60


# ---- records that cannot be handled ----------------------------------------------------------------------------------


@real
async def test_a_poison_record_holds_up_its_partition_and_no_other(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic()
    async with consume(topic, answer=refusing(666, by=UNWANTED, times=2)) as run:
        await kafka.send(topic, "1", partition=0)
        await run.received(1)
        await kafka.send(topic, "666", partition=0)
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert f"Record {topic}-0-1: no activation condition is met" in (run.health.error_message or "")
        await kafka.send(topic, "2", "3", partition=0)
        await kafka.send(topic, *map(str, range(10, 20)), partition=1)
        await run.until(lambda: set(range(10, 20)) <= set(numbers(run)), "the neighbours", timeout=2)
        assert not {2, 3} & set(numbers(run))
        await kafka.until_committed(f"group-{topic}", topic, {0: 1, 1: 10})
        await run.until(lambda: {2, 3} <= set(numbers(run)), "those behind it", timeout=10)
        await run.until(lambda: run.health.status == "UP", "health UP")
        await kafka.until_committed(f"group-{topic}", topic, {0: 4})
        assert numbers(run).count(666) == 3
        assert all(numbers(run).count(n) == 1 for n in (1, 2, 3, *range(10, 20)))  # nothing done is done again


@real
async def test_a_poison_record_is_skipped_where_the_policy_says_so(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    answer = refusing(666, by=InvalidInput("too large"))
    async with consume(topic, answer=answer, poisonPolicy="skip") as run:
        await kafka.send(topic, "1", "666", "2", key="k")
        await kafka.until_committed(f"group-{topic}", topic, {0: 3})
        assert numbers(run) == [1, 666, 2]
        assert words(run, "WARNING", "Record") == [f"Record {topic}-0-1 was skipped: too large"]
        assert run.health.status == "UP"


@real
async def test_what_may_go_well_later_is_tried_again_before_it_is_given_up(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    answer = refusing(666, by=EngineRefused("INVALID_ARGUMENT", "no"))
    async with consume(topic, answer=answer, poisonPolicy="skip", poisonRetries="1") as run:
        await kafka.send(topic, "666", "2", key="k")
        await kafka.until_committed(f"group-{topic}", topic, {0: 2})
        assert numbers(run) == [666, 666, 2]


@real
async def test_a_poison_record_goes_to_the_dead_letter_topic_with_its_reason(kafka: Kafka, consume: Consume) -> None:
    topic, dead = await kafka.topic(1), await kafka.topic(1)
    schema = {"schemaStrategy_type": "inlineSchema", "schemaStrategy_schema": json.dumps(ORDER)}
    async with consume(topic, poisonPolicy="dead-letter", deadLetterTopic=dead, **schema) as run:
        await kafka.send(topic, b"\xff", key="k", headers=[("trace", b"1")])
        await kafka.send(topic, avro({"id": "x", "n": 1}))
        (letter,) = await kafka.records(dead, 1)
        headers = dict(letter.headers)
        assert (letter.key, letter.value, headers["trace"]) == (b"k", b"\xff", b"1")
        assert (headers["dead-letter-topic"], headers["dead-letter-partition"]) == (topic.encode(), b"0")
        assert headers["dead-letter-offset"] == b"0"
        assert b"not a record of the Avro schema" in headers["dead-letter-reason"]
        await run.received(1)
        await kafka.until_committed(f"group-{topic}", topic, {0: 2})


@real
async def test_a_dead_letter_that_cannot_be_sent_is_not_lost(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    answer = refusing(666, by=InvalidInput("no"))
    soon = '={"request.timeout.ms": 700}'
    given = {"poisonPolicy": "dead-letter", "deadLetterTopic": f"{topic}-missing", "additionalProperties": soon}
    async with consume(topic, answer=answer, **given) as run:
        await kafka.send(topic, "666")
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert "cannot be sent to the dead letter topic" in (run.health.error_message or "")
        assert await kafka.committed(f"group-{topic}", topic) in ({}, {0: 0})


@real
async def test_a_poison_record_stops_the_consumer_where_the_policy_says_so(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic()
    async with consume(topic, answer=refusing(666, by=UNWANTED), poisonPolicy="stop") as run:
        await kafka.send(topic, "1", "666", "2", partition=0, key="k")
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert f"Stopped at Record {topic}-0-1" in (run.health.error_message or "")
        await kafka.send(topic, "10", partition=1)
        await asyncio.sleep(0.5)
        assert numbers(run) == [1, 666]
        assert run.state.value == "activated"
        assert await kafka.members(f"group-{topic}") == 0
        await kafka.until_committed(f"group-{topic}", topic, {0: 1})


@real
async def test_an_engine_that_is_away_holds_everything_and_nothing_is_lost(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic()
    away = True

    def answer(event: Event, message_id: str | None) -> Outcome:
        return EngineRefused("UNAVAILABLE", "gone") if away else published(event, message_id)

    async with consume(topic, answer=answer, maxInFlight="8") as run:
        await kafka.send(topic, *map(str, range(100)))
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert run.health.error_message == "The engine takes no events: UNAVAILABLE: gone"
        await asyncio.sleep(1.0)
        assert len(run.events) <= 8 + 2
        assert sum((await kafka.committed(f"group-{topic}", topic)).values()) == 0
        away = False
        tried = len(run.events)
        await run.until(lambda: len(run.events) - tried == 100, "all records", timeout=8)
        assert set(numbers(run)[tried:]) == set(range(100))
        await run.until(lambda: run.health.status == "UP", "health UP")


# ---- who may read ----------------------------------------------------------------------------------------------------


SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required username='bob' password='{{secrets.BOB}}';"


def trusting(kafka: Kafka, **more: str) -> str:
    return "=" + json.dumps(
        {"ssl.truststore.location": str(kafka.broker.authority), "ssl.truststore.type": "PEM", **more}
    )


@real
@pytest.mark.parametrize(
    ("login", "more"),
    [
        ({"authentication_username": "alice", "authentication_password": "{{secrets.ALICE}}"}, {}),
        ({}, {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.jaas.config": SCRAM}),
    ],
    ids=["plain", "scram"],
)
async def test_a_user_logs_in_over_tls(
    kafka: Kafka, consume: Consume, login: dict[str, str], more: dict[str, str]
) -> None:
    topic = await kafka.topic(1)
    address = f"127.0.0.1:{kafka.broker.secure_port}"
    given = {**login, "additionalProperties": trusting(kafka, **more)}
    async with consume(topic, address=address, secrets={"ALICE": 'alice"s', "BOB": "bobs"}, **given) as run:
        await kafka.send(topic, "1")
        await run.received(1)


@real
async def test_a_login_that_is_refused_says_so_without_the_password(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    login = {"authentication_username": "alice", "authentication_password": "{{secrets.ALICE}}"}
    address = f"127.0.0.1:{kafka.broker.secure_port}"
    given = {**login, "additionalProperties": trusting(kafka)}
    async with consume(topic, address=address, secrets={"ALICE": "wr0ng-w0rd"}, **given) as run:
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert "Authentication failed" in (run.health.error_message or "")
        assert all("wr0ng" not in entry.message for entry in run.log)


@real
async def test_a_broker_with_a_certificate_of_a_stranger_is_refused(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    login = {"authentication_username": "alice", "authentication_password": "x"}
    async with consume(topic, address=f"127.0.0.1:{kafka.broker.secure_port}", **login) as run:
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert "TLS: unable to get local issuer certificate" in (run.health.error_message or "")
