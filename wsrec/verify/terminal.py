"""Terminal output of a verification: problems first, then each session, its ledger and its streams.

All texts from files pass `units.clean`, and everything is built of `Text`, never of markup.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsrec.terminal_tables import print_heading, print_table, print_text
from wsrec.units import clean, duration, plural, size, utc
from wsrec.verify.model import (
    Balance,
    Capture,
    Finding,
    Interval,
    Kind,
    Session,
    State,
    Stream,
    Verification,
    VerifyStatus,
)

_SHOWN_FINDINGS = 20
_SHOWN_STREAMS = 20
_SHOWN_INTERVALS = 5
_STYLES = {
    State.PROVED: "green",
    State.UNBROKEN: "cyan",
    State.SILENT: "dim",
    State.INCOMPLETE: "bold red",
    Kind.DAMAGED: "bold red",
    Kind.CONTRADICTION: "bold red",
    Kind.INCOMPLETE: "yellow",
    Kind.UNREADABLE: "bold yellow",
    Kind.UNCHECKED: "yellow",
    Kind.NOTE: "dim",
}
_VERDICTS = {
    VerifyStatus.HOLDS: ("holds", "green", "nothing damaged, nothing contradictory, no interval incomplete"),
    VerifyStatus.DAMAGED: ("DAMAGED", "bold red", "damaged or contradictory, see above"),
    VerifyStatus.UNREADABLE: ("not readable", "yellow", "some files cannot be read, see above"),
    VerifyStatus.NOTHING: ("nothing there", "yellow", "no rows in any file"),
    VerifyStatus.INCOMPLETE: ("incomplete", "yellow", "the files are sound, but something is missing, see above"),
}
_WORST_FIRST = (State.INCOMPLETE, State.SILENT, State.UNBROKEN, State.PROVED)


def print_verification(verification: Verification, console: Console) -> None:
    """Print a verification to the console."""
    for index, capture in enumerate(verification.captures):
        if index:
            console.print()
        _capture(capture, console)


def reasons(verification: Verification) -> list[str]:
    """Why the exit status is not 0: a line for each capture that does not hold."""
    lines = []
    for capture in verification.captures:
        if capture.status is VerifyStatus.HOLDS:
            continue
        word, _, meaning = _VERDICTS[capture.status]
        why = f"{word}: {meaning.removesuffix(', see above')}"
        # the gravest is first
        grave = [finding for finding in capture.findings if finding.kind is not Kind.NOTE]
        if grave:
            why = _finding(grave[0], capture.path).plain
            why += f", and {plural(len(grave) - 1, 'more finding')}" if len(grave) > 1 else ""
        lines.append(f"{clean(capture.path, 1000)}: {why}; `wsrec verify` without --quiet shows all")
    return lines


def _capture(capture: Capture, console: Console) -> None:
    part = "" if capture.whole else " (in part)"
    print_heading(Text(f"{clean(capture.path, 1000)}{part}", style="bold"), console)
    for finding in capture.findings[:_SHOWN_FINDINGS]:
        print_text(_finding(finding, capture.path), console)
    if len(capture.findings) > _SHOWN_FINDINGS:
        rest = Counter(finding.kind.value for finding in capture.findings[_SHOWN_FINDINGS:])
        counted = ", ".join(f"{count:,} {kind}" for kind, count in rest.items())
        print_text(Text(f"and {counted} more (--json lists them)", style="dim"), console)
    for session in capture.sessions:
        console.print()
        _session(session, console)
    word, style, why = _VERDICTS[capture.status]
    console.print()
    print_text(Text.assemble((word, style), f": {why}"), console)


def _finding(finding: Finding, root: str) -> Text:
    what = f" {clean(finding.where.removeprefix(root + '/'), 300)}: {clean(finding.what, 500)}"
    return Text.assemble((finding.kind.value, _STYLES[finding.kind]), what)


def _session(session: Session, console: Console) -> None:
    title = Text(f"{clean(session.feed, 40)}, session {clean(session.session, 60)}: {session.state}", style="bold")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    if session.start is not None and session.end is not None and session.duration is not None:
        span = f"{utc(session.start)} to {utc(session.end)} UTC, {duration(session.duration)}"
        grid.add_row("time", Text(span))
    unread = f", {session.unread:,} not read and not counted below" if session.unread else ""
    grid.add_row("files", Text(f"{session.files:,}, {size(session.bytes)}, {plural(session.rows, 'row')}{unread}"))
    if session.remembered and session.remembered_since is not None:
        what = "were proved by an earlier verify and are not read again: same size, times and inode"
        since = f"first read {utc(session.remembered_since)} UTC; --again reads all"
        grid.add_row("memory", Text(f"{session.remembered:,} of {plural(session.files, 'file')} {what} ({since})"))
    _counts(session, grid)
    if session.stalls:
        paused = (
            f"{session.stalls:,}, {duration(session.stalled)} in all: a ring was full, TCP pushed back, nothing lost"
        )
        grid.add_row("stalls", Text(paused))
    if session.unattributed:
        grid.add_row("other", Text(f"{session.unattributed:,} received without a channel: answers, heartbeats"))
    for index, loss in enumerate(session.losses[:_SHOWN_INTERVALS]):
        conn = "" if loss.conn is None else f"connection {loss.conn}: "
        most = "at most " if loss.bound == "upper" else ""
        known = " to ".join(clean(each, 100) for each in (loss.start_evidence, loss.end_evidence) if each)
        span = f"{utc(loss.start)}, {most}{duration(loss.monotonic_end - loss.monotonic_start)}"
        lost = f"{conn}{span}: {clean(loss.reason, 200)}{f' ({known})' if known else ''}"
        grid.add_row("" if index else "lost", Text(lost, style="yellow"))
    if len(session.losses) > _SHOWN_INTERVALS:
        grid.add_row("", Text(f"and {len(session.losses) - _SHOWN_INTERVALS:,} more", style="dim"))
    print_text(title, console)
    print_table(grid, console)
    if session.streams:
        _print_streams(session.streams, console)
        _missing(session.streams, console)


def _counts(session: Session, grid: Table) -> None:
    """Whether the counts agree; says nothing about files that were not read."""
    holes = f"{session.missing:,} missing, {session.duplicates:,} duplicate"
    if session.missing or session.duplicates:
        grid.add_row("seq", Text(holes, style="bold red"))
    elif not session.rows:
        grid.add_row("seq", Text("no rows", style="dim"))
    elif session.unread:
        grid.add_row("seq", Text("unknown: not all files were read", style="yellow"))
    else:
        grid.add_row("seq", Text("none missing", style="green"))
    for index, count in enumerate(session.ledger):
        stated = ", ".join(f"{source} {value:,}" for source, value in count.sources.items())
        mark = Text("= ", "green") if count.agrees else Text("! ", "bold red")
        if session.unread:
            mark = Text("? ", "yellow")
        grid.add_row("" if index else "ledger", Text.assemble(mark, f"{count.what.replace('_', ' ')}: {stated}"))
    if session.balance is not None:
        grid.add_row("balance", _balance(session.balance))


def _balance(balance: Balance) -> Text:
    parts = [plural(balance.rows, "row")]
    for count, what in (
        (balance.joined, "joined"),
        (balance.discarded, "cut off by a lost connection"),
        (balance.unfinished, "cut off by the end"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    mark = Text("= ", "green") if balance.balanced else Text("! ", "bold red")
    says = "balanced" if balance.balanced else "NOT balanced"
    return Text.assemble(mark, f"{plural(balance.frames, 'frame')} received = {' + '.join(parts)}: {says}")


def _print_streams(streams: list[Stream], console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for _ in range(4):
        grid.add_column(justify="right", no_wrap=True)
    heads = ("stream", "conn", "channel and symbol", "messages", "proved", "unbroken", "incomplete")
    grid.add_row(*(Text(head, style="dim") for head in heads))
    ordered = sorted(streams, key=lambda stream: _WORST_FIRST.index(stream.state))
    for stream in ordered[:_SHOWN_STREAMS]:
        times = (stream.proved, stream.unbroken, stream.incomplete)
        grid.add_row(
            Text(stream.state.value, style=_STYLES[stream.state]),
            Text(str(stream.conn)),
            Text(_name(stream)),
            Text(f"{stream.messages:,}" + (f"\n({stream.not_inflated:,} unread)" if stream.not_inflated else "")),
            *(Text(duration(ns) if ns else "-", style="dim" if not ns else "") for ns in times),
        )
    print_table(grid, console)
    rest = Counter(stream.state.value for stream in ordered[_SHOWN_STREAMS:])
    if rest:
        counted = ", ".join(f"{count:,} {state}" for state, count in rest.items())
        print_text(Text(f"and {counted} (--json lists them)", style="dim"), console)


def _missing(streams: list[Stream], console: Console) -> None:
    """Print the first incomplete intervals of the first streams that have some."""
    for stream in [each for each in streams if each.state is State.INCOMPLETE][:_SHOWN_STREAMS]:
        bad = [interval for interval in stream.intervals if interval.state is State.INCOMPLETE]
        print_text(Text(f"{_name(stream)}, connection {stream.conn}: incomplete", style="yellow"), console)
        for interval in bad[:_SHOWN_INTERVALS]:
            print_text(Text(f"  {_span(interval)}: {clean(interval.reason, 200)}"), console)
        if len(bad) > _SHOWN_INTERVALS:
            print_text(Text(f"  and {len(bad) - _SHOWN_INTERVALS:,} more", style="dim"), console)


def _name(stream: Stream) -> str:
    words = [clean(word, 60) for word in (stream.channel, stream.symbol) if word is not None]
    return " ".join(words) or (clean(stream.topic, 60) if stream.topic else "all messages")


def _span(interval: Interval) -> str:
    return f"{utc(interval.start)}, {duration(interval.monotonic_end - interval.monotonic_start)}"
