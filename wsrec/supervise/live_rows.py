"""The rows of the live view: feeds and their connections, sorted, each with its latency of the last minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

from rich.table import Table
from rich.text import Text

from wsrec.supervise.live_history import MOST, History, sparkline
from wsrec.supervise.state import NOT_UP, ConnectionState, RecorderState
from wsrec.units import clean, duration, short_count

Sort = Literal["feed", "trouble", "rate", "age", "p99"]
SORTS: tuple[Sort, ...] = get_args(Sort)

# columns of state, rate, age, p50 and p99
_COLUMNS = (10, 7, 8, 8, 8)
_LEAST_NAME = 20
_MOST_NAME = 40
_SPACED = 100
_STYLES = {"open": "green", "waiting": "dim", "connecting": "yellow", "ended": "red"}
_NEVER = 1 << 62


class Row(NamedTuple):
    """A row of the table of connections."""

    cells: tuple[Text, ...]
    style: str = ""


def connection_rows(
    state: RecorderState, history: History, sort: Sort, width: int, *, feeds_only: bool, alone: bool
) -> tuple[Table, list[Row]]:
    """The table without its rows, and all of them in order.

    Sorted by `feed`, each feed's connections stand below a row of the feed, unless it is `alone`; else connections of
    all feeds stand in one order, the most remarkable first.
    """
    space = 2 if width >= _SPACED else 1
    room = max(width - sum(_COLUMNS) - (len(_COLUMNS) + 1) * space, 0)
    name = min(max(room // 2, _LEAST_NAME), _MOST_NAME)
    bars = min(max(room - name, 0), MOST)
    table = Table.grid(padding=(0, space, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", width=name)
    for index, columns in enumerate(_COLUMNS):
        table.add_column(no_wrap=True, justify="right" if index else "left", width=columns)
    table.add_column(no_wrap=True)
    heads = ("connection", "state", "rate", "age", "p50", "p99", "p99 lately" if bars >= len("p99 lately") else "")
    table.add_row(*(Text(head, style="dim") for head in heads))

    kept = {(each.feed, each.conn): history.of(each, bars) for each in state.connections}
    known = [value for values in kept.values() for value in values if value is not None]
    low, high = min(known, default=1), max(known, default=1)

    def line(each: ConnectionState, name: str) -> Row:
        trend = sparkline(kept[each.feed, each.conn], low, high)
        figures = (_rate(each.rate), _age(each.age_ns), duration(each.latency.p50), duration(each.latency.p99))
        return Row((_name(name), _state(each), *map(Text, figures), Text(trend, style="cyan")))

    if sort != "feed" and not feeds_only:
        ordered = sorted(state.connections, key=_KEYS[sort])
        return table, [line(each, f"{each.feed} {each.conn}") for each in ordered]
    rows = []
    for feed in state.feeds:
        connections = [each for each in state.connections if each.feed == feed]
        if not alone or feeds_only:
            rows.append(_feed_row(feed, connections))
        if not feeds_only:
            rows += [
                line(each, f"{feed} {each.conn}" if alone else f"  {each.conn} {each.host}") for each in connections
            ]
    return table, rows


def _feed_row(feed: str, connections: list[ConnectionState]) -> Row:
    up = sum(each.state == "open" for each in connections)
    state = Text(f"{up}/{len(connections)} open", style="green" if up == len(connections) else "bold red")
    ages = _known(each.age_ns for each in connections)
    medians, tails = (_known(getattr(each.latency, name) for each in connections) for name in ("p50", "p99"))
    figures = (
        _rate(sum(each.rate for each in connections)),
        _age(min(ages, default=None)),
        duration(max(medians, default=None)),
        duration(max(tails, default=None)),
    )
    return Row((_name(feed), state, *map(Text, figures), Text()), "bold")


def _known(values: Iterable[int | None]) -> list[int]:
    return [value for value in values if value is not None]


def _name(text: str) -> Text:
    return Text(clean(text, 80), no_wrap=True, overflow="ellipsis")


def _state(connection: ConnectionState) -> Text:
    return Text(connection.state, style=_STYLES.get(connection.state, "bold red"))


def _rate(rate: float) -> str:
    return f"{short_count(round(rate))}/s"


def _age(ns: int | None) -> str:
    return duration(None if ns is None else max(ns, 0))


_KEYS: dict[Sort, Callable[[ConnectionState], tuple[float, ...]]] = {
    "trouble": lambda each: (each.state not in NOT_UP, -each.reconnects, -(each.age_ns or 0)),
    "rate": lambda each: (-each.rate,),
    "age": lambda each: (-(_NEVER if each.age_ns is None else each.age_ns),),
    "p99": lambda each: (-(each.latency.p99 or 0),),
}
