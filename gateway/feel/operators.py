"""
Compiled code of the operators: closures over the code of their operands.

The frequent case of each (whole numbers, two strings, true and false) is decided inline, the rest by `arithmetic` and
`values`. All code has the form `code(frame)`; `frame[1]` is the `Run`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from gateway.feel import arithmetic, ast
from gateway.feel.budget import ABSENT, Run
from gateway.feel.errors import FailureKind
from gateway.feel.functions import is_function
from gateway.feel.temporal import DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import FeelRange, compare, convert, equals, shown, within

Frame = list[Any]
Code = Callable[[Frame], Any]
Slow = Callable[[Run, Any, Any], Any]

_SCALARS = frozenset({int, str, bool})
_SLOW: dict[str, Slow] = {
    "+": arithmetic.add,
    "-": arithmetic.subtract,
    "*": arithmetic.multiply,
    "/": arithmetic.divide,
    "**": arithmetic.power,
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FAST: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_SMALL, _LARGE = 10**9, 10**24
_LONG_CHAIN = 8
_CHECK = 60
_COMPARISON = 35
"""Steps for comparing values that are not both whole numbers."""
_PRODUCT_LIMIT = 10**34


Peek = tuple[int, str | None]


def calculate(
    first: Code, rest: Sequence[tuple[str, Code]], constants: Mapping[Code, Any], peeks: Mapping[Code, Peek]
) -> Code:
    """`first + a - b ..`: operators of one precedence."""
    if len(rest) > _LONG_CHAIN:
        return _chain(first, [(_SLOW[sign], code) for sign, code in rest])
    for sign, code in rest:
        constant = constants.get(code)
        if type(constant) is int and sign in _FAST and abs(constant) < _SMALL:
            first = _with_int(_FAST[sign], _SLOW[sign], first, constant, peeks.get(first))
        elif type(constant) is str and sign == "+":
            first = _with_text(first, constant)
        elif sign in _INLINE:
            first = _INLINE[sign](first, code)
        else:
            first = _other(_SLOW[sign], first, code)
    return first


def _with_int(fast: Callable[[int, int], int], slow: Slow, left: Code, y: int, peek: Peek | None) -> Code:
    """An operator with a small constant on its right."""

    def calculated(frame: Frame) -> Any:
        x = left(frame)
        if type(x) is int and -_LARGE < x < _LARGE:
            return fast(x, y)
        return slow(frame[1], x, y)

    if peek is None or peek[1] is not None:
        return calculated
    slot = peek[0]

    def of_local(frame: Frame) -> Any:
        x = frame[slot]
        if type(x) is int and -_LARGE < x < _LARGE:
            return fast(x, y)
        return calculated(frame)

    return of_local


def _with_text(left: Code, y: str) -> Code:
    """A constant string appended."""
    room = 100 - len(y)

    def appended(frame: Frame) -> Any:
        x = left(frame)
        if type(x) is str and len(x) <= room:
            return x + y
        return arithmetic.add(frame[1], x, y)

    return appended


def _chain(first: Code, rest: list[tuple[Slow, Code]]) -> Code:
    def chain(frame: Frame) -> Any:
        run = frame[1]
        result = first(frame)
        for apply, code in rest:
            result = apply(run, result, code(frame))
        return result

    return chain


def _plus(left: Code, right: Code) -> Code:
    slow = arithmetic.add

    def plus(frame: Frame) -> Any:
        x = left(frame)
        y = right(frame)
        kind = type(x)
        if kind is type(y):
            if kind is int:
                return x + y
            if kind is str and len(x) + len(y) <= 100:
                return x + y
        return slow(frame[1], x, y)

    return plus


def _minus(left: Code, right: Code) -> Code:
    slow = arithmetic.subtract

    def minus(frame: Frame) -> Any:
        x = left(frame)
        y = right(frame)
        if type(x) is int and type(y) is int:
            return x - y
        return slow(frame[1], x, y)

    return minus


def _times(left: Code, right: Code) -> Code:
    slow = arithmetic.multiply

    def times(frame: Frame) -> Any:
        x = left(frame)
        y = right(frame)
        if type(x) is int and type(y) is int:
            product = x * y
            if -_PRODUCT_LIMIT < product < _PRODUCT_LIMIT:
                return product
        return slow(frame[1], x, y)

    return times


_INLINE: dict[str, Callable[[Code, Code], Code]] = {"+": _plus, "-": _minus, "*": _times}


def _other(slow: Slow, left: Code, right: Code) -> Code:
    return lambda frame: slow(frame[1], left(frame), right(frame))


def negate(operand: Code) -> Code:
    """`-operand`."""
    return lambda frame: arithmetic.negate(frame[1], operand(frame))


# Comparison


def order(sign: str, left: Code, right: Code) -> Code:
    """`left < right` and its like."""
    fast = _ORDER[sign]

    def ordered(frame: Frame) -> bool | None:
        x = left(frame)
        y = right(frame)
        if type(x) is int and type(y) is int:
            return fast(x, y)
        return compared(frame[1], fast, x, y)

    return ordered


def order_constant(sign: str, left: Code, y: int, peek: Peek | None) -> Code:
    """`left < 5` and its like."""
    fast = _ORDER[sign]

    def ordered(frame: Frame) -> bool | None:
        x = left(frame)
        if type(x) is int:
            return fast(x, y)
        return compared(frame[1], fast, x, y)

    if peek is None:
        return ordered
    slot, name = peek

    def of_local(frame: Frame) -> bool | None:
        x = frame[slot]
        return fast(x, y) if type(x) is int else ordered(frame)

    def of_entry(frame: Frame) -> bool | None:
        item = frame[slot]
        if type(item) is dict:
            x = item.get(name)
            if type(x) is int:
                return fast(x, y)
        return ordered(frame)

    return of_local if name is None else of_entry


def compared(run: Run, fast: Callable[[Any, Any], bool], x: Any, y: Any) -> bool | None:
    """The result of an order comparison of any two values."""
    run.spend(_COMPARISON)
    result = compare(x, y)
    if result is None:
        _not_comparable(run, x, y)
        return None
    return fast(result, 0)


def _not_comparable(run: Run, x: Any, y: Any) -> None:
    if run.failures is not None:
        run.fail(FailureKind.NOT_COMPARABLE, f"Can't compare '{shown(x)}' with '{shown(y)}'")


def equal(left: Code, right: Code, *, negated: bool) -> Code:
    """`left = right`, `left != right`."""

    def compares(frame: Frame) -> bool | None:
        x = left(frame)
        y = right(frame)
        kind = type(x)
        if kind is type(y) and kind in _SCALARS:
            return (x == y) is not negated
        result = same(frame[1], x, y)
        return result if result is None else result is not negated

    return compares


def equal_constant(left: Code, y: int | str, *, negated: bool) -> Code:
    """`left = "a"` and its like."""
    wanted = type(y)

    def compares(frame: Frame) -> bool | None:
        x = left(frame)
        if type(x) is wanted:
            return (x == y) is not negated
        result = same(frame[1], x, y)
        return result if result is None else result is not negated

    return compares


def same(run: Run, x: Any, y: Any) -> bool | None:
    """FEEL's equality; what can't be compared is recorded."""
    result = equals(run, x, y)
    if result is None:
        _not_comparable(run, x, y)
    return result


def between(value: Code, low: Code, high: Code) -> Code:
    """`value between low and high`, both ends included."""

    def betweens(frame: Frame) -> bool | None:
        x, y, z = value(frame), low(frame), high(frame)
        frame[1].spend(_COMPARISON)
        above, below = compare(x, y), compare(x, z)
        if above is None or below is None:
            _not_comparable(frame[1], x, y if above is None else z)
            return None
        return above >= 0 and below <= 0

    return betweens


# Three-valued logic


def conjunction(operands: Sequence[Code]) -> Code:
    """`a and b`: false as soon as one is false, true if all are true, else null."""
    if len(operands) == 2:
        return _both(*operands)

    def all_of(frame: Frame) -> bool | None:
        result: bool | None = True
        for operand in operands:
            value = operand(frame)
            if value is False:
                return False
            if value is not True:
                result = not_boolean(frame[1], value)
        return result

    return all_of


def _both(left: Code, right: Code) -> Code:
    def both(frame: Frame) -> bool | None:
        x = left(frame)
        if x is False:
            return False
        if x is not True:
            not_boolean(frame[1], x)
        y = right(frame)
        if y is False:
            return False
        if y is not True:
            return not_boolean(frame[1], y)
        return True if x is True else None

    return both


def disjunction(operands: Sequence[Code]) -> Code:
    """`a or b`: true as soon as one is true, false if all are false, else null."""

    def any_of(frame: Frame) -> bool | None:
        result: bool | None = False
        for operand in operands:
            value = operand(frame)
            if value is True:
                return True
            if value is not False:
                result = not_boolean(frame[1], value)
        return result

    return any_of


def not_boolean(run: Run, value: Any) -> bool | None:
    """Record that a boolean was expected; the null that stands for it."""
    if run.failures is not None:
        run.fail(FailureKind.INVALID_TYPE, f"Expected boolean but found '{shown(value)}'")
    return None


# Tests of an input: `in` and unary tests


def any_test(tests: Sequence[Code]) -> Code:
    """Whether one of the tests passes, three-valued."""
    if len(tests) == 1:
        return tests[0]

    def passes(frame: Frame) -> bool | None:
        result: bool | None = False
        for test in tests:
            value = test(frame)
            if value is True:
                return True
            if value is None:
                result = None
        return result

    return passes


def membership(value: Code, test: Code) -> Code:
    """`value in test`: the test sees the value as its input."""

    def member(frame: Frame) -> Any:
        run = frame[1]
        tested = value(frame)
        outer = run.input
        run.input = tested
        result = test(frame)
        run.input = outer
        return result

    return member


def test_comparison(sign: str, operand: Code) -> Code:
    """`< 5` applied to the input."""
    if sign in _ORDER:
        fast = _ORDER[sign]
        return lambda frame: compared(frame[1], fast, frame[1].input, operand(frame))
    expected = sign == "="

    def equality(frame: Frame) -> bool | None:
        result = same(frame[1], frame[1].input, operand(frame))
        return result if result is None else result is expected

    return equality


def test_value(operand: Code, *, literal: bool) -> Code:
    """An expression as a test: it is true, or holds the input, or equals it."""

    def passes(frame: Frame) -> bool | None:
        run = frame[1]
        value = operand(frame)
        if not literal:
            if value is True:
                return True
            if value is False:
                return run.input is False
        if type(value) is list:
            run.spend(len(value) * 4)
            return (
                any(equals(run, run.input, member) is True for member in value) or equals(run, run.input, value) is True
            )
        if type(value) is FeelRange:
            return in_range(run, run.input, value)
        return same(run, run.input, value)

    return passes


def test_condition(operand: Code) -> Code:
    """An expression that looks at the input itself: it has to give a boolean."""

    def passes(frame: Frame) -> bool | None:
        value = operand(frame)
        return value if value is True or value is False else not_boolean(frame[1], value)

    return passes


def in_range(run: Run, value: Any, checked: FeelRange) -> bool | None:
    """Whether a value lies in a range."""
    result = within(value, checked)
    if result is None:
        _not_comparable(run, value, checked)
    return result


# Types

_TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, Decimal),
    "string": (str,),
    "boolean": (bool,),
    "date": (FeelDate,),
    "time": (FeelTime,),
    "date and time": (FeelDateTime,),
    "years and months duration": (YearsMonths,),
    "days and time duration": (DaysTime,),
    "list": (list,),
    "context": (dict,),
    "range": (FeelRange,),
}


def instance_of(value: Code, wanted: ast.Type) -> Code:
    """`value instance of type`; false for a type that does not exist."""
    return lambda frame: is_instance(frame[1], value(frame), wanted)


def is_instance(run: Run, value: Any, wanted: ast.Type) -> bool:
    """Whether a value is of a type, its members included where the type names theirs."""
    value = convert(value)
    if wanted.name == "Any":
        return value is not None
    if wanted.name == "function":
        return is_function(value)
    if type(value) not in _TYPES.get(wanted.name, ()):
        return False
    arguments = wanted.arguments
    if not arguments:
        return True
    if wanted.keys is not None:
        fields = zip(wanted.keys, arguments, strict=True)
        return all(key in value and _is_member(run, value[key], argument) for key, argument in fields)
    if type(value) is list:
        return all(_is_member(run, member, arguments[0]) for member in value)
    if type(value) is FeelRange:
        return all(_is_member(run, bound, arguments[0]) for bound in (value.low, value.high))
    return True


def _is_member(run: Run, value: Any, wanted: ast.Type) -> bool:
    run.spend(_CHECK)
    return value is None or value is ABSENT or wanted.name == "Any" or is_instance(run, value, wanted)
