"""
What leaves FEEL: plain data for JSON, and the text of `to json`.

Both write temporal values as Java does. They differ in numbers (the platform hands out integers and doubles, the function
writes all digits) and in zones (the platform hands out the offset, the function names the region).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gateway.feel import numbers, zones
from gateway.feel.functions import is_function
from gateway.feel.temporal import DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import convert

_LONG = 2**63
_UNCHANGED = frozenset({str, bool, type(None)})


def to_json(value: Any) -> Any:
    """
    A FEEL value as plain data that any JSON writer takes, in the form in which the platform hands out results.

    Whole numbers that fit 64 bits become int, others float; temporal values ISO texts, where days-time durations come out
    as Java writes them (`PT26H`) and a region becomes its offset; ranges their text; functions inside contexts and lists
    are dropped, one alone is None. What is plain already is handed out as it is, not copied.
    """
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is int:
        return value if -_LONG <= value < _LONG else _double(value)
    if kind is dict:
        return _context(value)
    if kind is list:
        return _list(value)
    if kind is Decimal:
        return _number(value)
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value)
    if is_function(value):
        return None
    converted = convert(value)
    return to_json(converted) if type(converted) is not kind else str(converted)


def _number(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    if value.adjusted() < 19 and value == int(value):
        whole = int(value)
        if -_LONG <= whole < _LONG:
            return whole
    return _double(value)


def _double(value: numbers.Number) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _list(members: list[Any]) -> list[Any]:
    result = members
    for place, member in enumerate(members):
        plain = to_json(member)
        if plain is not member:
            if result is members:
                result = members[:]
            result[place] = plain
    if any(plain is None and is_function(member) for plain, member in zip(result, members, strict=True)):
        return [plain for plain, member in zip(result, members, strict=True) if not is_function(member)]
    return result


def _context(context: dict[str, Any]) -> dict[str, Any]:
    result = context
    for key, entry in context.items():
        plain = to_json(entry)
        if plain is entry and type(key) is str:
            continue
        if result is context:
            result = dict(context)
        if plain is None and is_function(entry):
            del result[key]
        else:
            result[key] = plain
    if result is not context and not all(type(key) is str for key in result):
        return {str(key): entry for key, entry in result.items()}
    return result


def _offset(value: FeelTime | FeelDateTime) -> str:
    return str(FeelTime(value.nanos)) + (zones.offset_text(value.offset) if value.offset is not None else "")


_WRITERS: dict[type, Callable[[Any], str]] = {
    FeelDate: str,
    FeelTime: _offset,
    FeelDateTime: lambda value: f"{value.date}T{_offset(value)}",
    YearsMonths: lambda value: str(value) if value.months else "P0D",
    DaysTime: DaysTime.iso,
}


def json_text(value: Any) -> str:
    """The compact JSON text of a value, as `to json(value)` gives it."""
    out: list[str] = []
    _write(value, out.append)
    return "".join(out)


def _write(value: Any, write: Callable[[str], None]) -> None:
    value = convert(value)
    kind = type(value)
    if kind is str:
        write(json.dumps(value, ensure_ascii=False))
    elif kind is dict:
        write("{")
        separator = ""
        for key, entry in value.items():
            if not is_function(entry):
                write(f"{separator}{json.dumps(str(key), ensure_ascii=False)}:")
                separator = ","
                _write(entry, write)
        write("}")
    elif kind is list:
        write("[")
        for place, member in enumerate(value):
            write("," if place else "")
            _write(member, write)
        write("]")
    elif value is None or is_function(value):
        write("null")
    elif kind is bool:
        write("true" if value else "false")
    elif kind is int or kind is Decimal:
        write(numbers.text(value))
    elif (kind is FeelTime or kind is FeelDateTime) and value.region is not None:
        date = f"{value.date}T" if kind is FeelDateTime else ""
        write(f'"{date}{_offset(value)}[{value.region}]"')
    else:
        write(json.dumps(_WRITERS.get(kind, str)(value), ensure_ascii=False))
