"""Functions that are given to expressions: their signatures, how one of several overloads is chosen, and how it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from gateway.feel.budget import Run
from gateway.feel.errors import FailureKind, FeelError, UnfitArgumentError
from gateway.feel.temporal import DaysTime, FeelDate, FeelDateTime, FeelTime, YearsMonths
from gateway.feel.values import FeelRange, FunctionValue, convert, shown


@dataclass(frozen=True, slots=True)
class Function:
    """
    An extra function for expressions.

    `name` may hold spaces. It is called by position with as many arguments as it has parameters, or by the names of the
    parameters, where missing ones are null. Several of one name with other parameters are overloads. The implementation
    gets FEEL values by position and returns any value that a context may hold. When it raises FeelEvaluationError the
    evaluation as a whole fails; any other exception makes the call null.
    """

    name: str
    parameters: tuple[str, ...]
    implementation: Callable[..., Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))

    def __call__(self, *arguments: Any) -> Any:
        return self.implementation(*arguments)


_KINDS: dict[str, frozenset[type] | None] = {
    "any": None,
    "string": frozenset({str}),
    "number": frozenset({int, Decimal}),
    "boolean": frozenset({bool}),
    "list": frozenset({list}),
    "context": frozenset({dict}),
    "range": frozenset({FeelRange}),
    "date": frozenset({FeelDate, FeelDateTime}),
    "time": frozenset({FeelTime}),
    "duration": frozenset({YearsMonths, DaysTime}),
    "days": frozenset({DaysTime}),
    "point": frozenset({int, Decimal, FeelDate, FeelTime, FeelDateTime, YearsMonths, DaysTime}),
}


@dataclass(frozen=True, slots=True)
class Builtin:
    """
    One signature of a function that an expression can call by name.

    `kinds` are the types that each parameter takes (None: all, `nullable`: null too). A variadic one takes its last
    parameter as any number of arguments or as one list. A pure one gives the same for the same arguments. `price`: the steps
    of a call with little to do, beyond those of every call.
    """

    name: str
    parameters: tuple[str, ...]
    kinds: tuple[frozenset[type] | None, ...]
    implementation: Callable[..., Any]
    variadic: bool = False
    pure: bool = True
    by_name: bool = True
    spread: bool = True
    price: int = 0


REGISTRY: dict[str, tuple[Builtin, ...]] = {}
"""All built-in functions by name."""


_Implementation = TypeVar("_Implementation", bound=Callable[..., Any])


def builtin(
    *signatures: str, pure: bool = True, by_name: bool = True, price: int = 0
) -> Callable[[_Implementation], _Implementation]:
    """
    Register an implementation under signatures such as `substring(string: string, start position: number)`.

    A type with `?` takes null; one with `..` is variadic, with `...` one list is an argument like any other. The implementation gets the `Run`, then the arguments.
    """

    def register(implementation: _Implementation) -> _Implementation:
        for signature in signatures:
            entry = replace(_read(signature, implementation, pure=pure, by_name=by_name), price=price)
            REGISTRY[entry.name] = (*REGISTRY.get(entry.name, ()), entry)
        return implementation

    return register


def _read(signature: str, implementation: Callable[..., Any], *, pure: bool, by_name: bool) -> Builtin:
    name, _, rest = signature.rstrip(")").partition("(")
    parameters: list[str] = []
    kinds: list[frozenset[type] | None] = []
    variadic = False
    for part in filter(None, rest.split(", ")):
        parameter, _, kind = part.partition(": ")
        variadic = kind.endswith("..")
        accepted = _KINDS[kind.rstrip(".?")]
        parameters.append(parameter)
        kinds.append(accepted | {type(None)} if accepted is not None and kind.endswith("?") else accepted)
    if variadic:
        kinds[-1] = _KINDS["list"]  # what the implementation gets
    spread = not signature.endswith("...)")
    return Builtin(name, tuple(parameters), tuple(kinds), implementation, variadic, pure, by_name, spread)


def wrap(function: Function) -> Builtin:
    """A caller's function in the form of a built-in."""
    implementation = function.implementation

    def call(run: Run, *arguments: Any) -> Any:
        return _call_foreign(implementation, arguments)

    kinds = (None,) * len(function.parameters)
    return Builtin(function.name, function.parameters, kinds, call, pure=False)


