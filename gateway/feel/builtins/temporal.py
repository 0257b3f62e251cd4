"""Functions of dates and times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.feel.budget import Run
from gateway.feel.functions import builtin
from gateway.feel.temporal import FeelDate, FeelDateTime, days_in_month, to_days
from gateway.feel.values import convert

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@builtin("now()", pure=False)
def now(run: Run) -> Any:
    """The current date-time with its zone."""
    current = run.clock() if run.clock is not None else datetime.now().astimezone()
    return convert(current if current.tzinfo is not None else current.astimezone())


@builtin("today()", pure=False)
def today(run: Run) -> Any:
    return now(run).date


def _date(value: FeelDate | FeelDateTime) -> FeelDate:
    return value.date if isinstance(value, FeelDateTime) else value


@builtin("day of year(date: date)")
def day_of_year(run: Run, value: FeelDate | FeelDateTime) -> int:
    date = _date(value)
    return date.days - to_days(date.year, 1, 1) + 1


@builtin("day of week(date: date)")
def day_of_week(run: Run, value: FeelDate | FeelDateTime) -> str:
    return _DAYS[_date(value).weekday - 1]


@builtin("month of year(date: date)")
def month_of_year(run: Run, value: FeelDate | FeelDateTime) -> str:
    return _MONTHS[_date(value).month - 1]


@builtin("week of year(date: date)")
def week_of_year(run: Run, value: FeelDate | FeelDateTime) -> int:
    """The ISO week: the first one is the one with the year's first Thursday."""
    date = _date(value)
    year = date.year
    thursday = date.days - date.weekday + 4
    for candidate in (year + 1, year, year - 1):
        first = to_days(candidate, 1, 1)
        if thursday >= first:
            return (thursday - first) // 7 + 1
    raise AssertionError("a week belongs to the year, the one before or the one after")


@builtin("last day of month(date: date)")
def last_day_of_month(run: Run, value: FeelDate | FeelDateTime) -> FeelDate:
    date = _date(value)
    return FeelDate(date.year, date.month, days_in_month(date.year, date.month))
