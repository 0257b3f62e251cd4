"""
What the operators `+ - * / **` and the minus sign do for every pair of types.

The compiled code handles whole numbers (and strings for `+`) itself; all else comes here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gateway.feel import numbers
from gateway.feel.budget import Run
from gateway.feel.errors import FailureKind
from gateway.feel.temporal import DAY, NANOS, DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import NUMBERS, shown

_MILLI = 1_000_000
_TEMPORAL, _ZONED = 200, 1000
"""Steps for arithmetic with temporal values, and with the rules of a region."""

_DECIMAL, _POWER = 35, 300
"""Steps for arithmetic with numbers that are not whole, and for a power that takes more than a few multiplications."""

_MAX_NANOS = 2**63 * NANOS


def add(run: Run, left: Any, right: Any) -> Any:
    """`left + right`; null and a suppressed failure where the two don't add."""
    left_type, right_type = type(left), type(right)
    if left_type in NUMBERS and right_type in NUMBERS:
        run.spend(_DECIMAL)
        result: Any = numbers.add(left, right)
    elif left_type is str and right_type is str:
        result = left + right
        if len(result) > 100:
            run.make_text(len(result))
        return result
    else:
        result = _add_temporal(run, left, right)
        if result is None:
            result = _add_temporal(run, right, left) if left_type is not right_type else None
    if result is None and run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Can't add '{shown(right)}' to '{shown(left)}'")
    return result


def subtract(run: Run, left: Any, right: Any) -> Any:
    """`left - right`."""
    left_type, right_type = type(left), type(right)
    if left_type in NUMBERS and right_type in NUMBERS:
        run.spend(_DECIMAL)
        result: Any = numbers.subtract(left, right)
    elif right_type is YearsMonths:
        result = _add_temporal(run, left, YearsMonths(-right.months))
    elif right_type is DaysTime:
        result = _add_temporal(run, left, DaysTime(-right.nanos))
    elif left_type is right_type:
        result = _difference(left, right)
    else:
        result = None
    if result is None and run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Can't subtract '{shown(right)}' from '{shown(left)}'")
    return result


def multiply(run: Run, left: Any, right: Any) -> Any:
    """`left * right`; a duration is multiplied with the number cut to an integer."""
    left_type, right_type = type(left), type(right)
    result: Any = None
    if left_type in NUMBERS and right_type in NUMBERS:
        run.spend(_DECIMAL)
        result = numbers.multiply(left, right)
    elif right_type in NUMBERS:
        result = _scaled(left, right)
    elif left_type in NUMBERS:
        result = _scaled(right, left)
    if result is None and run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Can't multiply '{shown(left)}' by '{shown(right)}'")
    return result


def divide(run: Run, left: Any, right: Any) -> Any:
    """`left / right`; durations of one kind give a whole number."""
    left_type, right_type = type(left), type(right)
    result: Any = None
    if right_type in NUMBERS:
        if left_type in NUMBERS:
            run.spend(_DECIMAL)
            result = numbers.divide(left, right)
        elif right:
            result = _divided(left, right)
    elif left_type is right_type is YearsMonths and right.months:
        result = _cut(left.months, right.months)
    elif left_type is right_type is DaysTime and right.nanos // NANOS:
        result = _cut(left.nanos, right.nanos)
    if result is None and run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Can't divide '{shown(left)}' by '{shown(right)}'")
    return result


def power(run: Run, left: Any, right: Any) -> Any:
    """`left ** right`; `0 ** -1` fails the evaluation, as in Camunda's engine."""
    result: Any = None
    if type(left) in NUMBERS and type(right) in NUMBERS:
        if not left and right < 0:
            numbers.fatal("Division by zero")
        run.spend(_DECIMAL if type(right) is int and 0 <= right <= 8 else _POWER)
        result = numbers.power(left, right)
    if result is None and run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Can't raise '{shown(left)}' to the power of '{shown(right)}'")
    return result


def negate(run: Run, operand: Any) -> Any:
    """`-operand`: of numbers only."""
    kind = type(operand)
    if kind is int:
        return -operand
    if kind is Decimal:
        return operand.copy_negate()
    if run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Expected number but found '{shown(operand)}'")
    return None


def _add_temporal(run: Run, value: Any, duration: Any) -> Any:
    kind = type(value)
    run.spend(_ZONED if kind is FeelDateTime and value.region is not None else _TEMPORAL)
    if type(duration) is YearsMonths:
        if kind is YearsMonths:
            return YearsMonths(value.months + duration.months)
        if kind is FeelDate:
            return value.plus_months(duration.months)
        if kind is FeelDateTime:
            date = value.date.plus_months(duration.months)
            return FeelDateTime.in_zone(date, value.nanos, value.zone) if date is not None else None
    elif type(duration) is DaysTime:
        if kind is DaysTime:
            return _duration(value.nanos + duration.nanos)
        if kind is FeelDate:
            return FeelDate.from_days((value.days * DAY + duration.nanos) // DAY)
        if kind is FeelTime:
            return FeelTime((value.nanos + duration.nanos) % DAY, value.offset, value.region)
        if kind is FeelDateTime:
            if value.zone is None:
                return FeelDateTime.from_local(value.local + duration.nanos)
            return FeelDateTime.from_instant(value.instant + duration.nanos, value.zone)
    return None


def _difference(left: Any, right: Any) -> DaysTime | None:
    kind = type(left)
    if kind is FeelDate:
        return DaysTime((left.days - right.days) * DAY)
    if kind is FeelTime and (left.offset is None) == (right.offset is None):
        difference = left.instant - right.instant
        return DaysTime(difference if left.offset is None else abs(difference))
    if kind is FeelDateTime and (left.offset is None) == (right.offset is None):
        return DaysTime(left.instant - right.instant)
    return None


def _scaled(duration: Any, factor: numbers.Number) -> Any:
    whole = int(factor)
    if type(duration) is YearsMonths:
        return YearsMonths(duration.months * whole) if abs(duration.months * whole) < 2**40 else None
    return _duration(duration.nanos * whole) if type(duration) is DaysTime else None


def _divided(duration: Any, divisor: numbers.Number) -> Any:
    """A duration by a number: months are cut to whole ones, all else to milliseconds."""
    if type(duration) is YearsMonths:
        return YearsMonths(int(numbers.divide(duration.months, divisor) or 0))
    if type(duration) is DaysTime:
        return _duration(int(numbers.divide(_cut(duration.nanos, _MILLI), divisor) or 0) * _MILLI)
    return None


def _duration(nanos: int) -> DaysTime | None:
    return DaysTime(nanos) if abs(nanos) < _MAX_NANOS else None


def _cut(dividend: int, divisor: int) -> int:
    quotient = abs(dividend) // abs(divisor)
    return -quotient if (dividend < 0) != (divisor < 0) else quotient
