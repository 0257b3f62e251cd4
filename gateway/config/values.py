"""How text becomes a value: durations, sizes, switches, lists, addresses, as Spring Boot converts them.

Every parser takes what a source holds (text, or a list from YAML) and raises ValueError whose text is what was expected,
with an example; who calls it knows the key and adds it. See "Converting Durations" and "Converting Data Sizes" in Spring
Boot's reference, section "Type-safe Configuration Properties".
"""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainSerializer, SecretStr

_UNITS_US: Final = {
    "ns": 0.001,
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIMPLE = re.compile(r"([+-]?\d+)\s*(ns|us|ms|s|m|h|d)?", re.IGNORECASE)
_ISO = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<d>[+-]?\d+)D)?"
    r"(?:T(?=[+-]?\d)(?:(?P<h>[+-]?\d+)H)?(?:(?P<m>[+-]?\d+)M)?(?:(?P<s>[+-]?\d+(?:[.,]\d{0,9})?)S)?)?",
    re.IGNORECASE,
)
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB|TB)?", re.IGNORECASE)
_TRUE: Final = frozenset({"true", "on", "yes", "1"})
_FALSE: Final = frozenset({"false", "off", "no", "0"})


def uniform(name: str) -> str:
    """The form in which two spellings of one name are equal: letters and digits only, lower case."""
    return "".join(char for char in name.lower() if char.isalnum())


def parse_duration(text: object) -> timedelta:
    """`500ms`, `10s`, `5m`, ISO-8601 (`PT10S`, `P1DT2H`), or a bare number of milliseconds."""
    if isinstance(text, timedelta):
        return text
    found = _SIMPLE.fullmatch(str(text).strip())
    try:
        if found:
            return timedelta(microseconds=int(found[1]) * _UNITS_US[(found[2] or "ms").lower()])
        iso = _ISO.fullmatch(str(text).strip())
        if iso and any(iso[part] for part in "dhms"):
            days, hours, minutes = (int(iso[part] or 0) for part in "dhm")
            seconds = float((iso["s"] or "0").replace(",", "."))
            span = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
            return -span if iso["sign"] == "-" else span
    except OverflowError:
        raise ValueError("expected a duration of less than a million years, for example 10s") from None
    raise ValueError("expected a duration, for example 10s, 500ms or PT10S")


def format_duration(span: timedelta) -> str:
    """The shortest of Spring's spellings that says the same: `8h`, `90s`, `100ms`."""
    micros = span // timedelta(microseconds=1)
    for unit in ("d", "h", "m", "s", "ms"):
        if micros and micros % _UNITS_US[unit] == 0:
            return f"{int(micros // _UNITS_US[unit])}{unit}"
    return f"{micros}us" if micros else "0s"


def parse_size(text: object) -> int:
    """Bytes, from `5MB`, `16KB` or a bare number; units are powers of 1024."""
    found = _SIZE.fullmatch(str(text).strip())
    if not found:
        raise ValueError("expected a size, for example 5MB, 16KB or a number of bytes")
    return int(found[1]) << 10 * ("B", "KB", "MB", "GB", "TB").index((found[2] or "B").upper())


def parse_switch(text: object) -> bool:
    word = str(text).strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise ValueError("expected true or false")
    return word in _TRUE


def parse_integer(text: object) -> int:
    word = str(text).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", word):
        raise ValueError("expected a whole number, for example 32")
    return int(word)


def parse_number(text: object) -> float:
    word = str(text).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]+)?", word):
        raise ValueError("expected a number, for example 1.5")
    return float(word)


def parse_list(value: object) -> tuple[str, ...]:
    """The items of a list; text is split at commas. Blank items are dropped."""
    items: Sequence[object] = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(text for item in items if (text := str(item).strip()))


def parse_port(text: object) -> int:
    port = parse_integer(text)
    if not 0 <= port <= 65535:
        raise ValueError("expected a port from 0 to 65535")
    return port


def parse_url(text: object, *, schemes: frozenset[str] = frozenset({"http", "https"})) -> str:
    """An absolute http or https URL, without a trailing slash."""
    url = str(text).strip()
    try:
        parts = urlsplit(url)
        valid = parts.scheme.lower() in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("expected an absolute URL with http:// or https://, for example http://localhost:26500")
    return url.rstrip("/")


def parse_grpc_url(text: object) -> str:
    return parse_url(text, schemes=frozenset({"http", "https", "grpc", "grpcs"}))


def one_of(*choices: str) -> BeforeValidator:
    """One of some words; case, `-` and `_` don't matter, as for an enum of Java."""
    known = {uniform(choice): choice for choice in choices}

    def parse(text: object) -> str:
        try:
            return known[uniform(str(text))]
        except KeyError:
            raise ValueError(f"expected one of {', '.join(choices)}") from None

    return BeforeValidator(parse)


def within(parse: Callable[[object], int], low: int, high: int) -> BeforeValidator:
    """A number with bounds, both included."""

    def bounded(text: object) -> int:
        number = parse(text)
        if not low <= number <= high:
            raise ValueError(f"expected a number from {low} to {high}")
        return number

    return BeforeValidator(bounded)


def _positive(text: object) -> timedelta:
    span = parse_duration(text)
    if span <= timedelta(0):
        raise ValueError("expected a duration above zero, for example 10s")
    return span


def _not_negative(text: object) -> timedelta:
    span = parse_duration(text)
    if span < timedelta(0):
        raise ValueError("expected a duration of zero or more, for example 10s")
    return span


_AS_TEXT = PlainSerializer(format_duration, return_type=str)

Duration = Annotated[timedelta, BeforeValidator(_not_negative), _AS_TEXT]
PositiveDuration = Annotated[timedelta, BeforeValidator(_positive), _AS_TEXT]
Size = Annotated[int, BeforeValidator(parse_size)]
Switch = Annotated[bool, BeforeValidator(parse_switch)]
Integer = Annotated[int, BeforeValidator(parse_integer)]
Count = Annotated[int, within(parse_integer, 1, 2**31 - 1)]
Number = Annotated[float, BeforeValidator(parse_number)]
Port = Annotated[int, BeforeValidator(parse_port)]
Text = Annotated[str, BeforeValidator(str)]
TextList = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
Url = Annotated[str, BeforeValidator(parse_url)]
GrpcUrl = Annotated[str, BeforeValidator(parse_grpc_url)]
Secret = Annotated[
    SecretStr, BeforeValidator(lambda value: value if isinstance(value, SecretStr) else SecretStr(str(value)))
]
