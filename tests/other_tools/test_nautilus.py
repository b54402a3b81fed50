"""wsrec.other_tools.nautilus: the files of a catalogue, against columns worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables.table_batches import MS, START, batch, book
from wsrec.feed.table_columns import Table
from wsrec.other_tools.nautilus import to_nautilus
from wsrec.other_tools.outcome import ExportError
from wsrec.tables.schema import Numbers

# 2026-11-22 13:00 UTC and 3 ms later
FIRST, LATER = "2026-11-22T13-00-00-000000000Z", "2026-11-22T13-00-00-003000000Z"
NO_TIME = "no time of the exchange, which it needs as `ts_event` (--exchange-offset TIME assumes one)"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, its numbers exact."""
    return [
        {
            name: Decimal(f"{int.from_bytes(value, 'little', signed=True)}E-16") if type(value) is bytes else value
            for name, value in row.items()
        }
        for row in pq.ParquetFile(path).read().to_pylist()
    ]


def about(path: Path) -> dict[str, str]:
    metadata = pq.read_schema(path).metadata
    return {key.decode(): value.decode() for key, value in metadata.items() if not key.startswith(b"ARROW")}


def test_trades(tmp_path: Path) -> None:
    rows = batch(
        Table.TRADES,
        {"side": "buy", "price": 61800.2, "size": 0.014, "trade_id": "a1", "trade_time": START - 7 * MS},
        {"side": "sell", "price": 0.0000001117, "size": 3.0, "trade_id": "a2"},
        {"side": None, "price": -1.5, "size": 12345678901.0, "trade_id": None, "seq": 3},
    )
    outcome = to_nautilus([rows], tmp_path)
    assert outcome.files == [tmp_path / f"data/trade_tick/BTCUSDT.BINANCE/{FIRST}_{LATER}.parquet"]
    assert rows_of(outcome.files[0]) == [
        {"price": Decimal("61800.2"), "size": Decimal("0.014"), "aggressor_side": 1, "trade_id": "a1"}
        | {"ts_event": START - 7 * MS, "ts_init": START},
        {"price": Decimal("0.0000001117"), "size": Decimal(3), "aggressor_side": 2, "trade_id": "a2"}
        | {"ts_event": START - 4 * MS, "ts_init": START + MS},
        {"price": Decimal("-1.5"), "size": Decimal(12345678901), "aggressor_side": 0, "trade_id": "3-0"}
        | {"ts_event": START - 2 * MS, "ts_init": START + 3 * MS},
    ]
    assert about(outcome.files[0]) == {
        "instrument_id": "BTCUSDT.BINANCE",
        "price_precision": "10",
        "size_precision": "3",
    }
    assert list(outcome.lines()) == ["nautilus trade_tick: 3 written"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_an_instrument_has_the_decimals_of_all_its_types(tmp_path: Path) -> None:
    quote = {"bid_price": 1.25, "bid_size": 1.0, "ask_price": 1.5, "ask_size": 2.0}
    trade = {"price": 1.5, "size": 0.001}
    given = {("binance", "BTCUSDT"): (4, 0)}
    for decimals, expected in ((None, ("2", "3")), (given, ("4", "3"))):
        out = tmp_path / str(bool(decimals))
        outcome = to_nautilus([batch(Table.QUOTES, quote), batch(Table.TRADES, trade)], out, decimals=decimals)
        for path in outcome.files:
            assert (about(path)["price_precision"], about(path)["size_precision"]) == expected


def test_quotes(tmp_path: Path) -> None:
    best = {"bid_price": 1.0, "bid_size": 2.0, "ask_price": 3.0, "ask_size": 4.0}
    outcome = to_nautilus([batch(Table.QUOTES, best, best | {"ask_price": None})], tmp_path)
    assert rows_of(outcome.files[0]) == [
        {"bid_price": 1, "ask_price": 3, "bid_size": 2, "ask_size": 4, "ts_event": START - 5 * MS, "ts_init": START}
    ]
    assert outcome.left_out == {("quotes", "a side without a quote, which it cannot say"): 1}


def test_book_changes(tmp_path: Path) -> None:
    snapshot = book(
        0, ("clear", None, None, None), ("set", "bid", 10.0, 2.0), ("set", "ask", 11.0, 1.0), is_snapshot=True
    )
    changes = book(1, ("set", "bid", 9.5, 1.0), ("delete", None, 11.0, None), ("set", None, 1.0, 1.0), update_id=77)
    outcome = to_nautilus([batch(Table.BOOK_CHANGES, *snapshot, *changes)], tmp_path)
    rows = rows_of(outcome.files[0])
    names = ("action", "side", "price", "size", "flags", "sequence")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (4, 0, 0, 0, 32, 0),
        (1, 1, 10, 2, 32, 0),
        (1, 2, 11, 1, 32 | 128, 0),
        (2, 1, Decimal("9.5"), 1, 0, 77),
        (3, 1, 11, 0, 0, 77),
        # the last row that is written of the message, though the message has one more
        (3, 2, 11, 0, 128, 77),
    ]
    assert outcome.left_out == {("book_changes", "a level without a side"): 1}


