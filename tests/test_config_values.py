import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from gateway.config.values import (
    Count,
    Duration,
    PositiveDuration,
    format_duration,
    parse_duration,
    parse_grpc_url,
    parse_integer,
    parse_list,
    parse_number,
    parse_port,
    parse_size,
    parse_switch,
    parse_url,
    uniform,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("250us", 0.00025),
        ("5000", 5),
        ("0", 0),
        ("-3s", -3),
        (" 10 S ", 10),
        ("PT10S", 10),
        ("pt0.5s", 0.5),
        ("PT1H30M", 5400),
        ("P1DT2H", 93600),
        ("P2D", 172800),
        ("-PT10S", -10),
        ("PT-10S", -10),
    ],
)
def test_durations_are_simple_or_iso_8601_or_milliseconds(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "10 parsecs", "P", "PT", "P1Y", "P1M", "1.5s", "PT1.S5", "s", "10ss", "P1DT"]
)
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="for example 10s"):
        parse_duration(text)


def test_a_duration_without_end_is_refused():
    with pytest.raises(ValueError, match="less than a million years"):
        parse_duration("99999999999999d")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_a_formatted_duration_reads_as_the_same(span):
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (28800, "8h"), (90, "90s"), (0.1, "100ms"), (86400, "1d"), (0.00001, "10us")]
)
def test_durations_are_shown_in_the_largest_whole_unit(seconds, text):
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.text(max_size=40))
def test_any_text_is_a_duration_or_a_value_error(text):
    found: timedelta | None = None
    with contextlib.suppress(ValueError):
        found = parse_duration(text)
    assert found is None or (any(char.isdigit() for char in text) and isinstance(found, timedelta))


@pytest.mark.parametrize(
    ("text", "size"),
    [("5MB", 5 * 1024**2), ("16KB", 16384), ("12", 12), ("1 gb", 1024**3), ("1TB", 1024**4), ("7B", 7)],
)
def test_sizes_have_units_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "5M", "1.5MB", "five"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="for example 5MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("ON", True), ("yes", True), ("1", True), ("False", False)]
)
def test_switches_have_the_words_of_spring(text, value):
    assert parse_switch(text) is value


def test_a_switch_is_no_number():
    with pytest.raises(ValueError, match="expected true or false"):
        parse_switch("2")


@pytest.mark.parametrize("text", ["1_000", "1.0", "", "٣", "0x10", "1e3"])
def test_a_whole_number_has_digits_only(text):
    with pytest.raises(ValueError, match="whole number"):
        parse_integer(text)


def test_numbers_are_decimal():
    assert parse_number("1.5") == 1.5
    with pytest.raises(ValueError, match="expected a number"):
        parse_number("nan")


@pytest.mark.parametrize("text", ["-1", "65536", "http"])
def test_a_port_is_a_number_of_16_bits(text):
    with pytest.raises(ValueError, match="expected a"):
        parse_port(text)


def test_lists_are_split_at_commas_and_blank_items_dropped():
    assert parse_list(" a, b ,,c ") == ("a", "b", "c")
    assert parse_list(["a,b", " c "]) == ("a,b", "c")
    assert parse_list("") == ()


@pytest.mark.parametrize(
    ("text", "url"),
    [("http://h:1/", "http://h:1"), (" https://h/a ", "https://h/a"), ("HTTP://[::1]:80", "HTTP://[::1]:80")],
)
def test_urls_are_absolute_and_lose_a_trailing_slash(text, url):
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text", ["localhost:26500", "ftp://x", "http://", "http://h:99999", "http://h:0", "//h", "http://[x"]
)
def test_what_is_no_url_is_refused(text):
    with pytest.raises(ValueError, match="absolute URL"):
        parse_url(text)


def test_the_engine_may_have_a_grpc_scheme():
    assert parse_grpc_url("grpcs://h:443") == "grpcs://h:443"
    with pytest.raises(ValueError, match="absolute URL"):
        parse_url("grpcs://h:443")


@given(st.text(max_size=30))
def test_the_uniform_form_is_a_fixed_point_and_has_no_separators(text):
    assert uniform(uniform(text)) == uniform(text)
    assert not set(uniform(text)) & set("-_. ")


def test_types_of_fields_carry_their_bounds():
    class Model(BaseModel):
        count: Count = 1
        span: PositiveDuration = timedelta(1)
        wait: Duration = timedelta(0)

    assert Model.model_validate({"count": "3", "span": "1s", "wait": "0"}).count == 3
    for bad in ({"count": "0"}, {"span": "0"}, {"wait": "-1s"}):
        with pytest.raises(ValidationError):
            Model.model_validate(bad)
