"""The worker of one job type: takes a permit, then reads; never more jobs in flight than permits.

Not reading is the back-pressure: a full worker stalls its stream, and the engine gives the jobs to others. The backlog (what became
available while no stream was open or none had room) is polled for with the same permits.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from gateway import jsontext, sdk
from gateway.engine import (
    Commands,
    EngineError,
    Job,
    JobActivation,
    JobStream,
    NotFound,
    TransientError,
    Unimplemented,
)
from gateway.limits import Backoff, Permits
from gateway.observe import Metrics, OutboundMeters
from gateway.outbound.delivery import Delivered, deliver, instead
from gateway.outbound.handler import Answer, Handler
from gateway.outbound.lease import Clock, Lease, Leases, State
from gateway.outbound.outcome import Command, Complete, Fail
from gateway.outbound.plan import Plans

log = structlog.get_logger(__name__)

_WINDOW_BYTES = 128 * 1024  # what may lie between the engine and a read: the stream's window and what both ends buffer
_ENVELOPE_BYTES = 150  # of a job's message beside its variables and headers, at least
_ABANDON_AFTER = 10.0  # seconds that a cancelled handler has to end
_LISTENER_LIMIT = 30.0  # seconds that a completion listener may take
_LIVED = 5.0  # seconds after which a stream that breaks is opened again as if it were the first time
HANDED_BACK = "Handed back: the gateway that had this job was stopped"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How one job type is worked. poll_interval, request_timeout: seconds."""

    activation: JobActivation
    max_jobs: int
    stream: bool = True
    poll_interval: float = 0.1
    request_timeout: float = 10.0
    max_run: float = 3600.0


@dataclass(slots=True)
class Running:
    """A job in flight. `permit`, `total`: whether it has a permit of its type and of the process; each goes back once."""

    job: Job
    lease: Lease
    meters: OutboundMeters
    task: asyncio.Task[None] | None = None
    permit: bool = True
    total: bool = False
    cancelled: bool = False
    abandoned: bool = False


@dataclass(slots=True)
class Reading:
    """One stream. asked: when its last read began, or the one that the silence of its connection fell upon."""

    stream: JobStream | None = None
    asked: float = 0.0
    silent: bool = False


@dataclass(slots=True)
class Liveness:
    """Monotonic times of the last read, success and error; how many handlers were abandoned."""

    last_read: float | None = None
    last_success: float | None = None
    last_error: float | None = None
    abandoned: int = 0


