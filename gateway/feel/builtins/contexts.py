"""Functions of contexts."""

from __future__ import annotations

from typing import Any

from gateway.feel.budget import Run
from gateway.feel.errors import UnfitArgumentError
from gateway.feel.functions import builtin
from gateway.feel.values import convert

Context = dict[str, Any]

_LEVEL, _ENTRY = 80, 2
"""Steps for a context that is made out of another, and for each of its entries: they take more memory than a list's members."""


@builtin(
    "get value(context: context, key: any)", "get value(m: context, key: any)", "get value(context: context, keys: any)"
)
def get_value(run: Run, context: Context, key: Any) -> Any:
    """The value of a key; a list of keys is a path."""
    if type(key) is str:
        return convert(context.get(key))
    if type(key) is not list or not key:
        raise UnfitArgumentError
    value: Any = context
    for part in map(convert, key):
        if type(part) is not str:
            raise UnfitArgumentError
        value = convert(value.get(part)) if type(value) is dict else None
    return value


@builtin("get entries(context: context)", "get entries(m: context)", price=40)
def get_entries(run: Run, context: Context) -> list[Context]:
    run.make(len(context) * 3)
    run.spend(len(context) * 9)
    return [{"key": key, "value": value} for key, value in context.items()]


@builtin(
    "context put(context: context, key: any, value: any)",
    "context put(context: context, keys: any, value: any)",
    "put(context: context, key: any, value: any)",
    price=50,
)
def context_put(run: Run, context: Context, key: Any, value: Any) -> Context:
    """The context with an entry added or replaced; a list of keys is a path, whose missing levels are made."""
    if type(key) is str:
        key = [key]
    if type(key) is not list or not key:
        raise UnfitArgumentError
    keys = [convert(part) for part in key]
    if not all(type(part) is str for part in keys):
        raise UnfitArgumentError
    return _put(run, context, keys, 0, value)


def _put(run: Run, context: Context, keys: list[str], level: int, value: Any) -> Context:
    run.make(len(context))
    run.spend(_LEVEL + len(context) * _ENTRY)
    key = keys[level]
    if level + 1 < len(keys):
        inner = convert(context.get(key))
        if inner is not None and type(inner) is not dict:
            raise UnfitArgumentError
        value = _put(run, inner or {}, keys, level + 1, value)
    result = context.copy()
    result[key] = value
    return result


@builtin("context merge(contexts: any..)", "put all(contexts: any..)", price=120)
def context_merge(run: Run, contexts: list[Any]) -> Context:
    merged: Context = {}
    for context in map(convert, contexts):
        if type(context) is not dict:
            raise UnfitArgumentError
        run.make(len(context))
        merged.update(context)
    return merged


@builtin("context(entries: list)")
def context_of(run: Run, entries: list[Any]) -> Context:
    """A context of entries with `key` and `value`."""
    run.make(len(entries))
    result: Context = {}
    for entry in map(convert, entries):
        if type(entry) is not dict or "value" not in entry or type(entry.get("key")) is not str:
            raise UnfitArgumentError
        result[entry["key"]] = entry["value"]
    return result
