"""
FEEL, the expression language of DMN and Camunda: Camunda's dialect.

    >>> from gateway import feel
    >>> feel.evaluate("if amount > 100 then amount * 0.9 else amount", {"amount": 200})
    Decimal('180.0')
    >>> feel.unary_test("[1..5]", 3)
    True

`evaluate` and `unary_test` are the short way, with a cache of parsed texts. `parse` and `parse_unary_tests` are the fast
one: parse once, evaluate often. `explain` tells why something is null. Every failure is a `FeelError`.

null, booleans, strings, lists and contexts are None, bool, str, list and dict; numbers int or Decimal; functions
callables; temporal values and ranges objects whose `str()` is FEEL's text. A context may hold all of these, floats, the
standard library's temporal types, mappings, and pydantic models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gateway.feel.ast import unparse
from gateway.feel.budget import Budget
from gateway.feel.errors import Failure, FailureKind, FeelBudgetError, FeelError, FeelEvaluationError, FeelParseError
from gateway.feel.expression import Clock, Evaluation, Expression, UnaryTests, make_run
from gateway.feel.functions import REGISTRY, Function
from gateway.feel.handout import to_json
from gateway.feel.lexer import is_plain_name
from gateway.feel.temporal import DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import FeelRange

__all__ = [
    "Budget",
    "DaysTime",
    "Evaluation",
    "Expression",
    "Failure",
    "FailureKind",
    "FeelBudgetError",
    "FeelDate",
    "FeelDateTime",
    "FeelError",
    "FeelEvaluationError",
    "FeelParseError",
    "FeelRange",
    "FeelTime",
    "Function",
    "UnaryTests",
    "YearsMonths",
    "builtin_names",
    "evaluate",
    "names",
    "parse",
    "parse_unary_tests",
    "to_json",
    "unary_test",
    "unparse",
]

_CACHE_SIZE = 1024
_Parsed = TypeVar("_Parsed", Expression, UnaryTests)
_expressions: dict[Any, Expression | FeelParseError] = {}
_tests: dict[Any, UnaryTests | FeelParseError] = {}


def parse(text: str, *, functions: Iterable[Function] = (), names: Iterable[str] = ()) -> Expression:
    """
    Parse an expression. `functions` are bound to it; `names` are variables whose names hold spaces or signs and that the
    text uses without backticks. Raises FeelParseError.
    """
    return Expression(text, functions, names)


def parse_unary_tests(text: str, *, functions: Iterable[Function] = (), names: Iterable[str] = ()) -> UnaryTests:
    """Parse unary tests, as they stand in a decision table's cell. Raises FeelParseError."""
    return UnaryTests(text, functions, names)


def evaluate(
    text: str,
    context: Mapping[str, Any] | None = None,
    *,
    functions: Iterable[Function] = (),
    budget: Budget | None = None,
    clock: Clock | None = None,
) -> Any:
    """
    The value of an expression for a context, all of it FEEL values. Parsed texts are cached.

    A text that does not parse is tried again with the names in the context that hold spaces or signs. Raises FeelError.
    """
    expression = _parsed(Expression, _expressions, text, context, functions)
    return expression._evaluate_all(context, make_run(budget, clock))


def unary_test(
    text: str,
    value: Any = None,
    context: Mapping[str, Any] | None = None,
    *,
    functions: Iterable[Function] = (),
    budget: Budget | None = None,
    clock: Clock | None = None,
) -> bool | None:
    """Whether a value passes unary tests; None where it can't be compared. Parsed texts are cached. Raises FeelError."""
    tests = _parsed(UnaryTests, _tests, text, context, functions)
    return tests.evaluate(value, context, budget=budget, clock=clock)


def _parsed(
    kind: type[_Parsed],
    cache: dict[Any, _Parsed | FeelParseError],
    text: str,
    context: Mapping[str, Any] | None,
    functions: Iterable[Function],
) -> _Parsed:
    functions = tuple(functions)
    parsed = _cached(kind, cache, text, functions, ())
    if isinstance(parsed, FeelParseError):
        known = _names_with_signs(context) if context else ()
        if not known:
            raise parsed.with_traceback(None)
        again = _cached(kind, cache, text, functions, known)
        if isinstance(again, FeelParseError):
            raise parsed.with_traceback(None)
        return again
    return parsed


def _cached(
    kind: type[_Parsed],
    cache: dict[Any, _Parsed | FeelParseError],
    text: str,
    functions: tuple[Function, ...],
    known: tuple[str, ...],
) -> _Parsed | FeelParseError:
    key = (text, functions, known) if functions or known else text
    parsed = cache.get(key)
    if parsed is None:
        try:
            parsed = kind(text, functions, known)
        except FeelParseError as error:
            parsed = error
        if len(cache) >= _CACHE_SIZE:
            cache.clear()
        if len(text) <= 100_000:
            cache[key] = parsed
    return parsed


def _names_with_signs(context: Any, depth: int = 0) -> tuple[str, ...]:
    """Names in the context, nested ones too, that a text can't hold without backticks."""
    found: dict[str, None] = {}
    members: Iterable[Any] = ()
    if isinstance(context, Mapping):
        found = dict.fromkeys(key for key in context if isinstance(key, str) and not is_plain_name(key))
        members = context.values()
    elif isinstance(context, list):
        members = context[:10]
    if depth < 5:
        for member in members:
            if isinstance(member, Mapping | list):
                found |= dict.fromkeys(_names_with_signs(member, depth + 1))
    return tuple(found)[:1000]


def names(expression: Expression | UnaryTests | str) -> frozenset[str]:
    """The variables that an expression may take from its context; see `Expression.names`. A text is parsed first."""
    return (parse(expression) if isinstance(expression, str) else expression).names


def builtin_names() -> frozenset[str]:
    """The names of all built-in functions."""
    return frozenset(REGISTRY)
