"""The operator's view on standard error: log lines, and a live view on a terminal or else one line per minute."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from wsrec.ipc import LogLine
from wsrec.options.record import LogFormat
from wsrec.supervise.log_lines import form_of, last_line, log_line
from wsrec.supervise.outlet import Outlet, Stray
from wsrec.supervise.sampler import WINDOW, Progress, Sample, progress, sample
from wsrec.supervise.supervisor import Supervisor
from wsrec.units import duration, size

if TYPE_CHECKING:
    from wsrec.supervise.terminal import Terminal

_REFRESH = 0.5
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

    async def follow(self, supervisor: Supervisor) -> None:
        """Show the recording until cancelled."""
        if self._quiet:
            return
        if self._terminal is not None:
            await self._draw(supervisor, self._terminal)
        else:
            await self._log_minutes(supervisor)

    def _find_terminal(self) -> Terminal | None:
        """The terminal on standard error; None without one: then rich is not imported, which takes long."""
        if not (self.outlet.sink.isatty() or os.environ.keys() & {"FORCE_COLOR", "TTY_COMPATIBLE"}):
            return None
        from wsrec.supervise.terminal import Terminal

        terminal = Terminal(self.outlet.sink)
        return terminal if terminal.is_one else None

    async def _draw(self, supervisor: Supervisor, terminal: Terminal) -> None:
        samples = deque([sample(supervisor.pairs)], maxlen=int(WINDOW / _REFRESH))
        try:
            while True:
                await asyncio.sleep(_REFRESH)
                samples.append(sample(supervisor.pairs))
                recent = progress(samples[0], samples[-1])
                self.outlet.draw(functools.partial(terminal.refresh, supervisor, samples[-1], recent))
        finally:
            self.outlet.draw(terminal.clear)

    async def _log_minutes(self, supervisor: Supervisor) -> None:
        before = sample(supervisor.pairs)
        while True:
            await asyncio.sleep(_LOG_INTERVAL)
            after = sample(supervisor.pairs)
            message = summary_line(after, progress(before, after))
            supervisor.log(LogLine(level="info", message=message, kind="progress"))
            before = after


def summary_line(now: Sample, recent: Progress) -> str:
    """The progress in one line."""
    counters = now.counters
    return (
        f"{counters['messages']:,} messages ({recent.messages:,.0f}/s), {size(counters['payload_bytes'])}, "
        f"{counters['connected']}/{counters['connections']} connected, total p50 {duration(recent.steps[-1][0])} "
        f"p99 {duration(recent.steps[-1][1])}, ring {now.fill:.0%}, "
        f"journal lag {duration(counters['journal_lag_ns'])}, {counters['reconnects']} reconnects, "
        f"{counters['stalls']} stalls, {counters['gaps']} gaps, {counters['lost_intervals']} lost intervals"
        f"{f', {restarts} restarts' if (restarts := counters['restarts']) else ''}"
        f"{', DISK ERRORS' if counters['disk_trouble'] else ''}"
    )
