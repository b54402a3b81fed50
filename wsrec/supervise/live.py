"""What the operator sees on standard error: log lines, the live view on a terminal, the line a minute elsewhere."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wsrec.ipc import LogLine
from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.outlet import Outlet, Stray
from wsrec.supervise.sampler import Progress, Sample, progress, sample
from wsrec.supervise.supervisor import Supervisor
from wsrec.units import clean, duration, size

_REFRESH = 0.5
_WINDOW = 10
_BAR = 10
_LOG_INTERVAL = 60.0
_STYLES = {"info": "dim", "warning": "yellow", "error": "bold red"}


class View:
    """Shows what happens: a live view where standard error is a terminal, else one log line a minute.

    It waits for nobody: an outlet's thread draws and writes, and while the terminal takes nothing, lines wait there. As
    a context it shows in their turn what others write on standard error.

    Args:
        quiet: show warnings and errors only.

    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.outlet = Outlet(sys.stderr, self._show, self._unshown)
        self._console = Console(file=self.outlet.sink, highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        self._quiet = quiet
        self._live: Live | None = None
        self._stderr: TextIO | None = None

    def __enter__(self) -> Self:
        self._stderr, sys.stderr = sys.stderr, Stray(self._log_stray, self.outlet.sink)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.stderr = self._stderr

    def log(self, line: LogLine) -> None:
        """Show one line for the operator; what strangers say in it is made harmless."""
        if not self._quiet or line.level != "info":
            self.outlet.put(*_shown(line))

    def conclude(self, *words: str, style: str = "red") -> None:
        """Show the last words, why all was not well, and wait until everything was taken; not long if it is not."""
        for word in words:
            self.outlet.put(clean(word, 2000), style, last=True)
        self.outlet.close()

    def _log_stray(self, text: str) -> None:
        self.outlet.put(clean(text, 2000))

    def _show(self, text: str, style: str) -> None:
        if self._console.is_terminal:
            self._console.print(Text(text, style=style))
        else:
            # one line whatever its length, for cron and journald
            self.outlet.sink.write(text + "\n")

    @staticmethod
    def _unshown(count: int) -> tuple[str, str]:
        return _shown(LogLine(level="warning", message=f"{count:,} lines were not shown: nobody took them here"))

    async def follow(self, supervisor: Supervisor) -> None:
        """Show the recording until cancelled."""
        if self._quiet:
            return
        if self._console.is_terminal:
            await self._draw(supervisor)
        else:
            await self._log_minutes(supervisor)

    async def _draw(self, supervisor: Supervisor) -> None:
        samples = deque([sample(supervisor.pairs)], maxlen=int(_WINDOW / _REFRESH))
        try:
            while True:
                await asyncio.sleep(_REFRESH)
                samples.append(sample(supervisor.pairs))
                recent = progress(samples[0], samples[-1])
                self.outlet.draw(functools.partial(self._refresh, draw(supervisor, samples[-1], recent)))
        finally:
            self.outlet.draw(self._clear)

    def _refresh(self, picture: RenderableType) -> None:
        if self._live is None:
            # its own threads and stand-ins would wait for the terminal
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(picture, refresh=True)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    async def _log_minutes(self, supervisor: Supervisor) -> None:
        before = sample(supervisor.pairs)
        while True:
            await asyncio.sleep(_LOG_INTERVAL)
            after = sample(supervisor.pairs)
            self.log(LogLine(level="info", message=summary_line(after, progress(before, after))))
            before = after


def _shown(line: LogLine) -> tuple[str, str]:
    """A line's text and its style."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = f" [{line.conn}]" if line.conn is not None else ""
    text = f"{stamp} {line.level}{where} {clean(line.message, 2000)}"
    if line.hint:
        text += f" -- {clean(line.hint, 1000)}"
    return text, _STYLES[line.level]


def summary_line(now: Sample, recent: Progress) -> str:
    """How it goes, in one line."""
    counters = now.counters
    return (
        f"{counters['messages']:,} messages ({recent.messages:,.0f}/s), {size(counters['payload_bytes'])}, "
        f"{counters['connected']}/{counters['connections']} connected, total p50 {duration(recent.steps[-1][0])} "
        f"p99 {duration(recent.steps[-1][1])}, ring {now.fill:.0%}, "
        f"journal lag {duration(counters['journal_lag_ns'])}, {counters['reconnects']} reconnects, "
        f"{counters['stalls']} stalls, {counters['gaps']} gaps, {counters['lost_intervals']} lost intervals"
        f"{f', {restarts} restarts' if (restarts := counters['restarts']) else ''}"
        f"{', THE DISK REFUSES' if counters['disk_trouble'] else ''}"
    )


def draw(supervisor: Supervisor, now: Sample, recent: Progress) -> RenderableType:
    """The live view."""
    counters = now.counters
    facts = Table.grid(padding=(0, 2))
    for _ in range(3):
        facts.add_column(style="dim")
        facts.add_column(justify="right")
    trouble = counters["gaps"] + counters["lost_intervals"] + counters["refused"]
    rows = [
        (
            "messages",
            f"{counters['messages']:,}",
            "rate",
            f"{recent.messages:,.0f}/s",
            "connected",
            _connected(counters),
        ),
        (
            "payload",
            size(counters["payload_bytes"]),
            "wire",
            f"{size(recent.bytes)}/s",
            "reconnects",
            _count(counters["reconnects"]),
        ),
        (
            "ring",
            f"{now.fill:.1%}",
            "journal lag",
            duration(counters["journal_lag_ns"]),
            "stalls",
            _count(counters["stalls"]),
        ),
        (
            "files",
            f"{counters['files']:,}",
            "journalled",
            size(counters["journalled_bytes"]),
            "gaps, lost",
            _count(trouble),
        ),
    ]
    for row in rows:
        facts.add_row(*row)
    if counters["restarts"]:
        facts.add_row("restarts", _count(counters["restarts"]))

    stages = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    stages.add_column(f"last {_WINDOW} s")
    stages.add_column("p50", justify="right")
    stages.add_column("p99", justify="right")
    for step, (median, tail) in zip((*STEPS, TOTAL), recent.steps, strict=True):
        stages.add_row(step.name, duration(median), duration(tail), style="bold" if step is TOTAL else "")
    return Group(_title(supervisor), "", facts, "", stages)


def _title(supervisor: Supervisor) -> RenderableType:
    elapsed = time.monotonic() - supervisor.began
    title = Table.grid(padding=(0, 2))
    # one line however narrow: the names give way to the rest, which stays whole
    title.add_column()
    names = ", ".join(dict.fromkeys(plan.feed for pair in supervisor.pairs for plan in pair.plans))
    cells: list[RenderableType] = [
        Text(f"recording {clean(names, 60)}", style="bold", no_wrap=True, overflow="ellipsis"),
        duration(elapsed * 1e9),
    ]
    until = supervisor.until
    if until is not None:
        left = max(until - time.monotonic(), 0.0)
        bar = ProgressBar(total=elapsed + left, completed=elapsed, width=_BAR)
        cells += [bar, f"{duration(left * 1e9)} left" if left else "finishing"]
    cells.append(Text("Ctrl-C to finish", style="dim"))
    for _ in cells[1:]:
        title.add_column(no_wrap=True)
    title.add_row(*cells)
    return title


def _connected(counters: dict[str, int]) -> Text:
    connected, planned = counters["connected"], counters["connections"]
    return Text(f"{connected}/{planned}", style="green" if connected == planned else "bold red")


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="bold red" if number else "")
