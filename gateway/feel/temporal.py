"""
FEEL's temporal values: dates, times, date-times and the two kinds of durations.

Our own classes, because the standard library's hold neither nanoseconds nor years outside 1 to 9999. All are immutable
and hashable; `==` is FEEL's equality (local time and zone, not the instant); `str()` gives FEEL's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gateway.feel import zones

NANOS = 1_000_000_000
DAY = 86_400 * NANOS
MAX_YEAR = 999_999_999
_MAX_SECONDS = 2**63
_MAX_MONTHS = 2**31 * 12
_MONTH_DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year: int, month: int) -> int:
    return 29 if month == 2 and is_leap(year) else _MONTH_DAYS[month]


def to_days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the proleptic Gregorian calendar."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of days since 1970-01-01."""
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


@dataclass(frozen=True, slots=True)
class FeelDate:
    """A date. Made by `make`, which checks."""

    year: int
    month: int
    day: int

    @classmethod
    def make(cls, year: int, month: int, day: int) -> FeelDate | None:
        """The date, or None if there is no such day."""
        if -MAX_YEAR <= year <= MAX_YEAR and 1 <= month <= 12 and 1 <= day <= days_in_month(year, month):
            return cls(year, month, day)
        return None

    @classmethod
    def from_days(cls, days: int) -> FeelDate | None:
        year, month, day = from_days(days)
        return cls(year, month, day) if -MAX_YEAR <= year <= MAX_YEAR else None

    @property
    def days(self) -> int:
        """Days since 1970-01-01."""
        return to_days(self.year, self.month, self.day)

    @property
    def weekday(self) -> int:
        """Monday is 1."""
        return (self.days + 3) % 7 + 1

    def plus_months(self, months: int) -> FeelDate | None:
        """The date that many months on, cut to the end of the month."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        if not -MAX_YEAR <= year <= MAX_YEAR:
            return None
        return FeelDate(year, month + 1, min(self.day, days_in_month(year, month + 1)))

    def __str__(self) -> str:
        sign = "-" if self.year < 0 else ""
        return f"{sign}{abs(self.year):04}-{self.month:02}-{self.day:02}"


@dataclass(frozen=True, slots=True)
class FeelTime:
    """A time of the day in nanoseconds; local, or with an offset in seconds and perhaps the region it stems from."""

    nanos: int
    offset: int | None = None
    region: str | None = None

    @classmethod
    def in_zone(cls, nanos: int, zone: int | str | None) -> FeelTime:
        """With a fixed offset, or with the standard offset of a region."""
        if isinstance(zone, str):
            return cls(nanos, zones.standard_offset(zone), zone)
        return cls(nanos, zone)

    @property
    def instant(self) -> int:
        """Nanoseconds since midnight UTC."""
        return self.nanos - (self.offset or 0) * NANOS

    def __str__(self) -> str:
        return _time_text(self.nanos) + _zone_text(self.offset, self.region)


@dataclass(frozen=True, slots=True)
class FeelDateTime:
    """A date and a time of the day; local, or with an offset and perhaps a region, whose rules then gave the offset."""

    date: FeelDate
    nanos: int
    offset: int | None = None
    region: str | None = None

    @classmethod
    def in_zone(cls, date: FeelDate, nanos: int, zone: int | str | None) -> FeelDateTime | None:
        """A local date-time in a zone; a time that the region skips is moved on."""
        if not isinstance(zone, str):
            return cls(date, nanos, zone)
        offset, gap = zones.offset_at(zone, date.year, date.month, date.day, nanos // NANOS)
        if gap:
            local = cls.from_local(date.days * DAY + nanos + gap * NANOS)
            return cls(local.date, local.nanos, offset, zone) if local is not None else None
        return cls(date, nanos, offset, zone)

    @classmethod
    def from_local(cls, nanos: int) -> FeelDateTime | None:
        """The local date-time of nanoseconds since 1970-01-01T00:00."""
        days, rest = divmod(nanos, DAY)
        date = FeelDate.from_days(days)
        return cls(date, rest) if date is not None else None

    @classmethod
    def from_instant(cls, nanos: int, zone: int | str) -> FeelDateTime | None:
        """The date-time of nanoseconds since 1970-01-01T00:00Z, in a zone."""
        offset = zone
        if isinstance(offset, str):
            utc = cls.from_local(nanos)
            if utc is None:
                return None
            day = utc.date
            offset = zones.offset_at_instant(offset, day.year, day.month, day.day, utc.nanos // NANOS)
        local = cls.from_local(nanos + offset * NANOS)
        if local is None:
            return None
        return cls(local.date, local.nanos, offset, zone if isinstance(zone, str) else None)

    @property
    def local(self) -> int:
        """Nanoseconds since 1970-01-01T00:00, local."""
        return self.date.days * DAY + self.nanos

    @property
    def instant(self) -> int:
        """Nanoseconds since 1970-01-01T00:00Z."""
        return self.local - (self.offset or 0) * NANOS

    @property
    def zone(self) -> int | str | None:
        return self.region if self.region is not None else self.offset

    @property
    def time(self) -> FeelTime:
        return FeelTime(self.nanos, self.offset, self.region)

    def __str__(self) -> str:
        return f"{self.date}T{_time_text(self.nanos)}{_zone_text(self.offset, self.region)}"


@dataclass(frozen=True, slots=True)
class YearsMonths:
    """A years and months duration, in months."""

    months: int

    def __str__(self) -> str:
        years, months = divmod(abs(self.months), 12)
        text = (f"{years}Y" if years else "") + (f"{months}M" if months else "")
        return ("-P" if self.months < 0 else "P") + (text or "0Y")


@dataclass(frozen=True, slots=True)
class DaysTime:
    """A days and time duration, in nanoseconds."""

    nanos: int

    def __str__(self) -> str:
        seconds = abs(self.nanos) // NANOS
        days, hours, minutes, seconds = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
        time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + (f"{seconds}S" if seconds else "")
        text = (f"{days}D" if days else "") + (f"T{time}" if time else "")
        return (("-P" if self.nanos < 0 else "P") + text) if text else "P0D"

    def iso(self) -> str:
        """As Java's `Duration` writes it: hours, minutes and seconds with a fraction, no days (`PT26H`)."""
        if not self.nanos:
            return "PT0S"
        sign = -1 if self.nanos < 0 else 1
        seconds, fraction = divmod(abs(self.nanos), NANOS)
        hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
        text = "PT" + (f"{sign * hours}H" if hours else "") + (f"{sign * minutes}M" if minutes else "")
        if seconds or fraction:
            text += ("-" if sign < 0 else "") + f"{seconds}{_fraction(fraction)}S"
        return text


