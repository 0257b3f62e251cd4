"""The engine's time: the system's clock or one that only tests move, and the schedule of what is due."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Epoch milliseconds that never run backwards. `virtual`: time passes by `advance` alone."""

    virtual: bool

    def now_ms(self) -> int: ...

    def advance(self, milliseconds: int) -> None: ...


class SystemClock:
    """Real time; `advance` puts the engine's clock ahead of it. Steps of the system's clock don't matter."""

    virtual = False

    def __init__(self) -> None:
        self._origin = time.time() - time.monotonic()
        self._ahead = 0

    def now_ms(self) -> int:
        return int((self._origin + time.monotonic()) * 1000) + self._ahead

    def advance(self, milliseconds: int) -> None:
        self._ahead += milliseconds


class VirtualClock:
    """Stands still until it is advanced."""

    virtual = True

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now = start_ms

    def now_ms(self) -> int:
        return self._now

    def advance(self, milliseconds: int) -> None:
        self._now += milliseconds


class Due:
    """An entry of the schedule, to be cancelled by."""

    __slots__ = ("action", "at_ms")

    def __init__(self, at_ms: int, action: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.action: Callable[[], None] | None = action


class Schedule:
    """What happens when: a heap of actions. On a real clock one timer of the event loop waits for the nearest.

    `wake` is called by that timer and must call `run_due`.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._heap: list[tuple[int, int, Due]] = []
        self._count = itertools.count()
        self._cancelled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def at(self, due_ms: int, action: Callable[[], None]) -> Due:
        due = Due(due_ms, action)
        heapq.heappush(self._heap, (due_ms, next(self._count), due))
        self._arm()
        return due

    def cancel(self, due: Due | None) -> None:
        """Also of what has happened or was cancelled before: then it is nothing."""
        if due is None or due.action is None:
            return
        due.action = None
        self._cancelled += 1
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next_due_ms(self) -> int | None:
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def run_due(self) -> bool:
        """Runs one action that is due, the earliest. False when there was none."""
        next_ms = self.next_due_ms()
        if next_ms is None or next_ms > self._clock.now_ms():
            return False
        due = heapq.heappop(self._heap)[2]
        action, due.action = due.action, None
        assert action is not None
        action()
        return True

    def rearm(self) -> None:
        """After the clock was advanced or actions ran."""
        self._armed_for = 0
        self._arm()

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._clock.virtual or not self._heap:
            return
        nearest = self._heap[0][0]
        if self._timer is not None:
            if self._armed_for and self._armed_for <= nearest:
                return
            self._timer.cancel()
        # A day at most: loops refuse delays of years. A millisecond more, as timers may fire a little early.
        wait = min(max(0, nearest - self._clock.now_ms() + 1), 86_400_000) / 1000
        self._armed_for = nearest
        self._timer = asyncio.get_running_loop().call_later(wait, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed_for = 0
        self._wake()
        self._arm()
