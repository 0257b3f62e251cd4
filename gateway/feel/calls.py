"""
Compiled code that calls functions, and the functions that expressions make.

A name is first looked up among locals and variables (a function that the expression or the caller made), then among the
extra functions and built-ins, whose overload was chosen when the expression was compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.feel.budget import ABSENT, Run
from gateway.feel.errors import FeelBudgetError, UnfitArgumentError
from gateway.feel.functions import (
    Builtin,
    Overloads,
    by_names,
    by_position,
    call,
    call_python,
    is_function,
    pack,
    unfit,
    unknown_function,
)
from gateway.feel.scopes import Code, Frame
from gateway.feel.values import FunctionValue, convert, convert_all

_CALL = 40


class Closure(FunctionValue):
    """A function that an expression made: its parameters, its code, and the frame it was made in."""

    __slots__ = ("code", "first", "frame", "parameters", "weight")

    def __init__(self, parameters: tuple[str, ...], code: Code, frame: Frame, first: int, weight: int) -> None:
        self.parameters = parameters
        self.code = code
        self.frame = frame
        self.first = first
        self.weight = weight + _CALL
        frame[1] = None  # the run ends, the function may live on

    def invoke(self, run: Run, arguments: Sequence[Any]) -> Any:
        """Call it within an evaluation, with as many arguments as it has parameters."""
        run.spend(self.weight)
        if run.depth <= 0:
            raise FeelBudgetError("The evaluation calls functions in functions more deeply than its budget allows.")
        run.depth -= 1
        frame = self.frame[:]
        frame[1] = run
        frame[self.first : self.first + len(arguments)] = arguments
        result = self.code(frame)
        run.depth += 1
        return result

    def __call__(self, *arguments: Any) -> Any:
        """Call it from Python, as an evaluation of its own."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self} takes {len(self.parameters)} arguments, got {len(arguments)}")
        return convert_all(self.invoke(Run(), [convert(argument) for argument in arguments]))


def invoke(name: str, function: Any, run: Run, arguments: list[Any], names: Sequence[str] | None = None) -> Any:
    """Call any function value with arguments by position, or by name where `names` are given."""
    if not isinstance(function, Closure):
        return call_python(name, function, run, arguments, None if names is None else list(names))
    if names is not None:
        given = dict(zip(names, arguments, strict=True))
        if not given.keys() <= set(function.parameters):
            return unknown_function(name, run, len(arguments), names)
        arguments = [given.get(parameter) for parameter in function.parameters]
    elif len(arguments) != len(function.parameters):
        return unknown_function(name, run, len(arguments), names)
    return function.invoke(run, arguments)


def chosen(overloads: Overloads, count: int, names: Sequence[str] | None) -> Builtin | None:
    """The overload for a call, if there is one."""
    return by_position(overloads, count) if names is None else by_names(overloads, names)


def named_call(
    name: str, overloads: Overloads, local: Code | None, arguments: Sequence[Code], names: Sequence[str] | None
) -> Code:
    """`f(a, b)` or `f(x: a)`. `local` gives the value that a local has under the name."""
    entry = chosen(overloads, len(arguments), names)
    builtin = _builtin_call(name, entry, arguments, names)
    if local is None:
        return _or_variable(name, builtin, arguments, names)

    def local_call(frame: Frame) -> Any:
        function = local(frame)
        if is_function(function):
            return invoke(name, function, frame[1], [code(frame) for code in arguments], names)
        return builtin(frame)

    return local_call


def _or_variable(name: str, builtin: Code, arguments: Sequence[Code], names: Sequence[str] | None) -> Code:
    """The built-in, unless the context brings a function under the name."""

    def any_call(frame: Frame) -> Any:
        context = frame[0]
        if name in context:
            function = context[name]
            if is_function(function):
                return invoke(name, function, frame[1], [code(frame) for code in arguments], names)
        return builtin(frame)

    return any_call


def _builtin_call(name: str, entry: Builtin | None, arguments: Sequence[Code], names: Sequence[str] | None) -> Code:
    if entry is None:

        def unknown(frame: Frame) -> None:
            for code in arguments:  # they may fail the whole
                code(frame)
            return unknown_function(name, frame[1], len(arguments), names)

        return unknown
    if entry.variadic:
        return _variadic_call(entry, _ordered(entry, arguments, names))
    ordered = _ordered(entry, arguments, names)
    if len(ordered) == 1:
        return _unary_call(entry, ordered[0])
    if len(ordered) == 2:
        return _binary_call(entry, *ordered)
    return lambda frame: call(entry, frame[1], [code(frame) for code in ordered])


def _ordered(entry: Builtin, arguments: Sequence[Code], names: Sequence[str] | None) -> list[Code]:
    """The code of the arguments in the order of the parameters; what is not given is null."""
    if names is None:
        return list(arguments)
    given = dict(zip(names, arguments, strict=True))
    return [given.get(parameter, _null) for parameter in entry.parameters]


def _null(frame: Frame) -> None:
    return None


def _unary_call(entry: Builtin, argument: Code) -> Code:
    implementation: Callable[..., Any] = entry.implementation
    accepted = entry.kinds[0]

    def unary_call(frame: Frame) -> Any:
        value = argument(frame)
        run = frame[1]
        try:
            if accepted is not None and type(value) not in accepted:
                raise UnfitArgumentError
            return implementation(run, value)
        except UnfitArgumentError as error:
            return unfit(entry.name, run, (value,), error)

    return unary_call


def _binary_call(entry: Builtin, first: Code, second: Code) -> Code:
    implementation: Callable[..., Any] = entry.implementation
    one, two = entry.kinds

    def binary_call(frame: Frame) -> Any:
        x, y = first(frame), second(frame)
        run = frame[1]
        try:
            if (one is not None and type(x) not in one) or (two is not None and type(y) not in two):
                raise UnfitArgumentError
            return implementation(run, x, y)
        except UnfitArgumentError as error:
            return unfit(entry.name, run, (x, y), error)

    return binary_call


def _variadic_call(entry: Builtin, arguments: Sequence[Code]) -> Code:
    if len(arguments) == 1 and len(entry.parameters) == 1 and entry.spread:
        only = arguments[0]

        def list_call(frame: Frame) -> Any:
            value = only(frame)
            return call(entry, frame[1], [value if type(value) is list else [value]])

        return list_call
    return lambda frame: call(entry, frame[1], pack(entry, [code(frame) for code in arguments]))


def result_call(base: Code, arguments: Sequence[Code], names: Sequence[str] | None) -> Code:
    """`f(1)(2)`: a call on what an expression gives."""

    def call_result(frame: Frame) -> Any:
        function = base(frame)
        values = [code(frame) for code in arguments]
        if is_function(function):
            return invoke("", function, frame[1], values, names)
        return unknown_function("", frame[1], len(values), names)

    return call_result


def member_call(base: Code, name: str, arguments: Sequence[Code], names: Sequence[str] | None) -> Code:
    """`lib.f(1)`: a call of a function that a context holds."""

    def call_member(frame: Frame) -> Any:
        context = base(frame)
        values = [code(frame) for code in arguments]
        function = context.get(name, ABSENT) if type(context) is dict else ABSENT
        if is_function(function):
            return invoke(name, function, frame[1], values, names)
        return unknown_function(name, frame[1], len(values), names)

    return call_member
