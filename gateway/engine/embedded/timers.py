"""When a timer is due: ISO 8601 dates, durations and cycles, as text or as a FEEL value."""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway import durations, feel
from gateway.engine.embedded.expressions import Expression, Stuck, type_name

_CALENDAR = re.compile(
    r"(?P<sign>-?)P(?:(?P<years>-?\d{1,5})Y)?(?:(?P<months>-?\d{1,6})M)?(?:(?P<weeks>-?\d{1,6})W)?(?P<rest>[\dT+-].{0,60})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Period:
    """An ISO 8601 duration: months by the calendar, the rest exact."""

    months: int
    milliseconds: int

    def after(self, epoch_ms: int) -> int:
        if self.months:
            at = datetime.fromtimestamp(epoch_ms / 1000, UTC)
            month = at.year * 12 + at.month - 1 + self.months
            year, month = month // 12, month % 12 + 1
            at = at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))
            epoch_ms = round(at.timestamp() * 1000)
        return epoch_ms + self.milliseconds


@dataclass(frozen=True, slots=True)
class Plan:
    """The next time, how often the timer comes again after it (-1: for ever), and the time between."""

    due_ms: int
    repetitions: int = 0
    every: Period | None = None

    def next(self) -> "Plan | None":
        if self.every is None or self.repetitions == 0:
            return None
        return Plan(self.every.after(self.due_ms), max(-1, self.repetitions - 1), self.every)


@dataclass(frozen=True, slots=True)
class TimerSpec:
    """kind: `timeDate`, `timeDuration` or `timeCycle`, with its text or FEEL."""

    kind: str
    expression: Expression

    def plan(self, context: Mapping[str, Any], now_ms: int) -> Plan:
        """Raises Stuck (EXTRACT_VALUE_ERROR) when the value is no such time."""
        try:
            value = self.expression.evaluate(context)
        except feel.FeelError as e:
            raise Stuck("EXTRACT_VALUE_ERROR", str(e)) from None
        text = feel.to_json(value)
        if not isinstance(text, str):
            raise self._stuck(text, f"expected a text or a time, but was '{type_name(value)}'", context)
        try:
            return _PLANS[self.kind](text, now_ms)
        except (ValueError, OverflowError) as e:
            raise self._stuck(text, str(e), context) from None

    def _stuck(self, value: Any, why: str, context: Mapping[str, Any]) -> Stuck:
        said = f"Invalid {_WORDS[self.kind]} format '{value}' for expression '{self.expression.text}': {why}"
        return Stuck("EXTRACT_VALUE_ERROR", f"{said}{self.expression.failures(context)}")


def parse_period(text: str) -> Period:
    """`P1Y2M3DT4H5M6.7S`. Raises ValueError."""
    found = _CALENDAR.fullmatch(text)
    if found is None or not any((found["years"], found["months"], found["weeks"], found["rest"])):
        raise ValueError(f"expected an ISO 8601 duration such as PT30S, but got {text!r}")
    sign = -1 if found["sign"] else 1
    years, months, weeks = (int(found[name] or 0) for name in ("years", "months", "weeks"))
    exact = durations.parse_milliseconds(f"P{found['rest']}") if found["rest"] else 0
    return Period(sign * (years * 12 + months), sign * (weeks * 7 * 86_400_000 + exact))


def parse_date(text: str) -> int:
    """Epoch milliseconds of an ISO 8601 date and time with offset or zone. Raises ValueError."""
    at = datetime.fromisoformat(re.sub(r"\[[^\]]*\]$", "", text))
    if at.tzinfo is None:
        raise ValueError(f"'{text}' has no offset")
    return round(at.timestamp() * 1000)


def _duration(text: str, now_ms: int) -> Plan:
    return Plan(parse_period(text).after(now_ms))


def _date(text: str, now_ms: int) -> Plan:
    return Plan(parse_date(text))


def _cycle(text: str, now_ms: int) -> Plan:
    repeat, _, rest = text.partition("/")
    if not re.fullmatch(r"R\d{0,9}", repeat) or not rest:
        raise ValueError("expected R, an optional number, '/' and a duration, as R3/PT10M")
    start, _, duration = rest.rpartition("/")
    every = parse_period(duration)
    times = int(repeat[1:]) if repeat[1:] else -1
    if times == 0 or every.after(0) <= 0:
        raise ValueError("expected at least one repetition and a positive duration")
    due = parse_date(start) if start else every.after(now_ms)
    return Plan(due, times - 1 if times > 0 else -1, every)


_PLANS = {"timeDuration": _duration, "timeDate": _date, "timeCycle": _cycle}
_WORDS = {"timeDuration": "duration", "timeDate": "date-time", "timeCycle": "cycle"}
