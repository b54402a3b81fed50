"""Report on the terminal: one screen at 80 columns, and more of it on request.

All texts from files pass `units.clean`, and everything is built of `Text`, never of markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wsrec.report.facts import facts
from wsrec.report.incident_words import in_words
from wsrec.report.model import INCIDENT_KINDS, Delay, Incident, Recording, Report, UnfinishedSession
from wsrec.report.stage_lines import stage_lines
from wsrec.ring.events import EventKind
from wsrec.terminal_tables import print_heading, print_table, print_text
from wsrec.units import clean, duration, plural, utc

_NAME_WIDTH = 20
# delay (s) before a progress bar is shown
_TIMEOUT = 1.0
_SHOWN_INCIDENTS = 12
_SHOWN_CHANNELS = 16
_SHOWN_WARNINGS = 3
# lines of a terminal from which the sparklines fit below the table
_TALL = 34

_STYLES = {"complete": "bold green", "unproved": "bold yellow", "incomplete": "bold red"}


def print_report(report: Report, console: Console, *, frames: bool = False, details: bool = False) -> None:
    """Print a report to the console.

    Args:
        report: the report.
        console: where to.
        frames: with tables of the frames first in their read, and of those behind others.
        details: with everything that does not fit on one screen.

    """
    for index, recording in enumerate(report.recordings):
        if index:
            console.print()
        print_heading(Text(f"{clean(recording.feed, 40)} on {clean(recording.host, 30)}", style="bold"), console)
        for part in _recording(recording, console, frames=frames, details=details):
            if isinstance(part, Table):
                print_table(part, console)
            else:
                print_text(part, console)
    for session in report.unfinished:
        print_text(_unfinished(session), console)


def _unfinished(unfinished: UnfinishedSession) -> Text:
    session, out = clean(unfinished.session, 60), clean(unfinished.out, 200)
    if unfinished.recording:
        return Text(f"{session} is being recorded into {out}: what it has so far is included", style="green")
    return Text(f"{session} was interrupted: `wsrec recover {out}` finishes it; its rows are included", style="yellow")


@contextmanager
def reading_progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for `collect`: only on a terminal, only after a second, and removed at the end."""
    bar = Progress(
        TextColumn("reading"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("reading", total=None)
    begun = monotonic()

    def show(done: int, total: int) -> None:
        if monotonic() - begun > _TIMEOUT:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()


def _recording(recording: Recording, console: Console, *, frames: bool, details: bool) -> Iterator[Text | Table]:
    judged = recording.verdict
    yield Text.assemble((judged.state, _STYLES[judged.state]), f": {judged.sentence}")
    yield _facts(recording, details=details)
    warnings = recording.warnings if details else recording.warnings[:_SHOWN_WARNINGS]
    for warning in warnings:
        yield _indented(Text(f"! {warning}", style="yellow"), hang=2)
    if len(recording.warnings) > len(warnings):
        yield Text(
            f"! and {plural(len(recording.warnings) - len(warnings), 'more warning')}: --details", style="yellow"
        )
    if recording.incidents:
        yield _incidents(recording) if details else _folded_incidents(recording, is_cut=console.is_terminal)
    if recording.stages:
        yield Text()
        sparklines = not console.is_terminal or frames or details or console.height >= _TALL
        yield from stage_lines(
            recording, console.width, frames=frames or details, details=details, sparklines=sparklines
        )
    if details and recording.exchange_delay is not None:
        yield Text()
        yield from _delays(recording, recording.exchange_delay)


def _facts(recording: Recording, *, details: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts(recording, details=details):
        grid.add_row(name, text)
    return grid


def _folded_incidents(recording: Recording, *, is_cut: bool) -> Table:
    """A line for each kind: how many, and the first of them, on a terminal the beginning of it."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    order = {kind: number for number, kind in enumerate(INCIDENT_KINDS)}
    by_kind = sorted(recording.incidents, key=lambda incident: order.get(EventKind(incident.kind), len(order)))
    for kind, incidents in groupby(by_kind, key=lambda incident: incident.kind):
        first = next(incidents)
        count = recording.events[kind]
        what = _incident(first)
        if is_cut:
            what.truncate(60, overflow="ellipsis")
        number = Text(f"{clean(kind, 20)} ({count:,})" if count > 1 else clean(kind, 20), style="yellow")
        grid.add_row(utc(first.time), number, what)
    return grid


def _incidents(recording: Recording) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    shown = recording.incidents[:_SHOWN_INCIDENTS]
    for incident in shown:
        grid.add_row(utc(incident.time), Text(clean(incident.kind, 20), style="yellow"), _incident(incident))
    rest = sum(recording.events[kind] for kind in {i.kind for i in recording.incidents}) - len(shown)
    if rest > 0:
        grid.add_row(f"and {rest:,} more", "", "")
    return grid


def _incident(incident: Incident) -> Text:
    where = [] if incident.conn is None else [f"conn {incident.conn}"]
    where += [clean(word, 30) for word in (incident.channel, incident.symbol) if word]
    return Text(", ".join([*where, *in_words(incident)]))


def _delays(recording: Recording, total: Delay) -> Iterator[Text | Table]:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(overflow="fold", min_width=_NAME_WIDTH)
    for _ in range(5):
        grid.add_column(justify="right", no_wrap=True)
    grid.add_row(*(Text(head, style="dim") for head in ("channel", "count", "min", "p50", "p99", "max")))
    channels = recording.exchange_delay_by_channel
    for delay in channels[:_SHOWN_CHANNELS]:
        grid.add_row(Text(clean(delay.channel, 30) if delay.channel else "(no channel)"), *_delay_cells(delay))
    if len(channels) > _SHOWN_CHANNELS:
        grid.add_row(Text(f"and {plural(len(channels) - _SHOWN_CHANNELS, 'more channel')}", style="dim"))
    if len(channels) > 1:
        grid.add_row(Text("all channels"), *_delay_cells(total), style="bold")
    notes = {1: "", 1_000: "whole µs", 1_000_000: "whole ms", 1_000_000_000: "whole seconds"}
    coarse = notes[total.resolution]
    note = f"All exchange times are {coarse}: delays are not more precise than that." if coarse else ""
    yield Text("recv_time minus exchange_time (exchange, network and both clocks)", style="bold")
    yield grid
    if note:
        yield Text(note, style="dim")


def _delay_cells(delay: Delay) -> Iterator[Text]:
    yield Text(f"{delay.count:,}")
    for value in (delay.min, delay.p50, delay.p99, delay.max):
        yield Text(duration(value), style="yellow" if value < 0 else "")


def _indented(text: Text, hang: int) -> Table:
    grid = Table.grid()
    grid.add_column(width=hang, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(text[:hang], text[hang:])
    return grid
