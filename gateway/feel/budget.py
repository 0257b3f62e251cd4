"""
How much an evaluation may use, and the state of one evaluation.

Costs are counted where they can grow: a loop pays in advance for all its rounds (rounds x the weight of its body), a
function for its body, a built-in for what it reads and makes. So the count is the same on every machine and every run,
and an expression that would take too long fails before it has taken any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from gateway.feel.errors import Failure, FailureKind, FeelBudgetError


@dataclass(frozen=True, slots=True)
class Budget:
    """
    Limits of one evaluation.

    `steps`: units of work, some ten nanoseconds each. `depth`: nested calls of functions. `size`: characters of a string
    or members of a list that are made. `pattern_seconds`: time that all regular expressions of the evaluation share.
    """

    steps: int = 8_000_000
    depth: int = 100
    size: int = 5_000_000
    pattern_seconds: float = 0.03


DEFAULT_BUDGET = Budget()


class _Absent:
    """The value of what has none: a missing variable, no input. Never seen outside this package."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


class Run:
    """
    The state of one evaluation. Class attributes are the defaults, so that making one costs next to nothing.

    `failures` is a list only when somebody wants to know them (`Expression.explain`).
    """

    steps = DEFAULT_BUDGET.steps
    depth = DEFAULT_BUDGET.depth
    size = DEFAULT_BUDGET.size
    pattern_seconds = DEFAULT_BUDGET.pattern_seconds
    failures: list[Failure] | None = None
    input: Any = ABSENT
    clock: Callable[[], datetime] | None = None

    def limit(self, budget: Budget) -> None:
        """Replace the default limits."""
        self.steps = budget.steps
        self.depth = budget.depth
        self.size = budget.size
        self.pattern_seconds = budget.pattern_seconds

    def spend(self, steps: int) -> None:
        """Pay for work that is about to be done."""
        self.steps -= steps
        if self.steps < 0:
            self.exhausted()

    def make(self, size: int) -> None:
        """Pay for a list of this size that is about to be made."""
        if size > self.size:
            raise FeelBudgetError(f"The evaluation makes a list of {size} members, more than the limit of {self.size}.")
        self.steps -= size
        if self.steps < 0:
            self.exhausted()

    def make_text(self, length: int) -> None:
        """Pay for a string of this length that is about to be made."""
        if length > self.size:
            raise FeelBudgetError(
                f"The evaluation makes a string of length {length}, more than the limit of {self.size}."
            )
        self.steps -= length >> 3
        if self.steps < 0:
            self.exhausted()

    def exhausted(self) -> NoReturn:
        """Stop the evaluation."""
        raise FeelBudgetError("The evaluation needs more steps than its budget allows.")

    def fail(self, kind: FailureKind, message: str) -> None:
        """Record a suppressed failure. Call it only where `failures` is not None: messages cost time."""
        if self.failures is not None and len(self.failures) < 1000:
            self.failures.append(Failure(kind, message))
