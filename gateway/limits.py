"""Capacity made explicit: permits, back-off. Pure: the clock and the random source are arguments.

Each has `statistics()`; metrics, status API and tests read these objects and nothing else.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PermitStatistics:
    limit: int
    in_use: int
    waiting: int


class Permits:
    """A pool of permits: at most `limit` are out at once; who waits is served in order.

    A permit taken is a permit given back, in `finally`. A waiter that is cancelled in the moment it is served passes its permit on.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit: expected at least 1, but got {limit}")
        self._limit = limit
        self._in_use = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    def statistics(self) -> PermitStatistics:
        return PermitStatistics(self._limit, self._in_use, len(self._waiters))

    @property
    def free(self) -> int:
        """Permits that could be taken now without waiting."""
        return 0 if self._waiters else self._limit - self._in_use

    def take_nowait(self, count: int = 1) -> bool:
        """Takes permits if that many are free and nobody waits; False else."""
        if count > self.free:
            return False
        self._in_use += count
        return True

    async def take(self) -> None:
        """Takes one permit, waiting for it."""
        if self.take_nowait():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_back()  # served and cancelled in the same turn of the loop
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def give_back(self, count: int = 1) -> None:
        """Gives permits back. Raises ValueError when more come back than are out: a bug that must not stay hidden."""
        if count > self._in_use:
            raise ValueError(f"{count} permits given back, but only {self._in_use} are out")
        self._in_use -= count
        while self._waiters and self._in_use < self._limit:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._in_use += 1
                waiter.set_result(None)

    def open(self) -> None:
        """Lifts the limit and serves all who wait: for a drain, where reading must go on."""
        self._limit = 1 << 60
        self.give_back(0)


class Backoff:
    """Exponential delays with jitter: first, first * factor, ..., at most `longest` seconds.

    jitter: share of the delay that is random, both ways. `reset()` after a success.
    """

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        factor: float = 2.0,
        jitter: float = 0.1,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        self._uniform = uniform
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def next(self) -> float:
        """The next delay in seconds."""
        delay = self._next
        self._next = min(self._longest, delay * self._factor)
        return max(0.0, delay + delay * self._jitter * self._uniform(-1.0, 1.0))
