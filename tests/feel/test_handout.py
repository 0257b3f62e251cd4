"""What leaves FEEL as plain data."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import feel


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("1.0", 1),
        ("1.5", 1.5),
        ("2 ** 62", 2**62),
        ("2 ** 70", float(2**70)),
        ("99999999999999999999.0", 1e20),
        ("null", None),
        ('[1.0, true, "a"]', [1, True, "a"]),
        ("{a: {b: 2.0}}", {"a": {"b": 2}}),
        ('@"2020-01-01"', "2020-01-01"),
        ('@"10:00:00@Europe/Berlin"', "10:00+01:00"),
        ('@"10:00:00Z"', "10:00Z"),
        ('@"00:00:00Z"', "00:00Z"),
        ('@"10:00:30+01:00"', "10:00:30+01:00"),
        ('@"10:00:00.5Z"', "10:00:00.5Z"),
        ('@"10:00:00"', "10:00:00"),
        ('duration("-P14M")', "P-1Y-2M"),
        ('date("9999999-01-01")', "+9999999-01-01"),
        ('@"2020-07-01T10:00:00@Europe/Berlin"', "2020-07-01T10:00:00+02:00"),
        ('@"2020-07-01T10:00:00"', "2020-07-01T10:00:00"),
        ('@"P1DT2H"', "PT26H"),
        ('@"-PT1.5S"', "PT-1.5S"),
        ('@"P0D"', "PT0S"),
        ('@"P1Y2M"', "P1Y2M"),
        ("[1..5)", "[1..5)"),
        ("{a: 1, f: function(x) x}", {"a": 1}),
        ("[1, function(x) x]", [1]),
        ("function(x) x", None),
    ],
)
def test_values_come_out_as_the_platform_hands_them_out(expression: str, plain: object):
    result = feel.to_json(feel.evaluate(expression))
    assert result == plain
    assert type(result) is type(plain)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_plain_data_is_handed_out_as_it_is(value: object):
    assert feel.to_json(value) is value


def test_what_is_not_plain_is_replaced_in_a_copy():
    value = {"a": [Decimal("1.50"), float("nan")], "b": "x", "c": Decimal("3.0")}
    assert feel.to_json(value) == {"a": [1.5, None], "b": "x", "c": 3}
    assert list(feel.to_json(value)) == ["a", "b", "c"]
    assert value["c"] == Decimal("3.0")


def test_members_that_are_shared_do_not_multiply_without_end():
    value: list[object] = [1]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(feel.FeelBudgetError, match="members"):
        feel.to_json(value)


@given(json_values)
def test_to_json_and_from_json_are_inverse(value: object):
    text = feel.evaluate("to json(value)", {"value": value})
    assert json.loads(text) == value
    assert feel.evaluate("from json(text) = value", {"text": text, "value": value}) is True
