"""A member of a group against a real node: outages, rebalances, slow work, commits that fail."""

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from connectors.kafka import _membership
from connectors.kafka._partition import Partition
from gateway.sdk import Event, Outcome
from gateway.testing.inbound import published
from tests.connectors.kafka.conftest import QUICK, Consume, Kafka, numbers, started, until, words
from tests.proxy import FaultProxy
from tests.real.kafka.broker import Broker, needed

pytestmark = pytest.mark.real


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[FaultProxy]:
    """Stands before the node for those who come by its address; the node sends them back to it."""
    proxy = FaultProxy(broker.proxied_port)
    proxy.port = broker.advertised_port
    async with proxy:
        yield proxy


# ---- the broker is away ----------------------------------------------------------------------------------------------


@pytest.fixture
def late(tmp_path: Path) -> Iterator[Broker]:
    """A node of one test's own, not started yet."""
    needed()
    node = Broker(tmp_path)
    yield node
    node.kill()


@pytest.mark.timeout(90)
async def test_a_broker_that_is_down_at_the_start_or_later_is_tried_until_it_is_there(
    late: Broker, consume: Consume
) -> None:
    async with consume("orders", address=late.address, **QUICK) as run:
        await run.until(lambda: run.health.status == "DOWN", "health DOWN")
        assert "Connect call failed" in (run.health.error_message or "") or "refused" in (
            run.health.error_message or ""
        )
        await asyncio.to_thread(late.start)
        await with_topic(late, "orders", 0, 30)
        await run.received(30, timeout=20)
        await run.until(lambda: run.health.status == "UP", "health UP")
        await asyncio.to_thread(late.kill)
        await run.until(lambda: run.health.status == "DOWN", "health DOWN", timeout=15)
        assert late.address in (run.health.error_message or "")
        await asyncio.to_thread(late.start)
        await with_topic(late, "orders", 30, 60)
        await run.received(60, timeout=20)
        await run.until(lambda: run.health.status == "UP", "health UP", timeout=15)
        assert set(numbers(run)) == set(range(60))


