"""The steps between the stages on a terminal: the table, sparklines, and the bar of where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10

from rich.table import Table
from rich.text import Text

from wsrec.report.model import Latency, Recording, StageTable
from wsrec.stages import NIC, RECV_START, STEPS, TOTAL, TOTAL_WITHOUT_NIC
from wsrec.units import duration, short_count

WIDE = 140
"""Columns from which the sparklines are beside the figures."""

# columns from which minima and means both have room
_ROOMY = 90
_BARS = " ▁▂▃▄▅▆▇█"
_NAME_WIDTH = 22
# how each step is drawn in the bar, and named in the table: to be told apart without colours, too
_FILLS = dict(zip((step.key for step in STEPS), "█▒▓░▚", strict=True))
_COLOURS = dict(zip((step.key for step in STEPS), ("blue", "magenta", "cyan", "yellow", "green"), strict=True))
# the others are the way to wsrec, and the read with its decryption
_OWN = tuple(step.key for step in STEPS if step.start not in (NIC, RECV_START))
_TOTALS = (TOTAL.key, TOTAL_WITHOUT_NIC.key)

_TITLES = {
    "all": "all frames",
    "first": "first in their read (frame_in_read 0)",
    "behind": "behind others of the same read (frame_in_read above 0)",
}


def stage_lines(
    recording: Recording, width: int, *, frames: bool, details: bool, sparklines: bool
) -> Iterator[Text | Table]:
    """The table of all frames, the bar and the summary.

    Args:
        recording: the recording.
        width: columns that there are.
        frames: whether a table follows of the frames first in their read, and one of those behind others.
        details: whether minima are in place of means, where both have no room.
        sparklines: whether there are lines for them, where they have no room beside the figures.

    """
    tables = {table.frames: table for table in recording.stages}
    alone = "behind" not in tables
    shown = [table for name, table in tables.items() if name == "all" or (frames and not alone)]
    if not shown:
        return
    axis = _Axis([step for table in shown for step in table.steps], width)
    for index, table in enumerate(shown):
        if index:
            yield Text()
        if frames:
            yield Text("all frames, each the first in its read" if alone else _TITLES[table.frames], style="bold")
        yield _table(table, width, axis, details=details)
        if width < WIDE and sparklines:
            yield axis.block(table)
        if not index:
            yield from _where(table, width)
    if width >= WIDE or sparklines:
        yield Text(axis.legend, style="dim")


def _table(table: StageTable, width: int, axis: _Axis, *, details: bool) -> Table:
    wide = width >= WIDE
    space = " " if wide else ""
    grid = Table.grid(padding=(0, 2 if wide else 1))
    # the only column that shrinks if figures are unusually wide
    grid.add_column(overflow="fold", min_width=0 if not wide else _NAME_WIDTH)
    ends = ("min", "mean") if width >= _ROOMY else ("min",) if details else ("mean",)
    names = ("count", *ends, "p50", "p90", "p99", "p99.9", "max", "share")
    for _ in names:
        grid.add_column(justify="right", no_wrap=True)
    heads = [Text(name, style="dim") for name in ("  step", *names)]
    grid.add_row(*heads, *([axis.ticks()] if wide else []))
    for step in table.steps:
        values = (
            *(step.min if end == "min" else step.mean for end in ends),
            step.p50,
            step.p90,
            step.p99,
            step.p999,
            step.max,
        )
        cells = [
            _name(step),
            Text(f"{step.count:,}" if wide else short_count(step.count)),
            *(Text(duration(value, space), style="yellow" if (value or 0) < 0 else "") for value in values),
            Text("-" if step.share is None else f"{100 * step.share:.1f}%"),
        ]
        grid.add_row(*cells, *([axis.line(step)] if wide else []), style="bold" if step.key in _TOTALS else "")
    return grid


def _name(step: Latency) -> Text:
    fill = _FILLS.get(step.key, " ")
    return Text.assemble((fill, _COLOURS.get(step.key, "")), f" {step.name}")


def _where(table: StageTable, width: int) -> Iterator[Text]:
    """The bar of where the time of all frames went, and the summary of one frame's."""
    shares = [(step.key, max(step.share or 0.0, 0.0)) for step in table.steps if step.key in _FILLS]
    total = sum(share for _, share in shares)
    if total:
        bar = Text("  where it went ", style="dim", no_wrap=True)
        for key, cells in _cells(shares, max(min(width, 120) - len(bar), 20)):
            bar.append(_FILLS[key] * cells, style=_COLOURS[key])
        yield bar
    steps = {step.key: step for step in table.steps}
    whole = steps.get(TOTAL.key) or steps.get(TOTAL_WITHOUT_NIC.key)
    own = [step.p50 or 0 for key in _OWN if (step := steps.get(key)) is not None]
    if whole is not None:
        begin = "NIC" if whole.key == TOTAL.key else "EVENT"
        text = f"{duration(whole.p50)} from {begin} to hand-off at p50, of which wsrec's own steps {duration(sum(own))}"
        yield Text(f"  {text}", style="bold")


def _cells(shares: Sequence[tuple[str, float]], width: int) -> Iterator[tuple[str, int]]:
    """The cells of each step in a bar of `width`: rounded so that they fill it."""
    total = sum(share for _, share in shares)
    done = drawn = 0.0
    for key, share in shares:
        done += share / total * width
        cells = round(done) - round(drawn)
        drawn = done
        yield key, cells


class _Axis:
    """One logarithmic axis for the sparklines of all tables, in whole decades."""

    def __init__(self, steps: list[Latency], width: int) -> None:
        used = [low for step in steps for low, _ in step.buckets]
        highs = [step.max for step in steps if step.max is not None]
        self.first = floor(log10(max(min(used), 1)))
        self.decades = max(ceil(log10(max(*highs, 10))) - self.first, 1)
        room = width - 112 if width >= WIDE else width - _NAME_WIDTH - 1
        # at least 6 cells: a tick and its label have up to 6 characters
        self.cells = min(max(room // self.decades, 6), 20)
        self.decades = min(self.decades, max(room // self.cells, 1))

    @property
    def legend(self) -> str:
        return f"Sparklines: a column is a factor of {10 ** (1 / self.cells):.2f} wide; each line has its own scale."

    def ticks(self) -> Text:
        labels = (f"|{_power(self.first + i)}" for i in range(self.decades))
        return Text("".join(label.ljust(self.cells) for label in labels).rstrip(), style="dim", no_wrap=True)

    def line(self, step: Latency) -> Text:
        counts = [0] * (self.decades * self.cells)
        for low, count in step.buckets:
            cell = floor((log10(max(low, 1)) - self.first) * self.cells + 1e-9)
            counts[min(max(cell, 0), len(counts) - 1)] += count
        peak = max(counts)
        bars = "".join(_BARS[ceil(count / peak * (len(_BARS) - 1))] for count in counts)
        return Text(bars.rstrip(), style="cyan", no_wrap=True)

    def block(self, table: StageTable) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, min_width=_NAME_WIDTH, style="dim")
        grid.add_column(no_wrap=True)
        grid.add_row("", self.ticks())
        for step in table.steps:
            grid.add_row(step.name, self.line(step))
        return grid


def _power(exponent: int) -> str:
    """The duration 10**exponent (ns), as short as possible."""
    units = ("ns", "µs", "ms", "s")
    unit = min(exponent // 3, 3)
    return f"{10 ** (exponent - 3 * unit)}{units[unit]}" if exponent < 13 else f"1e{exponent - 9}s"
