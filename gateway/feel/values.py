"""
FEEL's values as Python objects, and what holds for all of them: conversion, equality, order, text.

null None, boolean `bool`, number `int` or `Decimal`, string `str`, list `list`, context `dict`; temporal values, ranges
and functions are classes of our own. What a caller hands in is converted when an expression touches it, not before.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from gateway.feel import numbers, zones
from gateway.feel.budget import ABSENT, Run
from gateway.feel.temporal import (
    DAY,
    NANOS,
    TEMPORAL_TYPES,
    DaysTime,
    FeelDate,
    FeelDateTime,
    FeelTime,
    YearsMonths,
)


@dataclass(frozen=True, slots=True)
class FeelRange:
    """A range: its bounds, and whether they belong to it. A bound is a scalar, or ABSENT where the range has no end."""

    low: Any
    high: Any
    low_closed: bool = True
    high_closed: bool = True

    @classmethod
    def make(cls, low: Any, high: Any, low_closed: bool = True, high_closed: bool = True) -> FeelRange:
        """A range of any two values; what can't be a bound counts as null, with which nothing compares."""
        low, high = (bound if bound is ABSENT or sort_key(bound) is not None else None for bound in (low, high))
        return cls(low, high, low_closed, high_closed)

    def __str__(self) -> str:
        start, end = "[" if self.low_closed else "(", "]" if self.high_closed else ")"
        low, high = ("" if bound is ABSENT else shown(bound) for bound in (self.low, self.high))
        return f"{start}{low}..{high}{end}"


class FunctionValue:
    """Base of the functions that expressions make; callable from Python, too."""

    __slots__ = ()

    parameters: tuple[str, ...]

    def __call__(self, *arguments: Any) -> Any:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"function({', '.join(self.parameters)})"


PLAIN = frozenset({int, str, bool, type(None), list, dict, Decimal, FeelRange, *TEMPORAL_TYPES})
"""Types that need no conversion."""

NUMBERS = frozenset({int, Decimal})


def convert(value: Any) -> Any:
    """The FEEL value of anything a caller may hand in, without looking into lists and contexts."""
    kind = type(value)
    if kind in PLAIN:
        return _finite(value) if kind is Decimal else value
    converter = _CONVERTERS.get(kind)
    if converter is not None:
        return converter(value)
    if isinstance(value, FunctionValue):
        return value
    for base, converter in _BASES:
        if isinstance(value, base):
            return converter(value)
    own = getattr(kind, "__feel__", None)
    if own is not None:  # an object that says itself what it is in expressions
        return own(value)
    if hasattr(kind, "model_fields"):  # a pydantic model: its fields, each converted when it is touched
        return dict(value)
    return value if callable(value) else str(value)


def _finite(value: Decimal) -> Decimal | None:
    return value if value.is_finite() else None


def _date(value: dt.date) -> FeelDate:
    return FeelDate(value.year, value.month, value.day)


def _nanos(value: dt.time | dt.datetime) -> int:
    return (value.hour * 3600 + value.minute * 60 + value.second) * NANOS + value.microsecond * 1000


def _region(zone: dt.tzinfo | None) -> str | None:
    return zone.key if isinstance(zone, ZoneInfo) and zones.parse_zone(zone.key) is not None else None


def _time(value: dt.time) -> FeelTime:
    region = _region(value.tzinfo)
    if region is not None:
        return FeelTime.in_zone(_nanos(value), region)
    offset = value.utcoffset()
    return FeelTime(_nanos(value), None if offset is None else int(offset.total_seconds()))


def _date_time(value: dt.datetime) -> FeelDateTime:
    offset = value.utcoffset()
    seconds = None if offset is None else int(offset.total_seconds())
    return FeelDateTime(_date(value), _nanos(value), seconds, _region(value.tzinfo))


def _duration(value: dt.timedelta) -> DaysTime:
    return DaysTime(value.days * DAY + value.seconds * NANOS + value.microseconds * 1000)


