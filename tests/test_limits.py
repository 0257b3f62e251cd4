"""Permits never leak and never exceed their limit; back-off grows, stays below its cap and starts anew."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits import Backoff, Permits

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take now", "cancel", "give back", "give back and cancel", "turn"]), st.integers(0, 30)
    ),
    max_size=60,
)


async def _taker(permits: Permits, release: asyncio.Event, out: "Counter[str]") -> None:
    """Takes, holds until told, gives back in `finally`; may be cancelled anywhere."""
    await permits.take()
    out["held"] += 1
    out["most"] = max(out["most"], out["held"])
    try:
        await release.wait()
    finally:
        out["held"] -= 1
        permits.give_back()


async def _play(limit: int, steps: list[tuple[str, int]]) -> None:
    permits, out = Permits(limit), Counter[str]()
    takers: list[tuple[asyncio.Task[None], asyncio.Event]] = []
    now = 0
    for step, which in steps:
        if step == "take":
            release = asyncio.Event()
            takers.append((asyncio.create_task(_taker(permits, release, out)), release))
        elif step == "take now" and permits.take_nowait(which % 3 + 1):
            now += which % 3 + 1
        elif step == "cancel" and takers:
            takers[which % len(takers)][0].cancel()
        elif step == "give back" and now:
            permits.give_back()
            now -= 1
        elif step == "give back and cancel" and now and takers:  # who is served is cancelled in the same turn
            permits.give_back()
            now -= 1
            takers[which % len(takers)][0].cancel()
        elif step == "give back" and takers:
            takers[which % len(takers)][1].set()
        elif step == "turn":
            await asyncio.sleep(0)
        assert 0 <= permits.statistics().in_use <= limit
    permits.give_back(now)
    for _task, release in takers:
        release.set()
    if takers:
        await asyncio.wait([task for task, _ in takers], timeout=0.2)
    statistics = permits.statistics()
    assert (statistics.in_use, statistics.waiting, permits.free) == (0, 0, limit)
    assert out["most"] <= limit


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4), _STEPS)
def test_whatever_is_cancelled_at_any_await_all_permits_are_back_at_rest(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    asyncio.run(_play(limit, steps))


async def test_who_waits_is_served_in_order() -> None:
    permits, served = Permits(1), list[int]()

    async def one(number: int) -> None:
        await permits.take()
        served.append(number)
        permits.give_back()

    await permits.take()
    tasks = [asyncio.create_task(one(n)) for n in range(5)]
    await asyncio.sleep(0)
    assert permits.statistics().waiting == 5
    assert permits.free == 0
    permits.give_back()
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]


async def test_nobody_overtakes_a_waiter() -> None:
    permits = Permits(1)
    await permits.take()
    waiter = asyncio.create_task(permits.take())
    await asyncio.sleep(0)
    permits.give_back()
    assert not permits.take_nowait()
    await waiter
    assert permits.statistics().in_use == 1


async def test_a_waiter_cancelled_in_the_moment_it_is_served_passes_its_permit_on() -> None:
    permits = Permits(1)
    await permits.take()
    first, second = asyncio.create_task(permits.take()), asyncio.create_task(permits.take())
    await asyncio.sleep(0)
    permits.give_back()
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert first.cancelled()
    assert permits.statistics().in_use == 1


def test_a_permit_given_back_twice_is_an_error() -> None:
    permits = Permits(2)
    permits.take_nowait()
    permits.give_back()
    with pytest.raises(ValueError, match="1 permits given back, but only 0 are out"):
        permits.give_back()


def test_a_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1, but got 0"):
        Permits(0)


def test_permits_are_taken_together_or_not_at_all() -> None:
    permits = Permits(3)
    assert permits.take_nowait(2)
    assert not permits.take_nowait(2)
    assert permits.statistics().in_use == 2


async def test_an_opened_pool_lets_all_waiters_through() -> None:
    permits = Permits(1)
    await permits.take()
    waiters = [asyncio.create_task(permits.take()) for _ in range(10)]
    await asyncio.sleep(0)
    permits.open()
    await asyncio.wait_for(asyncio.gather(*waiters), 1)
    assert permits.statistics().in_use == 11


def test_back_off_grows_by_its_factor_up_to_its_cap() -> None:
    backoff = Backoff(0.05, 5.0, factor=1.6, jitter=0.0)
    delays = [backoff.next() for _ in range(12)]
    assert delays[:4] == pytest.approx([0.05, 0.08, 0.128, 0.2048])
    assert delays[-1] == 5.0
    assert delays == sorted(delays)


def test_back_off_starts_anew_after_a_success() -> None:
    backoff = Backoff(0.1, 10.0, jitter=0.0)
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.1


@given(st.floats(-1, 1), st.floats(0, 1))
def test_jitter_stays_within_its_share(chance: float, jitter: float) -> None:
    backoff = Backoff(2.0, 60.0, jitter=jitter, uniform=lambda _low, _high: chance)
    assert 2.0 * (1 - jitter) - 1e-9 <= backoff.next() <= 2.0 * (1 + jitter) + 1e-9