Temporal = FeelDate | FeelTime | FeelDateTime | YearsMonths | DaysTime
TEMPORAL_TYPES = (FeelDate, FeelTime, FeelDateTime, YearsMonths, DaysTime)


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


def _time_text(nanos: int) -> str:
    seconds, fraction = divmod(nanos, NANOS)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{_fraction(fraction)}"


def _zone_text(offset: int | None, region: str | None) -> str:
    if region is not None:
        return f"@{region}"
    return "" if offset is None else zones.offset_text(offset)


_DATE = r"(-?\d{4,9})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
_ZONE = r"(?:(Z|[+-]\d\d:\d\d(?::\d\d)?)(?:\[([^\]]+)\])?|@(.+))?"
_date = re.compile(_DATE, re.ASCII)
_time = re.compile(f"T?{_TIME}{_ZONE}", re.ASCII)
_date_time = re.compile(f"{_DATE}T{_TIME}{_ZONE}", re.ASCII)
_years_months = re.compile(r"(-)?P(?=[-+\d])(?:([-+]?\d{1,10})Y)?(?:([-+]?\d{1,10})M)?", re.ASCII)
_days_time = re.compile(
    r"(-)?P(?=[-+\dT])(?:([-+]?\d{1,15})D)?"
    r"(?:T(?=[-+\d])(?:([-+]?\d{1,18})H)?(?:([-+]?\d{1,18})M)?(?:([-+]?)(\d{1,18})(?:\.(\d{0,9}))?S)?)?",
    re.ASCII,
)


def parse_date(text: str) -> FeelDate | None:
    """`2020-02-29`; None where it is no date."""
    match = _date.fullmatch(text)
    return _matched_date(match) if match is not None else None


def _matched_date(match: re.Match[str]) -> FeelDate | None:
    digits = match[1].lstrip("-")
    if len(digits) > 4 and digits[0] == "0":
        return None
    return FeelDate.make(int(match[1]), int(match[2]), int(match[3]))


def parse_time(text: str) -> FeelTime | None:
    """`10:30:00`, `10:30:00.5Z`, `10:30:00+01:00`, `10:30:00@Europe/Paris`; None where it is no time."""
    match = _time.fullmatch(text)
    if match is None:
        return None
    nanos = _matched_nanos(match, 1)
    valid, zone = _matched_zone(match, 5)
    return FeelTime.in_zone(nanos, zone) if valid and nanos is not None else None


