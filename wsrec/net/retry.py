"""Retry policy of hosts: `Retry-After` parsing, and hosts blocked after a rate-limit refusal.

The delay without a `Retry-After` is the receiver's `Backoff`. Zero and dates in the past are ignored: a server that
refuses does not mean "at once", and with a local clock that is fast every date is in the past.
"""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

LONGEST = 3600.0
"""Longest wait in seconds, whatever a server asks for."""

LIMITED_WAIT = 120.0
"""Seconds to leave a host alone after a rate-limit refusal that names no time."""

# RFC 6585 section 4; 418 is Binance's answer to an address that went on after 429
LIMITED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT})

# a whole number by RFC 9110; some servers write a fraction
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)
_DIGITS_MOST = 12
# anything shorter is rounding, or the difference between the clocks
_LEAST = 1.0


def retry_after(value: str | None, moment: datetime | None = None) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110 section 10.2.3): a number, or a date in an HTTP format.

    Args:
        value: the header's value; None without one.
        moment: the current time, with a time zone; defaults to the system clock.

    Returns:
            The requested delay in seconds, at least 1; None if it is unreadable or shorter.

    """
    seconds = _stated(value, moment)
    return None if seconds is None or seconds < _LEAST else seconds


def _stated(value: str | None, moment: datetime | None) -> float | None:
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
    """`seconds`, limited to `LONGEST`."""
    return None if seconds is None else min(seconds, LONGEST)


class HostLimits:
    """Per-host block list with expiry, for rate limits. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def block(self, host: str, seconds: float) -> None:
        """Block `host` for `seconds` (at most `LONGEST`); never shortens an existing block."""
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), time.monotonic() + min(seconds, LONGEST))

    def free_at(self, host: str) -> float:
        """When `host` may be contacted again (monotonic clock, s); 0 if it is not blocked."""
        with self._lock:
            return self._until.get(host, 0.0)
