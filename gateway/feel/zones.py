"""
Time zones: offsets in seconds, and regions with the rules of the tz database.

A zone is an `int` (a fixed offset) or a `str` (the id of a region). Rules come from `zoneinfo`, which keeps what it has
read. Years that `datetime` can't hold are looked up in a year that has the same rules.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_MAX_OFFSET = 18 * 3600
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d))?")
_PREFIXED = re.compile(r"(?:UTC|GMT|UT)([+-])(\d{1,2})(?::(\d\d))?")


def parse_offset(text: str) -> int | None:
    """Seconds of `Z`, `+01:00` or `-01:00:30`, at most 18 hours."""
    if text == "Z":
        return 0
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    minutes, seconds = int(match[3]), int(match[4] or 0)
    offset = int(match[2]) * 3600 + minutes * 60 + seconds
    if minutes > 59 or seconds > 59 or offset > _MAX_OFFSET:
        return None
    return -offset if match[1] == "-" else offset


def offset_text(offset: int) -> str:
    """`Z`, `+01:00` or `-01:00:30`."""
    if not offset:
        return "Z"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    sign = "-" if offset < 0 else "+"
    return f"{sign}{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")


@lru_cache(maxsize=1024)
def parse_zone(text: str) -> int | str | None:
    """An offset or the id of a region, None if there is no such zone."""
    offset = parse_offset(text)
    if offset is not None:
        return offset
    return text if _region(text) is not None else None


@lru_cache(maxsize=1024)
def _region(name: str) -> ZoneInfo | int | None:
    match = _PREFIXED.fullmatch(name)
    if match is not None:
        offset = parse_offset(f"{match[1]}{int(match[2]):02}:{match[3] or '00'}")
        if offset is not None:
            return offset
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+\-]*(?:/[A-Za-z0-9_+\-]+)*", name):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return None


def standard_offset(region: str) -> int:
    """The offset of the region out of summer time, as of our days."""
    rules = _region(region)
    if rules is None or isinstance(rules, int):
        return rules or 0
    offsets = (datetime(2024, month, 1, 12, tzinfo=rules).utcoffset() for month in (1, 7))
    return min(int(offset.total_seconds()) for offset in offsets if offset is not None)


def offset_at(region: str, year: int, month: int, day: int, second: int) -> tuple[int, int]:
    """
    The offset at a local time, and how many seconds the local time has to be moved on because it falls into a gap.
    Where a local time exists twice, the earlier one counts.
    """
    rules = _region(region)
    if rules is None or isinstance(rules, int):
        return rules or 0, 0
    local = datetime(_usual_year(year), month, day, tzinfo=rules) + timedelta(seconds=second)
    before = local.utcoffset() or timedelta()
    moved = (local - before).replace(tzinfo=UTC).astimezone(rules)
    after = moved.utcoffset() or timedelta()
    gap = moved.replace(tzinfo=None) - local.replace(tzinfo=None)
    return int(after.total_seconds()), int(gap.total_seconds())


def offset_at_instant(region: str, year: int, month: int, day: int, second: int) -> int:
    """The offset at a time given in UTC."""
    rules = _region(region)
    if rules is None or isinstance(rules, int):
        return rules or 0
    instant = datetime(_usual_year(year), month, day, tzinfo=UTC) + timedelta(seconds=second)
    offset = instant.astimezone(rules).utcoffset() or timedelta()
    return int(offset.total_seconds())


def _usual_year(year: int) -> int:
    """A year that `datetime` holds, with the same calendar and rules."""
    if year > 9900:
        return 9500 + (year - 9500) % 400
    return max(year, 2) if year >= 2 else 400 + year % 400