def parse_date_time(text: str) -> FeelDateTime | None:
    """A date, `T`, a time with the endings of `parse_time`; None where it is no date-time."""
    match = _date_time.fullmatch(text)
    if match is None:
        return None
    date, nanos = _matched_date(match), _matched_nanos(match, 4)
    valid, zone = _matched_zone(match, 8)
    return FeelDateTime.in_zone(date, nanos, zone) if valid and date is not None and nanos is not None else None


def _matched_nanos(match: re.Match[str], group: int) -> int | None:
    hour, minute, second = int(match[group]), int(match[group + 1]), int(match[group + 2] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return (hour * 3600 + minute * 60 + second) * NANOS + int((match[group + 3] or "0").ljust(9, "0"))


def _matched_zone(match: re.Match[str], group: int) -> tuple[bool, int | str | None]:
    """Whether the zone is valid, and the zone: a region in brackets wins over the offset before it."""
    offset, bracket, at = match.group(group, group + 1, group + 2)
    text = bracket or at or offset
    if text is None:
        return True, None
    if offset is not None and zones.parse_offset(offset) is None:
        return False, None
    if at is not None and at[0] in "+-Z" and zones.parse_offset(at) is not None:
        return False, None
    zone = zones.parse_zone(text)
    return zone is not None, zone


def parse_duration(text: str) -> YearsMonths | DaysTime | None:
    """`P1Y2M` or `P1DT2H3M4.5S`, each also negative; None where it is neither."""
    match = _years_months.fullmatch(text)
    if match is not None:
        months = int(match[2] or 0) * 12 + int(match[3] or 0)
        return YearsMonths(-months if match[1] else months) if abs(months) <= _MAX_MONTHS else None
    match = _days_time.fullmatch(text)
    if match is None:
        return None
    seconds = int(match[6] or 0) * NANOS + int((match[7] or "0").ljust(9, "0"))
    total = (int(match[2] or 0) * 86_400 + int(match[3] or 0) * 3600 + int(match[4] or 0) * 60) * NANOS
    total += -seconds if match[5] == "-" else seconds
    return DaysTime(-total if match[1] else total) if abs(total) < _MAX_SECONDS * NANOS else None


@lru_cache(maxsize=4096)
def parse_any(text: str) -> Temporal | None:
    """The value of `@"text"`, by its form."""
    return parse_date(text) or parse_date_time(text) or parse_time(text) or parse_duration(text)


def temporal_property(value: Temporal, name: str) -> Any:
    """The property of a temporal value; KeyError where it has none by that name."""
    return PROPERTIES[type(value)][name](value)


_OF_DATE = {
    "year": lambda d: d.year,
    "month": lambda d: d.month,
    "day": lambda d: d.day,
    "weekday": lambda d: d.weekday,
}
_OF_TIME = {
    "hour": lambda t: t.nanos // (3600 * NANOS),
    "minute": lambda t: t.nanos // (60 * NANOS) % 60,
    "second": lambda t: t.nanos // NANOS % 60,
    "time offset": lambda t: None if t.offset is None else DaysTime(t.offset * NANOS),
    "timezone": lambda t: t.region,
}


def _of_date(getter: Any) -> Any:
    return lambda value: getter(value.date)


PROPERTIES: dict[type, dict[str, Any]] = {
    FeelDate: _OF_DATE,
    FeelTime: _OF_TIME,
    FeelDateTime: {name: _of_date(getter) for name, getter in _OF_DATE.items()} | _OF_TIME,
    YearsMonths: {
        "years": lambda d: (abs(d.months) // 12) * (-1 if d.months < 0 else 1),
        "months": lambda d: (abs(d.months) % 12) * (-1 if d.months < 0 else 1),
    },
    DaysTime: {
        "days": lambda d: _part(d, 86_400, None),
        "hours": lambda d: _part(d, 3600, 24),
        "minutes": lambda d: _part(d, 60, 60),
        "seconds": lambda d: _part(d, 1, 60),
    },
}
"""Properties by type of value, in the order in which messages list them."""


def _part(duration: DaysTime, unit: int, modulus: int | None) -> int:
    amount = abs(duration.nanos) // NANOS // unit
    if modulus is not None:
        amount %= modulus
    return -amount if duration.nanos < 0 else amount
