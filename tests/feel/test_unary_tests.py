"""Unary tests: the cells of a decision table."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import feel


@pytest.mark.parametrize(
    ("tests", "value", "expected"),
    [
        ("-", None, True),
        ("-", 5, True),
        ("< 5", 4, True),
        ("< 5", 5, False),
        ("<= 5", 5, True),
        ("> 5", None, None),
        ("< 5", "a", None),
        ("= 5", 5, True),
        ("!= 5", 5, False),
        ("5", 5, True),
        ("5", 4, False),
        ("5", None, False),
        ("5", "a", None),
        ('"a", "b"', "b", True),
        ('"a", "b"', "c", False),
        ("1, < 0", 1, True),
        ("[1..5]", 5, True),
        ("[1..5)", 5, False),
        ("]1..5[", 1, False),
        ("(1..5)", 3, True),
        ("not(1)", 2, True),
        ("not(1, 2)", 2, False),
        ("not(< 3, > 10)", 5, True),
        ("not(1)", "a", None),
        ("not([1..5])", 3, False),
        ("not(true)", False, True),
        ("not(? > 3)", 5, False),
        ("not(? > 3) and true", 5, False),
        ("true", True, True),
        ("true", False, False),
        ("false", False, True),
        ("null", None, True),
        ("null", 1, False),
        ("x", 5, True),
        ("list", 2, True),
        ("list", 9, False),
        ("list", [1, 2], True),
        ("yes", 9, True),
        ("no", 9, False),
        ("no", False, True),
        ("? > 3", 5, True),
        ("? > 3", 2, False),
        ("? + 1", 2, None),
        ("odd(?)", 3, True),
        ("? = null", None, True),
        ("every n in ? satisfies n > 3", [4, 5], True),
        ('starts with(?, "a")', "abc", True),
        ("list contains([1, 2], ?)", 2, True),
        ("x + 1", 6, True),
        ("missing", 5, False),
        ("{a: 1}", {"a": 1}, True),
        ("[]", [], True),
        ("? in [1..5]", 3, True),
        ("2, ?  > 100", 2, True),
    ],
)
def test_a_value_passes(tests: str, value: Any, expected: bool | None):
    context = {"x": 5, "list": [1, 2], "yes": True, "no": False}
    assert feel.unary_test(tests, value, context) is expected


def test_no_input_counts_as_null():
    assert feel.unary_test("null") is True
    assert feel.unary_test("2") is False


def test_an_explained_test_tells_what_did_not_compare():
    explained = feel.parse_unary_tests("< 5").explain("a")
    assert explained.value is None
    assert explained.failures == ((feel.FailureKind.NOT_COMPARABLE, "Can't compare '\"a\"' with '5'"),)


@pytest.mark.parametrize("text", ["", "1,", "not(", "<", "[1..", "- 1 -", "not(1) 2", "1 2"])
def test_what_is_no_test_is_a_parse_error(text: str):
    with pytest.raises(feel.FeelParseError):
        feel.parse_unary_tests(text)


def test_tests_are_values_like_expressions():
    tests = feel.parse_unary_tests("< 5, 7")
    assert str(tests) == "< 5, 7"
    assert tests == feel.parse_unary_tests("< 5, 7")
    assert tests != feel.parse_unary_tests("< 5")
    assert tests.unparse() == "< 5, 7"
    assert [tests.evaluate(value) for value in (4, 6, 7)] == [True, False, True]
