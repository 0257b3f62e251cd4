"""Windows on events: bounded, ordered by key, tried again in their place, nothing left behind."""

import asyncio
import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inbound.window import EventWindow
from gateway.sdk import ActivationConditionNotMet, CorrelationFailed, Event, InvalidInput, Outcome

DONE = ActivationConditionNotMet(consume_unmatched=True)
REFUSED = InvalidInput("no")


class Process:
    """Takes events when it is told to, and remembers what happened."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ended: list[Any] = []
        self.under_way = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.outcomes: list[Outcome] = []

    async def __call__(self, event: Event, message_id: str | None) -> Outcome:
        self.started.append(event["n"])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            return self.outcomes.pop(0) if self.outcomes else DONE
        finally:
            self.under_way -= 1
            self.ended.append(event["n"])


async def _no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_no_more_events_are_under_way_than_the_window_is_wide() -> None:
    process = Process()
    async with EventWindow(3, process, _no_sleep) as window:
        for n in range(3):
            _ = await window.emit({"n": n})
        fourth = asyncio.ensure_future(window.emit({"n": 3}))
        await asyncio.sleep(0.01)
        assert not fourth.done()
        assert window.statistics() == {"limit": 3, "in_use": 3, "waiting": 1}
        process.gate.set()
        assert await (await fourth) is DONE
    assert process.most == 3
    assert window.statistics()["in_use"] == 0


async def test_events_of_one_key_come_one_after_the_other_and_other_keys_pass_them() -> None:
    process = Process()
    async with EventWindow(10, process, _no_sleep) as window:
        for n, key in enumerate(["a", "a", "b", "a", None, None]):
            _ = await window.emit({"n": n}, key=key)
        await asyncio.sleep(0.01)
        assert process.started == [0, 2, 4, 5]
        process.gate.set()
    assert [n for n in process.ended if n in {0, 1, 3}] == [0, 1, 3]


async def test_an_event_is_tried_again_in_its_place_before_the_next_of_its_key() -> None:
    process = Process()
    process.gate.set()
    process.outcomes = [REFUSED, REFUSED, DONE]
    seen: list[tuple[Outcome, int]] = []

    def again(outcome: Outcome, attempts: int) -> float | None:
        seen.append((outcome, attempts))
        return None if outcome.done else 0.5

    async with EventWindow(10, process, _no_sleep) as window:
        first = await window.emit({"n": 0}, key="k", again=again)
        second = await window.emit({"n": 1}, key="k")
        assert await first is DONE
        assert await second is DONE
    assert process.started == [0, 0, 0, 1]
    assert seen == [(REFUSED, 1), (REFUSED, 2), (DONE, 3)]


async def test_leaving_waits_for_what_is_under_way_but_tries_nothing_again() -> None:
    process = Process()
    process.outcomes = [REFUSED]

    async def for_ever(seconds: float) -> None:
        await asyncio.sleep(3600)

    async with EventWindow(2, process, for_ever) as window:
        delivery = await window.emit({"n": 0}, again=lambda outcome, attempts: 60.0)
        asyncio.get_running_loop().call_later(0.05, process.gate.set)
    assert delivery.done()
    assert delivery.result() is REFUSED
    assert process.started == [0]


async def test_cancelled_once_what_is_under_way_finishes() -> None:
    process = Process()
    deliveries = []

    async def connector() -> None:
        async with EventWindow(5, process, _no_sleep) as window:
            deliveries.append(await window.emit({"n": 0}))

    task = asyncio.create_task(connector())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    process.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [delivery.result() for delivery in deliveries] == [DONE]


async def test_cancelled_twice_the_rest_is_cancelled_and_gives_its_places_back() -> None:
    process = Process()
    window = EventWindow(5, process, _no_sleep)
    deliveries = []

    async def connector() -> None:
        async with window:
            deliveries.extend([await window.emit({"n": n}, key="k") for n in range(3)])

    task = asyncio.create_task(connector())
    for _ in range(2):
        await asyncio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(delivery.cancelled() for delivery in deliveries)
    assert window.statistics() == {"limit": 5, "in_use": 0, "waiting": 0}


async def test_a_window_that_is_being_left_takes_no_more_events() -> None:
    process = Process()
    window = EventWindow(1, process, _no_sleep)
    late: list[asyncio.Future[Any]] = []
    async with window:
        _ = await window.emit({"n": 0})
        late.append(asyncio.ensure_future(window.emit({"n": 1})))
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.02, process.gate.set)
    with pytest.raises(RuntimeError, match="closed"):
        await late[0]
    with pytest.raises(RuntimeError, match="closed"):
        _ = await window.emit({"n": 2})
    assert process.started == [0]
    assert window.statistics() == {"limit": 1, "in_use": 0, "waiting": 0}


async def test_what_the_process_raises_is_an_outcome_without_its_text() -> None:
    async def broken(event: Event, message_id: str | None) -> Outcome:
        raise RuntimeError("with a secret in it")

    async with EventWindow(1, broken, _no_sleep) as window:
        outcome = await (await window.emit({"n": 0}))
    assert outcome == CorrelationFailed("RuntimeError while handling an event")
    assert outcome.retryable


@given(st.lists(st.sampled_from(["a", "b", None]), max_size=30), st.integers(1, 5), st.integers(0, 2**16))
def test_each_key_keeps_its_order_and_all_get_an_outcome(keys: list[str | None], size: int, seed: int) -> None:
    rng = random.Random(seed)
    ended: dict[str | None, list[int]] = defaultdict(list)

    async def process(event: Event, message_id: str | None) -> Outcome:
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        ended[event["key"]].append(event["n"])
        return DONE

    async def run() -> None:
        async with EventWindow(size, process, _no_sleep) as window:
            deliveries = [await window.emit({"n": n, "key": key}, key=key) for n, key in enumerate(keys)]
        assert [d.result() for d in deliveries] == [DONE] * len(keys)
        assert window.statistics() == {"limit": size, "in_use": 0, "waiting": 0}

    asyncio.run(run())
    for key in ("a", "b"):
        assert ended[key] == [n for n, each in enumerate(keys) if each == key]
    assert sorted(ended[None]) == [n for n, each in enumerate(keys) if each is None]
