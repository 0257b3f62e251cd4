"""Functions of lists. What is no list is not made one, and no list of one is unwrapped."""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from decimal import Decimal
from typing import Any

from gateway.feel import numbers
from gateway.feel.budget import Run
from gateway.feel.calls import invoke
from gateway.feel.errors import UnfitArgumentError
from gateway.feel.functions import builtin, is_function
from gateway.feel.numbers import Number
from gateway.feel.values import NUMBERS, PLAIN, convert, equals, extreme, key_of

List = list[Any]

_COMPARISON = 50
"""Steps for asking a function how two members are sorted, beyond those of its call."""


@builtin("list contains(list: list, element: any)")
def list_contains(run: Run, members: List, element: Any) -> bool:
    run.spend(len(members))
    return any(equals(run, member, element) is True for member in members)


@builtin("count(list: list)")
def count(run: Run, members: List) -> int:
    return len(members)


@builtin("is empty(list: list)")
def is_empty(run: Run, members: List) -> bool:
    return not members


@builtin("min(list: any..)", price=90)
def minimum(run: Run, members: List) -> Any:
    return _extreme(run, members, -1)


@builtin("max(list: any..)", price=135)
def maximum(run: Run, members: List) -> Any:
    return _extreme(run, members, 1)


def _extreme(run: Run, members: List, direction: int) -> Any:
    if not members:
        return None
    run.spend(len(members) * 30)
    best = extreme([convert(member) for member in members], direction)
    if best is None:
        raise UnfitArgumentError
    return best


def _numbers(run: Run, members: List) -> list[Number]:
    run.spend(len(members) * 11)
    plain = PLAIN
    result = [member if type(member) in plain else convert(member) for member in members]
    for member in result:
        if type(member) is not int and type(member) is not Decimal:
            raise UnfitArgumentError
    return result


@builtin("sum(list: any..)", price=70)
def total(run: Run, members: List) -> Number | None:
    values = _numbers(run, members)
    return _sum(values) if values else None


def _sum(values: list[Number]) -> Number | None:
    result: Number | None = 0
    for value in values:
        if type(value) is int and type(result) is int:
            result += value
        elif result is not None:
            result = numbers.add(result, value)
    return result


@builtin("product(list: any..)", price=90)
def product(run: Run, members: List) -> Number | None:
    values = _numbers(run, members)
    run.spend(len(values) * 14)
    result: Number | None = 1 if values else None
    for value in values:
        result = numbers.multiply(result, value) if result is not None else None
    return result


@builtin("mean(list: any..)", price=110)
def mean(run: Run, members: List) -> Number | None:
    values = _numbers(run, members)
    summed = _sum(values)
    return numbers.divide(summed, len(values)) if values and summed is not None else None


@builtin("median(list: any..)", price=80)
def median(run: Run, members: List) -> Number | None:
    values = sorted(_numbers(run, members))
    if not values:
        return None
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    summed = numbers.add(values[middle - 1], values[middle])
    return numbers.divide(summed, 2) if summed is not None else None


@builtin("stddev(list: any..)", price=1000)
def standard_deviation(run: Run, members: List) -> Number | None:
    """Of a sample, through doubles; one number alone has none and fails the evaluation."""
    values = _numbers(run, members)
    if not values:
        return None
    if len(values) == 1:
        numbers.fatal("The standard deviation of one number is not defined.")
    run.spend(len(values) * 150)
    try:
        return numbers.from_float(statistics.stdev(map(float, values)))
    except OverflowError:
        return None


@builtin("mode(list: any..)", price=275)
def mode(run: Run, members: List) -> list[Number]:
    """The most frequent numbers, in their order."""
    values = _numbers(run, members)
    run.spend(len(values) * 3)
    counted = Counter(values)
    most = max(counted.values(), default=0)
    return sorted(value for value, times in counted.items() if times == most)


def _place(members: List, position: Number) -> int:
    """The index of a position, which may lie outside of the list."""
    place = int(position)
    if place == 0:
        raise UnfitArgumentError
    return place - 1 if place > 0 else len(members) + place


@builtin("sublist(list: list, start position: number)", "sublist(list: list, start: number)", price=70)
def sublist(run: Run, members: List, start: Number) -> List:
    run.spend(len(members))
    return members[max(_place(members, start), 0) :]


