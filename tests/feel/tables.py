"""
Tables of expressions and what they give: how most behaviour of FEEL is stated in these tests.

A row is `expression => text`, where the text is what FEEL writes for the value (strings in quotes), or `error: part of the
message` for an evaluation that fails, or `no FEEL` for a text that does not parse.
"""

from __future__ import annotations

from typing import Any

import pytest

from gateway import feel
from gateway.feel.values import shown


def table(text: str) -> pytest.MarkDecorator:
    """Parametrize a test with `expression` and `expected` of each row."""
    rows = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return pytest.mark.parametrize(("expression", "expected"), [tuple(row.rsplit(" => ", 1)) for row in rows])


def outcome(expression: str, context: dict[str, Any] | None = None) -> str:
    """What an expression gives, written as the tables write it."""
    try:
        return shown(feel.evaluate(expression, context))
    except feel.FeelParseError:
        return "no FEEL"
    except feel.FeelError as error:
        return f"error: {error}"


def check(expression: str, expected: str, context: dict[str, Any] | None = None) -> None:
    """Assert that an expression gives what its row says."""
    given = outcome(expression, context)
    if expected.startswith("error: "):
        assert given.startswith("error: ")
        assert expected.removeprefix("error: ") in given
    else:
        assert given == expected
