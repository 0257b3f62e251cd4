"""
Compiled code that goes over lists: `for`, `some`, `every`, and filters.

A loop pays for all its rounds before the first one. Sources are evaluated once, outside of the loop: a later iterator
does not see an earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import product as combinations
from typing import Any

from gateway.feel.budget import ABSENT, Run
from gateway.feel.errors import FailureKind
from gateway.feel.operators import not_boolean
from gateway.feel.scopes import Code, Frame
from gateway.feel.values import NUMBERS, PLAIN, convert, shown

_ROUND = 5
_RANGE = 60
"""Steps for making the numbers that a loop goes over."""
_LOOP = 80
"""Steps for a round of a loop with several iterators, and for setting up a loop that goes over combinations."""


def counted(low: Code, high: Code) -> Code:
    """`low..high` as the source of an iteration: whole steps, downwards if the start is larger."""

    def numbers(frame: Frame) -> Any:
        start, end = low(frame), high(frame)
        frame[1].spend(_RANGE)
        for bound in (start, end):
            if type(bound) not in NUMBERS:
                frame[1].fail(FailureKind.INVALID_TYPE, f"Expected number but found '{shown(bound)}'")
                return None
        if type(start) is not int:
            if start != int(start):
                return _fractions(frame[1], start, end)
            start = int(start)
        if start <= end:
            return range(start, math.floor(end) + 1)
        return range(start, math.ceil(end) - 1, -1)

    return numbers


def _fractions(run: Run, start: Decimal, end: Any) -> list[Decimal]:
    count = int(abs(end - start)) + 1
    run.make(count)
    return [start + step if start <= end else start - step for step in range(count)]


def _source(frame: Frame, source: Code) -> Sequence[Any] | None:
    items = source(frame)
    if type(items) is list or type(items) is range:
        return items
    if frame[1].failures is not None:
        frame[1].fail(FailureKind.INVALID_TYPE, f"Expected list but found '{shown(items)}'")
    return None


def repeat(source: Code, value: Any) -> Code:
    """`for x in source return 1`: a constant for each round."""

    def repeated(frame: Frame) -> list[Any] | None:
        items = _source(frame, source)
        if items is None:
            return None
        frame[1].make(_length(items))
        return [value] * len(items)

    return repeated


def _length(items: Sequence[Any]) -> int:
    """The length, also of a range that is longer than `len` can tell."""
    if type(items) is range:
        return max(0, (items.stop - items.start) // items.step)
    return len(items)


def each(source: Code, slot: int, body: Code, weight: int) -> Code:
    """`for x in source return body`."""

    def loop(frame: Frame) -> list[Any] | None:
        items = _source(frame, source)
        if items is None:
            return None
        frame[1].spend(_length(items) * weight)
        return [body(frame) for frame[slot] in items]

    return loop


def product(sources: Sequence[Code], slots: Sequence[int], body: Code, weight: int, partial: int | None) -> Code:
    """`for x in a, y in b return body`: all combinations, the last iterator fastest; `partial` is a slot or None."""

    def loop(frame: Frame) -> list[Any] | None:
        lists = _sources(frame, sources, weight)
        if lists is None:
            return None
        run = frame[1]
        result: list[Any] = []
        for values in combinations(*lists):
            for slot, value in zip(slots, values, strict=True):
                frame[slot] = value
            if partial is not None:
                run.spend(len(result) >> 2)
                frame[partial] = result[:]  # a copy: the body may hand it out
            result.append(body(frame))
        return result

    return loop


def _sources(frame: Frame, sources: Sequence[Code], weight: int) -> list[Sequence[Any]] | None:
    """The lists to go over, paid for; None if one is no list."""
    lists: list[Sequence[Any]] = []
    rounds = 1
    for source in sources:
        items = _source(frame, source)
        if items is None:
            return None
        lists.append(items)
        rounds *= _length(items)
        frame[1].spend(_length(items))
    frame[1].spend(_LOOP * (2 * len(lists) - 1) + rounds * (weight + _ROUND * (len(lists) - 1)))
    return lists


def quantify(sources: Sequence[Code], slots: Sequence[int], body: Code, weight: int, *, decisive: bool) -> Code:
    """`some` (True decides) and `every` (False decides), three-valued."""

    def loop(frame: Frame) -> bool | None:
        lists = _sources(frame, sources, weight)
        if lists is None:
            return None
        result: bool | None = not decisive
        for values in combinations(*lists):
            for slot, value in zip(slots, values, strict=True):
                frame[slot] = value
            fulfilled = body(frame)
            if fulfilled is decisive:
                return bool(fulfilled)
            if fulfilled is not True and fulfilled is not False:
                result = not_boolean(frame[1], fulfilled)
        return result

    return loop


# Filters


def element(run: Run, items: list[Any], position: int | Decimal) -> Any:
    """The element at a position: from 1, negative ones from the end, null where there is none."""
    place = int(position)
    if place > 0:
        place -= 1
    elif place == 0:
        place = len(items)
    if -len(items) <= place < len(items):
        value = items[place]
        return value if type(value) in PLAIN else convert(value)
    if run.failures is not None:
        run.fail(FailureKind.UNKNOWN, f"Index {position} is out of bounds of a list with {len(items)} elements")
    return None


def _list(frame: Frame, base: Code) -> list[Any] | None:
    items = base(frame)
    if type(items) is list:
        return items
    if frame[1].failures is not None:
        frame[1].fail(FailureKind.INVALID_TYPE, f"Expected list but found '{shown(items)}'")
    return None


def index(base: Code, position: int | Decimal) -> Code:
    """`base[1]`."""

    def at(frame: Frame) -> Any:
        items = _list(frame, base)
        return None if items is None else element(frame[1], items, position)

    return at


def filter_list(base: Code, slot: int, condition: Code, weight: int, *, trial: bool) -> Code:
    """`base[condition]`. With `trial` the condition is first evaluated without an element: a number is an index."""

    def filtered(frame: Frame) -> Any:
        items = base(frame)
        if type(items) is not list:
            return _list(frame, lambda _: items)
        run = frame[1]
        run.spend(len(items) * weight)
        if trial:
            position = _trial(frame, slot, condition)
            if position is not None:
                return element(run, items, position)
        return _keep(frame, items, slot, condition)

    return filtered


def _trial(frame: Frame, slot: int, condition: Code) -> int | Decimal | None:
    """The number that the condition gives without an element; failures count only if it does."""
    run = frame[1]
    recorded = run.failures
    run.failures = None if recorded is None else []
    frame[slot] = ABSENT
    value = condition(frame)
    tried, run.failures = run.failures, recorded
    if type(value) not in NUMBERS:
        return None
    if recorded is not None and tried:
        recorded.extend(tried)
    return value  # type: ignore[no-any-return]


def _keep(frame: Frame, items: Iterable[Any], slot: int, condition: Code) -> list[Any]:
    plain = PLAIN
    result = []
    for item in items:
        if type(item) not in plain:
            item = convert(item)
        frame[slot] = item
        if condition(frame) is True:
            result.append(item)
    return result


def filter_by_call(base: Code, slot: int, condition: Code, weight: int) -> Code:
    """`base[f(x)]`: the result for the first element decides whether it is an index."""

    def filtered(frame: Frame) -> Any:
        items = _list(frame, base)
        if items is None:
            return None
        run = frame[1]
        run.spend(len(items) * weight)
        frame[slot] = convert(items[0]) if items else ABSENT
        position = condition(frame)
        if type(position) in NUMBERS:
            return element(run, items, position)
        return _keep(frame, items, slot, condition)

    return filtered
