"""
Tokens of FEEL.

There is no separate pass: what a text means depends on where the parser stands (a context's key may hold any sign, a
function's name may hold spaces), so the parser asks for one token at a time. Every pattern is possessive: the time is
linear in the text, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from gateway.feel.numbers import DECIMALS

# The DMN list of white space and line ends, and both kinds of comments.
_SPACE = r"[\t-\r \x85\xa0\u1680\u180e\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff]"
_SKIP = rf"{_SPACE}*+(?:(?://[^\n]*+|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/){_SPACE}*+)*+"
# Java's identifiers: letters, currency signs and connectors, then digits and marks too; and what DMN allows beyond them.
_CURRENCY = "$\u00a2-\u00a5\u20a0-\u20c0"
_ASTRAL = "\U00010000-\U000effff"
_NAME = rf"(?![\d\u0300-\u036f])[\w{_CURRENCY}\u0300-\u036f\u200c\u200d\u203f\u2040{_ASTRAL}]++"
_STRING = r'"(?:[^"\\]|\\.)*+"'

NAME, NUMBER, STRING, SIGN, QUOTED, END, OTHER = range(1, 8)

token: Callable[[str, int], Any] = re.compile(
    rf"{_SKIP}(?:({_NAME})|(\d++(?:\.\d++)?|\.\d++)|({_STRING})|(\.\.|\*\*|[<>!]=|[-+*/=<>(){{}}\[\],.:?@])|`([^`]++)`|(\Z)|(.))",
    re.DOTALL,
).match
"""The next token from a position; `lastindex` of the match is its kind."""

skip = re.compile(_SKIP, re.DOTALL).match
key = re.compile(rf'{_SKIP}(?:({_STRING})|`([^`]++)`|([^"{{}}:,\[\]`\s][^"{{}}:,\[\]`]*+)){_SKIP}:', re.DOTALL).match
parameter_name = re.compile(
    rf"{_SKIP}(?:`([^`]++)`|([^\s\"(){{}}\[\],:.?@`][^\"(){{}}\[\],:.?@`]*+)){_SKIP}(?=[:,)])", re.DOTALL
).match
argument_name = re.compile(
    rf"{_SKIP}(?:`([^`]++)`|([^\s\d\"(){{}}\[\],:.?@`][^\"(){{}}\[\],:.?@`]*+)){_SKIP}:", re.DOTALL
).match
more_words = re.compile(rf"((?:{_SPACE}++{_NAME})++){_SKIP}\(", re.DOTALL).match
wordy_function = re.compile(
    rf"{_SPACE}++((?:and{_SPACE}++(?:time|months{_SPACE}++duration))|or{_SPACE}++else){_SKIP}\(", re.DOTALL
).match
wordy_type = re.compile(
    rf"{_SKIP}(date{_SPACE}++and{_SPACE}++time|(?:years{_SPACE}++and{_SPACE}++months|days{_SPACE}++and{_SPACE}++time){_SPACE}++duration)\b",
    re.DOTALL,
).match
iterator_name = re.compile(
    rf"{_SKIP}(?:`([^`]++)`|({_NAME}(?:{_SPACE}++(?!in\b){_NAME})*+)){_SKIP}\bin\b", re.DOTALL
).match
exponent = re.compile(r"[eE]([+-]?\d++)").match
spaced_property = re.compile(rf"(?:time{_SPACE}++offset|(?:start|end){_SPACE}++included)\b").match
_spaces = re.compile(rf"{_SPACE}++")
_whole_name = re.compile(rf"{_NAME}\Z").match
_escape = re.compile(r"""\\([nrtbf'"\\])""")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "'": "'", '"': '"', "\\": "\\"}

RESERVED = frozenset({"null", "true", "false", "function", "in", "return", "then", "else", "satisfies", "and", "or"})
"""Words that are no names by themselves."""

OPERATOR_WORDS = frozenset({"and", "or", "in", "then", "else", "return", "satisfies", "between", "instance"})
"""Words that end the operand before them."""

_GUARDED = RESERVED | {"if", "for", "some", "every", "not", "between", "instance", "external"}


def number(text: str) -> int | Decimal:
    """The value of a number: digits make an int, a fraction or an exponent a Decimal that keeps its scale."""
    if text.isdigit() and len(text) <= 1000:
        return int(text)
    return DECIMALS.create_decimal(text)


def is_plain_name(text: str) -> bool:
    """Whether the text is a name that needs no backticks wherever a name may stand."""
    return text not in _GUARDED and _whole_name(text) is not None


def words(text: str) -> str:
    """A name with each run of white space made one space."""
    return _spaces.sub(" ", text.strip())


def known_name(name: str) -> re.Pattern[str]:
    """A pattern that finds this name where it stands in a text, however it is spaced."""
    pieces = re.findall(rf"[\w{_CURRENCY}]+|[^\w\s]", name)
    ending = rf"(?![\w{_CURRENCY}])" if pieces and re.match(r"\w", pieces[-1][-1]) else ""
    return re.compile(_SPACE + "*+" + (_SPACE + "*+").join(map(re.escape, pieces)) + ending)


def unquote(text: str) -> str:
    """The value of a string literal: the known escapes are translated, any other backslash stays."""
    inner = text[1:-1]
    return _escape.sub(lambda match: _ESCAPED[match[1]], inner) if "\\" in inner else inner
