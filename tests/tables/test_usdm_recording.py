"""The Binance USD-M recording: trades, quotes and book changes equal to an independent plain reading, row by row."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.tables.recorded import USDM, record, topics_of, usdm_messages
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table
from wsrec.format.reading import open_capture
from wsrec.tables.reading import read_tables

pytestmark = pytest.mark.skipif(not USDM.is_file(), reason="real messages are not beside the project: USD-M recording")
MS = 1_000_000


@pytest.fixture(scope="module", params=[8_000, pytest.param(200_000, marks=pytest.mark.long)])
def most(request: pytest.FixtureRequest) -> int:
    """How many messages of the recording are read at most."""
    return int(request.param)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, most: int) -> dict[Table, pa.Table]:
    out = tmp_path_factory.mktemp("usdm")
    topics = topics_of(find_feed("binance-usdm"), ["trade", "bookTicker", "depth@0ms"], ["BTCUSDT"])
    record(out, "binance-usdm", list(usdm_messages())[:most], topics, files=3)
    found: dict[Table, list[pa.RecordBatch]] = {}
    for table, batch in read_tables(open_capture(out), [Table.TRADES, Table.QUOTES, Table.BOOK_CHANGES, Table.GAPS]):
        found.setdefault(table, []).append(batch)
    return {table: pa.Table.from_batches(batches) for table, batches in found.items()}


@pytest.fixture(scope="module")
def messages(most: int) -> list[Any]:
    """The messages with their numbers, decoded by the standard library with the digits as written."""
    texts = (text for _, text in usdm_messages())
    return [
        (seq, json.loads(text, parse_float=Decimal)["data"]) for seq, text in itertools.islice(enumerate(texts), most)
    ]


def columns(table: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    chosen = [table[name] for name in names]
    plain = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in chosen]
    return list(zip(*(column.to_pylist() for column in plain), strict=True))


def test_trades(tables: dict[Table, pa.Table], messages: list[Any]) -> None:
    names = ["seq", "item", "trade_id", "price", "size", "side", "trade_time", "exchange_time", "symbol", "channel"]
    wanted = [
        (
            *(seq, 0, str(data["t"]), float(data["p"]), float(data["q"]), "sell" if data["m"] else "buy"),
            *(data["T"] * MS, data["E"] * MS, "BTCUSDT", "trade"),
        )
        for seq, data in messages
        if data["e"] == "trade"
    ]
    assert columns(tables[Table.TRADES], names) == wanted


def test_quotes(tables: dict[Table, pa.Table], messages: list[Any]) -> None:
    names = ["seq", "bid_price", "bid_size", "ask_price", "ask_size", "transact_time", "exchange_time", "update_id"]
    wanted = [
        (seq, *(float(data[key]) for key in "bBaA"), data["T"] * MS, data["E"] * MS, data["u"])
        for seq, data in messages
        if data["e"] == "bookTicker"
    ]
    assert columns(tables[Table.QUOTES], names) == wanted


def test_book_changes(tables: dict[Table, pa.Table], messages: list[Any]) -> None:
    names = ["seq", "item", "side", "price", "size", "action", "last", "first_update_id", "update_id", "prev_update_id"]
    wanted = []
    for seq, data in messages:
        if data["e"] != "depthUpdate":
            continue
        levels = [("bid", *level) for level in data["b"]] + [("ask", *level) for level in data["a"]]
        wanted += [
            (
                *(seq, item, side, float(price), float(size), "set" if float(size) else "delete"),
                *(item == len(levels) - 1, data["U"], data["u"], data["pu"]),
            )
            for item, (side, price, size) in enumerate(levels)
        ]
    assert len(wanted) > 4 * 8_000
    assert columns(tables[Table.BOOK_CHANGES], names) == wanted


def test_every_number_is_the_one_that_was_written(tables: dict[Table, pa.Table], messages: list[Any]) -> None:
    prices = tables[Table.TRADES]["price"].to_pylist()
    written = [data["p"] for _, data in messages if data["e"] == "trade"]
    assert all(Decimal(repr(price)) == Decimal(text) for price, text in zip(prices, written, strict=True))


def test_state_says_what_the_numbers_prove(tables: dict[Table, pa.Table]) -> None:
    states = {table: set(rows["state"].to_pylist()) for table, rows in tables.items() if table is not Table.GAPS}
    # a quote's numbers leave out what does not change it; and no snapshot of the book is among the messages
    assert states[Table.QUOTES] == {"unproved"}
    assert states[Table.BOOK_CHANGES] == {"suspect"}
    assert "ok" in states[Table.TRADES]