_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    float: numbers.from_float,
    dt.date: _date,
    dt.time: _time,
    dt.datetime: _date_time,
    dt.timedelta: _duration,
    tuple: list,
}
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool),
    (int, int),
    (float, numbers.from_float),
    (Decimal, lambda value: _finite(Decimal(value))),
    (str, str.__str__),
    (dt.datetime, _date_time),
    (dt.date, _date),
    (dt.time, _time),
    (dt.timedelta, _duration),
    (dict, dict),
    (Mapping, dict),
    (list, list),
    (tuple, list),
    (AbstractSet, list),
)


def convert_all(value: Any) -> Any:
    """The FEEL value with all its members converted, for handing out. What needs no change is handed out as it is."""
    return value if type(value) in _SCALARS else _convert_members(value, {})


_SCALARS = PLAIN - {list, dict, Decimal}


def _convert_members(value: Any, done: dict[int, Any]) -> Any:
    """Members that are shared are converted once: what looks huge may be small."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is list and all(type(member) in _SCALARS for member in value):
        return value
    if id(value) in done:
        return done[id(value)][1]
    converted = convert(value)
    result = converted
    if type(converted) is list:
        members = [_convert_members(member, done) for member in converted]
        if any(map(operator.is_not, members, converted)):
            result = members
    elif type(converted) is dict:
        entries = {str(key): _convert_members(entry, done) for key, entry in converted.items()}
        if any(entries.get(key, ABSENT) is not entry for key, entry in converted.items()):
            result = entries
    done[id(value)] = value, result  # the value is kept, so that its id stays its own
    return result


# Equality


def equals(run: Run, left: Any, right: Any) -> bool | None:
    """FEEL's `=`: None where the types can't be compared. Pays for what it looks at."""
    left_type, right_type = type(left), type(right)
    if left_type is right_type:
        if left_type is list:
            return _lists_equal(run, left, right)
        if left_type is dict:
            return _contexts_equal(run, left, right)
        if left_type in PLAIN:
            return bool(left == right)
    if left is None or right is None:
        return left is right
    if left_type in NUMBERS and right_type in NUMBERS:
        return bool(left == right)
    if left_type in PLAIN and right_type in PLAIN:
        return None
    left, right = convert(left), convert(right)
    if type(left) in PLAIN and type(right) in PLAIN:
        return equals(run, left, right)
    return None


_CONTAINER, _MEMBER, _PIECE = 80, 20, 30
"""Steps for looking at a list or context, at each of its members, and for writing a piece of text."""


def _lists_equal(run: Run, left: list[Any], right: list[Any]) -> bool:
    if len(left) != len(right):
        return False
    run.spend(_CONTAINER + len(left) * _MEMBER)
    return all(equals(run, x, y) is True for x, y in zip(left, right, strict=True))


def _contexts_equal(run: Run, left: dict[str, Any], right: dict[str, Any]) -> bool:
    if len(left) != len(right):
        return False
    run.spend(_CONTAINER + len(left) * _MEMBER)
    return all(key in right and equals(run, value, right[key]) is True for key, value in left.items())


def key_of(run: Run, value: Any) -> Any:
    """A hashable that is equal for values that are equal: for finding duplicates in linear time."""
    value = convert(value)
    kind = type(value)
    if kind is int or kind is Decimal:
        return ("n", value)
    if kind is list:
        run.spend(_CONTAINER + len(value) * _MEMBER)
        return ("l", *(key_of(run, member) for member in value))
    if kind is dict:
        run.spend(_CONTAINER + len(value) * _MEMBER)
        return ("c", frozenset((key, key_of(run, entry)) for key, entry in value.items()))
    if kind in PLAIN:
        return (kind, value)
    return ("f", id(value))


# Order


def sort_key(value: Any) -> tuple[str, Any] | None:
    """
    The kind of a value and what it is ordered by; None where it has no order. Two values compare if the kinds are one:
    numbers, strings (by UTF-16 unit), and temporal values, of which local and zoned ones are two kinds.
    """
    kind = type(value)
    if kind is int or kind is Decimal:
        return "number", value
    if kind is str:
        return "string", value if value.isascii() else value.encode("utf-16-be", "surrogatepass")
    order = _ORDERS.get(kind)
    return order(value) if order is not None else None


_ORDERS: dict[type, Callable[[Any], tuple[str, Any]]] = {
    FeelDate: lambda v: ("date", (v.year, v.month, v.day)),
    FeelTime: lambda v: ("time", v.nanos) if v.offset is None else ("zoned time", (v.instant, v.nanos)),
    FeelDateTime: lambda v: ("date-time", v.local) if v.offset is None else ("zoned date-time", (v.instant, v.local)),
    YearsMonths: lambda v: ("months", v.months),
    DaysTime: lambda v: ("duration", v.nanos),
}


def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None where the values can't be compared."""
    left_key, right_key = sort_key(left), sort_key(right)
    if left_key is None or right_key is None or left_key[0] != right_key[0]:
        return None
    x, y = left_key[1], right_key[1]
    if type(x) is not type(y) and left_key[0] == "string":
        x, y = left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
    return -1 if x < y else int(x > y)