async def with_topic(node: Broker, topic: str, first: int, end: int) -> None:
    """Sends numbers, after making the topic where it is missing."""
    admin = AIOKafkaAdminClient(bootstrap_servers=node.address)
    await started(admin)
    await admin.create_topics([NewTopic(topic, 3, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=node.address)
    await started(producer)
    await asyncio.gather(*[await producer.send(topic, str(n).encode(), partition=n % 3) for n in range(first, end)])
    await producer.stop()


async def test_a_connection_that_goes_silent_is_noticed_and_made_anew(
    kafka: Kafka, proxy: FaultProxy, consume: Consume
) -> None:
    topic = await kafka.topic()
    quick = '={"session.timeout.ms": 3000, "heartbeat.interval.ms": 300, "request.timeout.ms": 1500, "retry.backoff.ms": 50}'
    async with consume(topic, address=f"127.0.0.1:{proxy.port}", additionalProperties=quick) as run:
        await kafka.send(topic, *map(str, range(20)))
        await run.received(20)
        assert proxy.freeze() > 0
        await kafka.send(topic, *map(str, range(20, 40)))
        await run.until(lambda: set(numbers(run)) == set(range(40)), "the rest", timeout=20)


async def test_a_connection_that_is_lost_for_long_is_made_anew_and_work_under_way_counts(
    kafka: Kafka, proxy: FaultProxy, consume: Consume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_membership, "LOST_SECONDS", 1.0)
    topic = await kafka.topic(1)
    async with consume(topic, address=f"127.0.0.1:{proxy.port}", delay=3.0, **QUICK) as run:
        await kafka.send(topic, "1", "2", "3")
        await run.until(lambda: run.under_way == 3, "3 records under way")
        await proxy.refuse()
        proxy.reset()
        await run.until(lambda: "for 1 s" in (run.health.error_message or ""), "the end of the connection", timeout=15)
        await proxy.accept()
        await kafka.until_committed(f"group-{topic}", topic, {0: 3}, 15)
        assert sorted(numbers(run)) == [1, 2, 3]


async def test_a_missing_topic_is_named_and_read_once_it_is_there(kafka: Kafka, consume: Consume) -> None:
    async with consume("not-yet") as run:
        await run.until(lambda: "no topic 'not-yet'" in (run.health.error_message or ""), "health DOWN by the topic")
        assert run.health.status == "DOWN"
        await kafka.admin.create_topics([NewTopic("not-yet", 1, 1)])
        await kafka.send("not-yet", "1")
        await run.received(1)
        await run.until(lambda: run.health.status == "UP", "health UP")


# ---- rebalances ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(90)
async def test_a_rebalance_with_work_in_flight_loses_nothing_and_keeps_the_order_of_keys(
    kafka: Kafka, consume: Consume
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    topic, keys, count = await kafka.topic(), 12, 1500
    handled: list[tuple[str, int]] = []

    def note(event: Event, message_id: str | None) -> Outcome:
        handled.append((event["key"], event["value"]))
        return published(event, message_id)

    async def produce() -> None:
        for n in range(count):
            await kafka.producer.send(topic, str(n).encode(), f"key-{n % keys}".encode())
            if n % 50 == 0:
                await asyncio.sleep(0.1)

    producing = asyncio.create_task(produce())
    runs: list[AsyncExitStack] = []

    async def join() -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(consume(topic, answer=note, delay=0.02, maxInFlight="16", **QUICK))
        runs.append(stack)

    await join()
    for _ in range(8):
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        if len(runs) < 3 and (len(runs) == 1 or dice.random() < 0.6):
            await join()
        else:
            await runs.pop(dice.randrange(len(runs))).aclose()
    await producing
    try:
        await until(lambda: _all(handled, count), f"all records (seed {seed})", 25)
    finally:
        for stack in runs:
            await stack.aclose()
    doubles = len(handled) - count
    print(f"{doubles} of {count} records handled twice")
    assert doubles <= 8 * 16  # at each rebalance no more than a window
    for key in {key for key, _ in handled}:
        first_times = list(dict.fromkeys(n for each, n in handled if each == key))
        assert first_times == sorted(first_times), f"order of {key} (seed {seed})"


async def _all(handled: list[tuple[str, int]], count: int) -> bool:
    return len({n for _, n in handled}) == count


async def test_a_partition_that_comes_back_goes_on_where_it_was(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    async with consume(topic, delay=8.0, **QUICK) as slow:  # longer than a revocation waits
        await kafka.send(topic, "1", "2", "3")
        await slow.until(lambda: slow.under_way == 3, "3 records under way")
        async with consume(topic, **QUICK) as other:
            await until(lambda: _members(kafka, topic, 2), "a second member", 15)
        await slow.received(3, timeout=15)
        await kafka.until_committed(f"group-{topic}", topic, {0: 3})
        assert len(slow.events) + len(other.events) <= 6
        if not other.events:
            assert sorted(numbers(slow)) == [1, 2, 3]


async def _members(kafka: Kafka, topic: str, count: int) -> bool:
    return await kafka.members(f"group-{topic}") == count


async def test_what_a_stopped_member_has_not_done_is_done_by_the_next(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    async with consume(topic, maxInFlight="4") as first:
        await kafka.send(topic, "1", "2")
        await first.received(2)
        first.delay = 60
        await kafka.send(topic, "3", "4")
        await first.until(lambda: first.under_way == 2, "2 records under way")
        begin = time.monotonic()
    assert time.monotonic() - begin < 8
    assert await kafka.members(f"group-{topic}") == 0
    assert await kafka.committed(f"group-{topic}", topic) == {0: 2}
    async with consume(topic) as second:
        await second.received(2)
        assert numbers(second) == [3, 4]


async def test_a_member_that_was_cut_off_takes_back_nothing_of_what_another_has_done(
    kafka: Kafka, proxy: FaultProxy, consume: Consume
) -> None:
    topic = await kafka.topic(1)
    address = f"127.0.0.1:{proxy.port}"
    quick = {
        "additionalProperties": '={"session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "request.timeout.ms": 1000}'
    }
    async with consume(topic, address=address, delay=4.0, maxInFlight="4", **quick) as cut_off:
        await kafka.send(topic, *map(str, range(8)), key="k")
        await cut_off.until(lambda: cut_off.under_way == 1, "a record under way")
        proxy.black_hole()
        async with consume(topic, **quick) as other:
            await other.received(8, timeout=15)
            await kafka.until_committed(f"group-{topic}", topic, {0: 8})
            proxy.heal()
            await cut_off.received(1, timeout=10)  # too late
            await until(lambda: _members(kafka, topic, 2), "both members", 15)
            await kafka.send(topic, "8", key="k")
            await kafka.until_committed(f"group-{topic}", topic, {0: 9}, 15)
            await asyncio.sleep(0.5)
            assert await kafka.committed(f"group-{topic}", topic) == {0: 9}
            assert numbers(other)[:8] == list(range(8))
            assert len(cut_off.events) <= 2


# ---- slow work -------------------------------------------------------------------------------------------------------


async def test_handling_longer_than_the_longest_poll_interval_keeps_the_member(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    short = '={"max.poll.interval.ms": 1000, "session.timeout.ms": 2000, "heartbeat.interval.ms": 200}'
    async with consume(topic, maxInFlight="2", delay=2.5, additionalProperties=short) as run:
        await kafka.send(topic, *map(str, range(4)))
        await run.received(4, timeout=15)
        await kafka.until_committed(f"group-{topic}", topic, {0: 4})
        assert sorted(numbers(run)) == [0, 1, 2, 3]
        assert len(words(run, "INFO", "Partitions")) == 1  # it never had to join again


async def test_records_of_a_full_partition_wait_at_the_broker(kafka: Kafka, consume: Consume) -> None:
    topic = await kafka.topic(1)
    await kafka.send(topic, *("x" * 100_000 for _ in range(60)))
    async with consume(topic, maxInFlight="2", delay=2.0) as run:
        await run.until(lambda: run.under_way == 2, "2 records under way")
        await asyncio.sleep(0.5)
        (held,) = (each for each in gc.get_objects() if isinstance(each, Partition) and each.under_way == 2)
        assert 2 <= held.open < 40
        assert run.most == 2


# ---- commits ---------------------------------------------------------------------------------------------------------


async def test_a_commit_that_fails_at_a_lost_coordinator_is_made_up_for(
    kafka: Kafka, proxy: FaultProxy, consume: Consume
) -> None:
    topic = await kafka.topic()
    async with consume(topic, address=f"127.0.0.1:{proxy.port}", delay=0.05, **QUICK) as run:
        await kafka.send(topic, *map(str, range(30)), partition=0)
        await run.received(5)
        for _ in range(6):
            proxy.reset()
            await asyncio.sleep(0.3)
        await run.received(30)
        await kafka.until_committed(f"group-{topic}", topic, {0: 30}, 20)
        await kafka.send(topic, *map(str, range(30, 40)), partition=0)
        await run.until(lambda: set(numbers(run)) == set(range(40)), "the rest", timeout=20)
        await kafka.until_committed(f"group-{topic}", topic, {0: 40}, 20)


async def test_a_member_that_the_group_has_thrown_out_joins_again_and_commits(
    kafka: Kafka, broker: Broker, consume: Consume
) -> None:
    topic = await kafka.topic(1)
    async with consume(topic, address=f"127.0.0.1:{broker.advertised_port}", **QUICK) as run:
        proxy = FaultProxy(broker.proxied_port)
        proxy.port = broker.advertised_port
        async with proxy:
            await kafka.send(topic, "1", "2")
            await run.received(2, timeout=20)
            await kafka.until_committed(f"group-{topic}", topic, {0: 2})
            proxy.black_hole()
            await until(lambda: _members(kafka, topic, 0), "the end of the session", 15)
            proxy.heal()
            await kafka.send(topic, "3")
            await run.until(lambda: 3 in numbers(run), "the third", timeout=25)
            await kafka.until_committed(f"group-{topic}", topic, {0: 3}, 20)
