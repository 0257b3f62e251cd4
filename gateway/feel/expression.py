"""
Expressions and unary tests that are parsed once and evaluated often.

Both are immutable, safe to share between threads, and pickle as their text (with the extra functions, if there are any).
Compiling happens on the first evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.feel import ast, builtins
from gateway.feel.budget import Budget, Run
from gateway.feel.compiler import Compiler
from gateway.feel.errors import Failure, FeelBudgetError, FeelError, FeelEvaluationError, FeelParseError
from gateway.feel.functions import Function, merge
from gateway.feel.parser import parse_expression, parse_tests
from gateway.feel.scopes import FIRST_SLOT
from gateway.feel.values import convert, convert_all

assert builtins  # registers the built-in functions

Context = Mapping[str, Any]
Clock = Callable[[], datetime]
_EMPTY: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    The outcome of an explained evaluation: the value, or the error that it failed with, and the mistakes that became
    null on the way.
    """

    value: Any
    failures: tuple[Failure, ...] = ()
    error: FeelEvaluationError | None = None


class _Compiled:
    """What expressions and unary tests have in common."""

    __slots__ = ("_code", "_free", "_functions", "_names", "_slots", "_tree", "text")

    text: str
    """The text it was parsed from."""

    _parse: Callable[[str, Iterable[str]], ast.Node]

    def __init__(self, text: str, functions: Iterable[Function] = (), names: Iterable[str] = ()) -> None:
        self.text = text
        self._functions = tuple(functions) if functions else ()
        self._names = tuple(names) if names else ()
        self._tree = type(self)._parse(text, self._names)
        self._code: Callable[[list[Any]], Any] | None = None
        self._free: set[str] = set()
        self._slots: tuple[None, ...] = ()

    @property
    def tree(self) -> ast.Node:
        """The syntax tree."""
        return self._tree

    @property
    def names(self) -> frozenset[str]:
        """
        The variables that the expression may take from its context, functions that are no built-ins among them. Inside a
        filter a name may also turn out to be an entry of the elements.
        """
        if self._code is None:
            self._compile()
        return frozenset(self._free)

    def _compile(self) -> Callable[[list[Any]], Any]:
        compiler = Compiler(merge(self._functions) if self._functions else None)
        try:
            code = compiler.compile(self._tree)
        except RecursionError:
            raise FeelParseError("nested too deeply", self.text, 0) from None
        self._slots = (None,) * (compiler.scopes.size - FIRST_SLOT)
        self._free = compiler.scopes.free
        self._code = code
        return code

    def _evaluate(self, context: Context | None, run: Run) -> Any:
        code = self._code or self._compile()
        try:
            return code([_EMPTY if context is None else context, run, *self._slots])
        except Exception as error:
            raise self._failure(error) from error

    def _evaluate_all(self, context: Context | None, run: Run) -> Any:
        """Evaluate, and convert what the result took over from the context, too."""
        value = self._evaluate(context, run)
        try:
            return convert_all(value)
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> FeelError:
        """The error for what went wrong inside: it names the expression that failed, the innermost of nested ones."""
        if isinstance(error, FeelEvaluationError):
            return type(error)(error.reason, error.kind, self.text) if error.source is None else error
        if isinstance(error, FeelError):
            return error
        if isinstance(error, RecursionError):
            return FeelBudgetError("The evaluation nests too deeply.", None, self.text)
        return FeelEvaluationError(f"{type(error).__name__}: {error}", None, self.text)

    def _explain(self, context: Context | None, run: Run) -> Evaluation:
        failures: list[Failure] = []
        run.failures = failures
        try:
            value = self._evaluate_all(context, run)
        except FeelEvaluationError as error:
            return Evaluation(None, tuple(failures), error)
        return Evaluation(value, tuple(failures))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (self.text, self._functions, self._names) == (other.text, other._functions, other._names)

    def __hash__(self) -> int:
        return hash((type(self), self.text, self._functions))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, self._functions, self._names)

    def unparse(self) -> str:
        """FEEL text of the syntax tree: normalized, without comments."""
        return ast.unparse(self._tree)


def make_run(budget: Budget | None, clock: Clock | None) -> Run:
    """The state of an evaluation with these limits and this clock, by default the usual ones."""
    run = Run()
    if budget is not None:
        run.limit(budget)
    if clock is not None:
        run.clock = clock
    return run


class Expression(_Compiled):
    """A parsed expression. Made by `parse`."""

    __slots__ = ()
    _parse = staticmethod(parse_expression)

    def evaluate(
        self, context: Context | None = None, *, budget: Budget | None = None, clock: Clock | None = None
    ) -> Any:
        """
        The value for a context, whose data are read as they are when the expression touches them.

        What the value shares with the context is not copied. `clock` gives the time of `now()` and `today()`. Raises
        FeelEvaluationError, and FeelBudgetError when the budget does not suffice.
        """
        code = self._code
        if code is None or context is None or budget is not None or clock is not None:
            return self._evaluate(context, make_run(budget, clock))
        try:
            return code([context, Run(), *self._slots])
        except Exception as error:
            raise self._failure(error) from error

    def explain(
        self, context: Context | None = None, *, budget: Budget | None = None, clock: Clock | None = None
    ) -> Evaluation:
        """The value, or the error, together with the suppressed failures: why something is null."""
        return self._explain(context, make_run(budget, clock))


class UnaryTests(_Compiled):
    """Parsed unary tests. Made by `parse_unary_tests`."""

    __slots__ = ()
    _parse = staticmethod(parse_tests)

    def evaluate(
        self,
        value: Any = None,
        context: Context | None = None,
        *,
        budget: Budget | None = None,
        clock: Clock | None = None,
    ) -> bool | None:
        """Whether the value passes; None where it can't be compared. Raises as `Expression.evaluate` does."""
        run = make_run(budget, clock)
        run.input = convert(value)
        return self._evaluate(context, run)  # type: ignore[no-any-return]

    def explain(
        self,
        value: Any = None,
        context: Context | None = None,
        *,
        budget: Budget | None = None,
        clock: Clock | None = None,
    ) -> Evaluation:
        """The result, or the error, together with the suppressed failures."""
        run = make_run(budget, clock)
        run.input = convert(value)
        return self._explain(context, run)