def extreme(values: list[Any], direction: int) -> Any:
    """The first smallest (-1) or greatest (1) of values of one kind; None where two can't be compared."""
    best = values[0]
    if sort_key(best) is None:
        return None
    for value in values[1:]:
        order = compare(value, best)
        if order is None:
            return None
        if order == direction:
            best = value
    return best


def within(value: Any, checked: FeelRange) -> bool | None:
    """Whether the value lies in the range; None where it can't be compared with a bound."""
    result = True
    for bound, outside, closed in ((checked.low, -1, checked.low_closed), (checked.high, 1, checked.high_closed)):
        if bound is ABSENT:
            continue
        order = compare(value, bound)
        if order is None:
            return None
        if order == outside or (order == 0 and not closed):
            result = False
    return result


# Text


def text(run: Run, value: Any) -> str | None:
    """What `string(value)` gives. Pays for each piece."""
    value = convert(value)
    if type(value) is str or value is None:
        return value
    out: list[str] = []

    def write(piece: str) -> None:
        run.spend(_PIECE + (len(piece) >> 3))
        out.append(piece)

    _write(value, write)
    return "".join(out)


class _EnoughError(Exception):
    """A message is long enough."""


def shown(value: Any) -> str:
    """The text of a value in a message: strings in quotes, long ones cut."""
    out: list[str] = []
    length = 0

    def write(piece: str) -> None:
        nonlocal length
        out.append(piece if len(piece) <= _SHOWN else f"{piece[:_SHOWN]}..")
        length += len(out[-1])
        if length > _SHOWN:
            raise _EnoughError

    try:
        _write(value, write)
    except _EnoughError:
        out.append("..")
    except RecursionError:
        return ".."
    return "".join(out)


_SHOWN = 300


def _write(value: Any, write: Callable[[str], None]) -> None:
    value = convert(value)
    kind = type(value)
    if kind is str:
        write(f'"{value}"')
    elif kind is list:
        _write_list(value, write)
    elif kind is dict:
        _write_context(value, write)
    elif value is None:
        write("null")
    elif kind is bool:
        write("true" if value else "false")
    elif kind is int or kind is Decimal:
        write(numbers.text(value))
    elif kind in PLAIN or isinstance(value, FunctionValue):
        write(str(value))
    else:
        write("function")


def _write_list(value: Iterable[Any], write: Callable[[str], None]) -> None:
    separator = "["
    for member in value:
        write(separator)
        separator = ", "
        _write(member, write)
    write("]" if separator == ", " else "[]")


def _write_context(value: dict[str, Any], write: Callable[[str], None]) -> None:
    separator = "{"
    for key, entry in value.items():
        write(f"{separator}{key}:")
        separator = ", "
        _write(entry, write)
    write("}" if separator == ", " else "{}")


def utf16_length(value: str) -> int:
    """Length in UTF-16 units, as Java counts it."""
    return len(value) if value.isascii() else len(value.encode("utf-16-le", "surrogatepass")) // 2
