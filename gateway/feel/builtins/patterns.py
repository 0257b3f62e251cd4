r"""
Java's regular expressions on top of the `regex` package, with a time limit.

The two languages differ in details that are translated: quoting (`\Q..\E`), octal and hexadecimal escapes, classes such
as `\h`, `\p{Alpha}` or `\p{javaLowerCase}`, `\Z` and `\z`, possessive and set operations mean the same in both. `\d`,
`\w`, `\s`, `\b` and the flag `i` know ASCII only, as in Java.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import regex

from gateway.feel.budget import Run
from gateway.feel.errors import FeelBudgetError, UnfitArgumentError

MAX_PATTERN = 20_000
MAX_EXPANDED = 100_000
"""How long a pattern may be when all its counted repetitions are written out: `(a{1000}){1000}` is too long."""

_FLAGS = {"s": regex.DOTALL, "m": regex.MULTILINE, "i": regex.IGNORECASE, "x": regex.VERBOSE}
_POSIX = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "ASCII": r"\x00-\x7F",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Graph": "!-~",
    "Print": " -~",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1F\x7F",
    "XDigit": "0-9a-fA-F",
    "Space": r" \t\n\x0B\f\r",
}
_ESCAPES = {
    "h": r" \t\xA0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000",
    "v": r"\n\x0B\f\r\x85\u2028\u2029",
    "d": "0-9",
    "w": "a-zA-Z0-9_",
    "s": r" \t\n\x0B\f\r",
}
_NEGATED = {letter.upper(): letter for letter in _ESCAPES}
_JAVA_PROPERTIES = {"javaLowerCase": "Ll", "javaUpperCase": "Lu", "javaWhitespace": "White_Space", "javaLetter": "L"}
_JAVA_PROPERTIES |= {"javaDigit": "Nd", "javaLetterOrDigit": "Alnum", "javaAlphabetic": "Alphabetic"}


@lru_cache(maxsize=512)
def compiled(pattern: str, flags: str) -> Any:
    """The pattern, or None where it is no regular expression or a flag is unknown."""
    if len(pattern) > MAX_PATTERN or not set(flags) <= set(_FLAGS) or _expanded(pattern) > MAX_EXPANDED:
        return None
    options = regex.VERSION1
    for flag in flags:
        options |= _FLAGS[flag]
    try:
        return regex.compile("".join(_translate(pattern, flags)), options)
    except (regex.error, ValueError, OverflowError, RecursionError, KeyError, IndexError):
        return None


def _expanded(pattern: str) -> int:
    """About how many signs the pattern has with its counted repetitions written out."""
    totals = [0]
    last = 1
    for piece in _pieces.finditer(pattern):
        text = piece[0]
        if text == "(":
            totals.append(0)
            continue
        if text == ")" and len(totals) > 1:
            last = totals.pop() + 1
        elif piece[1] is not None:
            times = max(int(count) for count in (piece[1], piece[2]) if count)
            last *= min(times, MAX_EXPANDED)
        else:
            last = 1
        totals[-1] += last
    return sum(totals)


_pieces = regex.compile(r"\\.|\[(?:\\.|[^\]\\])*+\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|.", regex.DOTALL)


def _translate(pattern: str, flags: str) -> Iterator[str]:
    """The pieces of the pattern in the syntax of `regex`."""
    position = depth = 0
    while position < len(pattern):
        sign = pattern[position]
        if sign == "\\":
            piece, position = _escape(pattern, position + 1, in_class=depth > 0)
            yield piece
            continue
        position += 1
        if sign == "[":
            depth += 1
            negated = pattern.startswith("^", position)
            position += negated
            yield "[^" if negated else "["
            if pattern.startswith("]", position):
                position += 1
                yield r"\]"
            continue
        if depth:
            if sign == "]":
                depth -= 1
            elif sign == "&" and pattern.startswith("&", position):
                position += 1
                sign = "&&"
            elif sign in "~|" or (sign == "-" and pattern[position : position + 1] in {"-", "["}):
                sign = "\\" + sign  # set operations of `regex` that Java does not have
            elif "x" in flags and sign.isspace():
                sign = ""
        elif not sign.isascii() and "i" in flags:
            sign = f"(?-i:{sign})"
        yield sign


def _escape(pattern: str, position: int, *, in_class: bool) -> tuple[str, int]:
    """The translation of what follows a backslash, and where it ends."""
    if position >= len(pattern):
        raise ValueError("a backslash at the end")
    sign = pattern[position]
    following = position + 1
    if sign == "Q":
        end = pattern.find("\\E", following)
        quoted = pattern[following : end if end >= 0 else len(pattern)]
        return "".join(map(_literal, quoted)), len(pattern) if end < 0 else end + 2
    if sign in "pP":
        return _property(pattern, following, negated=sign == "P", in_class=in_class)
    if sign == "0":
        return _octal(pattern, following)
    if sign == "x" and pattern.startswith("{", following):
        end = pattern.index("}", following)
        return _literal(chr(int(pattern[following + 1 : end], 16))), end + 1
    if sign in _ESCAPES:
        return (_ESCAPES[sign] if in_class else f"[{_ESCAPES[sign]}]"), following
    if sign in _NEGATED:
        return f"[^{_ESCAPES[_NEGATED[sign]]}]", following
    if sign == "k" and pattern.startswith("<", following):
        end = pattern.index(">", following)
        return f"(?P={pattern[following + 1 : end]})", end + 1
    if sign == "c":
        return _literal(chr(ord(pattern[following]) ^ 64)), following + 1
    return _simple_escape(sign, in_class=in_class), following


def _simple_escape(sign: str, *, in_class: bool) -> str:
    if in_class and sign.isdigit():
        raise ValueError("a reference to a group within a class")
    if sign == "Z":
        return r"(?=\r?\n?\Z)"
    if sign == "z":
        return r"\Z"
    if sign == "e":
        return r"\x1B"
    if sign in "bB":
        return rf"(?a:\{sign})"
    if sign == "R" and not in_class:
        return r"(?:\r\n|[\n\x0B\f\r\x85\u2028\u2029])"
    if sign.isascii() and sign.isalpha() and sign not in "aAfGknrtuxXN":
        raise ValueError(f"unknown escape: {sign}")
    return f"\\{sign}"


def _literal(sign: str) -> str:
    return regex.escape(sign, special_only=False, literal_spaces=False)


def _octal(pattern: str, position: int) -> tuple[str, int]:
    end = position
    while end < len(pattern) and end < position + 3 and pattern[end] in "01234567":
        end += 1
    if end == position:
        raise ValueError("no digits")
    return _literal(chr(int(pattern[position:end], 8))), end


def _property(pattern: str, position: int, *, negated: bool, in_class: bool) -> tuple[str, int]:
    if pattern.startswith("{", position):
        end = pattern.index("}", position)
        name = pattern[position + 1 : end]
    else:
        end, name = position, pattern[position]
    if name in _POSIX:
        piece = _POSIX[name]
        if negated or not in_class:
            piece = f"[{'^' if negated else ''}{piece}]"
        return piece, end + 1
    name = _JAVA_PROPERTIES.get(name, name)
    if name.startswith("Is") and name[2:] not in _POSIX:
        name = name[2:]
    elif name.startswith("In"):
        name = f"Block={name[2:]}"
    return f"\\{'P' if negated else 'p'}{{{name}}}", end + 1


def _timed(run: Run, pattern: str, flags: str, work: Callable[[Any, float], Any]) -> Any:
    """Do the work with the compiled pattern within the time that the evaluation has left for patterns."""
    expression = compiled(pattern, flags)
    if expression is None:
        raise UnfitArgumentError
    limit = run.pattern_seconds
    started = time.perf_counter()
    try:
        if limit <= 0:
            raise TimeoutError
        return work(expression, limit)
    except TimeoutError:
        raise FeelBudgetError(f"The regular expression '{pattern[:100]}' takes too long.") from None
    finally:
        run.pattern_seconds = limit - (time.perf_counter() - started)


def found(run: Run, text: str, pattern: str, flags: str) -> bool:
    """Whether the pattern is found anywhere."""
    return _timed(run, pattern, flags, lambda expression, limit: expression.search(text, timeout=limit)) is not None


def extract(run: Run, text: str, pattern: str) -> list[str]:
    """All whole matches."""
    matches = _all(run, text, pattern, "")
    return [match[0] for match in matches]


def _all(run: Run, text: str, pattern: str, flags: str) -> list[Any]:
    matches = _timed(run, pattern, flags, lambda expression, limit: list(expression.finditer(text, timeout=limit)))
    run.make(len(matches) * 10)
    return matches  # type: ignore[no-any-return]


def split(run: Run, text: str, pattern: str) -> list[str]:
    """The parts between the matches, empty ones too; a match of nothing at the start makes no part."""
    parts: list[str] = []
    start = 0
    for match in _all(run, text, pattern, ""):
        if match.end() == 0:
            continue
        parts.append(text[start : match.start()])
        start = match.end()
    parts.append(text[start:])
    return parts


def replace(run: Run, text: str, pattern: str, replacement: str, flags: str) -> str:
    """Every match replaced; `$1` and `${name}` stand for groups, a backslash takes the meaning of the next sign."""
    matches = _all(run, text, pattern, flags)
    pieces: list[str] = []
    start = length = 0
    for match in matches:
        inserted = _expand(replacement, match)
        length += match.start() - start + len(inserted)
        run.make_text(length)
        pieces += (text[start : match.start()], inserted)
        start = match.end()
    pieces.append(text[start:])
    run.make_text(length + len(text) - start)
    return "".join(pieces)


def _expand(replacement: str, match: Any) -> str:
    if "$" not in replacement and "\\" not in replacement:
        return replacement
    pieces: list[str] = []
    position = 0
    while position < len(replacement):
        sign = replacement[position]
        position += 1
        if sign == "\\":
            if position >= len(replacement):
                raise UnfitArgumentError
            pieces.append(replacement[position])
            position += 1
        elif sign == "$":
            group, position = _group(replacement, position, match)
            pieces.append(group)
        else:
            pieces.append(sign)
    return "".join(pieces)


def _group(replacement: str, position: int, match: Any) -> tuple[str, int]:
    groups = match.re.groups
    if replacement.startswith("{", position):
        end = replacement.find("}", position)
        name = replacement[position + 1 : end]
        if end < 0 or name not in match.re.groupindex:
            raise UnfitArgumentError
        return match[name] or "", end + 1
    if position >= len(replacement) or not ("0" <= replacement[position] <= "9"):
        raise UnfitArgumentError
    number = int(replacement[position])
    position += 1
    if number > groups:
        raise UnfitArgumentError
    while position < len(replacement) and "0" <= replacement[position] <= "9":
        longer = number * 10 + int(replacement[position])
        if longer > groups:
            break
        number = longer
        position += 1
    return match[number] or "", position