@builtin(
    "sublist(list: list, start position: number, length: number)",
    "sublist(list: list, start: number, length: number)",
    price=70,
)
def sublist_of_length(run: Run, members: List, start: Number, length: Number) -> List:
    run.spend(len(members))
    first = _place(members, start)
    return members[max(first, 0) : max(first + int(length), 0)]


@builtin("append(list: list, items: any...)", price=60)
def append(run: Run, members: List, items: List) -> List:
    run.make(len(members) + len(items))
    return members + items


@builtin("concatenate(lists: any..)", price=90)
def concatenate(run: Run, lists: List) -> List:
    result: List = []
    for part in map(convert, lists):
        added = part if type(part) is list else [part]
        run.make(len(result) + len(added))
        result += added
    return result


@builtin("insert before(list: list, position: number, newItem: any)", price=70)
def insert_before(run: Run, members: List, position: Number, item: Any) -> List:
    place = max(_place(members, position), 0)
    run.make(len(members) + 1)
    return [*members[:place], item, *members[place:]]


@builtin("remove(list: list, position: number)")
def remove(run: Run, members: List, position: Number) -> List:
    place = _place(members, position)
    run.make(len(members))
    return members[: max(place, 0)] + members[max(place + 1, 0) :]


@builtin(
    "list replace(list: list, position: any, newItem: any)",
    "list replace(list: list, match: any, newItem: any)",
    price=70,
)
def list_replace(run: Run, members: List, place: Any, item: Any) -> List:
    """The standard's function, which Camunda's engine does not have: by position, or where `match(item, newItem)`."""
    run.make(len(members))
    if type(place) in NUMBERS:
        index = _place(members, place)
        if not 0 <= index < len(members):
            raise UnfitArgumentError
        return [*members[:index], item, *members[index + 1 :]]
    if not is_function(place):
        raise UnfitArgumentError
    result = []
    for member in map(convert, members):
        matched = invoke("match", place, run, [member, item])
        if type(matched) is not bool:
            raise UnfitArgumentError
        result.append(item if matched else member)
    return result


@builtin("reverse(list: list)")
def reverse(run: Run, members: List) -> List:
    run.make(len(members))
    return members[::-1]


@builtin("index of(list: list, match: any)", price=20)
def index_of(run: Run, members: List, match: Any) -> list[int]:
    run.spend(len(members) * 11)
    return [place for place, member in enumerate(members, 1) if equals(run, member, match) is True]


@builtin("union(lists: any..)", price=125)
def union(run: Run, lists: List) -> List:
    return distinct_values(run, concatenate(run, lists))


@builtin("distinct values(list: list)")
def distinct_values(run: Run, members: List) -> List:
    """Each value once, in the order of its first place."""
    run.spend(len(members) * 20)
    return _first(run, members)


def _first(run: Run, members: List) -> List:
    seen: dict[Any, Any] = {}
    for member in members:
        seen.setdefault(key_of(run, member), member)
    return list(seen.values())


@builtin("duplicate values(list: list)", price=170)
def duplicate_values(run: Run, members: List) -> List:
    """Each value that is there more than once, in the order of its first place."""
    run.spend(len(members) * 52)
    counted = Counter(key_of(run, member) for member in members)
    return [member for member in _first(run, members) if counted[key_of(run, member)] > 1]


@builtin("flatten(list: list)")
def flatten(run: Run, members: List) -> List:
    result: List = []
    _flatten(run, members, result)
    return result


def _flatten(run: Run, members: List, result: List) -> None:
    run.spend(50 + len(members) * 10)
    for member in map(convert, members):
        if type(member) is list:
            _flatten(run, member, result)
        else:
            result.append(member)


@builtin("partition(list: list, size: number)", price=20)
def partition(run: Run, members: List, size: Number) -> list[List]:
    step = int(size)
    if step <= 0:
        raise UnfitArgumentError
    run.make(len(members))
    return [members[start : start + step] for start in range(0, len(members), step)]


@builtin("sort(list: list, precedes: any)", price=80)
def sort(run: Run, members: List, precedes: Any) -> List:
    """Sorted by a function of two members that tells whether the first comes before the second."""
    if not is_function(precedes):
        raise UnfitArgumentError

    def order(left: Any, right: Any) -> int:
        run.spend(_COMPARISON)
        if invoke("precedes", precedes, run, [left, right]) is True:
            return -1
        return 1 if invoke("precedes", precedes, run, [right, left]) is True else 0

    run.spend(len(members) * 20)
    return sorted(map(convert, members), key=functools.cmp_to_key(order))
