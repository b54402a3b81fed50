"""What the live view shows: a recorder's state as a screen of a given size.

From top to bottom: a title; the figures, with the steps beside them or, if there is room, below; the connections,
each with its latency of the last minutes; the last warnings; the keys. What there is no room for is counted, never cut
without a word. No I/O: the screen belongs to `wsrec.supervise.terminal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsrec.ipc import place_of
from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.live_history import MOST, PERIOD_NS, History
from wsrec.supervise.live_rows import SORTS, Sort, connection_rows
from wsrec.supervise.state import RecorderState, WarningState
from wsrec.units import clean, duration, plural, short_count, size, utc

# with more columns than this, the steps stand beside the figures
_WIDE = 130
_FIGURE_LINES = 4
_STEP_LINES = len(STEPS) + 2
# lines of warnings that connections leave, if there are that many
_WARNINGS = 3
_LEAST_ROWS = 3
# of one warning, with its heading
_WARNING_LINES = 3
# with room for so many connections, the steps are more worth than further ones
_ENOUGH_ROWS = 10

HELP = (
    ("q", "end the recording and finish its files, when typed twice; Ctrl-C does so at once"),
    ("p", "pause this view, or go on: the recording never pauses"),
    ("s", f"sort the connections by {', '.join(SORTS)}"),
    ("f", "feeds alone, or with their connections"),
    ("up, down, page up, page down", "scroll the connections"),
    ("?", "this page, and back"),
)


@dataclass
class Choices:
    """What the operator chose by keys.

    Attributes:
        sort: the order of the connections.
        feeds_only: whether connections are left out.
        first: the first row that is shown.
        paused: the state that is shown for now; None: the current one.
        helping: whether the keys are explained.
        ending: whether `q` was typed once.

    """

    sort: Sort = "feed"
    feeds_only: bool = False
    first: int = 0
    paused: RecorderState | None = None
    helping: bool = False
    ending: bool = False


class LiveView:
    """Draws a recorder's state.

    Args:
        has_keys: whether keys are read.

    Attributes:
        choices: what the operator chose.
        history: the latencies of the last minutes.

    """

    def __init__(self, *, has_keys: bool) -> None:
        self.choices = Choices()
        self.history = History()
        self._has_keys = has_keys
        self._page = 1

    def press(self, key: str, state: RecorderState) -> Literal["end"] | None:
        """Take a key; returns `end` if the recording is to end."""
        choices = self.choices
        confirmed, choices.ending = choices.ending, key == "q"
        match key:
            case "q" if confirmed:
                return "end"
            case "p":
                choices.paused = state if choices.paused is None else None
            case "s":
                choices.sort = SORTS[(SORTS.index(choices.sort) + 1) % len(SORTS)]
                choices.first = 0
            case "f":
                choices.feeds_only, choices.first = not choices.feeds_only, 0
            case "?" | "h":
                choices.helping = not choices.helping
            case "up" | "k":
                choices.first -= 1
            case "down" | "j":
                choices.first += 1
            case "page up":
                choices.first -= self._page
            case "page down" | " ":
                choices.first += self._page
            case "home":
                choices.first = 0
            case "end":
                choices.first = 1 << 30
        return None

    def draw(self, state: RecorderState, width: int, height: int) -> RenderableType:
        """The screen, of `height` lines at most; a paused view shows the state of that moment."""
        state = self.choices.paused or state
        parts: list[RenderableType] = [self._title(state, width)]
        # without the title and the keys
        left = height - 2
        spare = left - (_LEAST_ROWS + 2) - (_WARNING_LINES if state.warnings else 0)
        figures = _FIGURE_LINES + bool(state.restarts) + 2
        beside = width >= _WIDE and spare >= max(figures, _STEP_LINES + 2)
        # on a small screen, what the figures say matters less than the connections and warnings
        if spare >= figures:
            parts += [Text(), _beside(_figures(state), _steps(state)) if beside else _figures(state), Text()]
            left -= max(figures, _STEP_LINES + 2) if beside else figures
        if self.choices.helping:
            parts.append(_help(width))
            return Group(*parts, self._keys())
        warnings = min(len(state.warnings), _WARNINGS)
        spare = left - (warnings + 2 if warnings else 0)
        table, rows = connection_rows(
            state, self.history, self.choices.sort, width, feeds_only=self.choices.feeds_only, alone=_is_alone(state)
        )
        below = not beside and spare >= min(len(rows), _ENOUGH_ROWS) + 2 + _STEP_LINES
        shown = max(min(len(rows), spare - 1 - (_STEP_LINES + 1 if below else 0)), min(_LEAST_ROWS, len(rows)))
        if shown < len(rows):
            shown = max(shown - 1, 1)
        self._page = shown
        first = self.choices.first = max(min(self.choices.first, len(rows) - shown), 0)
        for row in rows[first : first + shown]:
            table.add_row(*row.cells, style=row.style)
        parts.append(table)
        left -= shown + 1
        if shown < len(rows):
            parts.append(Text(f"{first + 1} to {first + shown} of {len(rows)}", style="dim"))
            left -= 1
        if below:
            parts += [Text(), _steps(state)]
            left -= _STEP_LINES + 1
        if state.warnings and left >= 3:
            parts += [Text(), *_warnings(state.warnings, left - 2)]
            left -= min(len(state.warnings), left - 2) + 2
        parts += [Text()] * max(left, 0)
        return Group(*parts, self._keys())

    def _title(self, state: RecorderState, width: int) -> Text:
        right = [duration(state.time - state.began)]
        if state.until is not None:
            left = state.until - state.time
            right.append(f"{duration(left)} left" if left > 0 else "time is up")
        word, style = {"starting": ("starting", "yellow"), "finishing": ("finishing", "yellow")}.get(
            state.phase, ("recording", "green")
        )
        end = Text("  ".join(right), style="dim", no_wrap=True)
        if self.choices.paused is not None:
            end = Text("VIEW PAUSED, p goes on", style="reverse").append("  ").append_text(end)
        title = Text(no_wrap=True, overflow="ellipsis").append(word, style=f"bold {style}").append(" ")
        names = clean(", ".join(state.targets), 200)
        title.append(names, style="bold").append(f" to {clean(state.out, 200)}", style="dim")
        title.truncate(max(width - end.cell_len - 2, 10), overflow="ellipsis", pad=True)
        return title.append("  ").append_text(end)

    def _keys(self) -> Text:
        if not self._has_keys:
            return Text("Ctrl-C to finish", style="dim", no_wrap=True)
        if self.choices.ending:
            return Text("q again: end the recording and finish its files; any other key: go on", style="reverse")
        keys = (
            ("q", "end"),
            ("p", "pause view"),
            ("s", f"sort: {self.choices.sort}"),
            ("f", "feeds"),
            ("?", "help"),
        )
        line = Text(no_wrap=True, overflow="ellipsis")
        for key, word in keys:
            line.append(key, style="bold").append(f" {word}   ", style="dim")
        return line.append("Ctrl-C to finish", style="dim")


def _is_alone(state: RecorderState) -> bool:
    return len(state.feeds) < 2


def _beside(figures: Table, steps: Table) -> Table:
    grid = Table.grid(padding=(0, 4, 0, 0))
    grid.add_row(figures, steps)
    return grid


def _figures(state: RecorderState) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, figure in ((8, 14), (12, 9), (10, 15)):
        grid.add_column(style="dim", no_wrap=True, min_width=label)
        grid.add_column(no_wrap=True, justify="right", min_width=figure)
    counts = state.counts
    planned, up = len(state.connections), state.connected
    disk = state.disk
    full = "" if disk is None or disk.full_in_ns is None else f", {duration(disk.full_in_ns)}"
    rows = (
        ("messages", f"{counts.messages:,}", "rate", f"{short_count(round(state.rate))}/s"),
        ("payload", size(counts.payload_bytes), "wire", f"{size(state.wire_rate)}/s"),
        ("ring", f"{state.ring_fill:.1%}", "journal lag", duration(state.journal_lag_ns)),
        ("files", f"{state.files:,}", "next file in", duration(max(state.next_rotation - state.time, 0))),
    )
    connected = Text(f"{up}/{planned}", style="green" if up == planned else "bold red")
    trouble = counts.gaps + counts.lost_intervals + counts.refused
    free = Text("unknown") if disk is None else Text(f"{size(disk.free)}{full}")
    if state.disk_trouble:
        free = Text("DISK TROUBLE", style="bold red")
    grid.add_row(*rows[0], "connected", connected)
    grid.add_row(*rows[1], "reconnects", _count(state.reconnects))
    grid.add_row(*rows[2], "gaps, lost", _count(trouble))
    grid.add_row(*rows[3], "disk free", free)
    if state.restarts:
        grid.add_row("stalls", _count(state.stalls), "restarts", _count(state.restarts), "", "")
    return grid


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="bold red" if number else "")


def _steps(state: RecorderState) -> Table:
    steps = Table.grid(padding=(0, 2, 0, 0))
    steps.add_column(no_wrap=True)
    for _ in range(2):
        steps.add_column(no_wrap=True, justify="right", min_width=8)
    steps.add_row(
        Text(f"last {state.window_ns / 1e9:.0f} s", style="dim"), *(Text(p, style="dim") for p in ("p50", "p99"))
    )
    names = {step.key: step.name for step in (*STEPS, TOTAL)}
    for each in state.steps:
        style = "bold" if each.key == TOTAL.key else ""
        name = names.get(each.key, each.key)
        steps.add_row(name, duration(each.latency.p50), duration(each.latency.p99), style=style)
    return steps


def _warnings(warnings: Sequence[WarningState], most: int) -> list[Text]:
    rest = len(warnings) - most
    heading = plural(sum(each.count for each in warnings), "warning")
    if rest > 0:
        heading += f", the last {plural(most, 'kind')} of {len(warnings)}"
    lines = [Text(heading, style="dim")]
    for each in warnings[:most]:
        line = Text(no_wrap=True, overflow="ellipsis").append(utc(each.time)[11:19], style="dim").append(" ")
        if each.count > 1:
            line.append(f"{each.count:,}x ", style="bold")
        about = place_of(each.feed, each.conn)
        line.append(f"{about}: " if about else "", style="dim")
        line.append(clean(each.message, 500), style="bold red" if each.level == "error" else "yellow")
        if each.hint:
            line.append(f" ({clean(each.hint, 300)})", style="dim")
        lines.append(line)
    return lines


def _help(width: int) -> Group:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for keys, meaning in HELP:
        grid.add_row(keys, meaning)
    minutes = MOST * PERIOD_NS / 60e9
    notes = (
        "age: time since the last message was handed off. p50, p99: latency from the NIC (or from the socket's "
        "readiness) to the hand-off in the last seconds; of a feed, the worst of its connections. The bars: p99 of the "
        f"last {minutes:.0f} minutes, a bar every {PERIOD_NS / 1e9:.0f} s, on one logarithmic scale for all rows."
    )
    return Group(grid, Text(), Text(notes, style="dim"), Text())
