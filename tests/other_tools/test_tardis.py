"""wsrec.other_tools.tardis: the lines of the CSV files, against ones written by hand."""

from __future__ import annotations

import csv
import gzip
import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tests.tables.table_batches import START, batch, book
from wsrec.feed.load import catalogue
from wsrec.feed.table_columns import Table
from wsrec.other_tools.csv_files import CsvFiles
from wsrec.other_tools.outcome import ExportError
from wsrec.other_tools.tardis import EXCHANGES, exchange_name, to_tardis
from wsrec.tables.column_names import TARDIS_NAMES
from wsrec.tables.schema import Numbers, table_schema

T = START // 1000


def lines_of(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def test_trades(tmp_path: Path) -> None:
    rows = batch(
        Table.TRADES,
        {"side": "buy", "price": 61800.2, "size": 3.0, "trade_id": "a1", "recv_time": START + 1999},
        {"price": 1e-7, "size": 0.5, "exchange_time": None},
        {"side": "sell", "price": 1.0, "size": 2.0, "trade_time": START},
    )
    outcome = to_tardis([rows], tmp_path)
    assert [path.name for path in outcome.files] == ["binance_trades_2026-11-22_BTCUSDT.csv.gz"]
    assert lines_of(outcome.files[0]) == [
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
        f"binance,BTCUSDT,{T - 5000},{T + 1},a1,buy,61800.2,3",
        f"binance,BTCUSDT,{T + 1000},{T + 1000},,unknown,1e-7,0.5",
        f"binance,BTCUSDT,{T},{T + 2000},,sell,1,2",
    ]
    assert list(outcome.lines()) == [
        "tardis trades: 3 written",
        "times are cut to microseconds",
        "trades of binance: 1 row has no time of the exchange: their `timestamp` is the local time",
    ]
    assert list(tmp_path.iterdir()) == outcome.files


def test_quotes(tmp_path: Path) -> None:
    rows = batch(Table.QUOTES, {"bid_price": 1.0, "bid_size": 2.0, "ask_price": None, "ask_size": None})
    outcome = to_tardis([rows], tmp_path)
    assert outcome.files[0].name == "binance_book_ticker_2026-11-22_BTCUSDT.csv.gz"
    assert lines_of(outcome.files[0]) == [
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        f"binance,BTCUSDT,{T - 5000},{T},,,1,2",
    ]


def test_book_changes(tmp_path: Path) -> None:
    snapshot = book(0, ("clear", None, None, None), ("set", "bid", 10.0, 2.0), is_snapshot=True)
    changes = book(1, ("set", "ask", 9.5, 1.0), ("delete", None, 11.0, None))
    empty = book(2, ("clear", None, None, None), is_snapshot=True)
    outcome = to_tardis([batch(Table.BOOK_CHANGES, *snapshot, *changes, *empty)], tmp_path)
    assert outcome.files[0].name == "binance_incremental_book_L2_2026-11-22_BTCUSDT.csv.gz"
    assert lines_of(outcome.files[0]) == [
        "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
        f"binance,BTCUSDT,{T - 5000},{T},true,bid,10,2",
        f"binance,BTCUSDT,{T - 4000},{T + 1000},false,ask,9.5,1",
        f"binance,BTCUSDT,{T - 4000},{T + 1000},false,bid,11,0",
        f"binance,BTCUSDT,{T - 4000},{T + 1000},false,ask,11,0",
    ]
    assert outcome.left_out == {("book_changes", "an empty snapshot, which it cannot say"): 1}


def test_book_snapshots_have_a_column_a_level(tmp_path: Path) -> None:
    full = {"bid_prices": [3.0, 2.0, 1.0], "bid_sizes": [1.0, 2.0, 3.0], "ask_prices": [4.0], "ask_sizes": [9.0]}
    rows = batch(Table.BOOK_SNAPSHOTS, full, {})
    outcome = to_tardis([rows], tmp_path, levels=2)
    assert outcome.files[0].name == "binance_book_snapshot_2_2026-11-22_BTCUSDT.csv.gz"
    assert [line.split(",")[4:] for line in lines_of(outcome.files[0])] == [
        [f"{side}s[{level}].{name}" for level in (0, 1) for side in ("ask", "bid") for name in ("price", "amount")],
        ["4", "9", "3", "1", "", "", "2", "2"],
        [""] * 8,
    ]


def test_derivative_tickers_are_filled_within_a_session(tmp_path: Path) -> None:
    first = batch(Table.DERIVATIVE_TICKER, {"mark_price": 10.0}, {"funding_rate": 0.0001, "next_funding_time": START})
    second = batch(
        Table.DERIVATIVE_TICKER,
        {"seq": 2, "index_price": 9.0, "mark_price": 11.0},
        {"seq": 3, "open_interest": 5.0, "session": "20261122T140000Z-b2"},
    )
    outcome = to_tardis([first, second], tmp_path)
    assert [line.split(",")[4:] for line in lines_of(outcome.files[0])] == [
        [
            *("funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest"),
            *("last_price", "index_price", "mark_price"),
        ],
        ["", "", "", "", "", "", "10"],
        [str(T), "0.0001", "", "", "", "", "10"],
        [str(T), "0.0001", "", "", "", "9", "11"],
        ["", "", "", "5", "", "", ""],
    ]
    assert "derivative_ticker: a value that a message lacks is that of the last one that had it" in outcome.notes


def test_liquidations(tmp_path: Path) -> None:
    rows = batch(Table.LIQUIDATIONS, {"side": "sell", "average_price": 2.5, "size": 1.0, "liquidation_id": "7"})
    outcome = to_tardis([rows], tmp_path)
    assert lines_of(outcome.files[0])[1] == f"binance,BTCUSDT,{T - 5000},{T},7,sell,2.5,1"


def test_exact_numbers_have_all_their_digits(tmp_path: Path) -> None:
    digits = ("123456789012345678.000000000000000001", "0.0000000001", "100", "0")
    rows = batch(
        Table.TRADES, *({"price": Decimal(text), "size": Decimal(1)} for text in digits), numbers=Numbers.DECIMAL
    )
    found = [line.split(",")[6] for line in lines_of(to_tardis([rows], tmp_path).files[0])[1:]]
    assert found == list(digits)


def test_hostile_text_is_quoted_and_stays_in_its_field(tmp_path: Path) -> None:
    hostile = 'a","b\r\nc,=1+1'
    rows = batch(Table.TRADES, {"price": 1.0, "size": 1.0, "trade_id": hostile, "symbol": "x,y/\n"})
    outcome = to_tardis([rows], tmp_path)
    text = gzip.decompress(outcome.files[0].read_bytes()).decode()
    header, row = csv.reader(io.StringIO(text, newline=""))
    assert dict(zip(header, row, strict=True))["id"] == hostile
    assert outcome.files[0].name == "binance_trades_2026-11-22_x%2Cy%2F%0A.csv.gz"


def test_a_file_is_of_one_day(tmp_path: Path) -> None:
    midnight = START + 11 * 3_600_000_000_000
    times = [{"recv_time": midnight + shift, "price": 1.0, "size": 1.0} for shift in (-1, 0)]
    outcome = to_tardis([batch(Table.TRADES, *times)], tmp_path)
    assert [path.name[15:25] for path in outcome.files] == ["2026-11-22", "2026-11-23"]


def test_feeds_that_are_one_exchange_there_are_not_mixed(tmp_path: Path) -> None:
    rows = [{"price": 1.0, "size": 1.0, "feed": feed} for feed in ("coinbase", "coinbase-advanced")]
    with pytest.raises(ExportError, match="coinbase and coinbase-advanced are both coinbase there: export one feed"):
        to_tardis([batch(Table.TRADES, *rows)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_its_names_are_of_feeds_of_the_catalogue() -> None:
    assert set(catalogue()) >= EXCHANGES.keys()
    okx = ("BTC-USDT", "BTC-USDT-SWAP", "BTC-USD-261225", "BTC-USD-261225-60000-C")
    assert [exchange_name("okx", symbol) for symbol in okx] == ["okex", "okex-swap", "okex-futures", "okex-options"]
    assert exchange_name("my-exchange", "X") == "my-exchange"


@pytest.mark.parametrize("table", Table)
def test_its_names_for_columns_are_of_columns_and_no_two_are_alike(table: Table) -> None:
    assert set(TARDIS_NAMES) <= {name for each in Table for name in table_schema(each).names}
    names = [TARDIS_NAMES.get(name, name) for name in table_schema(table).names]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("in_memory", [0, 1 << 20])
def test_files_appear_together_or_not_at_all(tmp_path: Path, in_memory: int) -> None:
    rows = pa.RecordBatch.from_pydict({"n": [1, None], "text": ["x", None]})
    with CsvFiles(tmp_path, in_memory) as files:
        for name in ("b", "a", "b"):
            files.add(name, rows)
        assert not any((tmp_path / name).exists() for name in "ab")
        assert files.finish() == [tmp_path / "a", tmp_path / "b"]
    assert lines_of(tmp_path / "b") == ["n,text", "1,x", ",", "1,x", ","]
    with CsvFiles(tmp_path, in_memory) as files:
        files.add("c", rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
