"""The live view on a terminal: colours, counters and the latency of each stage, drawn with rich.

Imported only if there is a terminal: rich takes a tenth of the start-up time.
"""

from __future__ import annotations

import time
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.outlet import Sink
from wsrec.supervise.sampler import WINDOW, Progress, Sample
from wsrec.supervise.supervisor import Supervisor
from wsrec.units import clean, duration, size

_BAR = 10


class Terminal:
    """A terminal for log lines and the live view.

    Attributes:
        is_one: whether rich considers it a terminal; environment variables may override that.

    """

    def __init__(self, sink: Sink) -> None:
        self._console = Console(file=cast(TextIO, sink), highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self.is_one = self._console.is_terminal

    def print(self, text: str, style: str) -> None:
        """Print a line above the live view."""
        self._console.print(Text(text, style=style))

    def refresh(self, supervisor: Supervisor, now: Sample, recent: Progress) -> None:
        """Redraw the live view."""
        if self._live is None:
            # rich's own threads and its replacements of the standard streams would wait for the terminal
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(draw(supervisor, now, recent), refresh=True)

    def clear(self) -> None:
        """Remove the live view."""
        if self._live is not None:
            self._live.stop()
            self._live = None


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
    stages.add_column(f"last {WINDOW} s")
    stages.add_column("p50", justify="right")
    stages.add_column("p99", justify="right")
    for step, (median, tail) in zip((*STEPS, TOTAL), recent.steps, strict=True):
        stages.add_row(step.name, duration(median), duration(tail), style="bold" if step is TOTAL else "")
    return Group(_title(supervisor), "", facts, "", stages)


def _title(supervisor: Supervisor) -> RenderableType:
    elapsed = time.monotonic() - supervisor.began
    title = Table.grid(padding=(0, 2))
    # one line on any width: the names are shortened, the rest is not
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
