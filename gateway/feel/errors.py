"""
What can go wrong with an expression.

    FeelError
    +- FeelParseError          the text is no FEEL; knows line, column and shows a caret
    +- FeelEvaluationError     the evaluation as a whole failed (`assert`, `?` without an input, a fatal argument)
       +- FeelBudgetError      the evaluation needed more steps, depth, size or time than it was given

Most mistakes at run time are no errors in FEEL: they give null. Each such *suppressed failure* is a `Failure`, which
`Expression.explain` hands out beside the value.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class FeelError(Exception):
    """Base of everything this package raises."""


class FeelParseError(FeelError):
    """
    The text does not parse.

    `line` and `column` count from 1; `reason` is the bare cause; `str()` shows the line with a caret under the place.
    """

    def __init__(self, reason: str, source: str, position: int) -> None:
        self.reason = reason
        self.source = source
        self.position = position
        self.line = source.count("\n", 0, position) + 1
        start = source.rfind("\n", 0, position) + 1
        self.column = position - start + 1
        super().__init__(reason, source, position)

    @property
    def caret(self) -> str:
        """The line at fault, cut to a readable length, and a caret below the place."""
        start = self.position - self.column + 1
        end = self.source.find("\n", start)
        line = self.source[start : end if end >= 0 else len(self.source)]
        column = self.column - 1
        if len(line) > 100:
            first = max(0, column - 50)
            line, column = line[first : first + 100], column - first
        return f"{line}\n{' ' * column}^"

    def __str__(self) -> str:
        shown = _shorten(self.source)
        return f"failed to parse expression '{shown}': {self.reason} at line {self.line}, column {self.column}\n{self.caret}"


class FeelEvaluationError(FeelError):
    """
    The evaluation as a whole failed. `reason` is the bare cause, `kind` its failure kind.

    The implementation of an extra function raises it to fail the evaluation instead of giving null.
    """

    def __init__(self, reason: str, kind: FailureKind | None = None, source: str | None = None) -> None:
        self.reason = reason
        self.kind = kind or FailureKind.UNKNOWN
        self.source = source
        super().__init__(reason, kind, source)

    def __str__(self) -> str:
        if self.source is None:
            return self.reason
        shown = _shorten(self.source)
        if self.kind is FailureKind.ASSERT_FAILURE:
            return f"Assertion failure on evaluate the expression '{shown}': {self.reason}"
        return f"failed to evaluate expression '{shown}': {self.reason}"


class FeelBudgetError(FeelEvaluationError):
    """The evaluation was stopped because it exceeded its budget. Evaluating again without a larger one is futile."""


class FailureKind(StrEnum):
    """Kinds of suppressed failures, named as Camunda's engine names them."""

    NO_VARIABLE_FOUND = "NO_VARIABLE_FOUND"
    NO_CONTEXT_ENTRY_FOUND = "NO_CONTEXT_ENTRY_FOUND"
    NO_PROPERTY_FOUND = "NO_PROPERTY_FOUND"
    NOT_COMPARABLE = "NOT_COMPARABLE"
    INVALID_TYPE = "INVALID_TYPE"
    NO_FUNCTION_FOUND = "NO_FUNCTION_FOUND"
    FUNCTION_INVOCATION_FAILURE = "FUNCTION_INVOCATION_FAILURE"
    ASSERT_FAILURE = "ASSERT_FAILURE"
    UNKNOWN = "UNKNOWN"


class Failure(NamedTuple):
    """A mistake that became null: what kind, and the message the engine gives for it."""

    kind: FailureKind
    message: str


class UnfitArgumentError(Exception):
    """Raised inside a built-in function: its arguments don't fit. The call gives null and a suppressed failure."""


def _shorten(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."
