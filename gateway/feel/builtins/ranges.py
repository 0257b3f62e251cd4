"""Functions that relate points and ranges, as the DMN standard defines them."""

from __future__ import annotations

from typing import Any

from gateway.feel import ast, numbers
from gateway.feel.budget import Run
from gateway.feel.errors import FeelParseError, UnfitArgumentError
from gateway.feel.functions import REGISTRY, builtin, call
from gateway.feel.parser import parse_expression
from gateway.feel.temporal import TEMPORAL_TYPES, parse_any
from gateway.feel.values import NUMBERS, FeelRange, compare, within

_LITERALS = frozenset({"date", "time", "date and time", "duration"})


def _order(left: Any, right: Any) -> int:
    """How two points compare; points of two kinds, and what is no point, don't fit."""
    order = None if isinstance(left, str) else compare(left, right)
    if order is None:
        raise UnfitArgumentError
    return order


def _check(*values: Any) -> None:
    for value in values:
        if type(value) is FeelRange:
            _check(value.low, value.high)
        elif type(value) not in NUMBERS and not isinstance(value, TEMPORAL_TYPES):
            raise UnfitArgumentError


def _ranges(first: Any, second: Any) -> tuple[FeelRange, FeelRange]:
    if type(first) is not FeelRange or type(second) is not FeelRange:
        raise UnfitArgumentError
    _check(first, second)
    return first, second


def _point_and_range(point: Any, whole: Any) -> None:
    """The arguments are a point and a range; the other way round is an accident that fails the evaluation."""
    _check(point, whole)
    if type(point) is FeelRange and type(whole) is not FeelRange:
        numbers.fatal(f"Expected a point and a range, but found '{point}' and '{whole}'")
    if type(whole) is not FeelRange:
        raise UnfitArgumentError


def _low(value: Any) -> tuple[Any, bool]:
    return (value.low, value.low_closed) if type(value) is FeelRange else (value, True)


def _high(value: Any) -> tuple[Any, bool]:
    return (value.high, value.high_closed) if type(value) is FeelRange else (value, True)


@builtin(
    "before(point1: any, point2: any)",
    "before(point: any, range: any)",
    "before(range: any, point: any)",
    "before(range1: any, range2: any)",
    price=25,
)
def before(run: Run, first: Any, second: Any) -> bool:
    _check(first, second)
    (end, end_closed), (start, start_closed) = _high(first), _low(second)
    order = _order(end, start)
    return order < 0 or (order == 0 and not (end_closed and start_closed))


@builtin(
    "after(point1: any, point2: any)",
    "after(point: any, range: any)",
    "after(range: any, point: any)",
    "after(range1: any, range2: any)",
    price=25,
)
def after(run: Run, first: Any, second: Any) -> bool:
    return before(run, second, first)


@builtin("meets(range1: any, range2: any)", price=140)
def meets(run: Run, first: Any, second: Any) -> bool:
    first, second = _ranges(first, second)
    return _order(first.high, second.low) == 0 and first.high_closed and second.low_closed


@builtin("met by(range1: any, range2: any)", price=140)
def met_by(run: Run, first: Any, second: Any) -> bool:
    return meets(run, second, first)


@builtin("overlaps(range1: any, range2: any)", price=290)
def overlaps(run: Run, first: Any, second: Any) -> bool:
    first, second = _ranges(first, second)
    return not before(run, first, second) and not before(run, second, first)


@builtin("overlaps before(range1: any, range2: any)", price=290)
def overlaps_before(run: Run, first: Any, second: Any) -> bool:
    first, second = _ranges(first, second)
    starts_order = _order(first.low, second.low)
    starts_earlier = starts_order < 0 or (starts_order == 0 and first.low_closed and not second.low_closed)
    return starts_earlier and not before(run, first, second) and _ends_within(first, second)


@builtin("overlaps after(range1: any, range2: any)", price=290)
def overlaps_after(run: Run, first: Any, second: Any) -> bool:
    return overlaps_before(run, second, first)


