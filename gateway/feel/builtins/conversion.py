"""Functions that make a value of one type from another."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from gateway.feel import numbers, zones
from gateway.feel.budget import Run
from gateway.feel.errors import UnfitArgumentError
from gateway.feel.functions import builtin
from gateway.feel.handout import json_text
from gateway.feel.temporal import (
    NANOS,
    DaysTime,
    FeelDate,
    FeelDateTime,
    FeelTime,
    YearsMonths,
    parse_date,
    parse_date_time,
    parse_duration,
    parse_time,
)
from gateway.feel.values import text

_Value = TypeVar("_Value")
_number = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)


@builtin("string(from: any)", price=15)
def string(run: Run, value: Any) -> str | None:
    written = text(run, value)
    if written is not None and len(written) > 100:
        run.make_text(len(written))
    return written


@builtin("number(from: string)", price=35)
def number(run: Run, value: str) -> numbers.Number:
    return _read_number(value)


@builtin("number(from: string, grouping separator: string?)", price=130)
def number_grouped(run: Run, value: str, grouping: str | None) -> numbers.Number:
    return number_separated(run, value, grouping, None)


@builtin("number(from: string, grouping separator: string?, decimal separator: string?)", price=130)
def number_separated(run: Run, value: str, grouping: str | None, point: str | None) -> numbers.Number:
    if grouping not in {None, " ", ",", "."} or point not in {None, ",", "."} or grouping == (point or 0):
        raise UnfitArgumentError
    if grouping is not None:
        value = value.replace(grouping, "")
    return _read_number(value.replace(point, ".") if point is not None else value)


def _read_number(value: str) -> numbers.Number:
    if len(value) > 10_000 or _number.fullmatch(value) is None:
        raise UnfitArgumentError
    if value.isdigit() and len(value) <= 1000:
        return int(value)
    read = numbers.DECIMALS.create_decimal(value)
    if not read.is_finite():
        raise UnfitArgumentError
    return read


@builtin("date(from: any)", price=110)
def date(run: Run, value: Any) -> FeelDate:
    if type(value) is str:
        return _found(parse_date(value))
    if type(value) is FeelDateTime:
        return value.date
    if type(value) is FeelDate:
        return value
    raise UnfitArgumentError


@builtin("date(year: number, month: number, day: number)")
def date_of_parts(run: Run, year: numbers.Number, month: numbers.Number, day: numbers.Number) -> FeelDate:
    return _found(FeelDate.make(int(year), int(month), int(day)))


@builtin("time(from: any)", price=170)
def time(run: Run, value: Any) -> FeelTime:
    if type(value) is str:
        return _found(parse_time(value))
    if type(value) is FeelDateTime:
        return value.time
    if type(value) is FeelDate:
        return FeelTime(0, 0)
    if type(value) is FeelTime:
        return value
    raise UnfitArgumentError


@builtin("time(hour: number, minute: number, second: number)")
def time_of_parts(run: Run, hour: numbers.Number, minute: numbers.Number, second: numbers.Number) -> FeelTime:
    return time_with_offset(run, hour, minute, second, None)


@builtin("time(hour: number, minute: number, second: number, offset: days?)")
def time_with_offset(
    run: Run, hour: numbers.Number, minute: numbers.Number, second: numbers.Number, offset: DaysTime | None
) -> FeelTime:
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        raise UnfitArgumentError
    nanos = (int(hour) * 3600 + int(minute) * 60) * NANOS + int(Decimal(second) * NANOS)
    if offset is None:
        return FeelTime(nanos)
    seconds = int(Decimal(offset.nanos) / NANOS)
    if abs(seconds) > 18 * 3600:
        raise UnfitArgumentError
    return FeelTime(nanos, seconds)


@builtin("date and time(from: any)", price=300)
def date_and_time(run: Run, value: Any) -> FeelDateTime:
    if type(value) is str:
        day = parse_date(value)
        return FeelDateTime(day, 0) if day is not None else _found(parse_date_time(value))
    if type(value) is FeelDateTime:
        return value
    if type(value) is FeelDate:
        return FeelDateTime(value, 0)
    raise UnfitArgumentError


@builtin("date and time(date: date, time: any)", "date and time(date: date, timezone: any)")
def date_and_time_of(run: Run, value: FeelDate | FeelDateTime, other: Any) -> FeelDateTime:
    """A date and a time; or a date-time and a zone, in which a local one is put and to which a zoned one is moved."""
    if type(other) is FeelTime:
        day = value.date if isinstance(value, FeelDateTime) else value
        zone = other.region if other.region is not None else other.offset
        return _found(FeelDateTime.in_zone(day, other.nanos, zone))
    if type(other) is not str or type(value) is not FeelDateTime:
        raise UnfitArgumentError
    zone = zones.parse_zone(other)
    if zone is None:
        raise UnfitArgumentError
    if value.offset is None:
        return _found(FeelDateTime.in_zone(value.date, value.nanos, zone))
    return _found(FeelDateTime.from_instant(value.instant, zone))


@builtin("duration(from: any)", price=150)
def duration(run: Run, value: Any) -> YearsMonths | DaysTime:
    read = parse_duration(value) if type(value) is str else value
    if isinstance(read, YearsMonths | DaysTime):
        return read
    raise UnfitArgumentError


@builtin("years and months duration(from: date, to: date)")
def years_and_months_duration(run: Run, start: FeelDate | FeelDateTime, end: FeelDate | FeelDateTime) -> YearsMonths:
    """Whole months between two dates."""
    first = start.date if isinstance(start, FeelDateTime) else start
    last = end.date if isinstance(end, FeelDateTime) else end
    months = (last.year - first.year) * 12 + last.month - first.month
    if months > 0 and last.day < first.day:
        months -= 1
    elif months < 0 and last.day > first.day:
        months += 1
    return YearsMonths(months)


def _found(value: _Value | None) -> _Value:
    if value is None:
        raise UnfitArgumentError
    return value


@builtin("from json(json: string)", price=210)
def from_json(run: Run, document: str) -> Any:
    run.make_text(len(document) * 8)
    try:
        return json.loads(document, parse_float=_json_fraction, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise UnfitArgumentError from None


def _json_fraction(digits: str) -> numbers.Number | None:
    return numbers.from_float(float(digits))


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


@builtin("to json(value: any)", price=140)
def to_json(run: Run, value: Any) -> str:
    return json_text(run, value)
