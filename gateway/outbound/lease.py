"""Leases: how long a job is ours. Extended while its handler runs; nothing is sent after one has ended.

A lease counts monotonic time from before the request or from the receipt, never the engine's clock. One sweep every few seconds
looks at all of a worker's leases: cheaper than a timer for each job.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gateway.engine import EngineError, FailedPrecondition, Job, NotFound, TransientError

log = structlog.get_logger(__name__)

Clock = Callable[[], float]


class State(enum.Enum):
    """What is true of a lease. Only `HELD` allows to send anything for its job."""

    HELD = "held"
    LOST = "lost"  # it ran out, or the engine said that the job is gone
    OVERDUE = "overdue"  # still held, but the job has run for as long as a job may
    ENDED = "ended"  # the job was answered


@dataclass(frozen=True, slots=True)
class LeaseStatistics:
    """count: leases held; nearest: seconds until the next one ends (None without any); extensions: since the start."""

    count: int
    nearest: float | None
    extensions: int
    lost: int


def _nothing() -> None:
    """Nobody wants to know."""


class Lease:
    """One job's lease. `on_end` is called when it is lost, and when the job has run for too long."""

    __slots__ = ("began", "deadline", "fixed", "job", "on_end", "renewing", "state")

    def __init__(self, job: Job, began: float, seconds: float) -> None:
        self.job = job
        self.began = began
        self.deadline = began + seconds
        self.state = State.HELD
        self.fixed = False
        self.renewing = False
        self.on_end: Callable[[], None] = _nothing

    def holds(self, now: float) -> bool:
        """Whether something may be sent for the job."""
        return self.state in {State.HELD, State.OVERDUE} and now < self.deadline


class Leases:
    """The leases of one worker.

    seconds: how long the engine grants; max_run: seconds a job may run in all; extend: sends UpdateJobTimeout.
    """

    def __init__(
        self,
        seconds: float,
        *,
        max_run: float,
        extend: Callable[[int, int], Awaitable[None]],
        now: Clock,
    ) -> None:
        self.seconds = seconds
        self._max_run = max_run
        self._extend = extend
        self._now = now
        self._held: dict[int, Lease] = {}  # by identity
        self._renewals: set[asyncio.Task[None]] = set()
        self._extensions = 0
        self._lost = 0

    def statistics(self) -> LeaseStatistics:
        now = self._now()
        nearest = min((lease.deadline for lease in self._held.values()), default=None)
        return LeaseStatistics(
            len(self._held), None if nearest is None else max(0.0, nearest - now), self._extensions, self._lost
        )

    def begin(self, job: Job, began: float) -> Lease:
        """Starts the lease of a job that was asked for or received at `began`."""
        lease = Lease(job, began, self.seconds)
        self._held[id(lease)] = lease
        return lease

    def end(self, lease: Lease) -> None:
        """The job was answered, or is given up."""
        if lease.state is not State.LOST:
            lease.state = State.ENDED
        self._held.pop(id(lease), None)

    async def pin(self, lease: Lease, milliseconds: int) -> None:
        """The user's own job timeout: set at the engine now, and not extended from then on.

        A transient failure leaves the earlier of both deadlines. Raises what else the engine says; TimeoutError when the
        new deadline has passed before the engine answered (Camunda docs, "Job timeout" header).
        """
        before, lease.fixed = self._now(), True
        requested = before + milliseconds / 1000
        try:
            await self._extend(lease.job.key, milliseconds)
            lease.deadline = requested
        except TransientError as e:
            log.warning("the job's timeout could not be set", job=lease.job.key, reason=str(e))
            lease.deadline = min(lease.deadline, requested)
        if self._now() >= lease.deadline:
            raise TimeoutError("The job timeout had passed before the engine confirmed it")

    async def sweep(self) -> None:
        """Runs for as long as the worker does: extends what is due, ends what has run out."""
        pause = max(0.02, min(5.0, self.seconds / 10))
        try:
            while True:
                await asyncio.sleep(pause)
                self.look()
        finally:
            for task in self._renewals:
                task.cancel()

    def look(self) -> None:
        """One sweep."""
        now = self._now()
        for lease in list(self._held.values()):
            if now >= lease.deadline:
                self._finish(lease, State.LOST)
            elif now >= lease.began + self._max_run and not lease.fixed:
                self._finish(lease, State.OVERDUE)
            elif not lease.fixed and lease.deadline - now <= self.seconds / 2 and not lease.renewing:
                lease.renewing = True
                task = asyncio.create_task(self._renew(lease))
                self._renewals.add(task)
                task.add_done_callback(self._renewals.discard)

    def _finish(self, lease: Lease, state: State) -> None:
        if lease.state is state or lease.state is State.ENDED:
            return
        lease.state = state
        if state is State.LOST:
            self._lost += 1
            self._held.pop(id(lease), None)
        lease.on_end()

    async def _renew(self, lease: Lease) -> None:
        before = self._now()
        try:
            await self._extend(lease.job.key, int(self.seconds * 1000))
        except (NotFound, FailedPrecondition) as e:
            log.info("the job is gone, its handler is stopped", job=lease.job.key, reason=str(e))
            self._finish(lease, State.LOST)
        except EngineError as e:
            log.warning("a lease could not be extended, it is tried again", job=lease.job.key, reason=str(e))
        else:
            if not lease.fixed:  # else the user's own timeout was set in the meantime
                lease.deadline = before + self.seconds
            self._extensions += 1
        finally:
            lease.renewing = False