def _call_foreign(implementation: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        result = implementation(*arguments)
    except (FeelError, RecursionError, UnfitArgumentError):
        raise
    except Exception as error:
        raise UnfitArgumentError(f"{type(error).__name__}: {error}") from error
    return convert(result)


Overloads = Sequence[Builtin]


def merge(functions: Iterable[Function]) -> dict[str, tuple[Builtin, ...]]:
    """The extra functions of a caller, by name."""
    merged: dict[str, tuple[Builtin, ...]] = {}
    for function in functions:
        merged[function.name] = (*merged.get(function.name, ()), wrap(function))
    return merged


def by_position(overloads: Overloads, count: int) -> Builtin | None:
    """The overload that takes that many arguments by position."""
    for entry in overloads:
        if len(entry.parameters) == count and not entry.variadic:
            return entry
    for entry in overloads:
        if entry.variadic and count >= len(entry.parameters):
            return entry
    return None


def by_names(overloads: Overloads, names: Sequence[str]) -> Builtin | None:
    """The overload with the fewest parameters that knows all these names."""
    given = set(names)
    fitting = [entry for entry in overloads if entry.by_name and given.issubset(entry.parameters)]
    return min(fitting, key=lambda entry: len(entry.parameters)) if fitting else None


def call(entry: Builtin, run: Run, arguments: Sequence[Any]) -> Any:
    """Call a built-in with arguments in the order of its parameters; unfit ones give null and a suppressed failure."""
    try:
        for argument, accepted in zip(arguments, entry.kinds, strict=False):
            if accepted is not None and type(argument) not in accepted:
                raise UnfitArgumentError
        return entry.implementation(run, *arguments)
    except UnfitArgumentError as error:
        return unfit(entry.name, run, arguments, error)


def unfit(name: str, run: Run, arguments: Sequence[Any], error: UnfitArgumentError) -> None:
    """Record that the arguments don't fit."""
    if run.failures is not None:
        reason = str(error) or "Illegal arguments: " + ", ".join(f"'{shown(argument)}'" for argument in arguments)
        run.fail(FailureKind.FUNCTION_INVOCATION_FAILURE, f"Failed to invoke function '{name}': {reason}")


def pack(entry: Builtin, arguments: list[Any]) -> list[Any]:
    """Arguments by position for a variadic built-in: the surplus becomes one list, unless it is one list already."""
    fixed = len(entry.parameters) - 1
    rest = arguments[fixed:]
    if not entry.spread or len(rest) != 1 or type(rest[0]) is not list:
        return [*arguments[:fixed], rest]
    return arguments


def call_python(
    name: str, function: Callable[..., Any], run: Run, arguments: list[Any], names: list[str] | None
) -> Any:
    """Call a callable of the context; a wrong number or wrong names of arguments give null."""
    parameters = python_parameters(function)
    if names is not None:
        given = dict(zip(names, arguments, strict=True))
        if parameters is None or not set(given).issubset(parameters):
            return unknown_function(name, run, len(arguments), names)
        arguments = [given.get(parameter) for parameter in parameters]
    elif not _takes(function, len(arguments)):
        return unknown_function(name, run, len(arguments), names)
    try:
        return _call_foreign(function, arguments)
    except UnfitArgumentError as error:
        return unfit(name, run, arguments, error)


def python_parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """Names of the parameters of a callable, None where they can't be known."""
    if isinstance(function, Function):
        return function.parameters
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def _takes(function: Callable[..., Any], count: int) -> bool:
    if isinstance(function, Function):
        return len(function.parameters) == count
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a callable of C code that does not tell
        return True
    return True


def unknown_function(name: str, run: Run, count: int, names: Sequence[str] | None) -> None:
    """Record that there is no such function."""
    if run.failures is not None:
        parameters = f"{count} parameters" if names is None else f"parameters: {','.join(names)}"
        run.fail(FailureKind.NO_FUNCTION_FOUND, f"No function found with name '{name}' and {parameters}")


def is_function(value: Any) -> bool:
    """Whether the value is a function of FEEL: one that an expression made, or a caller's callable."""
    return isinstance(value, FunctionValue | Function) or (callable(value) and not isinstance(value, type))
