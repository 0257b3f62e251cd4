"""Meters: plain counters that the flows hold and add to. One thread, no locks, no label look-up per call."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_WINDOW_MS: Final = 60_000


class Series:
    """What is counted per job type alone."""

    __slots__ = ("last_completed", "last_failed", "max_ms")

    def __init__(self) -> None:
        self.max_ms = 0.0
        self.last_completed = 0
        self.last_failed = 0


class OutboundMeters:
    """The counters of one job type and template. Calls cost no look-up; from the event loop's thread only.

    `seconds`: how long the job was handled; `at_ms`: now, in epoch milliseconds.
    """

    __slots__ = ("_newest", "_of_type", "_older", "_window", "counts", "sum_seconds")

    def __init__(self, of_type: Series) -> None:
        self._of_type = of_type
        self.counts = {"activated": 0, "completed": 0, "failed": 0, "bpmn-error": 0}
        self.sum_seconds = 0.0
        self._window = 0
        self._newest = 0.0
        self._older = 0.0

    def activated(self) -> None:
        self.counts["activated"] += 1

    def completed(self, seconds: float, at_ms: int) -> None:
        """The engine took a completion."""
        self.counts["completed"] += 1
        self._of_type.last_completed = at_ms
        self._timed(seconds, at_ms)

    def failed(self, seconds: float, at_ms: int) -> None:
        """A failure was sent."""
        self.counts["failed"] += 1
        self._of_type.last_failed = at_ms
        self._timed(seconds, at_ms)

    def bpmn_error(self, seconds: float, at_ms: int) -> None:
        """A BPMN error was thrown."""
        self.counts["bpmn-error"] += 1
        self._timed(seconds, at_ms)

    def _timed(self, seconds: float, at_ms: int) -> None:
        self.sum_seconds += seconds
        self._turn(at_ms)
        self._newest = max(self._newest, seconds)
        self._of_type.max_ms = max(self._of_type.max_ms, seconds * 1000)

    def _turn(self, at_ms: int) -> None:
        window = at_ms // _WINDOW_MS
        if window != self._window:
            self._older = self._newest if window == self._window + 1 else 0.0
            self._newest, self._window = 0.0, window

    def recent_max(self, at_ms: int) -> float:
        """The longest of the last one to two minutes, in seconds."""
        self._turn(at_ms)
        return max(self._newest, self._older)

    @property
    def timed(self) -> int:
        return self.counts["completed"] + self.counts["failed"] + self.counts["bpmn-error"]


class WorkerMeters:
    """The counters of one job type's worker."""

    __slots__ = ("jobs_activated", "jobs_handled", "stream_recreations")

    def __init__(self) -> None:
        self.jobs_activated = 0
        self.jobs_handled = 0
        self.stream_recreations = 0

    def activated(self, jobs: int = 1) -> None:
        self.jobs_activated += jobs

    def handled(self) -> None:
        self.jobs_handled += 1

    def stream_recreated(self) -> None:
        self.stream_recreations += 1


@dataclass(frozen=True, slots=True)
class OutboundTotals:
    """What `/outbound/metrics` says; times in milliseconds, 0 where nothing happened yet."""

    completed: int
    failed: int
    bpmn_error: int
    mean_ms: float
    max_ms: float
    last_completed: int
    last_failed: int
    jobs_activated: int
    jobs_handled: int
    stream_recreations: int


class LastTimes:
    """When something last happened to any executable of a connector type: epoch milliseconds, 0 for never."""

    __slots__ = ("activated", "triggered")

    def __init__(self) -> None:
        self.activated = 0
        self.triggered = 0


class InboundMeters:
    """The counters of one inbound connector type and element template. Calls cost no look-up; from the event loop's thread only."""

    __slots__ = ("_last", "_now", "activations", "triggers")

    def __init__(self, last: LastTimes, now: Callable[[], float] = time.time) -> None:
        self._last = last
        self._now = now
        self.activations = {"activated": 0, "deactivated": 0, "activation-failed": 0}
        self.triggers = {"triggered": 0, "correlated": 0, "correlation-failed": 0, "activation-condition-failed": 0}

    def activated(self) -> None:
        self.activations["activated"] += 1
        self._last.activated = int(self._now() * 1000)

    def deactivated(self) -> None:
        self.activations["deactivated"] += 1

    def activation_failed(self) -> None:
        self.activations["activation-failed"] += 1

    def triggered(self) -> None:
        """An event came; each attempt to correlate it counts."""
        self.triggers["triggered"] += 1
        self._last.triggered = int(self._now() * 1000)

    def correlated(self) -> None:
        self.triggers["correlated"] += 1

    def correlation_failed(self) -> None:
        self.triggers["correlation-failed"] += 1

    def activation_condition_failed(self) -> None:
        """No element wanted the event."""
        self.triggers["activation-condition-failed"] += 1


@dataclass(frozen=True, slots=True)
class InboundTotals:
    """What `/inbound-instances/metrics` says; the last times in epoch milliseconds, 0 where nothing happened yet."""

    activated: int
    deactivated: int
    activation_failed: int
    last_activated: int
    triggered: int
    correlated: int
    correlation_failed: int
    activation_condition_failed: int
    last_triggered: int
