"""What an executable tells of itself: its health and the last things that happened ("Inbound connectors: activity log")."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from gateway.admin import Activity, HealthState
from gateway.sdk.inbound import Severity, Status

log = structlog.get_logger(__name__)
_logger = logging.getLogger(__name__)  # says what is heard at no cost

_REPEATED_SECONDS = 5.0
_LEVELS: Mapping[Severity, str] = {"DEBUG": "debug", "INFO": "debug", "WARNING": "warning", "ERROR": "warning"}
"""What happens at every event is in the ring and in the counters; the process's log gets what is wrong."""


class ActivityLog:
    """A bounded log, and the health that goes with it. now: epoch seconds; mask: takes secrets out of every text."""

    def __init__(
        self,
        size: int,
        names: Mapping[str, object],
        *,
        mask: Callable[[str], str] = str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._entries: deque[Activity] = deque(maxlen=size)
        self._names = names
        self._mask = mask
        self._now = now
        self._told: tuple[str, str] | None = None
        self._told_at = 0.0
        self.health = HealthState("UNKNOWN", last_updated_at=now())
        self.last_error: float | None = None

    def entries(self) -> list[Activity]:
        """Oldest first."""
        return list(self._entries)

    def add(
        self,
        severity: Severity,
        tag: str,
        message: str,
        data: Mapping[str, Any] | None = None,
        *,
        source: str = "CONNECTOR",
        health: HealthState | None = None,
    ) -> None:
        """An entry. What is wrong goes to the process's log too, but the same words only once in some seconds."""
        if severity in {"ERROR", "WARNING"}:
            message = self._mask(message)
            if severity == "ERROR":
                self.last_error = self._now()
        self._entries.append(Activity(severity, tag, self._now(), message, data, health))
        if _LEVELS[severity] == "warning" and self._repeats(tag, message):
            return
        if _LEVELS[severity] == "warning" or _logger.isEnabledFor(logging.DEBUG):
            getattr(log, _LEVELS[severity])(message, tag=tag, source=source, **self._names)

    def report(self, status: Status, *, error: BaseException | str | None, details: Mapping[str, Any] | None) -> None:
        """The health, and an entry when it is another one."""
        new = HealthState(status, *self._error(error), details=details, last_updated_at=self._now())
        if new.same_as(self.health):
            return
        self.health = new
        severity: Severity = "INFO" if status == "UP" else "ERROR" if status == "DOWN" else "INFO"
        words = f"Health: {status}" + (f": {new.error_message}" if new.error_message else "")
        self.add(severity, "Health", words, source="RUNTIME", health=new)

    def _error(self, error: BaseException | str | None) -> tuple[str | None, str | None]:
        if error is None:
            return None, None
        if isinstance(error, str):
            return None, self._mask(error)
        name = type(error).__name__
        return name, self._mask(f"{name}: {error}")

    def _repeats(self, tag: str, message: str) -> bool:
        now = self._now()
        if self._told == (tag, message) and now - self._told_at < _REPEATED_SECONDS:
            return True
        self._told, self._told_at = (tag, message), now
        return False
