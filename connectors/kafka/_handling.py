"""Records on their way to the process: who is next, what becomes of those that fail, when to leave the engine alone."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from connectors.kafka._avro import DoesNotFit
from connectors.kafka._events import Decode, Record, event
from connectors.kafka._partition import Partition, Taken
from connectors.kafka._registry import RegistryError, SchemaNeeded, SchemaRegistry
from connectors.kafka.consumer import PolicyKind
from gateway import (
    ActivationConditionNotMet,
    CorrelationFailed,
    Delivery,
    EngineRefused,
    InboundContext,
    InvalidInput,
    Outcome,
    Window,
)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0


def pause(attempts: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds before the next attempt, after so many (at least one)."""
    return min(longest, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10)) * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of a record that cannot be handled. retries: of those that may have another outcome, before that.

    dead_letter: sends a record away, with the reason.
    """

    kind: PolicyKind = "retry"
    retries: int = 3
    dead_letter: Callable[[Record, str], Awaitable[None]] | None = None


class Handling:
    """Gives the records of the assigned partitions to the process, at most `size` at once, the partitions taking turns.

    Keys keep their order here and not in the window, so that no record has a place there while it waits for another one: the
    places are for records that can be handled, of whatever partition.
    """

    def __init__(
        self,
        source: InboundContext,
        window: Window,
        decode: Decode,
        policy: Policy,
        *,
        size: int,
        registry: SchemaRegistry | None,
    ) -> None:
        self._source = source
        self._window = window
        self._decode = decode
        self._policy = policy
        self._size = size
        self._registry = registry
        self._order: deque[Partition] = deque()
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._ceiling = size  # 0 while the engine is away; then it grows with what succeeds
        self._outage: str | None = None
        self._outages = 0
        self._pausing = False
        self.changed: Callable[[], None] = lambda: None
        """Called when `trouble` may be another."""
        self.progress = asyncio.Event()
        """Set when there may be something to commit."""
        self.stopped: str | None = None
        """Why nothing is handled any more, by the policy `stop`."""
        self.halted = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """What is wrong: the engine, or the first record that fails."""
        if self.stopped or self._outage:
            return self.stopped or self._outage
        return next((reason for each in self._order if (reason := each.blocked) is not None), None)

    def assign(self, partitions: Iterable[Partition]) -> None:
        """The partitions whose records are handled from now on."""
        self._order = deque(partitions)
        self._wake.set()
        self.changed()

    def wake(self) -> None:
        """There are new records."""
        self._wake.set()

    async def run(self) -> None:
        """Starts what may be started, until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._start_ready()

    async def quiet(self, partitions: Collection[Partition], seconds: float) -> None:
        """Waits until no record of these partitions is under way, but no longer than that."""
        try:
            async with asyncio.timeout(seconds):
                while any(each.under_way for each in partitions):
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Ends all waits between attempts."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- out ----

    async def _start_ready(self) -> None:
        order, idle = self._order, 0
        while idle < len(order) and self._under_way < self._ceiling and self.stopped is None:
            partition = order[0]
            order.rotate(-1)
            taken = partition.next()
            if taken is None:
                idle += 1
            else:
                idle = 0
                await self._begin(taken)

    async def _begin(self, taken: Taken) -> None:
        self._under_way += 1
        record = taken.record
        assert record is not None
        try:
            found = event(record, self._decode)
        except SchemaNeeded as e:
            self._spawn(self._fetch(taken, e.ident))
            return
        except Exception as e:  # whatever strangers have sent
            said = str(e) if isinstance(e, DoesNotFit) else type(e).__name__
            self._unreadable(taken, said, retryable=False)
            return
        delivery = await self._window.emit(found, id=f"{record.topic}-{record.partition}-{record.offset}")
        delivery.add_done_callback(partial(self._ended, taken))

    async def _fetch(self, taken: Taken, ident: int) -> None:
        assert self._registry is not None
        try:
            await self._registry.fetch(ident)
        except RegistryError as e:
            self._unreadable(taken, str(e), retryable=True)
        else:
            self._leave()
            taken.partition.put_back(taken)

    def _unreadable(self, taken: Taken, reason: str, *, retryable: bool) -> None:
        if taken.attempts == 0:
            self._source.log("ERROR", "Record", f"{_name(taken)} cannot be read: {reason}")
        self._failed(taken, reason, retryable=retryable)

    # ---- back ----

    def _ended(self, taken: Taken, delivery: Delivery) -> None:
        try:
            outcome = delivery.result()
        except asyncio.CancelledError:  # the window was closed by force
            outcome = CorrelationFailed("cancelled")
            taken.partition.fenced = True
        partition = taken.partition
        if partition.fenced:
            partition.under_way -= 1
            self._leave()
        elif isinstance(outcome, EngineRefused) and outcome.away:
            partition.put_back(taken)
            self._leave()
            self._away(outcome)
        else:
            if self._outage is not None or self._ceiling < self._size:
                self._recovering()
            if outcome.done:
                self._done(taken)
            else:
                self._failed(taken, _words(outcome), retryable=outcome.retryable)

    def _leave(self) -> None:
        """A place is free."""
        self._under_way -= 1
        self._settled.set()
        self._wake.set()

    def _done(self, taken: Taken) -> None:
        failed = taken.attempts
        taken.partition.finished(taken)
        self._leave()
        self.progress.set()
        if failed:
            self.changed()

    # ---- the engine is away ----

    def _away(self, outcome: EngineRefused) -> None:
        self._ceiling = 0
        if not self._pausing:
            self._pausing = True
            self._outage = f"The engine takes no events: {outcome.status}: {outcome.message}"
            self._spawn(self._probe_later())
            self.changed()

    async def _probe_later(self) -> None:
        self._outages += 1
        await self._source.sleep(pause(self._outages))
        self._pausing = False
        self._ceiling = 1  # one record finds out
        self._wake.set()

    def _recovering(self) -> None:
        """A record was answered: one more at once from now on, unless it was under way from before the outage."""
        if self._ceiling == 0:
            return
        self._ceiling = min(self._size, self._ceiling + 1)
        self._outage = None
        if self._ceiling == self._size:
            self._outages = 0
        self.changed()

    # ---- records that fail ----

    def _failed(self, taken: Taken, reason: str, *, retryable: bool) -> None:
        kind, partition = self._policy.kind, taken.partition
        if partition.fenced:
            partition.under_way -= 1
            self._leave()
        elif kind in {"skip", "dead-letter"} and (not retryable or taken.attempts >= self._policy.retries):
            self._spawn(self._set_aside(taken, reason))
        else:
            partition.failed(taken, f"{_name(taken)}: {reason}")
            if kind == "stop" and (not retryable or taken.attempts > self._policy.retries):
                self._stop(taken, reason)
            else:
                self._spawn(self._try_again(taken))
            self._leave()
            self.changed()

    async def _try_again(self, taken: Taken) -> None:
        seconds = pause(taken.attempts)
        if taken.attempts == 1:
            words = f"{_name(taken)} is tried again, with growing pauses; the records behind it in its partition wait"
            self._source.log("WARNING", "Record", words)
        await self._source.sleep(seconds)
        if not taken.partition.fenced:
            taken.partition.again(taken)
            self._wake.set()

    async def _set_aside(self, taken: Taken, reason: str) -> None:
        record, send = taken.record, self._policy.dead_letter
        assert record is not None
        where = "skipped"
        if self._policy.kind == "dead-letter" and send is not None:
            try:
                await send(record, reason)
            except Exception as e:
                taken.partition.failed(taken, f"{_name(taken)} cannot be sent to the dead letter topic: {e}")
                self._source.log("ERROR", "Record", f"{_name(taken)} cannot be sent to the dead letter topic: {e}")
                self._spawn(self._try_again(taken))
                self._leave()
                self.changed()
                return
            where = "sent to the dead letter topic"
        data = {"partition": record.partition, "offset": record.offset, "reason": reason}
        self._source.log("WARNING", "Record", f"{_name(taken)} was {where}: {reason}", data)
        if taken.partition.fenced:
            taken.partition.under_way -= 1
            self._leave()
        else:
            self._done(taken)

    def _stop(self, taken: Taken, reason: str) -> None:
        self.stopped = f"Stopped at {_name(taken)}: {reason}. Reset the connector to go on from there"
        self._source.log("ERROR", "Record", self.stopped)
        self.halted.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _name(taken: Taken) -> str:
    record = taken.record
    return f"Record {record.topic}-{record.partition}-{record.offset}" if record is not None else "A record"


def _words(outcome: Outcome) -> str:
    match outcome:
        case ActivationConditionNotMet():
            return "no activation condition is met, and unmatched events are not to be consumed"
        case EngineRefused(status=status, message=message):
            return f"the engine refused it: {status}: {message}"
        case InvalidInput(message=message) | CorrelationFailed(message=message):
            return message
    return type(outcome).__name__
