"""Leases: extended at half time, ended when they run out, pinned by the user, counted on a monotonic clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.engine import DeadlineExceeded, EngineError, FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from gateway.outbound.lease import Lease, Leases, State
from tests.outbound.fakes import Time, job


class Extensions:
    """UpdateJobTimeout calls, answered as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.error: EngineError | None = None
        self.before: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, key: int, milliseconds: int) -> None:
        self.calls.append((key, milliseconds))
        if self.before is not None:
            await self.before()
        if self.error is not None:
            raise self.error


def _leases(seconds: float = 300.0, max_run: float = 3600.0) -> tuple[Leases, Time, Extensions]:
    clock, extensions = Time(), Extensions()
    return Leases(seconds, max_run=max_run, extend=extensions, now=clock), clock, extensions


def _ended(lease: Lease) -> list[State]:
    states: list[State] = []
    lease.on_end = lambda: states.append(lease.state)
    return states


async def test_a_lease_is_extended_at_half_time_and_not_before() -> None:
    leases, clock, extensions = _leases()
    lease = leases.begin(job(7), clock())
    clock.at += 149
    leases.look()
    assert extensions.calls == []
    clock.at += 1
    leases.look()
    leases.look()  # one renewal at a time
    await asyncio.sleep(0)
    assert extensions.calls == [(7, 300_000)]
    await asyncio.sleep(0)
    assert lease.deadline == clock() + 300
    assert leases.statistics().extensions == 1


async def test_a_job_that_runs_for_long_is_extended_again_and_again() -> None:
    leases, clock, extensions = _leases()
    lease = leases.begin(job(), clock())
    for _ in range(100):
        clock.at += 30
        leases.look()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert lease.holds(clock())
    assert 15 <= len(extensions.calls) <= 25


async def test_a_lease_that_cannot_be_extended_is_tried_again_and_lost_at_its_end() -> None:
    leases, clock, extensions = _leases()
    extensions.error = Unavailable("away")
    lease = leases.begin(job(), clock())
    states = _ended(lease)
    for _ in range(4):
        clock.at += 40
        leases.look()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(extensions.calls) == 1
    clock.at += 100
    leases.look()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(extensions.calls) == 2
    assert lease.holds(clock())
    clock.at += 40
    assert not lease.holds(clock())
    leases.look()
    leases.look()
    assert states == [State.LOST]
    assert leases.statistics().lost == 1
    assert leases.statistics().count == 0


@pytest.mark.parametrize("error", [NotFound("no such job"), FailedPrecondition("it was failed")])
async def test_a_job_that_the_engine_has_no_more_is_lost_at_once(error: EngineError) -> None:
    leases, clock, extensions = _leases()
    extensions.error = error
    lease = leases.begin(job(), clock())
    states = _ended(lease)
    clock.at += 160
    leases.look()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert states == [State.LOST]
    assert not lease.holds(clock())


async def test_a_job_that_runs_for_too_long_is_overdue_but_still_ours() -> None:
    leases, clock, _ = _leases(max_run=400)
    lease = leases.begin(job(), clock())
    states = _ended(lease)
    clock.at += 200
    leases.look()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.at += 200
    leases.look()
    leases.look()
    assert states == [State.OVERDUE]
    assert lease.holds(clock())


async def test_an_answered_job_is_neither_extended_nor_ended_again() -> None:
    leases, clock, extensions = _leases()
    lease = leases.begin(job(), clock())
    states = _ended(lease)
    leases.end(lease)
    clock.at += 1000
    leases.look()
    await asyncio.sleep(0)
    assert (extensions.calls, states, lease.state) == ([], [], State.ENDED)


async def test_a_job_answered_while_its_lease_is_extended_is_not_lost() -> None:
    leases, clock, extensions = _leases()
    extensions.error = NotFound("completed just now")
    lease = leases.begin(job(), clock())
    states = _ended(lease)
    clock.at += 160
    leases.look()
    leases.end(lease)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert states == []


async def test_steps_of_the_wall_clock_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, clock, extensions = _leases()
    lease = leases.begin(job(), clock())
    for step in (-86_400.0, 86_400.0 * 365):
        monkeypatch.setattr(time, "time", lambda step=step: step)
        leases.look()
        await asyncio.sleep(0)
    assert lease.holds(clock())
    assert extensions.calls == []


async def test_a_pinned_lease_has_the_users_time_and_is_not_extended() -> None:
    leases, clock, extensions = _leases()
    lease = leases.begin(job(9), clock())
    await leases.pin(lease, 20_000)
    assert extensions.calls == [(9, 20_000)]
    assert lease.deadline == clock() + 20
    clock.at += 15
    leases.look()
    await asyncio.sleep(0)
    assert len(extensions.calls) == 1
    clock.at += 5
    states = _ended(lease)
    leases.look()
    assert states == [State.LOST]


async def test_a_pinned_lease_may_last_longer_than_other_jobs_may_run() -> None:
    leases, clock, _ = _leases(max_run=600)
    lease = leases.begin(job(), clock())
    await leases.pin(lease, 7_200_000)
    clock.at += 7000
    states = _ended(lease)
    leases.look()
    assert states == []
    assert lease.holds(clock())


@pytest.mark.parametrize("error", [Unavailable("x"), DeadlineExceeded("x"), ResourceExhausted("x")])
@pytest.mark.parametrize(("milliseconds", "seconds"), [(20_000, 20), (900_000, 300)])
async def test_a_pin_that_may_not_have_arrived_leaves_the_earlier_deadline(
    error: EngineError, milliseconds: int, seconds: float
) -> None:
    leases, clock, extensions = _leases()
    extensions.error = error
    lease = leases.begin(job(), clock())
    await leases.pin(lease, milliseconds)
    assert lease.deadline == clock() + seconds


async def test_a_pin_that_is_refused_goes_up() -> None:
    leases, clock, extensions = _leases()
    extensions.error = NotFound("no such job")
    with pytest.raises(NotFound):
        await leases.pin(leases.begin(job(), clock()), 20_000)


async def test_a_pin_that_has_passed_when_the_engine_answers_is_an_error() -> None:
    leases, clock, extensions = _leases()

    async def slow() -> None:
        clock.at += 2

    extensions.before = slow
    with pytest.raises(TimeoutError, match="had passed before the engine confirmed it"):
        await leases.pin(leases.begin(job(), clock()), 1_500)


async def test_an_extension_under_way_does_not_undo_a_pin() -> None:
    leases, clock, extensions = _leases()
    gate = asyncio.Event()

    async def held() -> None:
        await gate.wait()

    extensions.before = held
    lease = leases.begin(job(), clock())
    clock.at += 200
    leases.look()
    await asyncio.sleep(0)
    extensions.before = None
    await leases.pin(lease, 10_000)
    gate.set()
    await asyncio.sleep(0.01)
    assert lease.deadline == clock() + 10


async def test_the_sweep_looks_often_enough_for_short_leases() -> None:
    extensions = Extensions()
    loop = asyncio.get_running_loop()
    leases = Leases(0.4, max_run=3600, extend=extensions, now=loop.time)
    lease = leases.begin(job(), loop.time())
    sweep = asyncio.create_task(leases.sweep())
    await asyncio.sleep(0.6)
    sweep.cancel()
    assert lease.holds(loop.time())
    assert len(extensions.calls) >= 2


def test_statistics_tell_the_nearest_deadline() -> None:
    leases, clock, _ = _leases()
    assert leases.statistics().nearest is None
    leases.begin(job(), clock() - 100)
    leases.begin(job(), clock())
    assert (leases.statistics().count, leases.statistics().nearest) == (2, 200)
