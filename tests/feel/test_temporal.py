"""Temporal values: reading, writing, properties, zones, and years far away."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feel import temporal, zones
from gateway.feel.temporal import parse_any
from tests.feel.tables import check, table

_PAST, _FUTURE = dt.datetime.fromisoformat("1950-01-01"), dt.datetime.fromisoformat("2090-01-01")


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-29",
        "-0044-03-15",
        "999999999-12-31",
        "-999999999-01-01",
        "10:30:00",
        "10:30:00.123456789",
        "10:30:00Z",
        "10:30:00+01:30",
        "10:30:00-02:45:55",
        "10:30:00@Europe/Berlin",
        "2020-02-29T10:30:00",
        "2020-02-29T10:30:00.5+01:00",
        "2020-07-01T10:30:00@Europe/Berlin",
        "99999-12-31T11:22:33@Europe/Paris",
        "P1Y2M",
        "-P3M",
        "P1DT2H3M4S",
        "-PT1H",
        "P0D",
        "P0Y",
    ],
)
def test_what_is_read_is_written_the_same(text: str):
    assert str(parse_any(text)) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("T10:30", "10:30:00"),
        ("10:30:00+00:00", "10:30:00Z"),
        ("2020-06-14T14:55:00+01:00[Europe/Berlin]", "2020-06-14T14:55:00@Europe/Berlin"),
        ("P14M", "P1Y2M"),
        ("PT36H", "P1DT12H"),
        ("PT0.5S", "P0D"),
        ("PT1.5S", "PT1S"),
        ("PT-1H", "-PT1H"),
        ("-P0M", "P0Y"),
        ("2021-03-28T02:30:00@Europe/Berlin", "2021-03-28T03:30:00@Europe/Berlin"),
        ("10:00:00@UTC+2", "10:00:00@UTC+2"),
    ],
)
def test_other_forms_are_normalized(text: str, written: str):
    assert str(parse_any(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-02-29",
        "2020-13-01",
        "998-12-31",
        "01211-12-31",
        "+2012-12-02",
        "2012/12/25",
        "9999999999-12-25",
        "24:00:00",
        "10:60:00",
        "23:59:60",
        "7:20:00",
        "10:00:00+5:00",
        "10:00:00+19:00",
        "10:00:00@Nowhere/City",
        "10:00:00+02:00@Europe/Paris",
        "2020-01-01T",
        "P",
        "PT",
        "P1H",
        "1Y",
        "P1Y1D",
        "P1W",
        "PT9999999999999999999H",
    ],
)
def test_what_is_no_temporal_value_is_none(text: str):
    assert parse_any(text) is None


@table("""
    @"2020-09-30".year => 2020
    @"2020-09-30".month => 9
    @"2020-09-30".day => 30
    @"2020-09-30".weekday => 3
    @"2020-09-30".hour => null
    @"11:45:30+02:00".hour => 11
    @"11:45:30+02:00".minute => 45
    @"11:45:30+02:00".second => 30
    @"11:45:30+02:00".time offset => PT2H
    @"11:45:30+02:00".timezone => null
    @"11:45:30@Europe/Paris".timezone => "Europe/Paris"
    @"11:45:30@Europe/Paris".time offset => PT1H
    @"11:45:30".time offset => null
    @"2020-07-01T11:45:30@Europe/Paris".time offset => PT2H
    @"2020-07-01T11:45:30@Europe/Paris".weekday => 3
    @"P2Y3M".years => 2
    @"P2Y3M".months => 3
    @"-P2Y3M".months => -3
    @"P1DT2H10M30S".days => 1
    @"P1DT2H10M30S".hours => 2
    @"P1DT2H10M30S".minutes => 10
    @"P1DT2H10M30S".seconds => 30
    @"P1D".day => null
    @"no date" => null
""")
def test_properties(expression, expected):
    check(expression, expected)


@given(st.dates())
def test_days_agree_with_the_standard_library(date: dt.date):
    days = temporal.to_days(date.year, date.month, date.day)
    assert days == date.toordinal() - dt.date(1970, 1, 1).toordinal()
    assert temporal.from_days(days) == (date.year, date.month, date.day)


@given(st.integers(-400_000_000_000, 400_000_000_000))
def test_days_and_dates_are_two_ways_to_say_the_same(days: int):
    assert temporal.to_days(*temporal.from_days(days)) == days


@given(st.integers(-(10**15), 10**15))
def test_a_duration_of_seconds_survives_its_text(seconds: int):
    duration = temporal.DaysTime(seconds * temporal.NANOS)
    assert parse_any(str(duration)) == duration
    assert parse_any(duration.iso()) == duration


@given(st.datetimes(_PAST, _FUTURE), st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]))
def test_an_instant_survives_the_move_to_a_region_and_back(moment: dt.datetime, region: str):
    instant = int(moment.replace(microsecond=0, tzinfo=dt.UTC).timestamp()) * temporal.NANOS
    moved = temporal.FeelDateTime.from_instant(instant, region)
    assert moved is not None
    assert moved.instant == instant
    assert zones.offset_at_instant(region, moment.year, moment.month, moment.day, 0) is not None
