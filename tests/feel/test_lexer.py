"""Tokens, names and literals."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import feel
from gateway.feel import ast, lexer


def tokens(text: str) -> list[str]:
    found: list[str] = []
    position = 0
    while (match := lexer.token(text, position)).lastindex != lexer.END:
        found.append(match[match.lastindex])
        position = match.end()
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a+b", ["a", "+", "b"]),
        ("1..5", ["1", "..", "5"]),
        ("1.5.x", ["1.5", ".", "x"]),
        ("a**b!=c<=d", ["a", "**", "b", "!=", "c", "<=", "d"]),
        ("a // b\n c /* d ** e */f", ["a", "c", "f"]),
        ("a\u2003\u00a0b", ["a", "b"]),
        ("`a b`.c", ["a b", ".", "c"]),
        ('"a\\"b" x', ['"a\\"b"', "x"]),
        ("$a_1 äö 横綱 \U0001f600x", ["$a_1", "äö", "横綱", "\U0001f600x"]),
        ("/* open", ["/", "*", "open"]),
        ("#", ["#"]),
    ],
)
def test_a_text_falls_into_tokens(text: str, found: list[str]):
    assert tokens(text) == found


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r'"a\nb"', "a\nb"),
        (r'"a\\nb"', r"a\nb"),
        (r'"\d"', r"\d"),
        (r'"\\d"', r"\d"),
        (r'"\u0041"', r"\u0041"),
        (r'"\'\"\t"', "'\"\t"),
        ('"two\nlines"', "two\nlines"),
    ],
)
def test_known_escapes_are_translated_and_others_stay(literal: str, value: str):
    assert lexer.unquote(literal) == value
    assert feel.evaluate(literal) == value


@given(st.text())
def test_a_quoted_text_is_read_as_it_was(text: str):
    assert lexer.unquote(ast.quote(text)) == text


def test_a_number_is_an_int_without_and_a_decimal_with_a_fraction():
    assert [lexer.number(text) for text in ("007", "1.50", ".5", "1e2")] == [7, Decimal("1.50"), Decimal("0.5"), 100]
    assert str(lexer.number("1.50")) == "1.50"
    assert type(lexer.number("9" * 1000)) is int
    assert type(lexer.number("9" * 5000)) is Decimal


def test_plain_names_need_no_backticks():
    assert [name for name in ("a", "$", "a b", "1a", "if", "and", "a-b", "") if lexer.is_plain_name(name)] == ["a", "$"]
