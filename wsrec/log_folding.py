"""Folding of repeated warnings: the first few at once, then one line per interval that counts the rest.

Every source of unlimited warnings (an exchange that refuses a thousand topics, a stream that loses a message per
second) goes through this, so that the first one is reported at once and a log never gets more than a few lines a minute
of one kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from wsrec import ipc

AT_ONCE = 3
"""Warnings of a kind that are passed on at once, before they are counted."""

INTERVAL = 60.0
"""Length of an interval of counting (s); after an interval without warnings, the next one is shown at once again."""


class _Last(NamedTuple):
    message: str
    hint: str | None
    about: ipc.About


class _Kind:
    """The warnings of one kind in the current interval."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.passed = 0
        self.counted = 0
        self.last: _Last | None = None


class FoldedWarnings:
    """Passes warnings on, folded by kind. Not thread-safe.

    Args:
        warn: takes a line: the message, the hint and what it is about (`wsrec.ipc.warn`).
        at_once: warnings of a kind that are passed on at once.
        interval: length of an interval of counting (s).
        clock: seconds, monotonic.

    Attributes:
        is_muted: whether warnings are passed over for now.

    """

    def __init__(
        self,
        warn: Callable[..., None] = ipc.warn,
        *,
        at_once: int = AT_ONCE,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn = warn
        self._at_once = at_once
        self._interval = interval
        self._clock = clock
        self.is_muted = False
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def warn(
        self,
        feed: str,
        what: str,
        message: str,
        hint: str | None = None,
        *,
        conn: int | None = None,
        of: str | None = None,
        kind: str | None = None,
        channel: str | None = None,
        symbol: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Pass a warning on, or count it.

        Args:
            feed: the feed's name.
            what: the kind as a plural noun, for counts: `sequence gaps`.
            message: what happened.
            hint: what to do about it.
            conn: the connection.
            of: the scope of the count if it is not the feed: a host.
            kind, channel, symbol, detail: of the line (`wsrec.ipc.LogLine`); those of a count are the last warning's.

        """
        self.due()
        if self.is_muted:
            return
        about: ipc.About = {
            "feed": feed,
            "conn": conn,
            "kind": kind,
            "channel": channel,
            "symbol": symbol,
            "detail": detail,
        }
        key = of or feed, what
        state = self._kinds.get(key)
        if state is None:
            state = self._kinds[key] = _Kind(self._clock() + self._interval)
        if state.passed < self._at_once:
            state.passed += 1
            self._warn(message, hint, **about)
        else:
            state.counted += 1
            state.last = _Last(message, hint, about)

    def due(self) -> None:
        """Emit the counts whose interval is over; call about once a second."""
        if not self._kinds:
            return
        now = self._clock()
        for key in [key for key, kind in self._kinds.items() if kind.until <= now]:
            kind = self._kinds[key]
            if kind.counted:
                self._count(key, kind)
                kind.counted, kind.until = 0, now + self._interval
            else:
                del self._kinds[key]

    def flush(self) -> None:
        """Emit all counts now, at the end."""
        for key, kind in self._kinds.items():
            if kind.counted:
                self._count(key, kind)
        self._kinds.clear()

    def _count(self, key: tuple[str, str], kind: _Kind) -> None:
        (of, what), last = key, kind.last
        assert last is not None
        shared = "" if of == last.about.get("feed") else f"{of}: "
        seconds = max(self._interval - max(kind.until - self._clock(), 0.0), 0.0)
        self._warn(
            f"{shared}{what}: {kind.counted:,} more within {seconds:.0f} s, the last: {last.message}",
            last.hint,
            **last.about,
            count=kind.counted,
        )
