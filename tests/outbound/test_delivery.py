"""An outcome is sent until the engine has it, refuses it, or the lease ends; and a refusal leaves no job stuck."""

import asyncio
from typing import cast

import pytest

from gateway.engine import (
    Aborted,
    Commands,
    DeadlineExceeded,
    EngineError,
    EngineFailure,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from gateway.outbound.delivery import Delivered, deliver, instead
from gateway.outbound.lease import Lease, State
from gateway.outbound.outcome import Command, Complete, Fail, Throw
from tests.outbound.fakes import FakeEngine, Time, job


class Run:
    """One delivery with a clock that sleeping moves; `sleeps` are the pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 300.0) -> None:
        self.engine, self.clock, self.sleeps = FakeEngine(), Time(), list[float]()
        self.lease = Lease(job(5), self.clock(), seconds)
        really = asyncio.sleep

        async def sleep(delay: float) -> None:
            if delay:
                self.sleeps.append(delay)
                self.clock.at += delay
            await really(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)

    async def send(self, command: Command) -> tuple[Delivered, EngineError | None]:
        return await deliver(cast("Commands", self.engine), self.lease, command, now=self.clock)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


async def test_each_command_is_sent_as_it_is(run: Run) -> None:
    for command in (Complete('{"a":1}'), Fail(2, "m", '{"error":{}}', 500), Throw("code", "text", '{"b":2}')):
        assert await run.send(command) == (Delivered.ACCEPTED, None)
    complete, fail, throw = (arguments for _, _, arguments in run.engine.calls)
    assert complete["variables"] == '{"a":1}'
    assert (fail["retries"], fail["message"], fail["backoff_ms"], fail["variables"]) == (2, "m", 500, '{"error":{}}')
    assert (throw["code"], throw["message"], throw["variables"]) == ("code", "text", '{"b":2}')


@pytest.mark.parametrize(
    "error",
    [Unavailable("x"), DeadlineExceeded("x"), ResourceExhausted("x"), Aborted("x"), Unauthenticated("token expired")],
)
async def test_what_may_pass_is_sent_again(run: Run, error: EngineError) -> None:
    run.engine.answer("complete", error, error, None)
    assert await run.send(Complete("{}")) == (Delivered.ACCEPTED, None)
    assert len(run.engine.calls) == 3


async def test_pauses_grow_by_1_6_from_50_ms_to_5_s(run: Run) -> None:
    run.engine.always["complete"] = Unavailable("away")
    await run.send(Complete("{}"))
    for n, pause in enumerate(run.sleeps[:9]):
        assert pause == pytest.approx(0.05 * 1.6**n, rel=0.101)
    assert max(run.sleeps) <= 5.5
    assert run.sleeps[15] > 4


async def test_completions_are_not_slowed_by_back_pressure_beyond_their_own_pauses(run: Run) -> None:
    run.engine.answer("complete", *[ResourceExhausted("less, please")] * 5)
    await run.send(Complete("{}"))
    assert sum(run.sleeps) < 1.0


async def test_nothing_is_sent_after_the_lease_has_ended(run: Run) -> None:
    run.engine.always["complete"] = Unavailable("away")
    delivered, error = await run.send(Complete("{}"))
    assert delivered is Delivered.EXPIRED
    assert str(error) == "away"
    assert run.clock() == pytest.approx(run.lease.deadline)
    sent = len(run.engine.calls)
    assert await run.send(Complete("{}")) == (Delivered.EXPIRED, None)
    assert len(run.engine.calls) == sent


async def test_a_lost_lease_sends_nothing(run: Run) -> None:
    run.lease.state = State.LOST
    assert (await run.send(Complete("{}")))[0] is Delivered.EXPIRED
    assert run.engine.calls == []


async def test_an_attempt_never_waits_longer_than_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, seconds=4)
    await run.send(Complete("{}"))
    assert run.engine.calls[0][2]["timeout"] == 4


async def test_a_job_that_is_gone_is_answered(run: Run) -> None:
    run.engine.answer("complete", Unavailable("the reply was lost"), NotFound("no such job"))
    delivered, _ = await run.send(Complete("{}"))
    assert delivered is Delivered.IGNORED
    assert len(run.engine.calls) == 2


@pytest.mark.parametrize(
    "error", [InvalidArgument("bad"), PermissionDenied("not you"), EngineFailure("INTERNAL"), FailedPrecondition("x")]
)
async def test_a_refusal_is_not_sent_again(run: Run, error: EngineError) -> None:
    run.engine.answer("complete", error)
    assert await run.send(Complete("{}")) == (Delivered.REFUSED, error)
    assert len(run.engine.calls) == 1


async def test_what_cannot_be_written_counts_as_refused(run: Run) -> None:
    run.engine.answer("complete", ValueError("bytes of the user's data"))
    delivered, error = await run.send(Complete("{}"))
    assert delivered is Delivered.REFUSED
    assert str(error) == "it cannot be written as a message (ValueError)"


@pytest.mark.parametrize("error", [InvalidArgument("bad"), PermissionDenied("not you"), EngineFailure("INTERNAL")])
def test_a_refused_completion_becomes_a_failure_that_says_so(error: EngineError) -> None:
    found = instead(Complete("{}"), error, retries=3)
    assert found == Fail(2, f"The engine refused the outcome of the job: {error}")


def test_a_refused_failure_is_sent_again_without_what_it_held() -> None:
    found = instead(Fail(2, "\ud800", '{"error":1}', 500), InvalidArgument("too large \ud800" * 1000), retries=3)
    assert found is not None
    assert (found.retries, found.variables, found.backoff_ms) == (2, None, None)
    assert len(found.message.encode()) < 3000


def test_a_job_in_another_state_is_somebody_elses() -> None:
    assert instead(Complete("{}"), FailedPrecondition("it was failed"), retries=3) is None
