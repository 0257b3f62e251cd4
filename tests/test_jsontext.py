"""JSON text: nothing gets lost on the way in and out, and all that is wrong is InvalidJson or TypeError."""

import dataclasses
import datetime as dt
import enum
import json
import math
import pickle
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway import jsontext
from gateway.jsontext import InvalidJson, Number, dumpb, dumps, loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


def floats(value: Any) -> Any:
    """The value with each `Number` as the float that it stands for."""
    if isinstance(value, Number):
        return float(value)
    if isinstance(value, list):
        return [floats(v) for v in value]
    return {k: floats(v) for k, v in value.items()} if isinstance(value, dict) else value


@given(VALUES)
@example(1e-05)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert floats(loads(dumps(value))) == value


@given(VALUES)
@example([1e-05, 1e300, 1.5])
def test_any_writer_can_have_written_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert floats(loads(text)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_decimals_keep_all_their_digits(value: Decimal) -> None:
    found = loads(dumps([value]))[0]
    assert Decimal(str(found)) == value


@given(st.text())
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        found = loads(text)
    except InvalidJson:
        return
    assert loads(dumps(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "1.50",
        "0.10",
        "1e400",
        "1.0E-5",
        "0.00001",
        "0.0000000000001",
        "12345678901234567.5",
        "123456789012.12345678901234",
        "0.1234567890123456789",
        "-1.0",
        "100000000000000000000",
        "9007199254740993",
        "1E10",
    ],
)
def test_the_spelling_of_a_number_survives(text: str) -> None:
    assert str(loads(text)) == text
    assert dumps(loads(f'{{"a":[{text}]}}')) == f'{{"a":[{text}]}}'


@pytest.mark.parametrize("text", ["1.5", "0.25", "12345.678", "-7.125"])
def test_ordinary_fractions_are_floats(text: str) -> None:
    assert type(loads(text)) is float
    assert str(loads(text)) == text


def test_a_number_is_a_decimal_that_can_be_pickled_and_calculated_with() -> None:
    number = loads("1.50")
    assert isinstance(number, Number)
    assert number == Decimal("1.5")
    assert str(pickle.loads(pickle.dumps(number))) == "1.50"
    assert number + 1 == Decimal("2.50")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nul",
        "{",
        "[1,]",
        '{"a":1,}',
        "NaN",
        "[Infinity]",
        "-Infinity",
        "[1.50, NaN]",
        "'a'",
        "01",
        "1.",
        ".5",
        "1.0.0",
        '"\n"',
        '{"a" 1}',
        "[1] [2]",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidJson):
        loads(text)


@pytest.mark.parametrize("number", ["1", "1.50"])
@pytest.mark.parametrize("text", [r'"\ud800"', r'"a\udfffb"', '"\ud800"'])
def test_lone_surrogates_are_refused_by_both_readers(text: str, number: str) -> None:
    with pytest.raises(InvalidJson):
        loads(f"[{number}, {text}]")


@pytest.mark.parametrize("number", ["1", "1.50"])
def test_pairs_of_surrogates_are_read(number: str) -> None:
    assert loads(rf'[{number}, "\ud83d\ude00"]')[1] == "😀"


@pytest.mark.parametrize("levels", [300, 900])
@pytest.mark.parametrize("inside", ["1", "1.50", str(10**30)])
def test_hundreds_of_levels_are_read_and_written(levels: int, inside: str) -> None:
    text = "[" * levels + inside + "]" * levels
    assert dumps(loads(text)) == text


@pytest.mark.parametrize("levels", [2000, 100_000])
@pytest.mark.parametrize("inside", ["1", "1.50"])
def test_what_is_nested_too_deeply_is_refused(levels: int, inside: str) -> None:
    with pytest.raises(InvalidJson):
        loads('{"a":' * levels + inside + "}" * levels)


def test_what_is_nested_too_deeply_or_holds_itself_cannot_be_written() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    circle: dict[str, Any] = {}
    circle["a"] = circle
    for value in (deep, circle):
        with pytest.raises(TypeError, match="nested too deeply"):
            dumps(value)
    while deep:  # else freeing it would nest as deeply
        deep = deep[0]


def test_integers_beyond_pythons_own_limit_are_refused_both_ways() -> None:
    with pytest.raises(InvalidJson):
        loads("9" * 5000)
    with pytest.raises(TypeError):
        dumps(10**5000)


def test_numbers_without_a_json_form_become_null() -> None:
    for value in (math.nan, math.inf, Decimal("NaN"), Decimal("Infinity")):
        assert dumps([value]) == "[null]"
        assert dumps([value, 10**30]) == f"[null,{10**30}]"


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize("beside", [1, 10**30])
def test_both_writers_know_the_same_types(beside: int) -> None:
    value = [beside, Color.RED, Point(1), dt.date(2024, 2, 29), (1, 2), {None: 1, True: 2, 3: 4, 1.5: 6}]
    assert dumps(value) == f'[{beside},"red",{{"x":1}},"2024-02-29",[1,2],{{"null":1,"true":2,"3":4,"1.5":6}}]'


@pytest.mark.parametrize("beside", [1, 10**30])
def test_the_default_is_asked_for_what_json_has_no_form_for(beside: int) -> None:
    assert dumps([beside, object(), {1}], lambda v: sorted(v) if isinstance(v, set) else {}) == f"[{beside},{{}},[1]]"


def test_decimals_are_never_given_to_the_default() -> None:
    assert dumps({"a": Decimal("1.50")}, lambda _: {}) == '{"a":1.50}'


def test_what_no_default_knows_is_a_type_error_that_names_the_type() -> None:
    def refuse(value: Any) -> Any:
        raise TypeError("unknown")

    for value in (object(), [10**30, object()]):
        with pytest.raises(TypeError, match="object cannot be written as JSON"):
            dumps(value)
        with pytest.raises(TypeError, match="object cannot be written as JSON"):
            dumps(value, refuse)


def test_lone_surrogates_cannot_be_written() -> None:
    for value in ("\ud800", {"\ud800": 1}, [10**30, "a\udfff"]):
        with pytest.raises(TypeError):
            dumps(value)


def test_bytes_are_utf_8() -> None:
    assert dumpb({"ü": "€"}) == '{"ü":"€"}'.encode()


def test_no_text_of_four_megabytes_takes_long() -> None:
    texts = [
        "1.1" * 1_300_000,
        "[" + "1.0001," * 500_000 + "1]",
        '"' + "1.0" * 1_300_000 + '"',
        '"' + "9" * 4_000_000 + '"',
    ]
    began = time.perf_counter()
    for text in texts:
        try:
            loads(text)
        except InvalidJson:
            continue
    assert time.perf_counter() - began < 5


def test_the_delicate_are_found_wherever_they_stand() -> None:
    assert jsontext._DELICATE.search('{"a":[1.5,2.25,"x"]}') is None
    for number in ("1.50", "2e5", "0.00001", "1234567890123456.5"):
        assert jsontext._DELICATE.search(f'{{"a":[1.5,{number}]}}')
