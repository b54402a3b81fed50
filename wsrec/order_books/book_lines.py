"""Books for people and scripts: rows of built books as tables on a terminal, as lines, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

from wsrec.order_books.book_builder import Doubt
from wsrec.order_books.books import Checks
from wsrec.terminal_tables import print_heading, print_table, print_text
from wsrec.units import clean, duration, plural, utc

_SHOWN = 20


def plain_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as plain data; times in ns since the epoch, a number is the shortest text of its double."""
    times = [field.name for field in batch.schema if pa.types.is_timestamp(field.type)]
    columns = {
        field.name: (column.view(pa.int64()) if field.name in times else column).to_pylist()
        for field, column in zip(batch.schema, batch.columns, strict=True)
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def print_book(row: dict[str, Any], console: Console) -> None:
    """Print one book: its levels, best first, and what is doubtful about it."""
    print_heading(Text(_title(row)), console)
    if row["doubt"] is not None:
        kind = "unknown" if row["bid_prices"] is None else "doubtful"
        print_text(Text(f"{kind}: {clean(row['doubt'])}", style="red"), console)
    if row["bid_prices"] is None:
        return
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for name in ("bid size", "bid", "ask", "ask size"):
        grid.add_column(name, justify="right", no_wrap=True)
    sides = (row["bid_sizes"], row["bid_prices"], row["ask_prices"], row["ask_sizes"])
    for cells in zip_longest(*sides):
        grid.add_row(*("" if cell is None else number(cell) for cell in cells))
    print_table(grid, console)
    behind = duration(row["as_of"] - row["recv_time"])
    print_text(Text(f"message {row['seq']} of session {clean(row['session'])}, which arrived {behind} before"), console)


def _title(row: dict[str, Any]) -> str:
    return f"{clean(row['symbol'])}  {clean(row['feed'])} {clean(row['channel'])}  {utc(row['as_of'])}  {row['state']}"


def print_lines(rows: list[dict[str, Any]], console: Console, *, heads: bool) -> None:
    """Print a line for each of several books: its best prices."""
    grid = Grid(box=None, header_style="bold", pad_edge=False, show_header=heads)
    for name in ("time", "symbol", "channel", "bid size", "bid", "ask", "ask size", "state"):
        grid.add_column(name, justify="right" if "bid" in name or "ask" in name else "left", no_wrap=True)
    grid.add_column("doubt")
    for row in rows:
        cells = [
            number(levels[0]) if levels else "-"
            for levels in (row["bid_sizes"], row["bid_prices"], row["ask_prices"], row["ask_sizes"])
        ]
        names = escape(clean(row["symbol"])), escape(clean(row["channel"]))
        grid.add_row(utc(row["as_of"]), *names, *cells, row["state"], escape(clean(row["doubt"] or "")))
    print_table(grid, console)


def number(value: float) -> str:
    """A price or size without an exponent."""
    text = repr(value)
    if "e" in text:
        return f"{value:.20f}".rstrip("0").rstrip(".")
    return text.removesuffix(".0")


def summary(count: int, doubts: list[Doubt], checks: Checks) -> Iterator[str]:
    """Lines on the books that were made: how many, what was doubtful, and what was compared."""
    words = [plural(count, "book")]
    if checks.compared:
        equal = checks.compared - checks.different
        words.append(f"{equal:,} of {plural(checks.compared, 'later snapshot')} equal the book before")
    yield "; ".join(words)
    for doubt in doubts[:_SHOWN]:
        start = "the beginning" if doubt.start is None else utc(doubt.start)
        end = "the end" if doubt.end is None else utc(doubt.end)
        kind = "unknown" if doubt.unknown else "doubtful"
        yield f"{clean(doubt.symbol)} {clean(doubt.channel)}: {kind} from {start} to {end}: {clean(doubt.reason)}"
    if len(doubts) > _SHOWN:
        yield f"and {plural(len(doubts) - _SHOWN, 'other interval')} (--json lists them)"
