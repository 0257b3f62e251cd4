"""Functions of numbers."""

from __future__ import annotations

import decimal
import math
import random
from typing import Any

from gateway.feel import numbers
from gateway.feel.budget import Run
from gateway.feel.errors import UnfitArgumentError
from gateway.feel.functions import builtin
from gateway.feel.numbers import EXACT, Number
from gateway.feel.temporal import DaysTime, YearsMonths
from gateway.feel.values import NUMBERS

_MODES = {
    "UP": decimal.ROUND_UP,
    "DOWN": decimal.ROUND_DOWN,
    "CEILING": decimal.ROUND_CEILING,
    "FLOOR": decimal.ROUND_FLOOR,
    "HALF_UP": decimal.ROUND_HALF_UP,
    "HALF_DOWN": decimal.ROUND_HALF_DOWN,
    "HALF_EVEN": decimal.ROUND_HALF_EVEN,
}


def _round(n: Number, scale: Number, mode: str) -> Number:
    places = int(scale)
    if not -6111 <= places <= 6176:
        raise UnfitArgumentError
    if type(n) is int and places >= 0:
        return n
    unit = decimal.Decimal((0, (1,), -places))
    rounded = EXACT.create_decimal(n).quantize(unit, mode, EXACT)
    if not rounded.is_finite():
        raise UnfitArgumentError
    return int(rounded) if places <= 0 else rounded


@builtin("decimal(n: number, scale: number)")
def decimal_of(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_HALF_EVEN)


@builtin("decimal(n: number, scale: number, mode: string)")
def decimal_with_mode(run: Run, n: Number, scale: Number, mode: str) -> Number:
    name = mode.upper()
    if name == "UNNECESSARY":
        rounded = _round(n, scale, decimal.ROUND_DOWN)
        if rounded != n:
            raise UnfitArgumentError
        return rounded
    if name not in _MODES:
        raise UnfitArgumentError
    return _round(n, scale, _MODES[name])


@builtin("floor(n: number)")
def floor(run: Run, n: Number) -> Number:
    return _round(n, 0, decimal.ROUND_FLOOR)


@builtin("floor(n: number, scale: number)", "floor(n: number, scala: number)")
def floor_to(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_FLOOR)


@builtin("ceiling(n: number)")
def ceiling(run: Run, n: Number) -> Number:
    return _round(n, 0, decimal.ROUND_CEILING)


@builtin("ceiling(n: number, scale: number)")
def ceiling_to(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_CEILING)


@builtin("round up(n: number, scale: number)")
def round_up(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_UP)


@builtin("round down(n: number, scale: number)")
def round_down(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_DOWN)


@builtin("round half up(n: number, scale: number)")
def round_half_up(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_HALF_UP)


@builtin("round half down(n: number, scale: number)", "round half down(n: number, scala: number)")
def round_half_down(run: Run, n: Number, scale: Number) -> Number:
    return _round(n, scale, decimal.ROUND_HALF_DOWN)


@builtin("abs(number: any)", "abs(n: any)")
def absolute(run: Run, n: Any) -> Any:
    if type(n) in NUMBERS:
        return abs(n) if type(n) is int else n.copy_abs()
    if type(n) is YearsMonths:
        return YearsMonths(abs(n.months))
    if type(n) is DaysTime:
        return DaysTime(abs(n.nanos))
    raise UnfitArgumentError


@builtin("modulo(dividend: number, divisor: number)")
def modulo(run: Run, dividend: Number, divisor: Number) -> Number | None:
    """The rest has the sign of the divisor; a divisor of zero fails the evaluation."""
    if not divisor:
        numbers.fatal("Division by zero")
    if type(dividend) is int and type(divisor) is int:
        return dividend % divisor
    rest = EXACT.remainder(dividend, divisor)
    if rest and (rest < 0) != (divisor < 0):
        rest = EXACT.add(rest, divisor)
    return numbers.finite(numbers.DECIMALS.plus(rest))


@builtin("sqrt(number: number)", price=80)
def sqrt(run: Run, number: Number) -> Number | None:
    return numbers.through_double(math.sqrt, number)


@builtin("log(number: number)", price=85)
def log(run: Run, number: Number) -> Number | None:
    """The natural logarithm; what has none fails the evaluation."""
    if number <= 0:
        numbers.fatal(f"log({numbers.text(number)}) is no number")
    return numbers.through_double(math.log, number)


@builtin("exp(number: number)", price=80)
def exp(run: Run, number: Number) -> Number | None:
    return numbers.through_double(math.exp, number)


@builtin("odd(number: number)")
def odd(run: Run, number: Number) -> bool:
    return number % 2 == 1 if type(number) is int else abs(EXACT.remainder(number, 2)) == 1


@builtin("even(number: number)")
def even(run: Run, number: Number) -> bool:
    return number % 2 == 0 if type(number) is int else EXACT.remainder(number, 2) == 0


@builtin("random number()", pure=False, price=115)
def random_number(run: Run) -> Number | None:
    return numbers.from_float(random.random())  # noqa: S311 - no secret
