"""JSON text, read and written so that nothing gets lost.

orjson is fast, but it makes 1.50 into 1.5, 1e400 into an error and integers of more than 64 bits into floats. Where a look at the
text finds a number that may be hurt, the standard library's reader takes over and hands such numbers out as Decimal and int.
"""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson

# Digits that a double cannot carry, or whose spelling it would change: a fraction that ends in 0 or has many digits,
# an exponent, an integer of 17 digits or more (16 are safe).
_DELICATE = re.compile(r"\d\.\d*0(?!\d)|\d\.\d{15}|\d[eE][+-]?\d|\d{13}\.\d|\d{17}")

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class InvalidJson(ValueError):  # noqa: N818 - reads as what it is
    """The text is not JSON as RFC 8259 has it, or is nested too deeply."""


def _refuse(constant: str) -> Any:
    raise InvalidJson(f"{constant} is not JSON")


def loads(text: str) -> Any:
    """The value of a JSON text. Fractions are float, or Decimal where a float would change them; integers are exact.

    Raises InvalidJson: no JSON, NaN or Infinity, lone surrogates, about a thousand levels or more.
    """
    if _DELICATE.search(text) is None:
        try:
            return orjson.loads(text)
        except ValueError as e:
            raise InvalidJson(str(e)) from None
    return _exact(text)


def _exact(text: str) -> Any:
    try:
        value = json.loads(text, parse_float=_number, parse_constant=_refuse)
        text.encode()
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False, default=str).encode()
        return value
    except InvalidJson:
        raise
    except (ValueError, RecursionError) as e:
        raise InvalidJson(str(e)) from None


def _number(text: str) -> float | Decimal:
    value = float(text)
    return value if repr(value) == text else Decimal(text)


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def dumps(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """The value as compact JSON text. `default` turns what JSON has no form for into what it has, or raises TypeError.

    Raises TypeError for values without a JSON form; NaN and Infinity become null; big integers and Decimals keep their digits.
    """
    return dumpb(value, default).decode()


def dumpb(value: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """`dumps` as UTF-8."""

    def convert(item: Any) -> Any:
        if default is not None:
            try:
                return default(item)
            except TypeError:
                pass
        return _default(item)

    try:
        return orjson.dumps(value, convert, orjson.OPT_NON_STR_KEYS)
    except TypeError:  # integers over 64 bits, lone surrogates: the slow writer knows them, or says what is wrong
        return _slow(value, convert).encode()


def _slow(value: Any, convert: Callable[[Any], Any]) -> str:
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): plain(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(v) for v in item]
        if item is None or isinstance(item, (str, bool, int)):
            return item
        if isinstance(item, Decimal):
            return float(item)
        if isinstance(item, float):
            return item if item == item and abs(item) != float("inf") else None  # noqa: PLR0124
        return plain(convert(item))

    try:
        text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise TypeError("text with a lone surrogate cannot be written as JSON") from None
    except RecursionError:
        raise TypeError("a value nested too deeply cannot be written as JSON") from None
    return text
