"""ISO 8601 durations in Java's narrow form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.durations import MAX_MILLISECONDS, parse_milliseconds


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT30S", 30_000),
        ("PT0S", 0),
        ("P1D", 86_400_000),
        ("P1DT2H3M4.5S", 93_784_500),
        ("PT1.5S", 1500),
        ("PT1,5S", 1500),
        ("PT1.S", 1000),
        ("PT0.0009S", 0),
        ("PT0.123456789S", 123),
        ("pt5m", 300_000),
        ("-PT5S", -5000),
        ("PT-5S", -5000),
        ("-PT-5S", 5000),
        ("PT-0.5S", -500),
        ("PT-0.0009S", 0),
        ("+PT5S", 5000),
        ("PT1H-30M", 1_800_000),
        ("P-1DT24H", 0),
        ("PT90M", 5_400_000),
    ],
)
def test_what_java_reads_is_read(text: str, milliseconds: int) -> None:
    assert parse_milliseconds(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "P",
        "PT",
        "P1DT",
        "P1D1S",
        "P1Y",
        "P1M",
        "P1W",
        "PT1.5H",
        "PT1S1M",
        "30",
        "30s",
        "5 minutes",
        " PT5S",
        "PT5S ",
        "PT5S\n",
        "PT1.1234567890S",
        "PT٣S",
        "PTS",
        "PT99999999999999999999S",
        "P999999999999999D",
        "PT" + "9" * 5000 + "S",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_milliseconds(text)


def test_a_duration_may_be_longer_than_a_command_can_carry() -> None:
    assert parse_milliseconds("PT9223372036854775807S") > MAX_MILLISECONDS


@given(
    st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 999)
)
def test_the_parts_add_up(days: int, hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    text = f"P{days}DT{hours}H{minutes}M{seconds}.{milliseconds:03}S"
    expected = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds
    assert parse_milliseconds(text) == expected
    assert parse_milliseconds(f"-{text}") == -expected
