"""
Numbers: whole ones are `int`, all others `Decimal` of 34 digits.

All decimal arithmetic goes through one context of our own, never through the thread's, which anybody may change.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NoReturn

from gateway.feel.errors import FeelEvaluationError

DECIMALS = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, capitals=1, clamp=0, flags=[], traps=[])
"""IEEE decimal128. Nothing traps: what can't be computed is not finite, and becomes null."""

EXACT = Context(
    prec=20_000, rounding=ROUND_HALF_EVEN, Emin=-50_000, Emax=50_000, capitals=1, clamp=0, flags=[], traps=[]
)
"""For rounding to a scale, where no digit may get lost on the way."""

_EXACT_PRODUCT = 10**34
_MAX_BITS = 20_000

Number = int | Decimal


def from_float(value: float) -> Number | None:
    """The number a double prints as; NaN and infinity are null."""
    return Decimal(repr(value)) if math.isfinite(value) else None


def finite(value: Decimal) -> Decimal | None:
    return value if value.is_finite() else None


def add(left: Number, right: Number) -> Number | None:
    if type(left) is int and type(right) is int:
        return left + right
    return finite(DECIMALS.add(left, right))


def subtract(left: Number, right: Number) -> Number | None:
    if type(left) is int and type(right) is int:
        return left - right
    return finite(DECIMALS.subtract(left, right))


def multiply(left: Number, right: Number) -> Number | None:
    if type(left) is int and type(right) is int:
        product = left * right
        if -_EXACT_PRODUCT < product < _EXACT_PRODUCT:
            return product
        rounded = DECIMALS.create_decimal(product)
        return int(rounded) if rounded.is_finite() else None
    return finite(DECIMALS.multiply(left, right))


def divide(left: Number, right: Number) -> Number | None:
    if not right:
        return None
    if type(left) is int and type(right) is int:
        quotient, rest = divmod(left, right)
        if not rest:
            return quotient
    return finite(DECIMALS.divide(left, right))


def power(base: Number, exponent: Number) -> Number | None:
    """A whole exponent is exact (34 digits where that gets too long), any other goes through doubles."""
    whole = int(exponent)
    if whole != exponent or abs(whole) > 999_999_999:
        return through_double(lambda a, b: a**b, base, exponent)
    if type(base) is int and whole >= 0 and base.bit_length() * whole <= _MAX_BITS:
        return int(base**whole)
    result = DECIMALS.power(base, whole)
    return finite(result)


def through_double(function: Any, *arguments: Number) -> Number | None:
    """What the function gives for doubles; null where it gives no real and finite number."""
    try:
        result = function(*map(float, arguments))
    except (ValueError, OverflowError, ZeroDivisionError):
        return None
    return from_float(result) if isinstance(result, float) else None


def text(value: Number) -> str:
    """All digits of the number, without an exponent; the scale is kept."""
    if type(value) is int and -_EXACT_PRODUCT < value < _EXACT_PRODUCT:
        return str(value)
    shown = format(Decimal(value), "f")
    return shown[1:] if shown[0] == "-" and not value else shown


def whole(value: Number) -> int:
    """The number without its fraction, cut towards zero."""
    return int(value)


def fatal(reason: str) -> NoReturn:
    """An accident of arithmetic that fails the evaluation as a whole, as it does in Camunda's engine."""
    raise FeelEvaluationError(reason)
