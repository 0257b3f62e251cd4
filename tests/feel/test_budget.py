"""No expression takes too long, recurses too deep or grows without end."""

from __future__ import annotations

import re
import time

import pytest

from gateway import feel

DOUBLING = "{a0: [1], " + ", ".join(f"a{n}: [a{n - 1}, a{n - 1}]" for n in range(1, 60)) + "}.a59"


PRICED = [
    ("sort(for i in 1..100000 return i, function(a, b) a < b)", 20_000),
    ("sort(for i in 1..100000 return {v: i}, function(a, b) a.v > b.v)", 20_000),
    ('for i in 1..80000 return context put({}, "k", i)', 30_000),
    ('for i in 1..100000 return context put({}, ["a", "b", "c"], i)', 15_000),
    ("for i in 1..100000 return i ** 1.5", 20_000),
    ("for i in 1..100000 return uuid()", 20_000),
    ("for i in 1..100000 return stddev([1, i, 3])", 4_000),
    ("for i in 1..100000 return overlaps([1..5], [3..i])", 15_000),
    ("for i in 1..100000 return mode([1, i, 3])", 15_000),
    ('for i in 1..100000 return from json("[" + string(i) + "]")', 15_000),
    ("for i in 1..100000 return for x in 1..2, y in 1..2 return x", 15_000),
    ("for i in 1..100000 return max(1, i)", 30_000),
    ("for i in 1..200000 return i in [1..5]", 60_000),
]
"""Expressions that took longer than others at the price of their steps, and how much of it is within the budget all the same."""


@pytest.mark.parametrize(("expression", "rounds"), PRICED)
def test_what_is_expensive_costs_more_but_is_not_forbidden(expression: str, rounds: int):
    bounded = re.sub(r"1\.\.\d{5,}", f"1..{rounds}", expression)
    assert len(feel.evaluate(bounded)) == rounds


def test_a_context_that_grows_in_a_loop_pays_for_its_memory():
    growing = "for i in 1..{} return if i = 1 then {{}} else context put(partial[-1], string(i), i)"
    assert len(feel.evaluate(growing.format(1_000))[-1]) == 999
    with pytest.raises(feel.FeelBudgetError):
        feel.evaluate(growing.format(5_000))


@pytest.mark.parametrize(
    "expression",
    [
        "for x in 1..1000000000000000000000 return x",
        "for x in 1..3000, y in 1..3000 return x",
        "some x in 1..100000000 satisfies x < 0",
        "(function(f) f(f))(function(f) f(f))",
        "{f: function(f, n) f(f, n + 1), r: f(f, 0)}",
        'for i in 1..100 return if i = 1 then "aaaaaaaaaa" else partial[-1] + partial[-1]',
        "for i in 1..100 return if i = 1 then [1, 2] else concatenate(partial[-1], partial[-1])",
        f"string({DOUBLING})",
        f"{DOUBLING} = {DOUBLING}",
        f"flatten({DOUBLING})",
        f"to json({DOUBLING})",
        f"distinct values({DOUBLING})",
        f"{DOUBLING}.x",
        f"{DOUBLING} instance of " + "list<" * 60 + "number" + ">" * 60,
        'matches("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "(a|aa)+b")',
        'for i in 1..1000 return matches("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "(a|aa)+b")',
        'for i in 1..100000 return @"2020-01-01T00:00:00@Europe/Berlin" + duration("PT1H")',
        "sort(for i in 1..1000000 return i, function(a, b) a > b)",
        *(expression for expression, _ in PRICED),
    ],
)
def test_a_runaway_expression_ends_soon_with_a_clear_error(expression: str):
    parsed = feel.parse(expression)
    started = time.process_time()
    with pytest.raises(feel.FeelBudgetError):
        parsed.evaluate({})
    assert time.process_time() - started < 0.5  # some 0.1 where the machine is idle


def test_a_long_pattern_is_no_pattern():
    assert feel.evaluate('matches("a", "(((a{100}){100}){100}){100}")') is None


def test_a_million_constants_are_within_the_budget():
    assert feel.evaluate('count(for x in 0..1000000 return "Hi there")') == 1_000_001


def test_the_caller_sets_the_budget():
    expression = feel.parse("for x in 1..1000 return x * 2")
    assert len(expression.evaluate({})) == 1000
    with pytest.raises(feel.FeelBudgetError, match="more steps"):
        expression.evaluate({}, budget=feel.Budget(steps=1000))
    nested = feel.parse("{f: function(f, n) if n = 0 then 0 else f(f, n - 1), r: f(f, 20)}.r")
    assert nested.evaluate({}) == 0
    with pytest.raises(feel.FeelBudgetError, match="more deeply"):
        nested.evaluate({}, budget=feel.Budget(depth=10))
    joined = feel.parse('string join(["aaaaaaaaaa", "bbbbbbbbbb"])')
    with pytest.raises(feel.FeelBudgetError, match="length 20"):
        joined.evaluate({}, budget=feel.Budget(size=10))


def test_a_context_that_holds_itself_is_an_error_and_no_crash():
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(feel.FeelError):
        feel.evaluate("string(loop)", {"loop": loop})
    with pytest.raises(feel.FeelError):
        feel.evaluate("loop", {"loop": loop})
    with pytest.raises(feel.FeelError):
        feel.evaluate("loop = other", {"loop": loop, "other": {"self": {"self": loop}}})
