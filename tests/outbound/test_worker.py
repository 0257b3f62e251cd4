"""The worker of one job type: bounded, never stuck, whatever the engine or a handler does."""

import asyncio
import contextlib
import threading
import time
from functools import partial
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import sdk
from gateway.engine import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from gateway.limits import Permits, PermitStatistics
from gateway.observe import Metrics
from gateway.outbound import worker as worker_module
from gateway.outbound.worker import HANDED_BACK
from tests.outbound.fakes import TYPE, FakeEngine, Time, job, until, working


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


class Gate:
    """A connector that waits until it is let through; knows how many are inside."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0
        self.most = 0
        self.calls = 0

    async def __call__(self, context: sdk.JobContext) -> dict[str, Any]:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return {"ok": True}


async def _ok(context: sdk.JobContext) -> dict[str, Any]:
    return {"ok": True}


# ---- bounded ---------------------------------------------------------------------------------------------------------


async def test_a_full_worker_reads_no_more(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=4) as worker:
        engine.streams[0].push(*(job() for _ in range(50)))
        await until(lambda: gate.inside == 4)
        await asyncio.sleep(0.05)
        assert engine.streams[0].given == 4
        assert worker.permits.statistics().in_use == 4
        gate.open.set()
        await until(lambda: len(engine.named("complete")) == 50)
        assert gate.most == 4


async def test_stream_and_poll_draw_from_one_pool(engine: FakeEngine) -> None:
    gate = Gate()
    engine.backlog.extend(job() for _ in range(50))
    async with working(gate.__call__, engine, max_jobs=5) as worker:
        engine.streams[0].push(*(job() for _ in range(50)))
        await until(lambda: gate.inside == 5)
        await asyncio.sleep(0.05)
        assert worker.permits.statistics().in_use == 5
        gate.open.set()
        await until(lambda: len(engine.named("complete")) == 100)
        assert gate.most == 5


async def test_a_poll_takes_at_most_half_of_the_free_permits_while_a_stream_is_open(engine: FakeEngine) -> None:
    async with working(_ok, engine, max_jobs=100):
        await until(lambda: engine.polls)
        assert 40 <= max(engine.polls) <= 50
        assert not any(engine.waits)


async def test_without_streams_a_poll_waits_in_the_engine_with_all_free_permits(engine: FakeEngine) -> None:
    async with working(_ok, engine, max_jobs=10, stream=False):
        await until(lambda: engine.polls)
        assert engine.polls[0] == 10
        assert all(engine.waits)
        assert engine.streams == []


async def test_a_worker_with_one_permit_gets_to_its_backlog(engine: FakeEngine) -> None:
    engine.backlog.extend(job() for _ in range(20))
    async with working(_ok, engine, max_jobs=1):
        await until(lambda: len(engine.named("complete")) == 20)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["ok", "raise", "slow", "exit", "weird", "base"]), max_size=40), st.integers(1, 5))
def test_permits_are_all_back_whatever_handlers_do(kinds: list[str], max_jobs: int) -> None:
    async def play() -> None:
        engine = FakeEngine()
        kind = iter(kinds)

        async def any_of_them(context: sdk.JobContext) -> None:
            await _misbehave(next(kind))

        total = Permits(3)
        async with working(any_of_them, engine, max_jobs=max_jobs, total=total, poll_interval=0.01) as worker:
            engine.backlog.extend(job() for _ in kinds[::2])
            if engine.streams:
                engine.streams[0].push(*(job() for _ in kinds[1::2]))
            else:
                engine.backlog.extend(job() for _ in kinds[1::2])
            await until(lambda: len(engine.calls) == len(kinds))
            await until(lambda: total.statistics().in_use == 0)
            assert worker.leases.statistics().count == 0
            at_rest = 1 if engine.streams else 0  # the open read; a poll under way has more for a moment
            await until(lambda: worker.permits.statistics().in_use <= at_rest)

    asyncio.run(play())


class Broken(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Base(BaseException):
    """Not even an Exception."""


async def _misbehave(kind: str) -> None:
    if kind == "raise":
        raise ValueError("wrong")
    if kind == "slow":
        await asyncio.sleep(0.01)
    if kind == "exit":
        raise SystemExit(1)
    if kind == "weird":
        raise Broken
    if kind == "base":
        raise Base


# ---- the poll --------------------------------------------------------------------------------------------------------


async def test_an_idle_poll_backs_off(engine: FakeEngine) -> None:
    async with working(_ok, engine, max_jobs=2, poll_interval=0.02):
        await asyncio.sleep(1.0)
        gaps = [b - a for a, b in zip(engine.poll_times, engine.poll_times[1:], strict=False)]
        assert len(engine.polls) <= 9
        assert gaps[-1] > 4 * gaps[1]


def test_the_poll_back_off_ends_at_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> list[float]:
        engine, pauses = FakeEngine(), list[float]()

        async def pause(self: Any, seconds: float) -> bool:
            pauses.append(seconds)
            await asyncio.sleep(0.001)
            return False

        monkeypatch.setattr(worker_module.Worker, "_pause", pause)
        async with working(_ok, engine, max_jobs=10):
            await asyncio.sleep(0.1)
        return pauses

    pauses = asyncio.run(play())
    assert pauses[0] == pytest.approx(0.1, rel=0.11)
    assert max(pauses) == pytest.approx(10, rel=0.11)


async def test_a_poll_that_finds_jobs_is_followed_by_another_at_once(engine: FakeEngine) -> None:
    engine.backlog.extend(job() for _ in range(200))
    async with working(_ok, engine, max_jobs=4, poll_interval=5.0):
        await until(lambda: len(engine.named("complete")) == 200)


async def test_a_reconnect_is_followed_by_a_poll_at_once(engine: FakeEngine) -> None:
    async with working(_ok, engine, max_jobs=4, poll_interval=5.0):
        await until(lambda: engine.polls)
        engine.backlog.append(job())
        engine.streams[0].push(Unavailable("reset"))
        await until(lambda: engine.named("complete"), 2)


async def test_after_the_pool_was_full_the_backlog_is_looked_at_soon(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=3, poll_interval=0.2):
        await asyncio.sleep(1.0)  # the poll has backed off
        engine.streams[0].push(*(job() for _ in range(3)))
        await until(lambda: gate.inside == 3)
        polls = len(engine.polls)
        await until(lambda: len(engine.poll_times) >= polls)
        engine.backlog.extend(job() for _ in range(5))
        gate.open.set()
        await until(lambda: len(engine.named("complete")) == 8, 3)


async def test_back_pressure_slows_the_poll_and_never_completions(engine: FakeEngine) -> None:
    engine.always["activate"] = ResourceExhausted("less, please")
    async with working(_ok, engine, max_jobs=10, poll_interval=0.01):
        await asyncio.sleep(0.1)
        for _ in range(20):
            engine.streams[0].push(job())
        await until(lambda: len(engine.named("complete")) == 20, 0.5)
        await asyncio.sleep(1.0)
        assert len(engine.polls) <= 4


async def test_an_engine_without_streams_is_polled(engine: FakeEngine) -> None:
    engine.refuse_streams = Unimplemented("no streams")
    async with working(_ok, engine, max_jobs=4, poll_interval=0.01):
        await until(lambda: len(engine.streams) == 1)
        await asyncio.sleep(0.3)
        engine.backlog.append(job())
        await until(lambda: engine.named("complete"), 0.5)
        assert len(engine.streams) == 1
        assert engine.waits[-1]


async def test_a_broken_stream_is_opened_again_with_growing_pauses(engine: FakeEngine) -> None:
    engine.refuse_streams = Unavailable("away")
    async with working(_ok, engine):
        await asyncio.sleep(1.0)
        assert 3 <= len(engine.streams) <= 6
        engine.refuse_streams = None
        await until(lambda: not engine.streams[-1].cancelled)
        engine.streams[-1].push(job())
        await until(lambda: engine.named("complete"))


@pytest.mark.parametrize("error", [ValueError("an answer that cannot be read"), PermissionDenied("not authorized")])
async def test_no_error_of_a_stream_ends_the_reading(engine: FakeEngine, error: Exception) -> None:
    async with working(_ok, engine):
        original = engine.streams[0].read

        async def read() -> Any:
            raise error

        engine.streams[0].read = read  # type: ignore[method-assign]
        engine.streams[0].push(job())
        await until(lambda: len(engine.streams) == 2)
        assert original is not None
        engine.streams[1].push(job())
        await until(lambda: len(engine.named("complete")) >= 2)


async def test_what_a_person_has_to_mend_is_told_once(engine: FakeEngine) -> None:
    engine.refuse_streams = PermissionDenied("tenant 'b' is not authorized")
    with structlog.testing.capture_logs() as logs:
        async with working(_ok, engine):
            await until(lambda: len(engine.streams) >= 3)
    told = [entry for entry in logs if entry["log_level"] == "warning"]
    assert [entry["reason"] for entry in told] == ["tenant 'b' is not authorized"]


# ---- silence ---------------------------------------------------------------------------------------------------------


async def test_beside_a_silent_stream_another_is_opened_and_both_are_read(engine: FakeEngine) -> None:
    async with working(_ok, engine):
        silent = engine.streams[0]
        assert silent.on_silent is not None
        silent.on_silent()
        silent.on_silent()
        await until(lambda: len(engine.streams) == 2)
        assert not silent.cancelled
        silent.push(*(job() for _ in range(10)))
        engine.streams[1].push(*(job() for _ in range(10)))
        await until(lambda: len(engine.named("complete")) == 20)


async def test_a_silent_stream_that_ends_is_not_opened_again(engine: FakeEngine) -> None:
    async with working(_ok, engine) as worker:
        engine.streams[0].on_silent()  # type: ignore[misc]
        await until(lambda: len(engine.streams) == 2)
        engine.streams[0].push(Unavailable("gone for good"))
        await until(lambda: engine.streams[0].cancelled)
        await asyncio.sleep(0.3)
        assert len(engine.streams) == 2
        await until(lambda: worker.permits.statistics().in_use == 1)


async def test_only_one_silent_stream_is_read_on(engine: FakeEngine) -> None:
    async with working(_ok, engine):
        engine.streams[0].on_silent()  # type: ignore[misc]
        await until(lambda: len(engine.streams) == 2)
        engine.streams[1].on_silent()  # type: ignore[misc]
        await until(lambda: len(engine.streams) == 3)
        assert [stream.cancelled for stream in engine.streams] == [True, False, False]


async def test_a_job_that_comes_late_is_taken_to_be_sent_when_the_silence_began(engine: FakeEngine) -> None:
    clock, remaining = Time(), list[float]()

    async def look(context: sdk.JobContext) -> None:
        remaining.append(context.remaining)

    async with working(look, engine, now=clock):
        clock.at += 20
        engine.streams[0].on_silent()  # type: ignore[misc]
        await until(lambda: len(engine.streams) == 2)
        clock.at += 30
        engine.streams[0].push(job(), job())
        await until(lambda: remaining == [250, 250])
        engine.streams[1].push(job())
        await until(lambda: len(remaining) == 3)
        assert remaining[2] == 300
        clock.at += 260
        engine.streams[0].push(job())
        await until(lambda: engine.streams[0].given == 3)
        await asyncio.sleep(0.05)
        assert len(remaining) == 3, "its lease is over"


async def test_a_drain_hands_back_what_comes_late_and_ends_all_streams(engine: FakeEngine) -> None:
    async with working(_ok, engine) as worker:
        engine.streams[0].on_silent()  # type: ignore[misc]
        await until(lambda: len(engine.streams) == 2)
        stopping = asyncio.create_task(worker.stop_reading(silence=0.1))
        await asyncio.sleep(0.02)
        engine.streams[0].push(job(7))
        await stopping
        assert all(stream.cancelled for stream in engine.streams)
        await until(lambda: engine.named("fail"))
        assert [failed["key"] for failed in engine.named("fail")] == [7]


async def test_a_worker_of_two_permits_gives_up_a_silent_stream_for_its_backlog(engine: FakeEngine) -> None:
    async with working(_ok, engine, max_jobs=2):
        assert engine.streams[0].on_silent is None


# ---- leases ----------------------------------------------------------------------------------------------------------


async def test_the_lease_is_extended_while_the_handler_runs(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, timeout=0.5):
        engine.streams[0].push(job(11))
        await asyncio.sleep(1.0)
        assert len(engine.named("update")) >= 2
        assert engine.named("update")[0] == {"key": 11, "timeout_ms": 500}
        gate.open.set()
        await until(lambda: engine.named("complete"))


async def test_nothing_is_sent_after_the_lease_ended(engine: FakeEngine) -> None:
    engine.always["update"] = Unavailable("refused")
    gate = Gate()
    async with working(gate.__call__, engine, timeout=0.3) as worker:
        engine.streams[0].push(job())
        await until(lambda: gate.inside == 1)
        await until(lambda: gate.inside == 0)  # cancelled
        gate.open.set()
        await asyncio.sleep(0.1)
        assert [name for name, _, _ in engine.calls if name != "update"] == []
        await until(lambda: worker.permits.statistics().in_use == 1)  # the open read


async def test_a_handler_that_ends_well_after_its_lease_is_not_believed(engine: FakeEngine) -> None:
    engine.always["update"] = Unavailable("refused")

    async def stubborn(context: sdk.JobContext) -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "late"
        return "never"

    async with working(stubborn, engine, timeout=0.2):
        engine.streams[0].push(job())
        await asyncio.sleep(0.5)
        assert engine.named("complete") == []


async def test_a_job_whose_lease_is_over_before_its_turn_is_not_started(engine: FakeEngine) -> None:
    gate, total, clock = Gate(), Permits(1), Time()
    await total.take()
    async with working(gate.__call__, engine, total=total, now=clock):
        engine.streams[0].push(job())
        await until(lambda: total.statistics().waiting == 1)
        clock.at += 301  # before any sweep has seen it
        total.give_back()
        await until(lambda: total.statistics() == PermitStatistics(1, 0, 0))
        assert gate.calls == 0


async def test_jobs_that_lay_in_the_window_are_taken_to_be_as_old_as_the_reads_before(engine: FakeEngine) -> None:
    opened, clock, remaining = asyncio.Event(), Time(), list[float]()

    async def look(context: sdk.JobContext) -> None:
        remaining.append(context.remaining)
        await opened.wait()

    async with working(look, engine, max_jobs=2, now=clock):
        engine.streams[0].push(job(), job(), job())
        await until(lambda: len(remaining) == 2)
        clock.at += 200
        opened.set()
        await until(lambda: len(remaining) == 3)
        assert remaining[2] == 100
        clock.at += 1  # the read waits: what comes now is fresh
        engine.streams[0].push(job())
        await until(lambda: len(remaining) == 4)
        assert remaining[3] == 300


async def test_a_job_that_runs_for_too_long_fails_with_a_retry_less(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, timeout=1.0, max_run=0.2):
        engine.streams[0].push(job(retries=3))
        await until(lambda: engine.named("fail"))
        failed = engine.named("fail")[0]
        assert failed["retries"] == 2
        assert failed["message"] == "The job ran longer than 0.2 s, the limit of gateway.jobs.max-run-time"
        assert gate.inside == 0


async def test_the_job_timeout_header_is_sent_before_the_call(engine: FakeEngine) -> None:
    seen: list[str] = []

    async def look(context: sdk.JobContext) -> float:
        seen.extend(name for name, _, _ in engine.calls)
        return context.remaining

    async with working(look, engine):
        engine.streams[0].push(job(headers='{"jobTimeout":"PT20S","resultVariable":"r"}'))
        await until(lambda: engine.named("complete"))
        assert seen == ["update"]
        assert engine.named("update")[0]["timeout_ms"] == 20_000
        assert 15 < float(engine.named("complete")[0]["variables"].removeprefix('{"r":').removesuffix("}")) <= 20


async def test_a_job_timeout_that_may_not_have_arrived_shortens_the_lease(engine: FakeEngine) -> None:
    engine.answer("update", Unavailable("reset"))
    remaining: list[float] = []

    async def look(context: sdk.JobContext) -> None:
        remaining.append(context.remaining)

    async with working(look, engine):
        engine.streams[0].push(job(headers='{"jobTimeout":"PT20S"}'))
        await until(lambda: engine.named("complete"))
        assert 15 < remaining[0] <= 20


async def test_a_job_timeout_for_a_job_that_is_gone_calls_no_connector(engine: FakeEngine) -> None:
    engine.answer("update", NotFound("no such job"))
    gate = Gate()
    async with working(gate.__call__, engine):
        engine.streams[0].push(job(headers='{"jobTimeout":"PT20S"}', retries=3))
        await until(lambda: engine.named("fail"))
        assert engine.named("fail")[0]["retries"] == 2
        assert gate.calls == 0


async def test_leases_count_monotonic_time(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, timeout=2.0):
        engine.streams[0].push(job())
        await until(lambda: gate.inside == 1)
        real = time.time
        for step in (-1e6, 1e6):
            monkeypatch.setattr(time, "time", lambda step=step: real() + step)
            await asyncio.sleep(0.25)
        assert gate.inside == 1
        assert engine.named("update") == []
        gate.open.set()
        await until(lambda: engine.named("complete"))


# ---- answers ---------------------------------------------------------------------------------------------------------


async def test_a_completion_is_sent_until_the_engine_has_it_and_the_connector_called_once(engine: FakeEngine) -> None:
    gate = Gate()
    gate.open.set()
    engine.answer("complete", Unavailable("the reply was lost"), Unavailable("again"), NotFound("done before"))
    async with working(gate.__call__, engine):
        engine.streams[0].push(job())
        await until(lambda: len(engine.named("complete")) == 3)
        await asyncio.sleep(0.1)
        assert gate.calls == 1
        assert engine.named("fail") == []


@pytest.mark.parametrize("error", [InvalidArgument("too large"), PermissionDenied("no"), ValueError("surrogates")])
async def test_a_refused_completion_fails_the_job(engine: FakeEngine, error: Exception) -> None:
    engine.answer("complete", error)
    async with working(_ok, engine):
        engine.streams[0].push(job(retries=3))
        await until(lambda: engine.named("fail"))
        failed = engine.named("fail")[0]
        assert failed["retries"] == 2
        assert failed["message"].startswith("The engine refused the outcome of the job: ")


async def test_a_refused_failure_is_sent_again_without_its_variables(engine: FakeEngine) -> None:
    async def failing(context: sdk.JobContext) -> None:
        raise sdk.ConnectorException("m", variables={"much": "x"})

    engine.answer("fail", InvalidArgument("too large"))
    async with working(failing, engine):
        engine.streams[0].push(job(retries=3))
        await until(lambda: len(engine.named("fail")) == 2)
        assert engine.named("fail")[1]["variables"] is None
        assert engine.named("fail")[1]["retries"] == 2


async def test_a_job_in_another_state_is_left_alone(engine: FakeEngine) -> None:
    engine.answer("complete", FailedPrecondition("it was failed"))
    async with working(_ok, engine) as worker:
        engine.streams[0].push(job())
        await until(lambda: engine.named("complete"))
        await until(lambda: worker.leases.statistics().count == 0)
        assert engine.named("fail") == []


async def test_counters_count_what_the_engine_accepted(engine: FakeEngine) -> None:
    metrics = Metrics()

    async def by_variable(context: sdk.JobContext) -> None:
        if "bad" in context.job.variables:
            raise ValueError("bad")

    async with working(by_variable, engine, metrics=metrics):
        engine.answer("complete", NotFound("gone"), None)
        engine.streams[0].push(job())
        await until(lambda: len(engine.named("complete")) == 1)
        await asyncio.sleep(0.02)
        assert metrics.totals(TYPE).completed == 0
        engine.streams[0].push(job(), job(variables='{"bad":1}'))
        await until(lambda: metrics.totals(TYPE).failed == 1)
        assert metrics.totals(TYPE).completed == 1


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any, Any]] = []

    async def on_job_completed(self, job: sdk.JobContext, response: Any) -> None:
        self.told.append(("completed", response, None))

    async def on_job_completion_failed(self, job: sdk.JobContext, response: Any, failure: sdk.JobFailure) -> None:
        self.told.append(("failed", response, failure))
        raise RuntimeError("listeners may fail")


async def test_a_listener_hears_how_a_job_ended(engine: FakeEngine) -> None:
    listener, wrong = Listener(), ValueError("bad")

    async def by_variable(context: sdk.JobContext) -> dict[str, Any]:
        if "bad" in context.job.variables:
            raise wrong
        return {"a": 1}

    async with working(by_variable, engine, listener=listener) as worker:
        refused, gone = InvalidArgument("too large"), NotFound("gone")
        engine.answer("complete", None, gone, refused)
        waiting = ["{}", "{}", "{}", '{"bad":1}']
        for variables in waiting:
            told = len(listener.told) + 1
            engine.streams[0].push(job(variables=variables))
            await until(partial(lambda count: len(listener.told) == count, told))
        assert listener.told == [
            ("completed", {"a": 1}, None),
            ("failed", {"a": 1}, sdk.CommandIgnored(gone)),
            ("failed", {"a": 1}, sdk.CommandFailed(refused)),
            ("failed", None, sdk.ExecutionFailed(wrong)),
        ]
        for expression in ('bpmnError(\\"code\\", \\"text\\", {v: 1})', 'jobError(\\"no\\", {v: 2})'):
            told = len(listener.told) + 1
            engine.streams[0].push(job(headers=f'{{"errorExpression":"{expression}"}}'))
            await until(partial(lambda count: len(listener.told) == count, told))
        assert listener.told[4] == ("failed", {"a": 1}, sdk.BpmnErrorThrown("code", "text", {"v": 1}))
        kind, response, failure = listener.told[5]
        assert (kind, response, failure.variables) == ("failed", {"a": 1}, {"v": 2, "error": "no"})
        assert failure.message.startswith("no")
        assert worker.leases.statistics().count == 0


async def test_a_listener_hears_of_an_ignored_error_without_a_response(engine: FakeEngine) -> None:
    listener = Listener()
    async with working(_ok, engine, listener=listener):
        engine.streams[0].push(job(headers='{"errorExpression":"ignoreError()"}'))
        await until(lambda: listener.told)
        assert listener.told == [("completed", None, None)]


async def test_a_listener_that_hangs_gives_its_permit_back(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_LISTENER_LIMIT", 0.1)

    class Hanging(Listener):
        async def on_job_completed(self, job: sdk.JobContext, response: Any) -> None:
            await asyncio.sleep(60)

    async with working(_ok, engine, max_jobs=2, listener=Hanging(), timeout=0.1) as worker:
        engine.streams[0].push(job())
        await until(lambda: engine.named("complete"))
        await until(lambda: not worker._running)
        assert engine.named("update") == []
        assert worker.leases.statistics().lost == 0


# ---- handlers that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Base(), Broken(), asyncio.CancelledError()])
async def test_no_exception_of_a_handler_ends_the_worker_or_leaves_a_job_unanswered(
    engine: FakeEngine, error: BaseException
) -> None:
    async def raising(context: sdk.JobContext) -> None:
        if "bad" in context.job.variables:
            raise error

    async with working(raising, engine):
        engine.streams[0].push(job(variables='{"bad":1}', retries=3), job())
        await until(lambda: engine.named("fail") and engine.named("complete"))
        failed = engine.named("fail")[0]
        assert failed["retries"] == 2
        assert failed["message"]


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), Broken()])
async def test_no_exception_of_a_plain_function_ends_the_worker_or_leaves_a_job_unanswered(
    engine: FakeEngine, error: BaseException
) -> None:
    def raising(context: sdk.JobContext) -> None:
        raise error

    async with working(raising, engine):
        engine.streams[0].push(job(retries=3))
        await until(lambda: engine.named("fail"))
        assert engine.named("fail")[0]["retries"] == 2


async def test_plain_functions_run_in_the_bounded_pool_and_block_nobody(engine: FakeEngine) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def slow(context: sdk.JobContext) -> str:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return threading.current_thread().name

    async with working(slow, engine, max_jobs=20, threads=3):
        engine.streams[0].push(*(job() for _ in range(12)))
        loop = asyncio.get_running_loop()
        worst, last = 0.0, loop.time()
        while len(engine.named("complete")) < 12:
            await asyncio.sleep(0.001)
            worst, last = max(worst, loop.time() - last), loop.time()
        assert most == 3
        assert worst < 0.045


async def _stubborn(end: asyncio.Event) -> None:
    """Swallows every cancellation until `end`, or for two seconds."""
    last = time.monotonic() + 2.0
    while not end.is_set() and (left := last - time.monotonic()) > 0:
        with contextlib.suppress(asyncio.CancelledError, TimeoutError):
            await asyncio.wait_for(end.wait(), left)


async def test_a_handler_that_swallows_its_cancellation_is_abandoned_once(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_ABANDON_AFTER", 0.1)
    engine.always["update"] = Unavailable("refused")
    end = asyncio.Event()

    async def stubborn(context: sdk.JobContext) -> str:
        await _stubborn(end)
        return "late"

    with structlog.testing.capture_logs() as logs:
        async with working(stubborn, engine, max_jobs=2, timeout=0.2) as worker:
            engine.streams[0].push(job(21))
            await until(lambda: worker.liveness.abandoned == 1)
            assert worker._total.statistics().in_use == 0
            await worker.stop_reading(silence=0.0)
            before = time.monotonic()
            await worker.finish(5.0)
            await worker.abort(0.1)
            assert time.monotonic() - before < 1.0, "a drain does not wait for the abandoned"
            end.set()
            await asyncio.sleep(0.05)
    abandoned = [entry for entry in logs if entry["event"] == "a handler is abandoned"]
    assert [entry["job"] for entry in abandoned] == [21]
    assert [name for name, _, _ in engine.calls if name != "update"] == []


async def test_an_abandoned_job_that_is_still_ours_fails_with_a_retry_less(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_ABANDON_AFTER", 0.05)
    end = asyncio.Event()

    async def stubborn(context: sdk.JobContext) -> None:
        await _stubborn(end)

    async with working(stubborn, engine, timeout=1.0, max_run=0.2):
        engine.streams[0].push(job(retries=3))
        await until(lambda: engine.named("fail"))
        assert engine.named("fail")[0]["retries"] == 2
        end.set()
        await asyncio.sleep(0.05)
        assert len(engine.named("fail")) == 1
        assert engine.named("complete") == []


# ---- drain -----------------------------------------------------------------------------------------------------------


async def test_a_drain_hands_back_what_was_under_way_without_using_up_a_retry(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=2) as worker:
        stream = engine.streams[0]
        stream.push(*(job(retries=2) for _ in range(50)))
        await until(lambda: gate.inside == 2)
        await worker.stop_reading(silence=0.1)
        await until(lambda: len(engine.named("fail")) == 48)
        assert {(f["retries"], f["message"]) for f in engine.named("fail")} == {(2, HANDED_BACK)}
        assert gate.calls == 2
        gate.open.set()
        await worker.finish(1.0)
        assert len(engine.named("complete")) == 2


async def test_what_is_handed_back_does_not_come_back_to_us(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=2) as worker:
        stream = engine.streams[0]
        original = engine.fail_job

        async def fail_job(job_key: int, **rest: Any) -> None:
            await original(job_key, **rest)
            if not stream.cancelled:
                stream.push(job(job_key))  # as an engine does that has no other stream

        engine.fail_job = fail_job  # type: ignore[method-assign]
        stream.push(*(job() for _ in range(10)))
        await until(lambda: gate.inside == 2)
        await worker.stop_reading(silence=0.1)
        await until(lambda: len(engine.named("fail")) == 8)
        await asyncio.sleep(0.1)
        assert len(engine.named("fail")) == 8


async def test_a_drain_does_not_wait_for_an_endless_stream_to_be_silent(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=2) as worker:
        stream = engine.streams[0]

        async def endless() -> None:
            while not stream.cancelled:
                stream.push(job())
                await asyncio.sleep(0.01)

        source = asyncio.create_task(endless())
        before = time.monotonic()
        await worker.stop_reading()
        assert time.monotonic() - before < 1.5
        await source


async def test_what_does_not_end_within_the_grace_is_cancelled_and_handed_back(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=3) as worker:
        engine.streams[0].push(*(job(retries=1) for _ in range(3)))
        await until(lambda: gate.inside == 3)
        await worker.stop_reading(silence=0.05)
        await worker.finish(0.1)
        await worker.abort(1.0)
        assert gate.inside == 0
        assert [(f["retries"], f["message"]) for f in engine.named("fail")] == [(1, HANDED_BACK)] * 3
        assert engine.named("complete") == []


async def test_a_poll_under_way_is_handed_back_by_a_drain(engine: FakeEngine) -> None:
    gate, found = Gate(), asyncio.Event()
    original = engine.activate_jobs

    async def slow(*arguments: Any, **named: Any) -> Any:
        jobs = await original(*arguments, **named)
        if jobs:
            await found.wait()
        return jobs

    engine.activate_jobs = slow  # type: ignore[method-assign]
    engine.backlog.extend(job(retries=4) for _ in range(2))
    async with working(gate.__call__, engine, max_jobs=8) as worker:
        await until(lambda: not engine.backlog)
        await worker.stop_reading(silence=0.05)
        found.set()
        await until(lambda: len(engine.named("fail")) == 2)
        assert {f["retries"] for f in engine.named("fail")} == {4}
        assert gate.calls == 0


async def test_statistics_tell_capacity_leases_and_liveness(engine: FakeEngine) -> None:
    gate = Gate()
    async with working(gate.__call__, engine, max_jobs=3) as worker:
        engine.streams[0].push(job())
        await until(lambda: gate.inside == 1)
        found = worker.statistics()
        assert found["permits_limit"] == 3
        assert 1 <= found["permits_in_use"] <= 3
        assert found["leases"] == 1
        assert 290 < found["lease_nearest_deadline_seconds"] <= 300
        assert found["read_age_seconds"] < 1
        assert "success_age_seconds" not in found
        gate.open.set()
        await until(lambda: "success_age_seconds" in worker.statistics())
