"""Exact conversion of decoded JSON values to integers and times, in any notation that exchanges use."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from wsrec.decode.json_text import decimal
from wsrec.feed.fields import TimePlace
from wsrec.feed.values import TimeUnit

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
UINT64_MAX = (1 << 64) - 1

SCALES = {TimeUnit.NS: 1, TimeUnit.US: 1_000, TimeUnit.MS: 1_000_000, TimeUnit.S: 1_000_000_000}
"""Nanoseconds per unit of time."""
EXPONENTS = {TimeUnit.NS: 0, TimeUnit.US: 3, TimeUnit.MS: 6, TimeUnit.S: 9, TimeUnit.ISO: -1}
"""The compiled readers' units: powers of ten of ns; -1: RFC 3339 text."""
EARLIEST = 946_684_800_000_000_000
"""2000 (ns since the epoch): no exchange's time is earlier."""
NUMERAL_MAX = 100
"""Longest text (characters) that is read as a number."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_NUMERAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)


def integer_of(value: Any) -> int | None:
    """The integer value of a number in any notation, quoted or not (`3`, `3.0`, `3e0`); None if it is not one."""
    if isinstance(value, str):
        if len(value) > NUMERAL_MAX or not _NUMERAL.fullmatch(value):
            return None
        value = decimal(value)
    if isinstance(value, Decimal):
        # before the multiplication: 1e9999 would be a number of ten thousand digits
        if not value.is_finite() or value.adjusted() > 20 or value != value.to_integral_value():
            return None
        return int(value)
    return value if type(value) is int else None


def time_of(value: Any, place: TimePlace) -> int | None:
    """The time of a value at this place (ns since the epoch, exact, clamped to int64); None if it is not one."""
    if place.unit is TimeUnit.ISO:
        return _iso_nanoseconds(value, place.offset) if isinstance(value, str) else None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        # before the multiplication: 1e999999 would be a number of a million digits
        if value.adjusted() > 20:
            return INT64_MAX if value > 0 else INT64_MIN
    elif type(value) is not int:
        return None
    return _within(int(value * SCALES[place.unit or TimeUnit.MS]))


def _within(time: int) -> int:
    return min(max(time, INT64_MIN), INT64_MAX)


def _iso_nanoseconds(text: str, offset: str | None) -> int | None:
    """RFC 3339 text in ns since the epoch; `offset` is the zone for texts without one."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    date, clock, fraction, zone = found.groups()
    try:
        # datetime has only microseconds, so the fraction is added separately
        moment = datetime.fromisoformat(f"{date}T{clock}{(zone or offset or 'Z').upper()}")
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return _within((since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")))
