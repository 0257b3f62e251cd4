"""
What leaves FEEL: plain data for JSON, and the text of `to json`.

Both write temporal values as Java does. They differ in numbers (the platform hands out integers and doubles, the function
writes all digits) and in zones (the platform hands out the offset, the function names the region).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from gateway.feel import numbers, zones
from gateway.feel.budget import Run
from gateway.feel.errors import FeelBudgetError
from gateway.feel.functions import is_function
from gateway.feel.temporal import DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import PLAIN, convert

_LONG = 2**63
_MINUTE = 60 * 10**9
_MAX_MEMBERS = 5_000_000
_UNCHANGED = frozenset({str, bool, type(None)})


def to_json(value: Any) -> Any:
    """
    A FEEL value as plain data that any JSON writer takes, in the form in which the platform hands out results.

    Whole numbers that fit 64 bits become int, others float; temporal values ISO texts, where days-time durations come out
    as Java writes them (`PT26H`) and a region becomes its offset; ranges their text; functions inside contexts and lists
    are dropped, one alone is None. What is plain already is handed out as it is, not copied. Raises FeelBudgetError for a
    value that would be written with more than 5 million members, which a small one can if its members are shared.
    """
    return _plain(value, {})[0]


def _plain(value: Any, done: dict[int, tuple[Any, int]]) -> tuple[Any, int]:
    """The plain data and the number of their members."""
    kind = type(value)
    if kind is dict or kind is list:
        key = id(value)
        if key not in done:
            done[key] = _context(value, done) if kind is dict else _list(value, done)
        return done[key]
    if kind in _UNCHANGED:
        return value, 1
    if kind is int:
        return (value if -_LONG <= value < _LONG else _double(value)), 1
    if kind is Decimal:
        return _number(value), 1
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value), 1
    if is_function(value):
        return None, 1
    converted = convert(value)
    return _plain(converted, {}) if type(converted) is not kind else (str(converted), 1)


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


def _list(members: list[Any], done: dict[int, tuple[Any, int]]) -> tuple[list[Any], int]:
    result = members
    size = 1
    functions = False
    for place, member in enumerate(members):
        if type(member) in _UNCHANGED:
            continue
        plain, count = _plain(member, done)
        size += count
        if plain is not member:
            functions = functions or (plain is None and is_function(member))
            if result is members:
                result = members[:]
            result[place] = plain
    if functions:
        result = [plain for plain, member in zip(result, members, strict=True) if not is_function(member)]
    return result, _limited(size + len(members))


def _context(context: dict[str, Any], done: dict[int, tuple[Any, int]]) -> tuple[dict[str, Any], int]:
    result = context
    size = 1
    for key, entry in context.items():
        if type(entry) in _UNCHANGED and type(key) is str:
            continue
        plain, count = _plain(entry, done)
        size += count
        if plain is entry and type(key) is str:
            continue
        if result is context:
            result = dict(context)
        del result[key]
        if plain is not None or not is_function(entry):
            result[str(key)] = plain
    if result is not context:
        result = {str(key): result[str(key)] for key in context if str(key) in result}  # the order of before
    return result, _limited(size + len(context))


def _limited(size: int) -> int:
    if size > _MAX_MEMBERS:
        raise FeelBudgetError(f"The value has more than {_MAX_MEMBERS} members.")
    return size


def _offset(value: FeelTime | FeelDateTime) -> str:
    return str(FeelTime(value.nanos)) + (zones.offset_text(value.offset) if value.offset is not None else "")


def _date(value: FeelDate) -> str:
    """As Java's `LocalDate`: years of more than four digits have a sign."""
    return f"+{value}" if value.year > 9999 else str(value)


def _time(value: FeelTime) -> str:
    """As Java's `OffsetTime`, which leaves out seconds that are zero; a local time keeps them."""
    if value.offset is None or value.nanos % _MINUTE:
        return _offset(value)
    hours, minutes = divmod(value.nanos // _MINUTE, 60)
    return f"{hours:02}:{minutes:02}{zones.offset_text(value.offset)}"


def _period(value: YearsMonths) -> str:
    """As Java's `Period`: each part has its own sign."""
    sign = -1 if value.months < 0 else 1
    years, months = divmod(abs(value.months), 12)
    return "P" + ((f"{sign * years}Y" if years else "") + (f"{sign * months}M" if months else "") or "0D")


_WRITERS: dict[type, Callable[[Any], str]] = {
    FeelDate: _date,
    FeelTime: _time,
    FeelDateTime: lambda value: f"{_date(value.date)}T{_offset(value)}",
    YearsMonths: _period,
    DaysTime: DaysTime.iso,
}


def json_text(run: Run, value: Any) -> str:
    """The compact JSON text of a value, as `to json(value)` gives it. Pays for each piece."""
    out: list[str] = []

    def write(piece: str) -> None:
        run.spend(30 + (len(piece) >> 3))
        out.append(piece)

    _write(value, write)
    return "".join(out)


def _write(value: Any, write: Callable[[str], None]) -> None:
    value = convert(value)
    kind = type(value)
    if kind is dict:
        separator = "{"
        for key, entry in value.items():
            if type(entry) in PLAIN or not is_function(entry):
                write(f"{separator}{_quoted(str(key))}:")
                separator = ","
                _write(entry, write)
        write("}" if separator == "," else "{}")
    elif kind is list:
        separator = "["
        for member in value:
            write(separator)
            separator = ","
            _write(member, write)
        write("]" if separator == "," else "[]")
    else:
        write(_scalar(kind, value))


def _scalar(kind: type, value: Any) -> str:
    if value is None or is_function(value):
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Decimal:
        return numbers.text(value)
    if kind is str:
        return _quoted(value)
    if (kind is FeelTime or kind is FeelDateTime) and value.region is not None:
        date = f"{value.date}T" if kind is FeelDateTime else ""
        return f'"{date}{_offset(value)}[{value.region}]"'
    if kind is FeelTime:
        return _quoted(_offset(value))
    return _quoted(_WRITERS.get(kind, str)(value))


def _quoted(text: str) -> str:
    return encode_basestring(text)
