"""What callers may put into contexts, and the text of values."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import pytest

from gateway import feel
from gateway.feel.budget import Run
from gateway.feel.values import compare, convert, key_of, shown

BERLIN = ZoneInfo("Europe/Berlin")


class Color(enum.StrEnum):
    RED = "red"


class Address(pydantic.BaseModel):
    city: str
    size: float = 1.5


class Frozen(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        (1e22, "10000000000000000000000"),
        (float("nan"), "null"),
        (float("inf"), "null"),
        (Decimal("NaN"), "null"),
        (True, "true"),
        (Color.RED, '"red"'),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (dt.time(10, 30, 0, 500_000), "10:30:00.5"),
        (dt.time(10, 30, tzinfo=dt.UTC), "10:30:00Z"),
        (dt.time(10, 30, tzinfo=BERLIN), "10:30:00@Europe/Berlin"),
        (dt.datetime(2020, 7, 1, 10, tzinfo=BERLIN), "2020-07-01T10:00:00@Europe/Berlin"),
        (dt.datetime(2020, 7, 1, 10, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2020-07-01T10:00:00+01:00"),
        (dt.timedelta(days=1, hours=2, milliseconds=5), "P1DT2H"),
        ((1, 2), "[1, 2]"),
        ({3}, "[3]"),
        (Frozen(), "{a:1}"),
        (Address(city="Oslo"), '{city:"Oslo", size:1.5}'),
        (b"x", "\"b'x'\""),
    ],
)
def test_python_values_become_feel_values_when_they_are_touched(value: Any, text: str):
    context = {"value": value, "inside": [value]}
    assert shown(feel.evaluate("value", context)) == text
    assert shown(feel.evaluate("inside[1]", context)) == text
    assert shown(feel.evaluate("for x in inside return x", context)) == f"[{text}]"
    assert shown(feel.evaluate("{a: inside}.a", context)) == f"[{text}]"
    assert feel.evaluate("value = inside[1] or value = null or value != value", context) is True


def test_models_and_mappings_are_contexts_in_paths_and_filters():
    context = {"all": [Address(city="Oslo"), Address(city="Rome", size=2.5)], "one": Address(city="Oslo")}
    assert feel.evaluate("one.city", context) == "Oslo"
    assert feel.evaluate("all[size > 2].city", context) == ["Rome"]
    assert feel.evaluate("all.city", context) == ["Oslo", "Rome"]
    assert feel.evaluate("sum(all.size)", context) == Decimal("4.0")


def test_plain_data_is_not_copied():
    data = {"a": [1, {"b": "c"}]}
    assert feel.parse("data").evaluate({"data": data}) is data
    assert feel.evaluate("data", {"data": data}) is data
    converted = feel.evaluate("data", {"data": {"a": [1.5], "b": data}})
    assert converted == {"a": [Decimal("1.5")], "b": data}
    assert converted["b"] is data


def test_converting_what_is_converted_changes_nothing():
    for text in ("1", "1.5", '@"2020-01-01"', "[1..2]", "null", "function(x) x"):
        value = feel.evaluate(text)
        assert convert(value) is value


def test_keys_are_equal_where_values_are():
    run = Run()
    assert key_of(run, 1) == key_of(run, Decimal("1.0"))
    assert key_of(run, True) != key_of(run, 1)
    assert key_of(run, [1, {"a": 2.0}]) == key_of(run, [1.0, {"a": 2}])
    assert key_of(run, feel.evaluate("[1..2]")) == key_of(run, feel.evaluate("[1..2.0]"))


def test_strings_are_ordered_by_utf16_units():
    assert compare("\U0001f600", "\uffee") == -1
    assert compare("a", "\U0001f600") == -1
    assert compare("a", 1) is None


def test_a_long_value_is_cut_in_messages():
    assert len(shown(["x" * 50] * 1000)) < 700
    assert shown("x" * 1000).endswith("..")