class Worker:
    """Works one job type until it is drained.

    total: the permits that all workers of the process share, taken after the read and before the handler.
    """

    def __init__(
        self,
        commands: Commands,
        options: WorkerOptions,
        make_handler: Callable[[Leases], Handler],
        *,
        total: Permits,
        metrics: Metrics,
        listener: sdk.JobCompletionListener | None = None,
        now: Clock = time.monotonic,
    ) -> None:
        self.options = options
        self.permits = Permits(options.max_jobs)
        self.liveness = Liveness()
        self.leases = Leases(
            options.activation.timeout_ms / 1000, max_run=options.max_run, extend=commands.update_job_timeout, now=now
        )
        self.handler = make_handler(self.leases)
        self._commands = commands
        self._total = total
        self._meters = metrics.worker(options.activation.type)
        meters = partial(metrics.outbound, options.activation.type)
        self._plans = Plans(meters)
        self._unplanned = meters(None, None)
        self._listener = listener
        self._now = now
        self._reads: deque[float] = deque([now()], maxlen=1024)
        self._running: dict[asyncio.Task[None], Running] = {}
        # The read of a stream keeps a permit for as long as nothing comes: a pool of one would never get to its backlog.
        self._streaming = options.stream and options.max_jobs > 1
        self._stream: JobStream | None = None
        self._silent: JobStream | None = None  # one whose connection was replaced, read on for what comes late
        self._draining = False
        self._stopped_reading = False
        self._was_full = False
        self._told = ""
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._declined: list[Job] = []
        self._errands: set[asyncio.Task[None]] = set()

    # ---- life ----

    def start(self) -> None:
        """Opens the stream and the poll; returns at once."""
        self._tasks = [asyncio.create_task(self.leases.sweep()), asyncio.create_task(self._poll())]
        if self._streaming:
            self._tasks.append(asyncio.create_task(self._read_streams()))

    async def stop_reading(self, silence: float = 0.3, limit: float = 1.0) -> None:
        """The first step of a drain: takes no more work, reads what is under way until it is silent and hands it back.

        What was read goes back only after the stream is closed: before, the engine would give it to us again.
        """
        self._draining = True
        self._look_now.set()
        self.permits.open()
        began = self._now()
        while self._stream is not None and self._now() - began < limit:
            if self._now() - max(began, self.liveness.last_read or 0.0) >= silence:
                break
            await asyncio.sleep(0.02)
        for stream in (self._stream, self._silent):
            if stream is not None:
                stream.cancel()
        self._stopped_reading = True
        self._return_declined()

    async def finish(self, grace: float) -> None:
        """The second step: lets running handlers end within `grace` seconds."""
        alive = [task for task, one in self._running.items() if not one.abandoned]
        if alive:
            await asyncio.wait(alive, timeout=max(0.0, grace))

    async def abort(self, limit: float) -> None:
        """The third step: cancels what still runs, hands it back without using up a retry, and ends within `limit` seconds."""
        alive = {task: one for task, one in self._running.items() if not one.abandoned}
        for task, one in alive.items():
            task.cancel()
            if one.lease.holds(self._now()):
                self._soon(self._hand_back(one.job))
            self.leases.end(one.lease)
        pending = [*alive, *self._errands]
        if pending:
            _, stubborn = await asyncio.wait(pending, timeout=limit)
            for task in stubborn:
                if task in self._running:
                    self._abandon(self._running[task], "it swallows its cancellation")
        for loop in self._tasks:
            loop.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def statistics(self) -> dict[str, float]:
        """The worker's figures by the names that `gateway.observe.STATISTICS` knows."""
        now, permits, leases, alive = self._now(), self.permits.statistics(), self.leases.statistics(), self.liveness
        found = {
            "permits_limit": self.options.max_jobs,
            "permits_in_use": permits.in_use,
            "permits_waiting": permits.waiting,
            "leases": leases.count,
            "lease_nearest_deadline_seconds": leases.nearest,
            "lease_extensions": leases.extensions,
            "read_age_seconds": None if alive.last_read is None else now - alive.last_read,
            "success_age_seconds": None if alive.last_success is None else now - alive.last_success,
            "error_age_seconds": None if alive.last_error is None else now - alive.last_error,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    def running(self, task: asyncio.Task[Any] | None) -> Job | None:
        """The job that a task handles, for whoever wants to name it."""
        found = self._running.get(task) if task is not None else None
        return found.job if found else None

    # ---- reading ----

    async def _read_streams(self) -> None:
        """Keeps one stream open, with a pause that grows from 0.1 s to 3 s while the engine is away."""
        backoff = Backoff(0.1, 3.0, jitter=0.5)
        # A silent stream keeps a permit for as long as it is read on: two would never get to their backlog.
        reads_on = self.options.max_jobs > 2
        while not self._draining:
            opened, reading = self._now(), Reading()
            try:
                on_silent = partial(self._read_another, reading) if reads_on else None
                reading.stream = self._stream = self._commands.stream_jobs(self.options.activation, on_silent=on_silent)
                self._look_now.set()  # what became available while no stream was open is in nobody's stream
                await self._read(reading, reading.stream, backoff)
            except Unimplemented:
                log.info("the engine has no job streams, polling only", type=self.options.activation.type)
                self._streaming, self._stream = False, None
                return
            except Exception as e:
                self._troubled("a job stream broke", e)
            finally:
                if reading.stream is not None:
                    reading.stream.cancel()
            if reading.silent:
                return
            if self._now() - opened > _LIVED:
                backoff.reset()
            if not self._draining:
                self._meters.stream_recreated()
                await asyncio.sleep(backoff.next())
        self._stream = None

    def _read_another(self, reading: Reading) -> None:
        """The connection of a stream answers nothing: another takes over, this one is read on until it breaks."""
        if self._draining or reading.silent:
            return
        reading.silent = True
        if self._silent is not None:
            self._silent.cancel()
        self._silent = reading.stream
        self._meters.stream_recreated()
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._read_streams()))

    def _troubled(self, what: str, error: Exception) -> None:
        """An engine that is away is told of elsewhere; what a person has to mend is told once."""
        self.liveness.last_error = self._now()
        reason = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        if isinstance(error, TransientError):
            log.debug(what, type=self.options.activation.type, reason=reason)
        elif reason != self._told:
            self._told = reason
            log.warning(what, type=self.options.activation.type, reason=reason)

    async def _read(self, reading: Reading, stream: JobStream, backoff: Backoff) -> None:
        while True:
            await self.permits.take()
            taken = True
            try:
                if not reading.silent:
                    reading.asked = self._now()
                job = await stream.read()
                if job is None:
                    return
                backoff.reset()
                began = self._lease_begin(reading.asked, len(job.variables) + len(job.custom_headers) + _ENVELOPE_BYTES)
                if reading.silent:
                    began = reading.asked  # sent at any time since then
                if self._draining:
                    self._decline(job)
                else:
                    taken = False  # the permit is the job's now
                    self._dispatch(job, began)
            finally:
                if taken:
                    self.permits.give_back()

    def _lease_begin(self, asked: float, size: int) -> float:
        """The earliest moment at which the engine may have sent a job that was read just now.

        A read that had to wait found nothing under way, so the job is fresh. One that did not may have got a job that lay
        there for as long as the reads took that made room for it.
        """
        now = self._now()
        self.liveness.last_read = now
        if now - asked > 0.005:
            self._reads.clear()
        self._reads.append(now)
        places = min(len(self._reads), _WINDOW_BYTES // size + 2)
        return self._reads[-places]

    async def _poll(self) -> None:
        """Asks for the backlog: at the start, after a reconnect, after the pool was full, while it finds jobs, else every 10 s.

        Where streams are open the call does not wait in the engine and takes at most half of the free permits, so that the
        stream is not starved. Without streams it waits in the engine for as long as a request may.
        """
        first = max(0.01, self.options.poll_interval)
        idle, trouble = Backoff(first, max(first, 10.0)), Backoff(0.5, 10.0)
        while not self._draining:
            try:
                found = await self._poll_once()
            except Exception as e:  # RESOURCE_EXHAUSTED among them: the engine asks for less
                pause = trouble.next()
                self._troubled("polling for jobs failed", e)
            else:
                trouble.reset()
                if found or self._was_full or not self._streaming:
                    idle.reset()
                self._was_full = False
                pause = 0.0 if found else idle.next()
            if await self._pause(pause):
                idle.reset()

    async def _pause(self, seconds: float) -> bool:
        """Whether somebody wanted the poll before the pause was over."""
        if seconds <= 0:
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._look_now.wait(), seconds)
        wanted = self._look_now.is_set()
        self._look_now.clear()
        return wanted

    async def _poll_once(self) -> int:
        """One poll; the number of jobs found. Waits for a permit when none is free."""
        streaming = self._streaming
        await self.permits.take()
        count = 1
        more = self.permits.free // 2 if streaming else self.permits.free
        if more and self.permits.take_nowait(more):
            count += more
        asked = self._now()
        jobs: list[Job] = []
        try:
            if not self._draining:
                jobs = await self._activate(count, wait=not streaming)
        finally:
            self.permits.give_back(count - len(jobs))
        if jobs:
            self.liveness.last_read = self._now()
        for job in jobs:
            if self._draining:
                self.permits.give_back()
                self._decline(job)
            else:
                self._dispatch(job, asked)
        return len(jobs)

    async def _activate(self, count: int, *, wait: bool) -> list[Job]:
        timeout = self.options.request_timeout
        return await self._commands.activate_jobs(
            self.options.activation,
            count,
            request_timeout_ms=int(timeout * 1000) if wait else -1,
            timeout=timeout + 5.0 if wait else min(timeout, 5.0),
        )

    # ---- one job ----

    def _dispatch(self, job: Job, began: float) -> None:
        """Starts the handling of a job whose permit is taken; the permit goes back when the task is done, however it ends."""
        running = Running(job, self.leases.begin(job, began), self._unplanned)
        running.lease.on_end = partial(self._lease_ended, running)
        running.task = task = asyncio.create_task(self._handle(running))
        self._running[task] = running
        task.add_done_callback(self._done)
        if self.permits.free == 0:
            self._was_full = True

    def _done(self, task: asyncio.Task[None]) -> None:
        running = self._running.pop(task)
        self._meters.handled()
        self.leases.end(running.lease)
        self._release(running)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("handling a job failed in an unforeseen way", job=running.job.key, error=type(error).__name__)

    def _release(self, running: Running) -> None:
        if running.permit:
            running.permit = False
            self.permits.give_back()
        if running.total:
            running.total = False
            self._total.give_back()

    async def _handle(self, running: Running) -> None:
        job, lease = running.job, running.lease
        self._meters.activated()
        log.debug("Received job", job=job.key, type=job.type, tenant=job.tenant_id)
        began = self._now()
        try:
            await self._total.take()
            running.total = True
            if not lease.holds(self._now()):
                log.info("the lease of a job ended before its turn came", job=job.key, type=job.type)
                return
            plan = self._plans.get(job.custom_headers)
            running.meters = plan.meters
            plan.meters.activated()
            answer, context = await self.handler.handle(job, plan, lease)
        except BaseException as e:
            answer, context = Answer(self._ended_by(e, running), None, None), None
        if running.abandoned or not lease.holds(self._now()):
            log.warning("a handler ended after its lease, its result is dropped", job=job.key, type=job.type)
            return
        await self._answer(running, answer, context, self._now() - began)

    def _ended_by(self, error: BaseException, running: Running) -> Fail:
        """The failed job for what no handler should raise. Raises what is meant for the loop: cancellation from outside."""
        job, task = running.job, running.task
        if isinstance(error, GeneratorExit) or (isinstance(error, KeyboardInterrupt) and self._draining):
            raise error
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            if running.lease.state is not State.OVERDUE:
                raise error
            return self._overdue(job)
        name = type(error).__name__
        log.error("a handler ended in an unforeseen way", job=job.key, type=job.type, error=name)
        return Fail(max(0, job.retries - 1), f"The connector ended with {name}, which is no error it may raise")

    async def _answer(self, running: Running, answer: Answer, context: sdk.JobContext | None, seconds: float) -> None:
        command, lease = answer.command, running.lease
        delivered, refusal = await deliver(self._commands, lease, command, now=self._now)
        if delivered is Delivered.REFUSED and refusal is not None:
            other = instead(command, refusal, running.job.retries)
            if other is not None:
                delivered, _ = await deliver(self._commands, lease, other, now=self._now)
                command = other
        self.leases.end(lease)
        if delivered is Delivered.ACCEPTED:
            self._counted(command, running.meters, seconds)
        if self._listener is not None and context is not None:
            await self._tell(self._listener, answer, context, delivered, refusal)

    def _counted(self, command: Command, meters: OutboundMeters, seconds: float) -> None:
        at_ms = int(time.time() * 1000)
        if isinstance(command, Complete):
            self.liveness.last_success = self._now()
            meters.completed(seconds, at_ms)
        elif isinstance(command, Fail):
            self.liveness.last_error = self._now()
            meters.failed(seconds, at_ms)
        else:
            meters.bpmn_error(seconds, at_ms)

    async def _tell(
        self,
        listener: sdk.JobCompletionListener,
        answer: Answer,
        context: sdk.JobContext,
        delivered: Delivered,
        refusal: EngineError | None,
    ) -> None:
        try:
            async with asyncio.timeout(_LISTENER_LIMIT):
                if isinstance(answer.command, Complete) and delivered is Delivered.ACCEPTED and refusal is None:
                    await listener.on_job_completed(context, answer.response)
                else:
                    failure = _failure(answer, delivered, refusal)
                    await listener.on_job_completion_failed(context, answer.response, failure)
        except Exception as e:
            log.warning("a completion listener failed", job=context.job.key, error=type(e).__name__)

    # ---- ends that nobody wished for ----

    def _lease_ended(self, running: Running) -> None:
        """The lease is lost, or the job ran for too long: its handler is cancelled, and abandoned if that does not help."""
        if running.task is None or running.cancelled:
            return
        running.cancelled = True
        running.task.cancel()
        asyncio.get_running_loop().call_later(_ABANDON_AFTER, self._abandon_if_alive, running)

    def _abandon_if_alive(self, running: Running) -> None:
        if running.task is not None and not running.task.done():
            self._abandon(running, "it swallows its cancellation")

    def _abandon(self, running: Running, why: str) -> None:
        """Gives the permit back and reports, once; the task goes on, but nothing of it is sent."""
        if running.abandoned:
            return
        running.abandoned = True
        self._release(running)
        self.liveness.abandoned += 1
        log.error("a handler is abandoned", job=running.job.key, type=running.job.type, reason=why)
        if running.lease.state is State.OVERDUE:
            self._soon(
                self._answer(running, Answer(self._overdue(running.job), None, None), None, self.options.max_run)
            )
        else:
            self.leases.end(running.lease)
            running.lease.state = State.LOST

    def _overdue(self, job: Job) -> Fail:
        limit = self.options.max_run
        return Fail(
            max(0, job.retries - 1), f"The job ran longer than {limit:g} s, the limit of gateway.jobs.max-run-time"
        )

    def _decline(self, job: Job) -> None:
        """A job that came while we drain."""
        self._declined.append(job)
        if self._stopped_reading:
            self._return_declined()

    def _return_declined(self) -> None:
        for job in self._declined:
            self._soon(self._hand_back(job))
        self._declined.clear()

    def _soon(self, errand: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _hand_back(self, job: Job) -> None:
        """Makes a job available to others at once, with the retries it had."""
        for _ in range(3):
            try:
                await self._commands.fail_job(job.key, retries=job.retries, message=HANDED_BACK, timeout=2.0)
            except NotFound:
                return
            except EngineError as e:
                log.debug("a job could not be handed back", job=job.key, reason=str(e))
                await asyncio.sleep(0.1)
            else:
                return


def _failure(answer: Answer, delivered: Delivered, refusal: EngineError | None) -> sdk.JobFailure:
    """How a job ended that was not completed, in the listener's words."""
    command = answer.command
    if isinstance(command, Complete):
        ignored = delivered is Delivered.IGNORED
        return sdk.CommandIgnored(refusal) if ignored else sdk.CommandFailed(refusal)
    if not answer.chosen:
        return sdk.ExecutionFailed(answer.error, refusal)
    variables = jsontext.loads(command.variables or "{}")
    if isinstance(command, Fail):
        return sdk.JobErrorRaised(command.message, variables, refusal)
    return sdk.BpmnErrorThrown(command.code, command.message, variables, refusal)
