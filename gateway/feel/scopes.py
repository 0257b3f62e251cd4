"""
Where names lead: decided once, when an expression is compiled.

A frame is a list: `frame[0]` the context of the caller, `frame[1]` the `Run`, then one slot for each local name. A name is
a local (an iterator, a parameter, an earlier entry of a context literal) or a variable of the context. Inside a filter it
may also be an entry of the element at hand, which only the data tells: then the code looks there first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.feel.budget import ABSENT, Run
from gateway.feel.errors import FailureKind
from gateway.feel.values import PLAIN, convert

Frame = list[Any]
Code = Callable[[Frame], Any]

CONTEXT, RUN, FIRST_SLOT = 0, 1, 2


class Scope:
    """Names of one construct. `element` is the slot of a filter's element, for filters only."""

    __slots__ = ("element", "slots")

    def __init__(self, names: Iterable[str] = (), element: int | None = None) -> None:
        self.slots: dict[str, int | None] = dict.fromkeys(names)
        self.element = element


class Scopes:
    """The scopes around the place that is compiled, and the number of slots used so far."""

    def __init__(self) -> None:
        self.stack: list[Scope] = []
        self.size = FIRST_SLOT
        self.free: set[str] = set()
        self.peeks: dict[Code, tuple[int, str | None]] = {}
        """Where the code of a local name most probably finds its value: in a slot, or in an entry of what is there."""

    def slot(self) -> int:
        """A new slot."""
        self.size += 1
        return self.size - 1

    def bind(self, scope: Scope, name: str) -> int:
        """The slot of a name, which is made when it is first asked for."""
        slot = scope.slots[name]
        if slot is None:
            slot = scope.slots[name] = self.slot()
        return slot

    def find(self, name: str) -> tuple[list[tuple[int, bool]], int | None]:
        """
        Slots of the filter elements to look into, innermost first (with whether the element itself is meant: `item`), and
        the slot of the local behind them, None for a variable of the context.
        """
        elements: list[tuple[int, bool]] = []
        for scope in reversed(self.stack):
            if scope.element is not None:
                elements.append((scope.element, name == "item"))
            elif name in scope.slots:
                return elements, self.bind(scope, name)
        return elements, None

    def variable(self, name: str) -> Code:
        """Code that gives the value of a name; a missing one gives null and a suppressed failure."""
        elements, slot = self.find(name)
        if slot is None:
            self.free.add(name)
        code = _context_variable(name) if slot is None else _local(slot)
        for element, is_item in reversed(elements):
            code = _item(element, code) if is_item else _entry(element, name, code)
        if elements:
            element, is_item = elements[0]
            self.peeks[code] = (element, None if is_item else name)
        elif slot is not None:
            self.peeks[code] = (slot, None)
        return code

    def lookup(self, name: str) -> Code | None:
        """Code that gives the value of a local or an entry, ABSENT if there is none; None if only the context can tell."""
        elements, slot = self.find(name)
        if slot is None and not elements:
            return None
        code = _optional_variable(name) if slot is None else _local(slot)
        for element, is_item in reversed(elements):
            code = _item(element, code) if is_item else _entry(element, name, code)
        return code


def _context_variable(name: str) -> Code:
    plain = PLAIN

    def variable(frame: Frame) -> Any:
        try:
            value = frame[0][name]
        except KeyError:
            missing(frame[1], name)
            return None
        return value if type(value) in plain else convert(value)

    return variable


def _optional_variable(name: str) -> Code:
    return lambda frame: frame[0].get(name, ABSENT)


def missing(run: Run, name: str) -> None:
    """Record that there is no such variable."""
    if run.failures is not None:
        run.fail(FailureKind.NO_VARIABLE_FOUND, f"No variable found with name '{name}'")


def _local(slot: int) -> Code:
    plain = PLAIN

    def local(frame: Frame) -> Any:
        value = frame[slot]
        return value if type(value) in plain else convert(value)

    return local


def _entry(element: int, name: str, outer: Code) -> Code:
    plain = PLAIN

    def entry(frame: Frame) -> Any:
        item = frame[element]
        if type(item) is dict and name in item:
            value = item[name]
            return value if type(value) in plain else convert(value)
        return outer(frame)

    return entry


def _item(element: int, outer: Code) -> Code:
    plain = PLAIN

    def item(frame: Frame) -> Any:
        value = frame[element]
        if type(value) is dict and "item" in value:
            value = value["item"]
        elif value is ABSENT:
            return outer(frame)
        return value if type(value) in plain else convert(value)

    return item
