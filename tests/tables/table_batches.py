"""Record batches of the tables from plain values, for tests of what takes them."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tests.real_messages import DATA
from wsrec.feed.table_columns import Table
from wsrec.options.export import Numbers
from wsrec.tables.schema import table_schema

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
MS = 1_000_000
_DEFAULTS = {
    "feed": "binance",
    "session": "20261122T130000Z-a1",
    "item": 0,
    "conn": 0,
    "symbol": "BTCUSDT",
    "state": "ok",
    "is_snapshot": False,
    "last": True,
    "size_unit": "base",
}
_CHANNELS = {Table.TRADES: "trade", Table.QUOTES: "bookTicker", Table.BOOK_CHANGES: "depth"}


def batch(table: Table, *rows: dict[str, Any], numbers: Numbers = Numbers.FLOAT) -> tuple[Table, pa.RecordBatch]:
    """A batch of a table: a dictionary a row, times in ns; what is not there has a plain value, or is null."""
    schema = table_schema(table, numbers)
    full = []
    for number, row in enumerate(rows):
        seq = row.get("seq", number)
        made = {
            **_DEFAULTS,
            "channel": _CHANNELS.get(table, table.value),
            "seq": seq,
            "recv_time": START + seq * MS,
            "exchange_time": START + seq * MS - 5 * MS,
            **row,
        }
        unknown = made.keys() - set(schema.names) - _DEFAULTS.keys()
        assert not unknown, unknown
        full.append(made)
    arrays = [pa.array([row.get(field.name) for row in full], _plain(field.type)).cast(field.type) for field in schema]
    return table, pa.RecordBatch.from_arrays(arrays, schema=schema)


def book(seq: int, *levels: tuple[str, str | None, float | None, float | None], **more: Any) -> list[dict[str, Any]]:
    """The rows of a book message: (action, side, price, size) a level."""
    return [
        {"seq": seq, "item": item, "action": action, "side": side, "price": price, "size": size, **more}
        | {"last": item == len(levels) - 1}
        for item, (action, side, price, size) in enumerate(levels)
    ]


def usdm_rows() -> Iterator[tuple[Table, pa.RecordBatch]]:
    """The tables of the USD-M recording, by an independent reading in plain Python; its arrival times are the rows'."""
    trades, quotes, changes = (defaultdict[str, list[Any]](list) for _ in range(3))
    with gzip.open(DATA / "binance-usdm-btcusdt-20240808.txt.gz") as lines:
        for seq, line in enumerate(lines):
            message = json.loads(line[20:])
            data = message.get("data", message)
            about = {"seq": seq, "recv_time": int(line[:19]), "exchange_time": data["E"] * MS}
            matched = {"transact_time": data["T"] * MS}
            if data.get("e") == "trade":
                if data["X"] == "MARKET":
                    row = {"side": "sell" if data["m"] else "buy", "price": float(data["p"]), "size": float(data["q"])}
                    _append(trades, about | row | {"trade_time": data["T"] * MS, "trade_id": str(data["t"])})
            elif data.get("e") == "bookTicker":
                best = zip(("bid_price", "bid_size", "ask_price", "ask_size"), "bBaA", strict=True)
                _append(quotes, about | matched | {name: float(data[key]) for name, key in best})
            else:
                _append_book(changes, about | matched, data)
    for table, columns in ((Table.TRADES, trades), (Table.QUOTES, quotes), (Table.BOOK_CHANGES, changes)):
        count = len(columns["seq"])
        full = {name: [value] * count for name, value in (_DEFAULTS | {"feed": "binance-usdm"}).items()}
        full |= {"channel": [_CHANNELS[table]] * count} | columns
        schema = table_schema(table)
        arrays = [pa.array(full.get(each.name, [None] * count), _plain(each.type)).cast(each.type) for each in schema]
        whole = pa.RecordBatch.from_arrays(arrays, schema=schema)
        # in parts that cut messages in two
        for start in range(0, count, 100_003):
            yield table, whole.slice(start, 100_003)


def _append(columns: defaultdict[str, list[Any]], row: dict[str, Any]) -> None:
    for name, value in row.items():
        columns[name].append(value)


def _append_book(columns: defaultdict[str, list[Any]], about: dict[str, Any], data: dict[str, Any]) -> None:
    snapshot = "bids" in data
    levels: list[tuple[str, str | None, float | None, float | None]] = [("clear", None, None, None)] if snapshot else []
    for side, keys in (("bid", ("b", "bids")), ("ask", ("a", "asks"))):
        for price, size in data.get(keys[snapshot], ()):
            levels.append(("set" if float(size) else "delete", side, float(price), float(size)))
    for item, (action, side, price, size) in enumerate(levels):
        level = {"action": action, "side": side, "price": price, "size": size, "item": item, "is_snapshot": snapshot}
        _append(columns, about | level | {"last": item == len(levels) - 1})


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.int64() if pa.types.is_timestamp(kind) else kind
