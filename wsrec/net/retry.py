"""When a host may be asked again: what its `Retry-After` says, and that a refusal for asking too often is the host's.

How long to wait where it does not say is the receiver's `Backoff`'s. "At once" and a time that has passed say nothing:
who refuses does not mean them, and by a clock that is fast every date has passed.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

LONGEST = 3600.0
"""Seconds that are waited at most, whatever a server asks for."""

LIMITED_WAIT = 120.0
"""Seconds that a host which says that it is asked too often is left alone, where it names none."""

# RFC 6585 section 4, and what Binance says to an address that went on after 429
LIMITED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT})

# a whole number by RFC 9110; some servers write a fraction
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
_DIGITS_MOST = 12
# what is less is rounding, or the clocks' difference
_LEAST = 1.0


def retry_after(value: str | None, moment: datetime | None = None) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110 section 10.2.3): a number, or a date in any form of HTTP's.

    Args:
        value: the header; None without one.
        moment: now, with its time zone; the clock's by default.

    Returns:
        What the server asks for, 1 at least; None where it says nothing that can be read, or less.

    """
    seconds = _said(value, moment)
    return None if seconds is None or seconds < _LEAST else seconds


def _said(value: str | None, moment: datetime | None) -> float | None:
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        return float(value[:_DIGITS_MOST])
    if not value.isascii():
        return None
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return (date - (moment or datetime.now(UTC))).total_seconds()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def capped(seconds: float | None) -> float | None:
    """No more than is ever waited."""
    return None if seconds is None else min(seconds, LONGEST)


class HostLimits:
    """Hosts that are not to be asked for a while, by whoever: any thread may say so, and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def block(self, host: str, seconds: float) -> None:
        """Have it left alone for so long, or for longer where that was said before."""
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + min(seconds, LONGEST))

    def free_at(self, host: str) -> float:
        """From when on (monotonic clock, s) it may be asked."""
        with self._lock:
            return self._until.get(host, 0.0)
