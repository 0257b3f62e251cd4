"""Functions of booleans and of null."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.feel.budget import Run
from gateway.feel.errors import FailureKind, FeelEvaluationError, UnfitArgumentError
from gateway.feel.functions import builtin
from gateway.feel.values import NUMBERS, equals, shown


@builtin("not(negand: any)")
def negation(run: Run, negand: Any) -> bool:
    if type(negand) is not bool:
        raise UnfitArgumentError
    return not negand


@builtin("is defined(value: any)")
def is_defined(run: Run, value: Any) -> bool:
    return value is not None


@builtin("get or else(value: any, default: any)")
def get_or_else(run: Run, value: Any, default: Any) -> Any:
    return default if value is None else value


@builtin("assert(value: any, condition: any)", pure=False)
def assert_condition(run: Run, value: Any, condition: Any) -> Any:
    return assert_with_cause(run, value, condition, "The condition is not fulfilled")


@builtin("assert(value: any, condition: any, cause: any)", pure=False)
def assert_with_cause(run: Run, value: Any, condition: Any, cause: Any) -> Any:
    """The value, if the condition is true; else the evaluation as a whole fails."""
    if condition is not True:
        raise FeelEvaluationError(cause if type(cause) is str else shown(cause), FailureKind.ASSERT_FAILURE)
    return value


@builtin("all(list: any..)", "and(list: any..)", price=30)
def conjunction(run: Run, members: list[Any]) -> bool | None:
    """False if one is false, true if all are true, else null."""
    run.spend(len(members))
    return _fold(members, decisive=False)


@builtin("any(list: any..)", "or(list: any..)", price=30)
def disjunction(run: Run, members: list[Any]) -> bool | None:
    """True if one is true, false if all are false, else null."""
    run.spend(len(members))
    return _fold(members, decisive=True)


def _fold(members: Iterable[object], *, decisive: bool) -> bool | None:
    result: bool | None = not decisive
    for member in members:
        if member is decisive:
            return decisive
        if type(member) is not bool:
            result = None
    return result


@builtin("is(value1: any, value2: any)")
def is_same(run: Run, left: Any, right: Any) -> bool:
    """Of one type and equal: the standard's function, which Camunda's engine does not have."""
    if type(left) is not type(right) and not (type(left) in NUMBERS and type(right) in NUMBERS):
        return False
    return equals(run, left, right) is True
