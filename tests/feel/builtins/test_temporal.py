"""Functions of dates, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway import feel
from tests.feel.tables import check, table


@table("""
    day of year(@"2020-12-31") => 366
    day of week(@"2019-09-17T10:00:00") => "Tuesday"
    month of year(@"2019-09-17") => "September"
    week of year(@"2021-01-03") => 53
    week of year(@"2019-12-30") => 1
    week of year(@"2020-06-01") => 23
    last day of month(@"2020-02-01") => 2020-02-29
    day of week("2020-01-01") => null
    day of week(date: null) => null
""")
def test_dates(expression, expected):
    check(expression, expected)


def test_the_callers_clock_gives_now_and_today():
    def clock() -> datetime:
        return datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

    assert str(feel.evaluate("now()", clock=clock)) == "2024-02-29T12:30:00Z"
    assert str(feel.parse("today()").evaluate({}, clock=clock)) == "2024-02-29"


def test_without_a_clock_the_systems_counts():
    assert feel.evaluate("now() instance of date and time and now().time offset != null") is True
    assert feel.evaluate("today() instance of date") is True
