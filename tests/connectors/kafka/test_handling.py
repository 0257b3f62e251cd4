"""Records on their way to the process, without a broker: turns, failures, an engine that is away. The clock is the test's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from connectors.kafka._avro import DoesNotFit
from connectors.kafka._events import Decode, plain
from connectors.kafka._handling import Handling, Policy, pause
from connectors.kafka._partition import Partition
from connectors.kafka._registry import SchemaRegistry
from gateway import EngineRefused, InboundContext, InvalidInput, MessageAlreadyCorrelated, Outcome
from gateway.inbound.window import EventWindow
from gateway.sdk import Event
from gateway.testing import FakeHttp
from gateway.testing.inbound import an_element
from tests.connectors.kafka.test_partition import Record

DONE = MessageAlreadyCorrelated(an_element({}))
AWAY = EngineRefused("UNAVAILABLE", "gone")
BAD = InvalidInput("bad")


class Process:
    """What the records go to, and the context around it. `hold`: events wait until they are let go."""

    def __init__(self) -> None:
        self.answer: Callable[[Any], Outcome] = lambda value: DONE
        self.seen: list[Any] = []
        self.held: list[asyncio.Event] = []
        self.hold = False
        self.logged: list[tuple[str, str]] = []
        self.sleepers: list[tuple[float, asyncio.Event]] = []
        self.changes = 0

    async def correlate(self, event: Event, message_id: str | None) -> Outcome:
        value = event["value"]
        self.seen.append(value)
        if self.hold:
            gate = asyncio.Event()
            self.held.append(gate)
            await gate.wait()
        return self.answer(value)

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self.sleepers.append((seconds, awake))
        await awake.wait()

    def log(self, severity: str, tag: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        self.logged.append((severity, message))

    def changed(self) -> None:
        self.changes += 1

    async def let_go(self) -> None:
        """Lets the events that are held go on."""
        held, self.held = self.held, []
        for gate in held:
            gate.set()
        await settled()

    async def wake(self) -> list[float]:
        """Ends all sleeps; how long they were meant to be."""
        slept, self.sleepers = self.sleepers, []
        for _, awake in slept:
            awake.set()
        await settled()
        return [seconds for seconds, _ in slept]


def trouble(made: Handling) -> str | None:
    return made.trouble


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@asynccontextmanager
async def handling(
    process: Process,
    *partitions: Partition,
    size: int = 4,
    policy: Policy | None = None,
    decode: Decode = plain,
    registry: SchemaRegistry | None = None,
) -> AsyncIterator[Handling]:
    """The handling of these partitions at work."""
    window = EventWindow(size, process.correlate, process.sleep)
    source = cast("InboundContext", process)
    made = Handling(source, window, decode, policy or Policy(), size=size, registry=registry)
    made.changed = process.changed
    made.assign(partitions)
    running = asyncio.create_task(made.run())
    await settled()
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.close()
        process.hold = False
        await process.let_go()
        await window.__aexit__(None, None, None)


def partition(number: int, *values: int | str, key: bytes | None = None) -> Partition:
    made = Partition(number, 1000)
    made.take(Record(n, key, str(value).encode(), partition=number) for n, value in enumerate(values))
    return made


async def test_partitions_take_turns() -> None:
    process = Process()
    process.hold = True
    async with handling(process, partition(0, *range(10)), partition(1, *range(10, 20)), size=4):
        assert process.seen == [0, 10, 1, 11]


async def test_never_more_than_the_size_are_under_way() -> None:
    process = Process()
    process.hold = True
    at = partition(0, *range(10))
    async with handling(process, at, size=3) as made:
        assert at.under_way == 3
        assert trouble(made) is None


async def test_a_record_that_fails_is_tried_again_with_growing_pauses_until_it_goes_well() -> None:
    process = Process()
    process.answer = lambda value: BAD
    at = partition(0, 1, 2, key=b"k")
    async with handling(process, at) as made:
        assert trouble(made) == "Record t-0-0: bad"
        pauses = [(await process.wake())[0] for _ in range(8)]
        for found, meant in zip(pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
            assert 0.9 * meant <= found <= 1.1 * meant
        assert process.seen == [1] * 9
        process.answer = lambda value: DONE
        await process.wake()
        assert process.seen[9:] == [1, 2]
        assert trouble(made) is None
        assert at.done_to == 2
        assert len([text for severity, text in process.logged if severity == "WARNING"]) == 1


async def test_what_a_fenced_partition_had_is_not_tried_again_and_counts_for_nothing() -> None:
    process = Process()
    process.answer = lambda value: BAD if value == 1 else DONE
    at, other = partition(0, 1), partition(1, 5)
    async with handling(process, at, other) as made:
        at.fenced = True
        made.assign([other])
        await process.wake()
        assert process.seen.count(1) == 1
        assert at.committable == 0
        assert trouble(made) is None


async def test_an_engine_that_is_away_is_left_alone_then_asked_by_one_record_then_by_more() -> None:
    process = Process()
    process.answer = lambda value: AWAY
    at = partition(0, *range(40))
    async with handling(process, at, size=8) as made:
        assert len(process.seen) == 8
        assert trouble(made) == "The engine takes no events: UNAVAILABLE: gone"
        assert at.blocked is None
        (first,) = await process.wake()
        assert len(process.seen) == 9
        (second,) = await process.wake()
        assert len(process.seen) == 10
        assert 1.5 * first < second
        process.hold, process.answer = True, lambda value: DONE
        await process.wake()
        assert at.under_way == 1
        assert trouble(made) is not None
        for more in (2, 4, 8):
            await process.let_go()
            assert at.under_way == more
            assert trouble(made) is None
        process.hold = False
        await process.let_go()
        assert at.done_to == 40
        assert set(process.seen) == set(range(40))


async def test_records_that_cannot_be_read_fail_by_themselves() -> None:
    def decode(content: bytes) -> tuple[Any, str]:
        if content == b"bad":
            raise DoesNotFit("no record")
        return plain(content)

    process, at = Process(), partition(0, 1, "bad", 2)
    async with handling(process, at, decode=decode, policy=Policy("skip")) as made:
        await settled()
        assert process.seen == [1, 2]
        assert (at.done_to, trouble(made)) == (3, None)
        assert ("ERROR", "Record t-0-1 cannot be read: no record") in process.logged
        assert ("WARNING", "Record t-0-1 was skipped: no record") in process.logged


async def test_an_error_that_nobody_thought_of_is_that_of_its_record_alone() -> None:
    def decode(content: bytes) -> tuple[Any, str]:
        if content == b"bad":
            raise ZeroDivisionError
        return plain(content)

    process, at = Process(), partition(0, "bad", 2)
    async with handling(process, at, decode=decode, policy=Policy("skip")):
        assert process.seen == [2]
        assert at.done_to == 2
        assert ("ERROR", "Record t-0-0 cannot be read: ZeroDivisionError") in process.logged


async def test_a_missing_schema_is_fetched_and_one_that_cannot_be_had_is_tried_again() -> None:
    there = False
    http = FakeHttp(lambda _: {"schema": '"long"'} if there else (503, "busy"))
    registry = SchemaRegistry("http://registry", http, {})

    def decode(content: bytes) -> tuple[Any, str]:
        registry.known(1)
        return plain(content)

    process, at = Process(), partition(0, 7)
    async with handling(process, at, decode=decode, registry=registry) as made:
        await until(lambda: trouble(made) is not None)
        assert "cannot be asked for /schemas/ids/1: 503" in (trouble(made) or "")
        there = True
        await process.wake()
        await until(lambda: process.seen == [7])
        assert trouble(made) is None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for knows nothing of it
            await asyncio.sleep(0.005)


async def test_stop_ends_everything_and_says_where_to_go_on() -> None:
    process = Process()
    process.answer = lambda value: BAD if value == 2 else DONE
    at = partition(0, 1, 2, 3, key=b"k")
    async with handling(process, at, partition(1, *range(10, 30)), size=1, policy=Policy("stop")) as made:
        await asyncio.wait_for(made.halted.wait(), 1)
        assert trouble(made) == "Stopped at Record t-0-1: bad. Reset the connector to go on from there"
        seen = len(process.seen)
        await process.wake()
        assert len(process.seen) == seen
        assert at.done_to == 1


async def test_stop_tries_again_what_may_go_well_later() -> None:
    process = Process()
    process.answer = lambda value: EngineRefused("INTERNAL", "oops")
    async with handling(process, partition(0, 1), policy=Policy("stop", retries=2)) as made:
        await process.wake()
        assert not made.halted.is_set()
        await process.wake()
        assert made.halted.is_set()
        assert process.seen == [1, 1, 1]


async def test_quiet_waits_for_what_is_under_way_but_not_for_ever() -> None:
    process = Process()
    process.hold = True
    at = partition(0, 1)
    async with handling(process, at) as made:
        begin = asyncio.get_running_loop().time()
        await made.quiet([at], 0.05)
        assert asyncio.get_running_loop().time() - begin >= 0.04
        assert at.under_way == 1


def test_pauses_grow_to_a_longest_one() -> None:
    assert 0.9 <= pause(1) <= 1.1
    assert 27 <= pause(100) <= 33
    assert pause(50, 8.0) <= 8.8
