"""The operator's view on standard error: log lines, and a live view on a terminal or else one line per minute."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from wsrec.ipc import LogLine
from wsrec.options.record import LogFormat
from wsrec.supervise.log_lines import form_of, last_line, log_line
from wsrec.supervise.outlet import Outlet, Stray
from wsrec.supervise.state import RecorderState
from wsrec.supervise.summary_line import summary_line

if TYPE_CHECKING:
    from wsrec.supervise.terminal import Terminal

_LOG_INTERVAL = 60.0
_STYLES = {"info": "dim", "warning": "yellow", "error": "bold red"}


class View:
    """Shows log lines, with a live view on a terminal or else one line per minute.

    It never blocks: a thread of the outlet draws and writes, and lines are queued while the terminal is blocked. As
    a context manager it also shows, in order, what other code writes to standard error.

    Args:
        quiet: whether to show only warnings and errors.
        log_format: the form of the lines; None: the one that fits standard error. There is a live view only with text.

    """

    def __init__(self, *, quiet: bool = False, log_format: LogFormat | None = None) -> None:
        self.form = log_format or form_of(sys.stderr)
        self.outlet = Outlet(sys.stderr, self._show, self._unshown)
        self._terminal = self._find_terminal() if self.form is LogFormat.TEXT else None
        self._quiet = quiet
        self._stderr: TextIO | None = None

    def __enter__(self) -> Self:
        self._stderr, sys.stderr = sys.stderr, Stray(self._log_stray, self.outlet.sink)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.stderr = self._stderr

    def log(self, line: LogLine) -> None:
        """Show one line for the operator; texts from outside are made harmless."""
        if not self._quiet or line.level != "info":
            self.outlet.put(log_line(line, self.form), _STYLES[line.level])

    def conclude(self, *words: str, style: str = "red") -> None:
        """Show the last lines, for a failure, and wait until everything is written, for a limited time."""
        for word in words:
            self.outlet.put(last_line(word, "error" if style else "info", self.form), style, last=True)
        self.outlet.close()

    def _log_stray(self, text: str) -> None:
        if text:
            self.log(LogLine(level="warning", message=text, kind="stderr"))

    def _show(self, text: str, style: str) -> None:
        if self._terminal is not None:
            self._terminal.print(text, style)
        else:
            # one line of any length, for cron and journald
            self.outlet.sink.write(text + "\n")

    def _unshown(self, count: int) -> tuple[str, str]:
        message = f"{count:,} lines were not shown: standard error was blocked"
        return log_line(LogLine(level="warning", message=message), self.form), _STYLES["warning"]

    async def follow(self, sample: Callable[[], RecorderState], log: Callable[[LogLine], None]) -> None:
        """Show a recording until cancelled.

        Args:
            sample: returns its state.
            log: takes the line per minute.

        """
        if self._quiet:
            return
        if self._terminal is not None:
            from wsrec.supervise.live_screen import LiveScreen

            await LiveScreen(self._terminal, self.outlet, sample).run()
            return
        while True:
            await asyncio.sleep(_LOG_INTERVAL)
            log(LogLine(level="info", message=summary_line(sample()), kind="progress"))

    def _find_terminal(self) -> Terminal | None:
        """The terminal on standard error; None without one: then rich is not imported, which takes long."""
        if not (self.outlet.sink.isatty() or os.environ.keys() & {"FORCE_COLOR", "TTY_COMPATIBLE"}):
            return None
        from wsrec.supervise.terminal import Terminal

        terminal = Terminal(self.outlet.sink)
        return terminal if terminal.is_one else None
