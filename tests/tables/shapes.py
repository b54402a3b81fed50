"""Rows of single messages of a catalogue's market, for the tests of shapes that no golden row has."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from wsrec.decode.row_maker import TableRow
from wsrec.decode.table_rows import Message, Outcome, TableRowReader
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table

Read = Callable[..., Outcome]
_feed = cache(find_feed)


def connection(market: str) -> Read:
    """Reads messages of one connection, one after another: `(channel, message, symbol)`."""
    reader = TableRowReader(_feed(market))

    def read(channel: str, message: Any, symbol: str | None = "X") -> Outcome:
        return reader.read(Message(json.dumps(message).encode(), channel, symbol))

    return read


def only(made: Outcome, table: Table, *names: str) -> list[Any]:
    """The named values of each row of a table, a tuple a row; of a single name bare. Nothing is left out."""
    assert made.left_out == []
    found = dict(made.rows).get(table, [])
    return [row.get(names[0]) if len(names) == 1 else tuple(row.get(name) for name in names) for row in found]


def outcome(market: str, channel: str, message: Any, *, symbol: str = "S", is_rest: bool = False) -> Outcome:
    """What a message makes."""
    reader = TableRowReader(_feed(market))
    return reader.read(Message(json.dumps(message).encode(), channel, symbol, is_rest=is_rest))


def rows(market: str, channel: str, table: Table, message: Any, **known: Any) -> list[TableRow]:
    """Its rows of one table; nothing of it is left out. `known` as for `outcome`."""
    made = outcome(market, channel, message, **known)
    assert made.left_out == []
    return dict(made.rows)[table]


def has(row: TableRow, **wanted: Any) -> None:
    """A row has these values; None: the column is null."""
    assert {name: row.get(name) for name in wanted} == wanted
