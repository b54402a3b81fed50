"""`wsrec status` for people: a verdict, the connections, the figures, what is wrong; or one line.

All texts from outside pass `units.clean`, and everything is built of `Text`, never of markup.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsrec.supervise.state import NOT_UP, ConnectionState, RecorderState
from wsrec.supervise.status_query import RecorderReport, StatusExit, StatusReport
from wsrec.terminal_tables import print_table, print_text
from wsrec.units import clean, duration, plural, size, utc

_WORDS = {
    StatusExit.HEALTHY: ("healthy", "bold green"),
    StatusExit.DIED: ("DIED", "bold red"),
    StatusExit.NOTHING: ("not recording", "bold yellow"),
    StatusExit.DEGRADED: ("DEGRADED", "bold red"),
    StatusExit.UNREADABLE: ("not readable", "bold yellow"),
    StatusExit.UNREACHABLE: ("NO ANSWER", "bold red"),
}
_SHOWN_WARNINGS = 5
_COLUMNS = ("conn", "feed", "host", "state", "last", "messages", "rate", "p50", "p99", "reconnects")
_WORDS_IN = ("conn", "feed", "host", "state")
# on a terminal that is narrower than this
_WIDE, _LEFT_OUT = 110, ("host", "messages", "p50")


def line_of(report: StatusReport) -> str:
    """The report in one line, for a pipe."""
    problems = "; ".join(problem.text for each in report.recorders[:1] for problem in each.problems)
    return (
        f"{_WORDS[StatusExit(report.status)][0]}: {clean(report.summary, 1000)}{f' -- {problems}' if problems else ''}"
    )


def print_report(report: StatusReport, console: Console) -> None:
    """Print a report to the console."""
    for part in parts(report):
        if isinstance(part, Table):
            print_table(part, console)
        elif isinstance(part, Text):
            print_text(part, console)


def screen(report: StatusReport, width: int) -> RenderableType:
    """A report, to be drawn again and again on a terminal of so many characters: a narrow one gets fewer columns."""
    return Group(*parts(report, brief=width < _WIDE))


def parts(report: StatusReport, *, brief: bool = False) -> list[Text | Table]:
    """The report's lines and tables, in order."""
    word, style = _WORDS[StatusExit(report.status)]
    found: list[Text | Table] = [Text.assemble((word, style), f": {clean(report.summary, 1000)}")]
    for note in report.notes:
        if note != report.summary:
            found.append(Text(clean(note, 1000), style="yellow"))
    for each in report.recorders:
        found += _recorder(each, brief=brief)
    return found


def _recorder(report: RecorderReport, *, brief: bool) -> list[Text | Table]:
    state = report.state
    found: list[Text | Table] = [Text("")]
    if not state.holds_folder:
        found.append(Text(f"process {state.pid} is taking the folder over", style="bold"))
    found += [Text.assemble((f"{problem.kind}: ", "bold red"), problem.text) for problem in report.problems]
    found += [_facts(state), Text(""), _connections(state, brief=brief)]
    if state.warnings:
        found += [Text(""), Text(f"last warnings, of {_logged(state)}", style="bold")]
        found += [_warning(state, at) for at in range(min(len(state.warnings), _SHOWN_WARNINGS))]
    return found


def _facts(state: RecorderState) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    counts = state.counts
    until = "" if state.until is None else f", until {utc(state.until)}"
    since = f"{utc(state.began)} UTC, {duration(state.time - state.began)} ago{until}"
    grid.add_row("process", Text(f"{state.pid}, wsrec {clean(state.version, 60)}, {', '.join(state.sessions)}"))
    grid.add_row("since", Text(since if state.reason is None else f"{since}; ending: {clean(state.reason)}"))
    rates = f"{state.rate:,.0f} messages/s, {size(state.payload_rate)}/s"
    grid.add_row("messages", Text(f"{counts.messages:,}, {size(counts.payload_bytes)}; {rates}"))
    latencies = [f"{each.key} {_latency(each.latency.p50, each.latency.p99)}" for each in state.steps[-1:]]
    over = f" over the last {duration(state.window_ns)}" if state.window_ns else ""
    grid.add_row("latency", Text(f"{', '.join(latencies)}{over}"))
    lost = f"{plural(counts.gaps, 'gap')}, {plural(counts.lost_intervals, 'lost interval')}, {counts.refused:,} refused"
    grid.add_row(
        "missing", Text(lost, style="bold red" if counts.gaps + counts.lost_intervals + counts.refused else "")
    )
    grid.add_row("buffers", Text(f"ring {state.ring_fill:.1%}, journal lag {duration(state.journal_lag_ns)}"))
    rotation = f"next at {utc(state.next_rotation, date=False)[:8]} UTC"
    grid.add_row("files", Text(f"{state.files:,}, {rotation}; {size(state.journalled_bytes)} journalled"))
    if state.disk is not None:
        full = state.disk.full_in_ns
        left = "" if full is None else f", full in {duration(full)} at this rate"
        grid.add_row("disk", Text(f"{size(state.disk.free)} free{left}"))
    events = [plural(state.reconnects, "reconnect"), plural(state.stalls, "stall"), plural(state.restarts, "restart")]
    grid.add_row("events", Text(", ".join(events)))
    return grid


def _connections(state: RecorderState, *, brief: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = [(at, name) for at, name in enumerate(_COLUMNS) if not (brief and name in _LEFT_OUT)]
    for _, name in columns:
        table.add_column(name, justify="left" if name in _WORDS_IN else "right", no_wrap=True)
    # what is wrong is not below the edge of the screen
    for each in sorted(state.connections, key=lambda each: (each.state not in NOT_UP, each.conn)):
        row = _row(each)
        table.add_row(*(row[at] for at, _ in columns))
    return table


def _row(each: ConnectionState) -> list[Text]:
    age = "-" if each.age_ns is None else duration(each.age_ns)
    texts = [str(each.conn), clean(each.feed, 40), clean(each.host, 60), each.state]
    texts += [age, f"{each.messages:,}", f"{each.rate:,.0f}/s"]
    texts += [duration(each.latency.p50), duration(each.latency.p99), f"{each.reconnects:,}"]
    return [Text(text, style="bold red" if each.state in NOT_UP else "") for text in texts]


def _latency(p50: int | None, p99: int | None) -> str:
    return f"p50 {duration(p50)} p99 {duration(p99)}"


def _logged(state: RecorderState) -> str:
    lines = state.log_lines
    return f"{plural(lines.get('warning', 0), 'warning')} and {plural(lines.get('error', 0), 'error')}"


def _warning(state: RecorderState, at: int) -> Text:
    each = state.warnings[at]
    place = [clean(each.feed, 40)] if each.feed else []
    place += [] if each.conn is None else [str(each.conn)]
    where = f" [{' '.join(place)}]" if place else ""
    times = f" ({each.count:,} times)" if each.count > 1 else ""
    hint = f" -- {clean(each.hint, 500)}" if each.hint else ""
    style = "bold red" if each.level == "error" else "yellow"
    text = f" {duration(state.time - each.time)} ago{where}{times}: {clean(each.message, 500)}{hint}"
    return Text.assemble((each.level, style), text)
