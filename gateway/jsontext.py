"""JSON text, read and written so that nothing gets lost.

orjson is fast, but it makes 1.50 into 1.5, 1e400 into an error and integers of more than 64 bits into floats. Where a look at the
text finds a number that may be hurt, the standard library's reader takes over and hands such numbers out as `Number` and int.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Self

import orjson

# Digits that a double cannot carry, or whose spelling it would change: a fraction that ends in 0 or begins with 0000, an
# exponent, more than 15 digits. A further dot says that it is no number, but an address or a version within a text.
_DELICATE = re.compile(r"[0-9](?:\.(?:0{4}|[0-9]*0(?![0-9.]))|[eE][+-]?[0-9]|[0-9.]{16})")

_MAX_DEPTH = 1000  # levels: about what orjson takes
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class InvalidJson(ValueError):  # noqa: N818 - reads as what it is
    """The text is not JSON as RFC 8259 has it, or is nested too deeply."""


class Number(Decimal):
    """A number that a float would change, or spell otherwise: a Decimal that keeps the text it was read from."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._text,)


def _refuse(constant: str) -> Any:
    raise InvalidJson(f"{constant} is not JSON")


def loads(text: str) -> Any:
    """The value of a JSON text. Fractions are float, or `Number` where a float would change them; integers are exact.

    Raises InvalidJson: no JSON, NaN or Infinity, lone surrogates, about a thousand levels or more.
    """
    if _DELICATE.search(text) is None:
        try:
            return orjson.loads(text)
        except ValueError as e:
            raise InvalidJson(str(e)) from None
    return _exact(text)


def _exact(text: str) -> Any:
    if text.count("[") + text.count("{") > _MAX_DEPTH and _depth(text) > _MAX_DEPTH:
        raise InvalidJson("nested too deeply")
    try:
        value = json.loads(text, parse_float=_number, parse_constant=_refuse)
        text.encode()
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False, default=str).encode()
        return value
    except InvalidJson:
        raise
    except UnicodeEncodeError:
        raise InvalidJson("lone surrogates are not JSON") from None
    except RecursionError:
        raise InvalidJson("nested too deeply") from None
    except (ValueError, ArithmeticError) as e:
        raise InvalidJson(str(e)) from None


def _depth(text: str) -> int:
    """The levels of a JSON text: how many the standard library's reader takes depends on the release of Python."""
    level = deepest = 0
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece in "[{":
            level += 1
            deepest = max(deepest, level)
        elif piece in "]}":
            level -= 1
    return deepest


def _number(text: str) -> float | Decimal:
    value = float(text)
    return value if repr(value) == text else Number(text)


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
        if default is not None and not isinstance(item, Decimal):
            try:
                return default(item)
            except TypeError:
                pass
        return _default(item)

    try:
        return orjson.dumps(value, convert, orjson.OPT_NON_STR_KEYS)
    except TypeError:  # big integers, deep nesting, lone surrogates: the slow writer knows them, or says what is wrong
        return _slow(value, convert)


def _slow(value: Any, convert: Callable[[Any], Any]) -> bytes:
    out: list[str] = []
    try:
        _write(value, convert, out.append)
        return "".join(out).encode()
    except UnicodeEncodeError:
        raise TypeError("text with a lone surrogate cannot be written as JSON") from None
    except RecursionError:
        raise TypeError("a value nested too deeply cannot be written as JSON") from None
    except ValueError as e:
        raise TypeError(str(e)) from None


def _write(value: Any, convert: Callable[[Any], Any], write: Callable[[str], None]) -> None:
    if isinstance(value, str):
        write(encode_basestring(value))
    elif value is None or isinstance(value, bool):
        write("null" if value is None else "true" if value else "false")
    elif isinstance(value, (int, float, Decimal)):
        write(_number_text(value))
    elif isinstance(value, Mapping):
        write("{")
        for n, (key, item) in enumerate(value.items()):
            write(f"{',' if n else ''}{encode_basestring(_key(key))}:")
            _write(item, convert, write)
        write("}")
    elif isinstance(value, (list, tuple)):
        write("[")
        for n, item in enumerate(value):
            if n:
                write(",")
            _write(item, convert, write)
        write("]")
    else:
        _write_other(value, convert, write)


def _write_other(value: Any, convert: Callable[[Any], Any], write: Callable[[str], None]) -> None:
    """What orjson knows by itself (dates, dataclasses, enumerations), else what the caller makes of it."""
    try:
        write(orjson.dumps(value).decode())
    except TypeError:
        _write(convert(value), convert, write)


def _number_text(value: float | Decimal) -> str:
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else "null"
    return float.__repr__(value) if value - value == 0 else "null"


def _key(key: Any) -> str:
    if key is None or isinstance(key, bool):
        return "null" if key is None else "true" if key else "false"
    return str(key)
