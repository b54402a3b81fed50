"""Record batches of the tables from plain values, for tests of what takes them."""

from __future__ import annotations

import gzip
import json
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
    with gzip.open(DATA / "binance-usdm-btcusdt-20240808.txt.gz") as lines:
        trades: list[dict[str, Any]] = []
        quotes: list[dict[str, Any]] = []
        changes: list[dict[str, Any]] = []
        for seq, line in enumerate(lines):
            message = json.loads(line[20:])
            about = {"feed": "binance-usdm", "seq": seq, "recv_time": int(line[:19])}
            data = message.get("data", message)
            about |= {"exchange_time": data["E"] * MS}
            matched = data["T"] * MS
            if data.get("e") == "trade":
                if data["X"] == "MARKET":
                    side = "sell" if data["m"] else "buy"
                    numbers = {"price": float(data["p"]), "size": float(data["q"])}
                    trades.append(about | numbers | {"side": side, "trade_time": matched, "trade_id": str(data["t"])})
            elif data.get("e") == "bookTicker":
                best = zip(("bid_price", "bid_size", "ask_price", "ask_size"), "bBaA", strict=True)
                quotes.append(about | {name: float(data[key]) for name, key in best} | {"transact_time": matched})
            else:
                about |= {"transact_time": matched, "is_snapshot": "bids" in data}
                levels = [
                    (
                        "delete" if float(size) == 0 else "set",
                        side,
                        float(price),
                        float(size),
                    )
                    for side, keys in (("bid", ("b", "bids")), ("ask", ("a", "asks")))
                    for key in keys
                    for price, size in data.get(key, ())
                ]
                clear = [("clear", None, None, None)] if "bids" in data else []
                changes += book(seq, *clear, *levels, **{key: value for key, value in about.items() if key != "seq"})
    yield batch(Table.TRADES, *trades)
    yield batch(Table.QUOTES, *quotes)
    # in parts that cut messages in two
    for start in range(0, len(changes), 100_003):
        yield batch(Table.BOOK_CHANGES, *changes[start : start + 100_003])


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return pa.int64() if pa.types.is_timestamp(kind) else kind
