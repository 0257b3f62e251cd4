"""Functions of strings. Positions and lengths count UTF-16 units, as in Java; regular expressions are Java's."""

from __future__ import annotations

import base64
import binascii
import uuid
from typing import Any

from gateway.feel import numbers
from gateway.feel.budget import Run
from gateway.feel.builtins import patterns
from gateway.feel.errors import UnfitArgumentError
from gateway.feel.functions import builtin
from gateway.feel.values import convert, utf16_length


@builtin("substring(string: string, start position: number)", price=60)
def substring(run: Run, string: str, start: numbers.Number) -> str:
    """From a position on; a position outside of the string fails the evaluation, as in Camunda's engine."""
    return _cut(string, int(start), None)


@builtin("substring(string: string, start position: number, length: number)", price=105)
def substring_of_length(run: Run, string: str, start: numbers.Number, length: numbers.Number) -> str | None:
    if length < 0:
        raise UnfitArgumentError
    return _cut(string, int(start), int(length))


def _cut(string: str, start: int, length: int | None) -> str:
    units = string if _is_basic(string) else string.encode("utf-16-be", "surrogatepass")
    width = 1 if isinstance(units, str) else 2
    size = len(units) // width
    first = start - 1 if start > 0 else size + start
    if not 0 <= first <= size:
        numbers.fatal(f"String index out of range: {first}")
    last = size if length is None else min(first + length, size)
    part = units[first * width : last * width]
    return part if isinstance(part, str) else part.decode("utf-16-be", "surrogatepass")


def _is_basic(string: str) -> bool:
    """Whether each character is one UTF-16 unit."""
    return string.isascii() or max(string) < "\U00010000"


@builtin("string length(string: string)")
def string_length(run: Run, string: str) -> int:
    return utf16_length(string)


@builtin("upper case(string: string)")
def upper_case(run: Run, string: str) -> str:
    run.make_text(len(string))
    return string.upper()


@builtin("lower case(string: string)")
def lower_case(run: Run, string: str) -> str:
    run.make_text(len(string))
    return string.lower()


@builtin("substring before(string: string, match: string)")
def substring_before(run: Run, string: str, match: str) -> str:
    before, found, _ = string.partition(match) if match else ("", "", "")
    return before if found else ""


@builtin("substring after(string: string, match: string)")
def substring_after(run: Run, string: str, match: str) -> str:
    return string.partition(match)[2] if match else string


@builtin("contains(string: string, match: string)")
def contains(run: Run, string: str, match: str) -> bool:
    return match in string


@builtin("starts with(string: string, match: string)")
def starts_with(run: Run, string: str, match: str) -> bool:
    return string.startswith(match)


@builtin("ends with(string: string, match: string)")
def ends_with(run: Run, string: str, match: str) -> bool:
    return string.endswith(match)


@builtin("trim(string: string)")
def trim(run: Run, string: str) -> str:
    return string.strip("".join(map(chr, range(33))))


@builtin("is blank(string: string)")
def is_blank(run: Run, string: str) -> bool:
    return not string or string.isspace()


@builtin("uuid()", pure=False, price=280)
def make_uuid(run: Run) -> str:
    return str(uuid.uuid4())


@builtin("to base64(value: string)")
def to_base64(run: Run, value: str) -> str:
    run.make_text(len(value) * 4 // 3)
    return base64.b64encode(value.encode("utf-8", "replace")).decode("ascii")


@builtin("from base64(value: string)")
def from_base64(run: Run, value: str) -> str:
    run.make_text(len(value))
    try:
        return base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise UnfitArgumentError from None


@builtin("string join(list: list)", price=55)
def string_join(run: Run, members: list[Any]) -> str:
    return string_join_within(run, members, None, "", "")


@builtin("string join(list: list, delimiter: string?)", price=55)
def string_join_with(run: Run, members: list[Any], delimiter: str | None) -> str:
    return string_join_within(run, members, delimiter, "", "")


@builtin("string join(list: list, delimiter: string?, prefix: string?, suffix: string?)", price=55)
def string_join_within(
    run: Run, members: list[Any], delimiter: str | None, prefix: str | None, suffix: str | None
) -> str:
    """Nulls are left out; any other member that is no string makes the result null."""
    run.spend(len(members) * 12)
    texts = [text for text in map(convert, members) if text is not None]
    if not all(type(text) is str for text in texts):
        raise UnfitArgumentError
    delimiter, prefix, suffix = delimiter or "", prefix or "", suffix or ""
    run.make_text(sum(map(len, texts)) + len(delimiter) * len(texts) + len(prefix) + len(suffix))
    return prefix + delimiter.join(texts) + suffix


@builtin("matches(input: string, pattern: string)")
def matches(run: Run, text: str, pattern: str) -> bool:
    return matches_with(run, text, pattern, "")


@builtin("matches(input: string, pattern: string, flags: string?)")
def matches_with(run: Run, text: str, pattern: str, flags: str | None) -> bool:
    return patterns.found(run, text, pattern, flags or "")


@builtin("replace(input: string, pattern: string, replacement: string)")
def replace(run: Run, text: str, pattern: str, replacement: str) -> str:
    return replace_with(run, text, pattern, replacement, "")


@builtin("replace(input: string, pattern: string, replacement: string, flags: string?)")
def replace_with(run: Run, text: str, pattern: str, replacement: str, flags: str | None) -> str:
    return patterns.replace(run, text, pattern, replacement, flags or "")


@builtin("split(string: string, delimiter: string)")
def split(run: Run, string: str, delimiter: str) -> list[str]:
    return patterns.split(run, string, delimiter)


@builtin("extract(input: string, pattern: string)")
def extract(run: Run, text: str, pattern: str) -> list[str]:
    return patterns.extract(run, text, pattern)
