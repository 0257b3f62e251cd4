"""Parsed expressions: evaluation, explanation, names, pickling, threads; and the short way with its cache."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

import gateway.feel
from gateway import feel


def failures(text: str, context: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(str(kind), message) for kind, message in feel.parse(text).explain(context).failures]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("x", "NO_VARIABLE_FOUND", "No variable found with name 'x'"),
        ("c.z", "NO_CONTEXT_ENTRY_FOUND", "No context entry found with key 'z'. Available keys: 'x', 'y'"),
        ("{}.z", "NO_CONTEXT_ENTRY_FOUND", "No context entry found with key 'z'. The context is empty"),
        ("null.z", "NO_CONTEXT_ENTRY_FOUND", "No context entry found with key 'z'. The context is null"),
        (
            '@"P1Y".days',
            "NO_PROPERTY_FOUND",
            "No property found with name 'days' of value 'P1Y'. Available properties: 'years', 'months'",
        ),
        ("1 < true", "NOT_COMPARABLE", "Can't compare '1' with 'true'"),
        ('1 = "a"', "NOT_COMPARABLE", "Can't compare '1' with '\"a\"'"),
        ("2 + true", "INVALID_TYPE", "Can't add 'true' to '2'"),
        ('"x" - "y"', "INVALID_TYPE", "Can't subtract '\"y\"' from '\"x\"'"),
        ("2 * true", "INVALID_TYPE", "Can't multiply '2' by 'true'"),
        ("2 / 0", "INVALID_TYPE", "Can't divide '2' by '0'"),
        ("true and 5", "INVALID_TYPE", "Expected boolean but found '5'"),
        ("for x in 5 return x", "INVALID_TYPE", "Expected list but found '5'"),
        ("f(1, 2)", "NO_FUNCTION_FOUND", "No function found with name 'f' and 2 parameters"),
        ("f(x: 1, z: 2)", "NO_FUNCTION_FOUND", "No function found with name 'f' and parameters: x,z"),
        ("abs(1, 2, 3)", "NO_FUNCTION_FOUND", "No function found with name 'abs' and 3 parameters"),
        (
            "number(null)",
            "FUNCTION_INVOCATION_FAILURE",
            "Failed to invoke function 'number': Illegal arguments: 'null'",
        ),
    ],
)
def test_an_explained_evaluation_tells_why_something_is_null(text: str, kind: str, message: str):
    explained = feel.parse(text).explain({"c": {"x": 1, "y": 2}})
    assert explained.value is None
    assert failures(text, {"c": {"x": 1, "y": 2}}) == [(kind, message)]


def test_failures_are_recorded_in_the_order_they_happen_and_the_value_stands_beside():
    explained = feel.parse("[x, 1, y.z]").explain({})
    assert explained.value == [None, 1, None]
    assert [failure.kind for failure in explained.failures] == [
        feel.FailureKind.NO_VARIABLE_FOUND,
        feel.FailureKind.NO_VARIABLE_FOUND,
        feel.FailureKind.NO_CONTEXT_ENTRY_FOUND,
    ]


def test_a_filter_that_is_tried_as_an_index_records_nothing():
    assert failures("[1, 2][item]") == []
    assert failures("[{a: true}][a]") == []


def test_an_explained_evaluation_carries_the_error():
    explained = feel.parse("[x, assert(1, false)]").explain({})
    assert explained.value is None
    assert isinstance(explained.error, feel.FeelEvaluationError)
    assert explained.error.kind is feel.FailureKind.ASSERT_FAILURE
    assert explained.failures == ((feel.FailureKind.NO_VARIABLE_FOUND, "No variable found with name 'x'"),)


def test_no_failures_no_explanation():
    assert feel.parse("1 + 1").explain() == feel.Evaluation(2)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a + b.c", {"a", "b"}),
        ("for x in xs return x * y", {"xs", "y"}),
        ("{a: 1, b: a + c}", {"c"}),
        ("function(x) x + z", {"z"}),
        ("items[price > limit]", {"items", "price", "limit"}),
        ("count(xs) + mine(1)", {"xs", "mine"}),
        ("some x in 1..n satisfies x = partial", {"n", "partial"}),
        ("1", set()),
    ],
)
def test_the_names_an_expression_takes_from_its_context(text: str, names: set[str]):
    assert feel.names(text) == names
    assert feel.names(feel.parse(text)) == names


def test_an_expression_is_a_value_that_pickles_as_its_text():
    function = feel.Function("twice", ("x",), abs)
    for expression in (feel.parse("a + 1"), feel.parse("twice(-2)", functions=[function])):
        copy = pickle.loads(pickle.dumps(expression))
        assert copy == expression
        assert hash(copy) == hash(expression)
        assert copy.evaluate({"a": 1}) == 2
    assert feel.parse("a") != feel.parse("b")
    assert feel.parse("a") != "a"
    assert (str(feel.parse("a  +1")), repr(feel.parse("a"))) == ("a  +1", "Expression('a')")


def test_threads_share_an_expression():
    expression = feel.parse("{a: x, b: for i in 1..50 return i * a, c: sum(b[item > a])}.c")
    wanted = [expression.evaluate({"x": number}) for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: expression.evaluate({"x": number % 20}), range(200)))
    assert found == wanted * 10


def test_the_context_is_read_and_never_changed():
    context = {"list": [3, 1, 2], "c": {"a": 1}}
    feel.evaluate('[append(list, 4), reverse(list), context put(c, "b", 2), sort(list, function(a, b) a < b)]', context)
    assert context == {"list": [3, 1, 2], "c": {"a": 1}}


def test_a_constant_list_is_a_new_one_each_time():
    expression = feel.parse("[1, 2]")
    expression.evaluate({}).append(3)
    assert expression.evaluate({}) == [1, 2]


def test_any_mapping_is_a_context():
    class Lazy(dict[str, int]):
        def __missing__(self, key: str) -> int:
            return len(key)

    assert feel.parse("abc + d").evaluate(Lazy()) == 4


def test_an_error_names_the_innermost_expression():
    inner = feel.evaluate("function(x) assert(x, x > 1)")
    with pytest.raises(feel.FeelEvaluationError, match=r"Assertion failure on evaluate the expression 'f\(0\)'"):
        feel.evaluate("f(0)", {"f": inner})


def test_the_short_way_knows_names_with_signs_from_the_context():
    assert feel.evaluate("Monthly Salary * 12", {"Monthly Salary": 10}) == 120
    assert feel.evaluate("order.Total Price + 1", {"order": {"Total Price": 1}}) == 2
    assert feel.unary_test("? > My Limit", 5, {"My Limit": 3}) is True
    with pytest.raises(feel.FeelParseError):
        feel.evaluate("Monthly Salary * 12", {"other name": 1})


def test_the_short_way_keeps_parsed_texts(monkeypatch: pytest.MonkeyPatch):
    feel.evaluate("1 + 41")
    monkeypatch.setattr(gateway.feel.expression, "parse_expression", None)
    assert feel.evaluate("1 + 41") == 42


def test_what_is_public_is_listed():
    assert all(hasattr(feel, name) for name in feel.__all__)
    assert {"sum", "date and time", "get or else"} <= feel.builtin_names()
    assert feel.evaluate("1.5") == Decimal("1.5")
