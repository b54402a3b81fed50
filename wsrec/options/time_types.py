"""Types of option values that are points in time (`wsrec.options.value_types` has the others)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from wsrec.options.value_types import ValueType, parse_duration


class Moment(ValueType[datetime]):
    """A time in the future: `HH:MM[:SS]` (UTC, the next one), or an ISO date and time (UTC unless it has an offset)."""

    name = "time"

    def parse(self, text: str) -> datetime:
        """A time of day means the next one."""
        now = datetime.now(UTC)
        moment = parse_moment(text, now)
        if moment is None:
            raise ValueError("expected 17:30 or 2026-11-22T17:30:00Z (UTC unless it has an offset)")
        if moment <= now:
            raise ValueError(f"expected a time in the future: it has passed (it is {now:%Y-%m-%dT%H:%M:%SZ})")
        return moment

    def write(self, value: datetime) -> str:
        """ISO 8601."""
        return value.isoformat()


class Instant(ValueType[int]):
    """A time of a recording (ns since the epoch).

    An ISO date and time (UTC unless it has an offset), `HH:MM[:SS]` of today (UTC), how long ago (`-10m`), or the
    number.
    """

    name = "time"

    def parse(self, text: str) -> int:
        """A text of digits alone is ns since the epoch."""
        if text.isascii() and text.isdigit():
            return int(text)
        now = datetime.now(UTC)
        ago = parse_duration(text[1:]) if re.fullmatch(r"-.*[a-z]", text) else None
        if ago is not None:
            return _ns(now) - round(ago * 1e9)
        try:
            moment = _of_day(text, now) or datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or not re.match(r"\d{4}-\d\d-\d\d|\d{1,2}:", text):
            raise ValueError(
                "expected 2026-11-22T17:30:00Z (UTC unless it has an offset), 17:30 (today, UTC), -10m (ago), "
                "or ns since the epoch"
            )
        return _ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def parse_moment(text: str, now: datetime) -> datetime | None:
    """`HH:MM[:SS]` (UTC, the next one after `now`), or an ISO date and time (UTC without an offset); else None."""
    try:
        moment = _of_day(text, now)
        if moment is not None:
            return moment if moment > now else moment + timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_day(text: str, day: datetime) -> datetime | None:
    """`HH:MM[:SS]` (UTC) of a day; None if it is no time of day.

    Raises:
        ValueError: there is no such time, as 25:00.

    """
    if not re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?Z?", text):
        return None
    hour, rest = text.rstrip("Z").split(":", 1)
    return datetime.fromisoformat(f"{day:%Y-%m-%d}T{hour:0>2}:{rest}+00:00")


def _ns(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
