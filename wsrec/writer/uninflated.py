"""Compressed messages that do not inflate, counted: an exchange that compresses in its own way sends no others.

The first of a connection is told as it comes, the rest in counts: one a minute, and one where a file or the connection
ends, so that the counts of a file's events are those of its messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

INTERVAL_NS: Final = 60_000_000_000
"""Time between two counts of a connection, on the stage clock."""


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


class Uninflated:
    """Counts by connection; what is to be told is the detail of an event `not_inflated`."""

    def __init__(self) -> None:
        self._conns: dict[int, _Counted] = {}

    def add(self, conn: int, moment: int, message: str, size: int) -> dict[str, Any] | None:
        """Count a message of `size` bytes that came at a moment (ns); what is to be told now, if anything."""
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
        """A connection has ended: what was not told of it, if anything."""
        counted = self._conns.pop(conn, None)
        return counted.take() if counted is not None and counted.count else None

    def flush(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What was not told, by connection: a file ends."""
        for conn, counted in self._conns.items():
            if counted.count:
                yield conn, counted.take()


def hint(message: str) -> str:
    """What would have messages inflate, by why one does not."""
    if "--max-message" in message:
        return "raise --max-message"
    return "take `compression` out of the feed, or have the exchange keep to RFC 7692 (server_no_context_takeover)"
