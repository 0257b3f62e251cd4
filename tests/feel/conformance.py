"""Reads cases of FEEL test suites, runs one, and compares results: what the conformance test stands on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway import feel

_CONSTRUCTORS = {
    "date": "date",
    "time": "time",
    "date and time": "date and time",
    "years and months duration": "duration",
    "days and time duration": "duration",
}
_TOLERANCE = Decimal("1e-8")
FAILED = object()
"""What `run` gives for an evaluation that raised an error."""


def folder() -> Path | None:
    """Where the cases are: the environment's FEEL_CASES, else beside the checkout; None if they are nowhere."""
    path = Path(os.environ.get("FEEL_CASES") or Path(__file__).parents[3] / "shared" / "feel")
    return path if (path / "camunda-cases.jsonl").is_file() else None


def cases(name: str) -> Iterator[dict[str, Any]]:
    """The cases of a file."""
    path = folder()
    if path is not None:
        with (path / name).open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line, parse_float=Decimal)


def typed(value: Any) -> Any:
    """A value of a case's context as a FEEL value."""
    if isinstance(value, dict):
        if "$feel" not in value:
            return {key: typed(entry) for key, entry in value.items()}
        if value["$feel"] == "number":
            return Decimal(value["value"])
        return feel.evaluate(f"{_CONSTRUCTORS[value['$feel']]}(text)", {"text": value["value"]})
    return [typed(member) for member in value] if isinstance(value, list) else value


def run(case: dict[str, Any]) -> Any:
    """The value that a case gives, or FAILED."""
    context = typed(case.get("context", {}))
    try:
        for name, text in case.get("let", ()):
            context[name] = feel.evaluate(text, context)
        if case["kind"] == "unary":
            return feel.unary_test(case["expression"], typed(case.get("input")), context)
        return feel.evaluate(case["expression"], context)
    except feel.FeelError:
        return FAILED


def passes(case: dict[str, Any], result: Any) -> bool:
    """Whether a result is what the case expects."""
    expected = case["expected"]
    if isinstance(expected, dict) and expected.get("$feel") == "error":
        return result is FAILED
    if result is FAILED:
        return bool(case.get("error_ok"))
    return same(expected, result)


def same(expected: Any, result: Any) -> bool:
    """Whether a result equals an expected value, by the rules of the cases."""
    if isinstance(expected, dict) and "$feel" in expected:
        return _same_typed(expected, result)
    if expected is None or isinstance(expected, bool):
        return result is expected
    if isinstance(expected, int | Decimal):
        return _same_number(Decimal(expected), result)
    if isinstance(expected, str):
        return isinstance(result, str) and result == expected
    if isinstance(expected, list):
        return isinstance(result, list) and len(result) == len(expected) and all(map(same, expected, result))
    if not isinstance(result, dict) or result.keys() != expected.keys():
        return False
    return all(same(entry, result[key]) for key, entry in expected.items())


def _same_number(expected: Decimal, result: Any) -> bool:
    if isinstance(result, bool) or not isinstance(result, int | Decimal):
        return False
    return abs(expected - result) <= _TOLERANCE * max(Decimal(1), abs(expected))


def _same_typed(expected: dict[str, Any], result: Any) -> bool:
    kind, text = expected["$feel"], expected.get("value")
    if kind == "number":
        return _same_number(Decimal(text or 0), result)
    if kind == "function":
        return callable(result)
    if kind == "range":
        return isinstance(result, feel.FeelRange) and str(result) == text
    wanted = typed(expected)
    if type(wanted) is not type(result):
        return False
    if isinstance(wanted, feel.FeelTime | feel.FeelDateTime):
        date = getattr(wanted, "date", None) == getattr(result, "date", None)
        return date and (wanted.nanos, wanted.offset) == (result.nanos, result.offset)
    return bool(wanted == result)
