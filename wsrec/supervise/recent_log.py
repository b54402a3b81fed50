"""The last warnings and errors of a recording, those that differ in figures at most counted as one."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from wsrec.ipc import LogLine
from wsrec.supervise.state import WarningState

KINDS = 20
"""Kinds of warnings that are kept: the latest."""
# characters of a message that tell its kind
_KEY = 300


class RecentLog:
    """Keeps the last warnings and errors, and counts all lines by level. Any thread may read it.

    Attributes:
        lines: number of lines by level.

    """

    def __init__(self) -> None:
        self.lines = {"info": 0, "warning": 0, "error": 0}
        self._last: dict[tuple[str, str | None, int | None, str], WarningState] = {}
        self._lock = threading.Lock()

    def watching(self, on_log: Callable[[LogLine], None]) -> Callable[[LogLine], None]:
        """`on_log`, with each line noted here first."""

        def log(line: LogLine) -> None:
            self.note(line)
            on_log(line)

        return log

    def note(self, line: LogLine) -> None:
        """Note a line."""
        with self._lock:
            self.lines[line.level] += 1
            if line.level == "info":
                return
            key = line.level, line.feed, line.conn, re.sub(r"[0-9][0-9.,:]*", "#", line.message[:_KEY])
            before = self._last.pop(key, None)
            self._last[key] = WarningState(
                level=line.level,
                count=1 if before is None else before.count + 1,
                time=time.time_ns(),
                message=line.message,
                hint=line.hint,
                feed=line.feed,
                conn=line.conn,
            )
            if len(self._last) > KINDS:
                del self._last[next(iter(self._last))]

    def recent(self) -> tuple[WarningState, ...]:
        """The last ones, the newest first."""
        with self._lock:
            return tuple(reversed(self._last.values()))
