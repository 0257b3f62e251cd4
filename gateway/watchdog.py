"""The watchdog: names what blocks the event loop, while it does.

A thread looks at a sign of life that the loop renews; when it is overdue, the thread logs where the loop's thread stands and which job
it is on. The loop itself cannot say so: it is blocked.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

import structlog

log = structlog.get_logger(__name__)

Describe = Callable[["asyncio.Task[object] | None"], dict[str, object]]


class Watchdog:
    """Watches the running loop. limit: seconds without a sign of life; describe: what is known of the task that runs."""

    def __init__(self, describe: Describe, *, limit: float = 0.5) -> None:
        self._describe = describe
        self._limit = limit
        self._beat = time.monotonic()
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.blocked_times = 0

    def start(self) -> None:
        """Starts watching; called on the loop."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._renew()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread and the timer."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _renew(self) -> None:
        self._beat = time.monotonic()
        self._timer = self._loop.call_later(self._limit / 4, self._renew)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopped.wait(self._limit / 4):
            beat = self._beat
            late = time.monotonic() - beat
            if late > self._limit and beat != reported:
                reported = beat
                self.blocked_times += 1
                try:
                    self._report(late)
                except Exception as e:  # the loop goes on under our feet: a report less, but the watch goes on
                    log.debug("what blocks the event loop cannot be told", error=type(e).__name__)

    def _report(self, late: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        task = asyncio.current_task(self._loop)
        log.warning(
            "the event loop is blocked: use await, or make the function a plain def so that it runs in a thread",
            seconds=round(late, 2),
            where=_where(frame),
            **self._describe(task),
        )


def _where(frame: FrameType | None) -> str:
    """The innermost lines of the stack, without values."""
    if frame is None:
        return "unknown"
    stack = traceback.extract_stack(frame, limit=None)
    return " < ".join(f"{entry.filename}:{entry.lineno} {entry.name}" for entry in reversed(stack[-3:]))
