"""Clocks and the schedule."""

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.embedded.clock import Schedule, SystemClock, VirtualClock


def run_all(schedule: Schedule) -> None:
    while schedule.run_due():
        pass


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=50))
def test_what_is_due_happens_in_the_order_of_its_time_and_what_was_cancelled_does_not(entries):
    clock = VirtualClock(0)
    schedule = Schedule(clock, lambda: None)
    happened: list[tuple[int, int]] = []
    kept = []
    for n, (at, cancelled) in enumerate(entries):
        due = schedule.at(at, partial(happened.append, (at, n)))
        if cancelled:
            schedule.cancel(due)
        else:
            kept.append((at, n))
    clock.advance(500)
    run_all(schedule)
    assert happened == sorted(entry for entry in kept if entry[0] <= 500)
    assert schedule.next_due_ms() == min((at for at, _ in kept if at > 500), default=None)
    clock.advance(500)
    run_all(schedule)
    assert happened == sorted(kept)


def test_cancelling_twice_or_after_the_time_or_nothing_is_nothing():
    clock = VirtualClock(0)
    schedule = Schedule(clock, lambda: None)
    happened: list[int] = []
    due = schedule.at(1, partial(happened.append, 1))
    clock.advance(1)
    run_all(schedule)
    for one in (due, due, None):
        schedule.cancel(one)
    schedule.at(2, partial(happened.append, 2))
    clock.advance(1)
    run_all(schedule)
    assert happened == [1, 2]


def test_cancelled_entries_do_not_pile_up():
    schedule = Schedule(VirtualClock(0), lambda: None)
    last = schedule.at(10**9, lambda: None)
    for _ in range(100_000):
        schedule.cancel(schedule.at(10**8, lambda: None))
    assert len(schedule._heap) < 3000
    assert schedule.next_due_ms() == 10**9
    schedule.cancel(last)
    assert schedule.next_due_ms() is None


async def test_on_a_system_clock_the_loop_wakes_the_schedule_for_the_nearest():
    woken = asyncio.Event()
    clock = SystemClock()
    schedule = Schedule(clock, lambda: run_all(schedule))
    schedule.at(clock.now_ms() + 60_000, lambda: None)
    schedule.at(clock.now_ms() + 10, woken.set)
    await asyncio.wait_for(woken.wait(), 2)
    schedule.close()


async def test_a_system_clock_that_is_put_forward_wakes_the_schedule_earlier():
    woken = asyncio.Event()
    clock = SystemClock()
    schedule = Schedule(clock, lambda: run_all(schedule))
    schedule.at(clock.now_ms() + 60_000, woken.set)
    clock.advance(60_001)
    schedule.rearm()
    await asyncio.wait_for(woken.wait(), 2)
    schedule.close()


def test_clocks_do_not_run_backwards():
    system = SystemClock()
    seen = [system.now_ms() for _ in range(100)]
    assert seen == sorted(seen)
    system.advance(1000)
    assert system.now_ms() >= seen[-1] + 1000
