"""Rows of single messages of a catalogue's market, for the tests of shapes that no golden row has."""

from __future__ import annotations

import json
from typing import Any

from wsrec.decode.table_rows import Message, Outcome, TableRow, TableRowReader
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table


def outcome(market: str, channel: str, message: Any, *, symbol: str = "S", is_rest: bool = False) -> Outcome:
    """What a message makes."""
    reader = TableRowReader(find_feed(market))
    return reader.read(Message(json.dumps(message).encode(), channel, symbol, is_rest=is_rest))


def rows(market: str, channel: str, table: Table, message: Any, **known: Any) -> list[TableRow]:
    """Its rows of one table; nothing of it is left out. `known` as for `outcome`."""
    made = outcome(market, channel, message, **known)
    assert made.left_out == []
    return dict(made.rows)[table]


def has(row: TableRow, **wanted: Any) -> None:
    """A row has these values; None: the column is null."""
    assert {name: row.get(name) for name in wanted} == wanted
