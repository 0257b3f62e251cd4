"""Times of timers."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.embedded.expressions import Expression, Stuck
from gateway.engine.embedded.timers import Period, Plan, TimerSpec, parse_date, parse_period

NOW = 1_700_000_000_000
HOUR = 3_600_000


def plan(kind: str, text: str) -> Plan:
    return TimerSpec(kind, Expression(text, lambda: datetime.fromtimestamp(NOW / 1000, UTC))).plan({}, NOW)


@pytest.mark.parametrize(
    ("text", "months", "milliseconds"),
    [
        ("PT10S", 0, 10_000),
        ("PT0.5S", 0, 500),
        ("PT1H30M", 0, 5_400_000),
        ("P1DT2H", 0, 26 * HOUR),
        ("P2W", 0, 14 * 24 * HOUR),
        ("P1Y2M", 14, 0),
        ("P1Y2M3DT4H5M6S", 14, 3 * 24 * HOUR + 4 * HOUR + 306_000),
        ("-PT10S", 0, -10_000),
        ("PT-10S", 0, -10_000),
    ],
)
def test_durations_are_read_as_iso_8601_has_them(text, months, milliseconds):
    assert parse_period(text) == Period(months, milliseconds)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "soon", "10S", "P10S", "PT1D", "P1DT", "PT1S ", "P1M2Y", "P1YT", "P1H", "PT1.5H"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_period(text)


@given(st.integers(0, 9999), st.integers(0, 59), st.integers(0, 59))
def test_a_duration_adds_its_exact_time(hours, minutes, seconds):
    after = parse_period(f"PT{hours}H{minutes}M{seconds}S").after(NOW)
    assert after - NOW == ((hours * 60 + minutes) * 60 + seconds) * 1000


def test_months_follow_the_calendar():
    at = round(datetime(2024, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
    after = datetime.fromtimestamp(parse_period("P1M").after(at) / 1000, UTC)
    assert after == datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert datetime.fromtimestamp(parse_period("P1Y1M").after(at) / 1000, UTC) == datetime(2025, 2, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2023-11-14T23:13:20Z", "2023-11-15T00:13:20+01:00", "2023-11-15T00:13:20+01:00[Europe/Berlin]"]
)
def test_dates_have_an_offset_and_may_name_their_zone(text):
    assert parse_date(text) == NOW + HOUR


@pytest.mark.parametrize("text", ["2023-11-14T23:13:20", "tomorrow", "", "2023-13-01T00:00:00Z"])
def test_what_is_no_point_in_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_date(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("timeDuration", "PT1H"),
        ("timeDuration", '= duration("PT1H")'),
        ("timeDuration", '= "PT" + string(1) + "H"'),
        ("timeDate", "2023-11-14T23:13:20Z"),
        ("timeDate", '= now() + duration("PT1H")'),
    ],
)
def test_a_timer_is_due_by_text_or_feel(kind, text):
    assert plan(kind, text) == Plan(NOW + HOUR)


def test_a_cycle_comes_as_often_as_it_says():
    first = plan("timeCycle", "R3/PT1H")
    times = [first.due_ms]
    while (following := Plan.next(first)) is not None:
        first = following
        times.append(first.due_ms)
    assert times == [NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR]


def test_a_cycle_without_a_number_has_no_end_and_one_with_a_start_begins_there():
    endless = plan("timeCycle", "R/PT1H").next()
    assert endless is not None
    assert endless.repetitions == -1
    assert plan("timeCycle", "R2/2024-01-01T00:00:00Z/PT1H").due_ms == parse_date("2024-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("timeDuration", "soon", "Invalid duration format 'soon'"),
        ("timeDuration", "= missing", "Invalid duration format 'None' for expression 'missing'"),
        ("timeDuration", "= 5", "expected a text or a time, but was 'NUMBER'"),
        ("timeDate", "= date(2024, 1, 1)", "has no offset"),
        ("timeCycle", "PT1H", "Invalid cycle format"),
        ("timeCycle", "R0/PT1H", "at least one repetition"),
        ("timeCycle", "R2/PT0S", "positive duration"),
        ("timeDate", "= assert(1, false)", "assert"),
    ],
)
def test_a_value_that_is_no_such_time_is_a_reason_for_an_incident(kind, text, says):
    with pytest.raises(Stuck) as caught:
        plan(kind, text)
    assert caught.value.error_type == "EXTRACT_VALUE_ERROR"
    assert says in caught.value.message