def test_rows_are_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    late = {"seq": 0, "recv_time": START + 9 * MS}
    rows = batch(Table.TRADES, *({"price": 1.0, "size": 1.0} | row for row in (late, {"seq": 1})))
    assert [row["trade_id"] for row in rows_of(to_nautilus([rows], tmp_path).files[0])] == ["1-0", "0-0"]


def test_no_time_of_the_exchange_is_made_up(tmp_path: Path) -> None:
    rows = batch(Table.TRADES, {"price": 1.0, "size": 1.0}, {"price": 1.0, "size": 1.0, "exchange_time": None})
    outcome = to_nautilus([rows], tmp_path / "without")
    assert outcome.left_out == {("trades", NO_TIME): 1}
    outcome = to_nautilus([rows], tmp_path / "assumed", exchange_offset=3 * MS)
    assert [row["ts_event"] for row in rows_of(outcome.files[0])] == [START - 5 * MS, START - 2 * MS]
    assert outcome.notes == [
        "trades of binance: rows without a time of the exchange are taken to have happened 3.00 ms before they arrived"
    ]


def test_a_book_without_its_snapshots_is_none(tmp_path: Path) -> None:
    snapshot = book(0, ("clear", None, None, None), ("set", "bid", 1.0, 1.0), is_snapshot=True, exchange_time=None)
    rows = batch(Table.BOOK_CHANGES, *snapshot, *book(1, ("set", "bid", 1.0, 2.0)))
    with pytest.raises(ExportError, match=r"snapshots have no time of the exchange.*--exchange-offset TIME"):
        to_nautilus([rows], tmp_path)
    assert to_nautilus([rows], tmp_path, exchange_offset=MS).written == {"nautilus order_book_delta": 3}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"price": None}, "no price or size"),
        ({"size": 0.0}, "a size of 0"),
        ({"price": 1e-17}, "more than 16 decimals, or out of its range"),
        ({"price": 6e-232}, "more than 16 decimals, or out of its range"),
        ({"price": 1e14}, "more than 16 decimals, or out of its range"),
        ({"size": -1.0}, "more than 16 decimals, or out of its range"),
        ({"size": float("inf")}, "more than 16 decimals, or out of its range"),
        ({"size": float("nan")}, "more than 16 decimals, or out of its range"),
        ({"trade_id": "x" * 37}, "a trade id that is not 1 to 36 ASCII characters"),
        ({"trade_id": "é"}, "a trade id that is not 1 to 36 ASCII characters"),
        ({"trade_id": "1\n"}, "a trade id that is not 1 to 36 ASCII characters"),
        ({"trade_id": ""}, "a trade id that is not 1 to 36 ASCII characters"),
    ],
)
def test_what_does_not_fit_is_counted(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {"price": 1.0, "size": 1.0}
    outcome = to_nautilus([batch(Table.TRADES, good | row, good)], tmp_path)
    assert outcome.left_out == {("trades", reason): 1}
    assert outcome.written == {"nautilus trade_tick": 1}


@given(st.decimals(Decimal("-1e13"), Decimal("1e13"), places=16) | st.decimals(-10, 10, places=18))
def test_decimals_are_exact_or_left_out(tmp_path_factory: pytest.TempPathFactory, price: Decimal) -> None:
    rows = batch(Table.TRADES, {"price": price, "size": Decimal(1)}, numbers=Numbers.DECIMAL)
    outcome = to_nautilus([rows], tmp_path_factory.mktemp("exact"))
    if outcome.files:
        assert rows_of(outcome.files[0])[0]["price"] == price
    else:
        assert outcome.left_out.total() == 1
        assert price != round(price, 16)


@given(st.floats(-1e13, 1e13))
def test_doubles_are_their_shortest_digits_or_left_out(tmp_path_factory: pytest.TempPathFactory, price: float) -> None:
    outcome = to_nautilus([batch(Table.TRADES, {"price": price, "size": 1.0})], tmp_path_factory.mktemp("double"))
    exact = Decimal(repr(price))
    if outcome.files:
        assert rows_of(outcome.files[0])[0]["price"] == exact
        decimals = max(0, -int(exact.normalize().as_tuple().exponent))
        assert about(outcome.files[0])["price_precision"] == str(decimals)
    else:
        assert exact != round(exact, 16)


def test_a_time_is_in_a_catalogue_once(tmp_path: Path) -> None:
    def trades(*seqs: int) -> tuple[Table, pa.RecordBatch]:
        return batch(Table.TRADES, *({"price": 1.0, "size": 1.0, "seq": seq} for seq in seqs))

    first = to_nautilus([trades(1, 5)], tmp_path)
    assert not first.notes
    again = to_nautilus([trades(1, 5)], tmp_path)
    assert again.files == first.files == list(tmp_path.glob("data/trade_tick/*/*"))
    assert again.notes == [
        "1 file of the catalogue had the same instrument, first and last time: replaced, none is there twice"
    ]
    to_nautilus([trades(6, 9)], tmp_path)
    with pytest.raises(ExportError, match=r"is of the same time.*give another --out"):
        to_nautilus([trades(3, 7)], tmp_path)
    left = first.files[0].with_name(".2026-11-22T13-00-00-000000000Z_2026-11-22T14-00-00-000000000Z.unfinished.parquet")
    left.write_text("of a process that was killed")
    to_nautilus([trades(10)], tmp_path)
    assert len(list(tmp_path.glob("data/trade_tick/*/*"))) == 3


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [("tBTCF0:USTF0", "tBTCF0_USTF0"), ("../x\n\x00 *", "../x____"), ("币安USDT", "币安USDT")],
)
def test_a_symbol_has_a_name_that_a_catalogue_can_be_queried_for(tmp_path: Path, symbol: str, instrument: str) -> None:
    out = tmp_path / "out"
    outcome = to_nautilus([batch(Table.TRADES, {"price": 1.0, "size": 1.0, "symbol": symbol})], out)
    assert about(outcome.files[0])["instrument_id"] == f"{instrument}.BINANCE"
    assert outcome.files[0].resolve().is_relative_to(out / "data/trade_tick")
    assert bool(outcome.notes) == (instrument != symbol)


@pytest.mark.parametrize("symbol", ["", "é" * 130])
def test_a_name_that_no_instrument_can_have_is_refused(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(ExportError, match="no instrument of nautilus can have this name"):
        to_nautilus([batch(Table.TRADES, {"price": 1.0, "size": 1.0, "symbol": symbol})], tmp_path)


def test_symbols_with_the_same_folder_are_refused(tmp_path: Path) -> None:
    rows = [{"price": 1.0, "size": 1.0, "symbol": symbol} for symbol in ("BTC/USD", "BTCUSD")]
    assert to_nautilus([batch(Table.TRADES, rows[0])], tmp_path).files[0].parent.name == "BTCUSD.BINANCE"
    with pytest.raises(ExportError, match=r"have the same folder in a catalogue, BTCUSD\.BINANCE"):
        to_nautilus([batch(Table.TRADES, *rows)], tmp_path)


def test_a_feed_may_have_another_name_there(tmp_path: Path) -> None:
    outcome = to_nautilus([batch(Table.TRADES, {"price": 1.0, "size": 1.0})], tmp_path, venues={"binance": "BNC"})
    assert about(outcome.files[0])["instrument_id"] == "BTCUSDT.BNC"
