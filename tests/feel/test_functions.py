"""Functions that callers give to expressions, and functions that expressions give to callers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import feel
from gateway.feel.functions import REGISTRY


def refuse(*_: Any) -> None:
    raise feel.FeelEvaluationError("not like this")


def break_down(*_: Any) -> None:
    raise RuntimeError("broken")


FUNCTIONS = (
    feel.Function("greet", ("name",), lambda name: f"Hello {name}"),
    feel.Function("greet", ("name", "title"), lambda name, title: f"Hello {title} {name}"),
    feel.Function("my long name", ("a b", "c"), lambda first, second: [first, second]),
    feel.Function("refuse", ("x",), refuse),
    feel.Function("breakDown", ("x",), break_down),
    feel.Function("half", ("x",), lambda x: x / 2.0),
    feel.Function("count", ("list",), lambda members: "mine"),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('greet("Ann")', "Hello Ann"),
        ('greet("Ann", "Dr")', "Hello Dr Ann"),
        ('greet(title: "Dr", name: "Ann")', "Hello Dr Ann"),
        ('greet(name: "Ann")', "Hello Ann"),
        ('greet(title: "Dr")', "Hello Dr None"),
        ("greet()", None),
        ("greet(1, 2, 3)", None),
        ('greet(nick: "A")', None),
        ("my long name(1, 2)", [1, 2]),
        ("my long name(c: 2, a b: 1)", [1, 2]),
        ("breakDown(1)", None),
        ("string(half(3))", "1.5"),
        ("count([1])", "mine"),
        ('[1, 2][greet(item) = "Hello 2"]', [2]),
    ],
)
def test_extra_functions(text: str, value: Any):
    assert feel.parse(text, functions=FUNCTIONS).evaluate({}) == value
    assert feel.evaluate(text, {}, functions=FUNCTIONS) == value


def test_a_wrong_number_of_arguments_is_an_unknown_function():
    explained = feel.parse("greet()", functions=FUNCTIONS).explain({})
    assert explained.failures[0].kind is feel.FailureKind.NO_FUNCTION_FOUND


def test_what_breaks_inside_becomes_null_and_is_told():
    explained = feel.parse("breakDown(1)", functions=FUNCTIONS).explain({})
    assert explained.failures == (
        (feel.FailureKind.FUNCTION_INVOCATION_FAILURE, "Failed to invoke function 'breakDown': RuntimeError: broken"),
    )


def test_an_implementation_may_fail_the_whole_evaluation():
    with pytest.raises(feel.FeelEvaluationError, match=r"expression 'refuse\(1\)': not like this"):
        feel.parse("[refuse(1)]".strip("[]"), functions=FUNCTIONS).evaluate({})


def test_callables_of_the_context_are_functions():
    context = {"add": lambda a, b: a + b, "lib": {"inc": lambda x: x + 1}, "greet": FUNCTIONS[0], "size": len}
    assert feel.evaluate("add(1, 2)", context) == 3
    assert feel.evaluate("add(b: 1, a: 2)", context) == 3
    assert feel.evaluate("add(1)", context) is None
    assert feel.evaluate("add(c: 1)", context) is None
    assert feel.evaluate("lib.inc(1)", context) == 2
    assert feel.evaluate('greet(name: "x")', context) == "Hello x"
    assert feel.evaluate("size([1, 2])", context) == 2
    assert feel.evaluate("sort([1, 3, 2], add)", context) == [1, 3, 2]


def test_functions_of_expressions_are_callables():
    add = feel.evaluate("function(a, b) a + b + c", {"c": 10})
    assert add(1, 2) == 13
    assert str(add) == "function(a, b)"
    assert feel.evaluate("add(1, 2) + add(3, 4)", {"add": add}) == 30
    with pytest.raises(TypeError, match="takes 2 arguments"):
        add(1)


def test_a_variable_hides_a_builtin_only_if_it_is_a_function():
    assert feel.evaluate("count([1])", {"count": 3}) == 1
    assert feel.evaluate("count([1])", {"count": lambda members: "mine"}) == "mine"
    assert feel.evaluate('date("2020-01-01")', {"date": lambda text: text}) == "2020-01-01"


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"assert"}))
def test_a_builtin_refuses_what_does_not_fit_without_an_accident(name: str):
    values: list[Any] = [None, True, -7, "x", [], [[]], {}, lambda: None]
    for entry in REGISTRY[name]:
        expression = feel.parse(f"{name}({', '.join(['odd'] * len(entry.parameters))})")
        for value in values:
            explained = expression.explain({"odd": value})
            assert "Error:" not in str(explained.error)
            assert explained.value is None or not explained.failures


def test_external_functions_are_off():
    assert feel.evaluate('(function(x) external {java: {class: "x"}})(1)') is None
