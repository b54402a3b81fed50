"""`--on-event`: a command for each warning and error of a recording, and for its end, in order and one at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from wsrec.ipc import LogLine
from wsrec.log_folding import FoldedWarnings
from wsrec.supervise.hook_process import HINT, Command
from wsrec.units import clean

FAILED = "hook_failed"
"""The kind of lines about hooks that failed."""
OVERFLOW = "hook_overflow"
"""The kind of lines about events that were not passed on."""
END = "end"
"""The kind of the line about the end of a recording."""

# of level info, but what an earlier event began ends with it
_GOOD_NEWS = (END, "disk")
_MOST_WAITING = 1000
_TEXT_MAX = 2000


class EventHook(threading.Thread):
    """Runs a command for each event.

    Args:
        command: the command.
        on_log: takes log lines.
        most: events that wait at most; further ones are counted.

    """

    def __init__(self, command: Command, on_log: Callable[..., None], *, most: int = _MOST_WAITING) -> None:
        super().__init__(name="on-event", daemon=True)
        self._command = command
        self._folded = FoldedWarnings(on_log)
        self._waiting: deque[bytes] = deque()
        self._most = most
        self._dropped = 0
        self._ending = False
        self._stopped = threading.Event()
        self._changed = threading.Condition()

    def put(self, line: LogLine) -> None:
        """Pass on a line if it is an event; a line about this hook is none."""
        about_this = line.kind in (FAILED, OVERFLOW) and (line.detail or {}).get("hook") == self._command.name
        if (line.level == "info" and line.kind not in _GOOD_NEWS) or about_this:
            return
        with self._changed:
            if self._ending:
                return
            if len(self._waiting) >= self._most:
                self._dropped += 1
                return
            self._waiting.append(self._encoded(line))
            self._changed.notify()

    def end(self) -> None:
        """Take no more events, and end after those that wait."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def stop(self) -> None:
        """End at once; the running command is ended too."""
        self._stopped.set()
        self.end()

    def run(self) -> None:
        """Run the command for each event, until the end."""
        while (given := self._next()) is not None:
            problem = self._command.run(given, self._stopped)
            if problem is not None:
                kind = msgspec.json.decode(given)["kind"]
                message = f"--on-event {problem} (for an event {kind})"
                self._warn("failures of --on-event", message, HINT, FAILED, event=kind)
        left = len(self._waiting) + self._dropped
        if left:
            message = f"{left:,} events were not passed to --on-event: the recording has ended"
            self._warn("events that were not passed on", message, None, OVERFLOW)
        self._folded.flush()

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._waiting and not self._ending:
                self._changed.wait(1.0)
                self._folded.due()
            if self._stopped.is_set() or not self._waiting:
                return None
            given = self._waiting.popleft()
            dropped = self._dropped if len(self._waiting) < self._most // 2 else 0
            self._dropped -= dropped
        if dropped:
            message = f"{dropped:,} events were not passed to --on-event, which is slower than they come"
            line = LogLine(level="warning", message=message, kind=OVERFLOW, count=dropped)
            self._waiting.append(self._encoded(line))
            self._warn("times that events were not passed on", message, None, OVERFLOW)
        return given

    def _encoded(self, line: LogLine) -> bytes:
        event: dict[str, Any] = {
            "hook": self._command.name,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "kind": line.kind or "other",
            "level": line.level,
            "feed": line.feed,
            "conn": line.conn,
            "session": line.session,
            "channel": line.channel,
            "symbol": line.symbol,
            "count": line.count,
            "message": clean(line.message, _TEXT_MAX),
            "hint": line.hint and clean(line.hint, _TEXT_MAX),
            "detail": line.detail,
            "out": str(self._command.out.absolute()),
        }
        return msgspec.json.encode(event) + b"\n"

    def _warn(self, what: str, message: str, hint: str | None, kind: str, **detail: Any) -> None:
        self._folded.warn("", what, message, hint, kind=kind, detail={"hook": self._command.name, **detail})
