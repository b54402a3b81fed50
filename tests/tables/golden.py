"""Golden rows: messages of each market with their rows, worked out by hand from the venues' documentation."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.real_messages import DATA
from wsrec.decode.implementation import FieldReader
from wsrec.decode.packed import json_of
from wsrec.decode.row_maker import TableRow
from wsrec.decode.table_rows import Message, TableRowReader
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import COLUMNS, Kind, Table

FOLDER = DATA.parent / "reference" / "tables-golden"
_NUMBERS = (Kind.NUMBER, Kind.SIZE, Kind.RATE)


class Golden(NamedTuple):
    """A message, and what one table has of it.

    Attributes:
        line: its line in the file, from 1.
        payload: the message.
        binary: whether it is a binary frame.
        channel: the catalogue's name of its channel.
        table: the table; None: the message makes none.
        rows: the rows.

    """

    line: int
    payload: bytes
    binary: bool
    channel: str
    table: Table | None
    rows: list[dict[str, Any]]


def golden(market: str) -> Iterator[Golden]:
    """The golden rows of a market, in order."""
    for line, text in enumerate((FOLDER / f"{market}.jsonl").read_text().splitlines(), 1):
        each = json.loads(text)
        frame = each.get("frame_hex")
        payload = bytes.fromhex(frame) if frame else each["message"].encode()
        table = Table(each["table"]) if each["table"] else None
        yield Golden(line, payload, frame is not None, each["channel"], table, each["rows"])


def markets() -> list[str]:
    """The markets that have golden rows."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def differences(market: str) -> list[str]:
    """What the rows made of a market's messages have other than the golden ones, a line each; none if all are equal."""
    feed = find_feed(market)
    lines = list(golden(market))
    payload, readable = pa.array([each.payload for each in lines], pa.large_binary()), np.ones(len(lines), np.bool_)
    binary = np.array([each.binary for each in lines], np.bool_)
    fields = FieldReader(feed).read(payload, readable, None, binary)
    assert feed.fields is not None
    contents = json_of(feed.fields, payload, readable, binary)[0].to_pylist()
    symbols, times = fields.symbol.to_pylist(), fields.exchange_time.to_pylist()
    found: list[str] = []
    reader = TableRowReader(feed)
    for before in _BEFORE.get(market, []):
        reader.read(before)
    made: dict[bytes, dict[Table, list[TableRow]]] = {}
    reasons: list[Any] = []
    last: bytes | None = None
    for each, content, symbol, time in zip(lines, contents, symbols, times, strict=True):
        if each.payload != last:
            outcome = reader.read(Message(content, each.channel, symbol))
            made[each.payload] = dict(outcome.rows)
            reasons = [*outcome.left_out, outcome.skipped]
            last = each.payload
        rows = made[each.payload].get(each.table, []) if each.table else []
        where = f"{market}:{each.line} {each.channel} {each.table}"
        ours = _OURS | _OF_MARKET.get(market, set())
        found += [f"{where}: {text}" for text in _compared(rows, each, time, reasons, ours)]
    return found


def _compared(
    rows: list[TableRow], each: Golden, time: int | None, reasons: list[Any], ours: set[str]
) -> Iterator[str]:
    if each.table is Table.BOOK_CHANGES:
        levels = [row for row in rows if row["action"] != "clear"]
        rows = levels or rows
    if len(rows) != len(each.rows):
        yield f"{len(rows)} rows, expected {len(each.rows)}; left out {reasons}; made {rows[:2]}"
        return
    for index, (row, wanted) in enumerate(zip(rows, each.rows, strict=True)):
        have = _plain(row, each.table, time)
        for name in sorted({*have, *wanted}):
            if name in ours or name not in _GOLDEN_KEYS[each.table or Table.TRADES]:
                continue
            if not _same(have.get(name), wanted.get(name)):
                yield f"row {index}: {name} is {have.get(name)!r}, expected {wanted.get(name)!r}"


# Gemini's golden messages are from the midst of a session, whose books had begun: the first one is a snapshot
_BEFORE = {
    "gemini": [
        Message(b'{"e":"depthUpdate","U":1,"u":1,"b":[],"a":[]}', "depth@100ms", symbol)
        for symbol in ("wifusd", "gusdgbp")
    ]
}
_OURS = {"size_unit", "multiplier", "volume_unit", "open_interest_unit", "open_interest_sides", "source", "origin"}
_OURS |= {"depth", "action", "last", "price_kind", "checksum", "bid_count", "ask_count"}
# Bitstamp has no ids: a fetched book is joined by the time
_OF_MARKET = {"bitstamp": {"update_id"}}
_GOLDEN_KEYS = {
    table: {column.name for column in columns} | {"symbol", "exchange_time", "bids", "asks"}
    for table, columns in COLUMNS.items()
}
_GOLDEN_KEYS[Table.BOOK_SNAPSHOTS] -= {
    *("bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "bid_counts", "ask_counts")
}


def _plain(row: TableRow, table: Table | None, time: int | None) -> dict[str, Any]:
    row = {"exchange_time": time, **row}
    if table is Table.BOOK_SNAPSHOTS:
        for side in ("bid", "ask"):
            counts = row.get(f"{side}_counts")
            levels = [list(level) for level in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)]
            row[f"{side}s"] = [[*level, n] for level, n in zip(levels, counts, strict=True)] if counts else levels
    if table is Table.BOOK_CHANGES and row["action"] == "clear":
        row = {key: value for key, value in row.items() if key != "side"}
    return row


def _same(have: Any, wanted: Any) -> bool:
    if isinstance(have, list) and isinstance(wanted, list):
        return len(have) == len(wanted) and all(map(_same, have, wanted))
    if have is None or wanted is None or isinstance(have, bool) or isinstance(wanted, bool):
        return bool(have is wanted)
    try:
        return Decimal(str(have)) == Decimal(str(wanted))
    except ArithmeticError:
        return str(have) == str(wanted)


if __name__ == "__main__":
    for name in sys.argv[1:] or markets():
        print("\n".join(differences(name)) or f"{name}: all equal")
