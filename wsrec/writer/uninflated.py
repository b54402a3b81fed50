"""Counts of messages that do not inflate: an exchange with non-standard compression sends nothing else.

The first one of a connection is recorded at once, the rest as counts: one a minute, and one at the end of a file or
connection, so that the counts of a file's events match its messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

INTERVAL_NS: Final = 60_000_000_000
"""Time between two counts of a connection, ns on the stage clock."""


@dataclass
class _Counted:
    since: int
    count: int = 0
    bytes: int = 0
    message: str = ""

    def take(self) -> dict[str, Any]:
        detail = {"message": self.message, "bytes": self.bytes, "count": self.count}
        self.count = self.bytes = 0
        return detail


class InflateFailures:
    """Counts by connection; the results are details of `not_inflated` events."""

    def __init__(self) -> None:
        self._conns: dict[int, _Counted] = {}

    def add(self, conn: int, moment: int, message: str, size: int) -> dict[str, Any] | None:
        """Count a message of `size` bytes received at `moment` (ns); returns the detail to record now, if any."""
        first = conn not in self._conns
        counted = self._conns.setdefault(conn, _Counted(moment))
        counted.count += 1
        counted.bytes += size
        counted.message = message
        if not first and moment - counted.since < INTERVAL_NS:
            return None
        counted.since = moment
        return counted.take()

    def ended(self, conn: int) -> dict[str, Any] | None:
        """The unrecorded count of a connection that has ended, if any."""
        counted = self._conns.pop(conn, None)
        return counted.take() if counted is not None and counted.count else None

    def flush(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The unrecorded counts by connection, at the end of a file."""
        for conn, counted in self._conns.items():
            if counted.count:
                yield conn, counted.take()


def hint(message: str) -> str:
    """Hint what to do about a message that does not inflate, by the reason."""
    if "--max-message" in message:
        return "raise --max-message"
    return "remove `compression` from the feed; the exchange violates RFC 7692 (server_no_context_takeover)"
