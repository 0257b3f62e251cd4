"""Durations as the platform writes them in headers and settings: ISO 8601 in Java's narrow form."""

import re

# java.time.Duration.parse: days, hours, minutes, seconds; no weeks, months, years; seconds alone take a fraction.
_ISO = re.compile(
    r"(?P<sign>[+-]?)P(?:(?P<d>[+-]?\d+)D)?(?P<t>T(?:(?P<h>[+-]?\d+)H)?(?:(?P<m>[+-]?\d+)M)?(?:(?P<s>[+-]?\d+)(?:[.,](?P<f>\d{0,9}))?S)?)?",
    re.IGNORECASE | re.ASCII,
)
MAX_MILLISECONDS = (1 << 63) - 1
"""What a command can carry."""


def parse_milliseconds(text: str) -> int:
    """The whole milliseconds of a duration such as `PT30S` or `P1DT2H`, cut. ValueError for anything else.

    As in Java, the seconds must fit 64 bits; the milliseconds may be more than a command can carry.
    """
    match = _ISO.fullmatch(text)
    parts = match and [match[name] for name in "dhms"]
    if match is None or parts is None or all(p is None for p in parts) or match["t"] in {"T", "t"}:
        raise ValueError(f"expected an ISO 8601 duration such as PT30S, but got {text!r}")
    days, hours, minutes, seconds = (int(p) if p else 0 for p in parts)
    fraction = int((match["f"] or "").ljust(9, "0")[:9] or 0)
    if (match["s"] or "").startswith("-"):
        fraction = -fraction
    nanoseconds = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction
    if abs(nanoseconds) // 1_000_000_000 > MAX_MILLISECONDS:
        raise ValueError("the duration is too long")
    if match["sign"] == "-":
        nanoseconds = -nanoseconds
    milliseconds = abs(nanoseconds) // 1_000_000
    return -milliseconds if nanoseconds < 0 else milliseconds
