"""Report on the terminal: readable at 80 columns, with sparklines next to the figures if there is room.

All texts from files pass `units.clean`, and everything is built of `Text`, never of markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, floor, log10
from time import monotonic

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from wsrec.report.model import (
    INCIDENT_KINDS,
    Delay,
    Incident,
    Latency,
    Recording,
    Report,
    Session,
    StageTable,
    Unchecked,
    UnfinishedSession,
)
from wsrec.ring.events import EventKind
from wsrec.terminal_tables import print_heading, print_table, print_text
from wsrec.units import clean, duration, plural, short_count, size, utc

_WIDE = 140
_BARS = " ▁▂▃▄▅▆▇█"
_NAME_WIDTH = 20
# delay (s) before a progress bar is shown
_TIMEOUT = 1.0
_SHOWN_INCIDENTS = 12
_SHOWN_CHANNELS = 16
_SHOWN_RANGES = 5
_SHOWN_SESSIONS = 8

_TITLES = {
    "all": "all frames",
    "first": "first in their read (frame_in_read 0)",
    "behind": "behind others of the same read (frame_in_read above 0)",
}


def print_report(report: Report, console: Console) -> None:
    """Print a report to the console."""
    for index, recording in enumerate(report.recordings):
        if index:
            console.print()
        print_heading(Text(f"{clean(recording.feed, 40)} on {clean(recording.host, 30)}", style="bold"), console)
        for part in _recording(recording, console):
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


def _recording(recording: Recording, console: Console) -> Iterator[Text | Table]:
    yield _facts(recording)
    for warning in recording.warnings:
        yield _indented(Text(f"! {warning}", style="yellow"), hang=2)
    if recording.incidents:
        yield Text()
        yield _incidents(recording)
    if recording.stages:
        yield Text()
        yield from _stages(recording, console)
    if recording.exchange_delay is not None:
        yield Text()
        yield from _delays(recording, recording.exchange_delay)


def _facts(recording: Recording) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    first, last = recording.first_recv_time, recording.last_recv_time
    if first is None or last is None:
        grid.add_row("time", Text("no rows"))
    else:
        same_day = utc(first)[:10] == utc(last)[:10]
        span = f"{utc(first)} to {utc(last, date=not same_day)} UTC"
        grid.add_row("time", Text(f"{span}, {duration(recording.recorded)} recorded"))
    files = plural(recording.files, "file")
    if not recording.files:
        files = f"no message file, {plural(recording.events_files, 'event file')}"
    grid.add_row("files", Text(f"{files} of {plural(len(recording.sessions), 'session')}"))
    rows = " · ".join(
        f"{recording.row_count(direction):,} {word}"
        for direction, word in (("recv", "received"), ("sent", "sent"), ("rest", "rest"))
    )
    grid.add_row("rows", Text(rows))
    for direction, opcodes in recording.rows.items():
        counts = " · ".join(f"{clean(opcode, 20)} {count:,}" for opcode, count in opcodes.items())
        grid.add_row("", Text(f"{clean(direction, 20)}: {counts}", style="dim"))
    if recording.rate is not None:
        mean = f"{recording.rate.mean:,.1f}/s mean, " if recording.rate.mean is not None else ""
        when = utc(recording.rate.peak_time)[:-4]
        grid.add_row("rate", Text(f"{mean}{recording.rate.peak:,}/s peak in the second {when}"))
    ratio = f", {recording.payload_bytes / recording.file_bytes:.2f} to 1" if recording.file_bytes else ""
    disk = f"{size(recording.payload_bytes)} payload in {size(recording.file_bytes)} on disk{ratio}"
    grid.add_row("size", Text(disk))
    for index, session in enumerate(_worst_first(recording.sessions)[:_SHOWN_SESSIONS]):
        grid.add_row("seq" if not index else "", _sequence(session, named=len(recording.sessions) > 1))
    if len(recording.sessions) > _SHOWN_SESSIONS:
        grid.add_row("", Text(f"and {plural(len(recording.sessions) - _SHOWN_SESSIONS, 'more session')}", style="dim"))
    grid.add_row("gaps", _gaps(recording))
    grid.add_row("events", _events(recording))
    grid.add_row("stage 1", _stage1(recording))
    grid.add_row("clock", _clock(recording))
    return grid


def _worst_first(sessions: list[Session]) -> list[Session]:
    return sorted(sessions, key=lambda session: not (session.missing or session.duplicates))


def _sequence(session: Session, *, named: bool) -> Text:
    text = Text(f"{clean(session.session, 40)}: " if named else "")
    if session.first_seq is None:
        return text.append("no rows")
    span = f"seq {session.first_seq:,}..{session.last_seq:,}"
    if session.missing is None:
        return text.append(f"{span}: whether rows are missing shows in a report of the whole", style="dim")
    if not session.missing and not session.duplicates:
        text.append("complete", style="green").append(f": {span}, none missing")
        return text if not session.first_seq else text.append(" (the session's earlier files are not in this report)")
    text.append("incomplete" if session.missing else "repeated", style="bold red").append(f": {span}")
    if session.missing:
        ranges = session.missing_ranges[:_SHOWN_RANGES]
        holes = ", ".join(f"{low:,}..{high:,}" if low < high else f"{low:,}" for low, high in ranges)
        more = ", and others" if len(session.missing_ranges) > _SHOWN_RANGES else ""
        text.append(f", {session.missing:,} missing ({holes}{more})")
    if session.duplicates:
        text.append(f", {session.duplicates:,} duplicate")
    return text


def _gaps(recording: Recording) -> Text:
    if not recording.files:
        return Text("unknown: no message file was read", style="yellow")
    if recording.gaps is None:
        return Text("unknown: the feed declares no sequence rule", style="dim")
    if recording.unchecked:
        found = f"{recording.gaps:,} among the messages that could be compared" if recording.gaps else "unknown"
        skipped = "; ".join(_unchecked(each) for each in recording.unchecked[:_SHOWN_CHANNELS])
        return Text(
            f"{found}, because the feed's sequence rule could not be applied to all of them: {skipped}", "yellow"
        )
    if not recording.gaps:
        return Text.assemble(("none", "green"), " by the feed's sequence rule")
    return Text.assemble((f"{recording.gaps:,}", "bold red"), " by the feed's sequence rule")


def _unchecked(unchecked: Unchecked) -> str:
    missed = sum(unchecked.skipped.values())
    why = ", ".join(f"{count:,} {clean(reason, 80)}" for reason, count in unchecked.skipped.items())
    channel = "all channels" if unchecked.channel is None else clean(unchecked.channel, 40)
    return f"{channel} {missed:,} of {unchecked.compared + missed:,} ({why})"


def _events(recording: Recording) -> Text:
    length = {EventKind.STALL: recording.stalled, EventKind.LOST_INTERVAL: recording.lost}
    counts = [
        f"{recording.topics.get(kind, recording.events[kind]):,} {kind}"
        + (f" ({duration(length[kind])})" if kind in length else "")
        for kind in INCIDENT_KINDS
        if recording.events.get(kind)
    ]
    unread = "not all events files could be read" if recording.events_unread else ""
    if counts:
        return Text(" · ".join([*counts, *([unread] if unread else [])]), style="yellow")
    if unread:
        return Text(f"unknown: {unread}", style="yellow")
    if not recording.events:
        return Text("no events files with these files", style="dim")
    return Text.assemble(("quiet", "green"), ": no disconnect, stall, lost interval, refusal or clock step")


def _stage1(recording: Recording) -> Text:
    stage1 = recording.stage1
    received = stage1.nic + stage1.kernel + stage1.none
    if not received:
        return Text("no received rows", style="dim")
    words = ((stage1.nic, "NIC stamps"), (stage1.kernel, "kernel stamps"), (stage1.none, "without a stamp"))
    text = Text(" · ".join(f"{count:,} {word} ({count / received:.1%})" for count, word in words if count))
    if stage1.after_event:
        text.append(f"\n{stage1.after_event:,} arrived between EVENT and RECV_END: NIC->EVENT is negative", style="dim")
    for reason, count in recording.stage1.reasons.items():
        text.append(f"\nnull in {count:,}: {clean(reason, 80)}", style="dim")
    return text


def _clock(recording: Recording) -> Text:
    clock = recording.clock
    parts = [clean(name, 30) for name in clock.clocks]
    if clock.anchors:
        parts.append(plural(clock.anchors, "anchor"))
    if clock.width is not None:
        parts.append(f"UTC within {duration(clock.width)}")
    if not parts:
        parts.append("no information in the files")
    if clock.largest_step is not None:
        steps = plural(clock.steps, "step")
        return Text(" · ".join([*parts, f"{steps}, the largest {duration(clock.largest_step)}"]), style="yellow")
    # a step is an event
    return Text(" · ".join([*parts, *([] if recording.events_unread else ["no step seen"])]))


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
    detail = dict(incident.detail)
    if incident.kind == EventKind.LOST_INTERVAL and all(isinstance(detail.get(key), int) for key in ("from", "to")):
        begin, end = detail.pop("from"), detail.pop("to")
        detail.pop("duration_ns", None)
        where.append(f"{duration(end - begin)}, from {utc(begin)} to {utc(end, date=utc(begin)[:10] != utc(end)[:10])}")
    for key, value in detail.items():
        if key.endswith("_ns") and isinstance(value, int):
            where.append(f"{clean(key.removesuffix('_ns'), 20)} {duration(value)}")
        elif value not in (None, "", [], {}):
            plain = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            where.append(f"{clean(key, 20)} {clean(plain, 80)}")
    return Text(", ".join(where))


def _stages(recording: Recording, console: Console) -> Iterator[Text | Table]:
    width = console.width
    tables = recording.stages
    alone = {table.frames for table in tables} == {"all", "first"}
    if alone:
        tables = [table for table in tables if table.frames == "all"]
    axis = _Axis([step for table in tables for step in table.steps], width)
    for index, table in enumerate(tables):
        if index:
            yield Text()
        title = "all frames, each the first in its read" if alone else _TITLES[table.frames]
        yield Text(title, style="bold")
        yield _stage_table(table, width, axis)
        if width < _WIDE:
            yield axis.block(table)
    yield Text(axis.legend, style="dim")


def _stage_table(table: StageTable, width: int, axis: _Axis) -> Table:
    wide = width >= _WIDE
    space = " " if wide else ""
    grid = Table.grid(padding=(0, 2 if wide else 1))
    # the only column that shrinks if figures are unusually wide
    grid.add_column(overflow="fold", min_width=0 if not wide else _NAME_WIDTH)
    names = ("count", "min", "mean", "p50", "p90", "p99", "p99.9", "max", "share" if wide else "%")
    for _ in names:
        grid.add_column(justify="right", no_wrap=True)
    heads = [Text(name, style="dim") for name in ("step", *names)]
    grid.add_row(*heads, *([axis.ticks()] if wide else []))
    for step in table.steps:
        values = (step.min, step.mean, step.p50, step.p90, step.p99, step.p999, step.max)
        share = "-" if step.share is None else f"{100 * step.share:.0f}{'%' if wide else ''}"
        style = "bold" if step.name.endswith("HANDOFF") and not step.name.startswith("PARSED") else ""
        cells = [
            Text(step.name),
            Text(f"{step.count:,}" if wide else short_count(step.count)),
            *(Text(duration(value, space), style="yellow" if (value or 0) < 0 else "") for value in values),
            Text(share),
        ]
        grid.add_row(*cells, *([axis.line(step)] if wide else []), style=style)
    return grid


class _Axis:
    """One logarithmic axis for the sparklines of all tables, in whole decades."""

    def __init__(self, steps: list[Latency], width: int) -> None:
        used = [low for step in steps for low, _ in step.buckets]
        highs = [step.max for step in steps if step.max is not None]
        self.first = floor(log10(max(min(used), 1)))
        self.decades = max(ceil(log10(max(*highs, 10))) - self.first, 1)
        room = width - 112 if width >= _WIDE else width - _NAME_WIDTH - 1
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