def _ends_within(inner: FeelRange, outer: FeelRange) -> bool:
    order = _order(inner.high, outer.high)
    return order < 0 or (order == 0 and (outer.high_closed or not inner.high_closed))


def _starts_within(inner: FeelRange, outer: FeelRange) -> bool:
    order = _order(inner.low, outer.low)
    return order > 0 or (order == 0 and (outer.low_closed or not inner.low_closed))


@builtin("finishes(point: any, range: any)", "finishes(range1: any, range2: any)", price=175)
def finishes(run: Run, part: Any, whole: Any) -> bool:
    _point_and_range(part, whole)
    if type(part) is not FeelRange:
        return _order(part, whole.high) == 0 and bool(whole.high_closed)
    same_end = _order(part.high, whole.high) == 0 and part.high_closed == whole.high_closed
    return _starts_within(part, whole) and same_end


@builtin("finished by(range: any, point: any)", by_name=False, price=175)
def finished_by(run: Run, whole: Any, part: Any) -> bool:
    return finishes(run, part, whole)


@builtin("starts(point: any, range: any)", "starts(range1: any, range2: any)", price=175)
def starts(run: Run, part: Any, whole: Any) -> bool:
    _point_and_range(part, whole)
    if type(part) is not FeelRange:
        return _order(part, whole.low) == 0 and bool(whole.low_closed)
    same_start = _order(part.low, whole.low) == 0 and part.low_closed == whole.low_closed
    return _ends_within(part, whole) and same_start


@builtin("started by(range: any, point: any)", "started by(range1: any, range2: any)", price=175)
def started_by(run: Run, whole: Any, part: Any) -> bool:
    return starts(run, part, whole)


@builtin("during(point: any, range: any)", "during(range1: any, range2: any)", price=60)
def during(run: Run, part: Any, whole: Any) -> bool:
    _point_and_range(part, whole)
    if type(part) is FeelRange:
        return _starts_within(part, whole) and _ends_within(part, whole)
    inside = within(part, whole)
    if inside is None:
        raise UnfitArgumentError
    return inside


@builtin("includes(range: any, point: any)", "includes(range1: any, range2: any)", price=60)
def includes(run: Run, whole: Any, part: Any) -> bool:
    return during(run, part, whole)


@builtin("coincides(point1: any, point2: any)", "coincides(range1: any, range2: any)", price=10)
def coincides(run: Run, first: Any, second: Any) -> bool:
    _check(first, second)
    if type(first) is not FeelRange and type(second) is not FeelRange:
        return _order(first, second) == 0
    first, second = _ranges(first, second)
    same_bounds = _order(first.low, second.low) == 0 and _order(first.high, second.high) == 0
    same_ends = first.low_closed == second.low_closed and first.high_closed == second.high_closed
    return same_bounds and same_ends


@builtin("range(from: string)")
def range_of(run: Run, text: str) -> FeelRange:
    """The range that a text of literals describes: the standard's function, which Camunda's engine does not have."""
    try:
        node = parse_expression(text)
    except FeelParseError:
        raise UnfitArgumentError from None
    if not isinstance(node, ast.RangeLiteral):
        raise UnfitArgumentError
    low, high = _bound(run, node.low), _bound(run, node.high)
    order = compare(low, high)
    if order is None or order > 0:
        raise UnfitArgumentError
    return FeelRange.make(low, high, node.low_closed, node.high_closed)


def _bound(run: Run, node: ast.Node) -> Any:
    if isinstance(node, ast.Literal):
        return node.value
    if isinstance(node, ast.AtLiteral):
        return parse_any(node.text)
    if isinstance(node, ast.Call) and node.base is None and node.name in _LITERALS and len(node.arguments) == 1:
        argument = node.arguments[0]
        if isinstance(argument, ast.Literal):
            return call(REGISTRY[node.name][0], run, [argument.value])
    raise UnfitArgumentError
