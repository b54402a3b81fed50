"""wsrec export: tables of a capture as files, each row with its message, and nothing dropped silently."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.tables.full_disk import full_disk
from tests.tables.recorded import record, topics_of
from wsrec.cli.main import main
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table
from wsrec.format.reading import open_capture
from wsrec.format.selection import Selection
from wsrec.tables.reading import read_tables
from wsrec.tables.session_tables import SessionTables

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def trade(number: int, symbol: str = "BTCUSDT", price: str = "60000.10000000", **more: Any) -> bytes:
    data = {"e": "trade", "E": START // 1_000_000 + number, "s": symbol, "t": number, "p": price, "q": "0.5", "m": True}
    data |= {"T": START // 1_000_000 + number, **more}
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": data}).encode()


def quote(number: int, symbol: str = "BTCUSDT") -> bytes:
    data = {"u": number, "s": symbol, "b": "1.5", "B": "2", "a": "1.6", "A": "3"}
    return json.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": data}).encode()


ODD = (b"pong", trade(200, price="0.-1"), trade(201, m="maybe"), b'{"result":null,"id":1}')
QUOTES, TRADES = 100, 199  # trade 50 is missing


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of two trades and a quote in turn, in three files; what fits nothing comes last."""
    folder = tmp_path_factory.mktemp("capture")
    texts: list[bytes] = []
    for number in range(QUOTES):
        texts += [trade(2 * number), trade(2 * number + 1), quote(number, SYMBOLS[number % 2])]
    del texts[75]
    messages = [(START + number * 1_000_123, text) for number, text in enumerate([*texts, *ODD])]
    feed = find_feed("binance")
    record(folder, "binance", messages, topics_of(feed, ["trade", "bookTicker"], SYMBOLS), files=3, size=60)
    return folder


def run(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def read(folder: Path, table: str) -> pa.Table:
    return ds.dataset(sorted((folder / f"table={table}").rglob("*.parquet"))).to_table().sort_by("seq")


class TestFiles:
    def test_one_for_each_messages_file_in_its_folders(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades,quotes")
        sources = [path.relative_to(out / "messages") for path in (out / "messages").rglob("*.parquet")]
        assert len(sources) == 3
        for table in ("trades", "quotes"):
            made = [
                path.relative_to(tmp_path / f"table={table}") for path in tmp_path.rglob(f"table={table}/**/*.parquet")
            ]
            assert sorted(made) == sorted(sources)

    def test_made_again_they_are_the_same(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path)
        first = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
        run(out, "--out", tmp_path, "--jobs", 2)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == first

    def test_the_python_reader_makes_the_same_bytes(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path / "own")
        command = [sys.executable, "-m", "wsrec", "export", out, "--out", tmp_path / "python"]
        subprocess.run(command, check=True, env=os.environ | {"WSREC_PURE": "1"}, capture_output=True)
        own, python = (
            {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")}
            for name in ("own", "python")
        )
        assert len(own) >= 6
        assert own == python

    def test_below_the_capture_they_are_no_messages(self, out: Path) -> None:
        before = len(open_capture(out).files)
        run(out, "--tables", "trades")
        assert (out / "tables" / "table=trades").is_dir()
        assert len(open_capture(out).files) == before

    def test_their_metadata_names_source_and_what_was_left_out(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades")
        about = [pq.read_metadata(path).metadata for path in sorted(tmp_path.rglob("*.parquet"))]
        last = {key.decode(): json.loads(value) for key, value in about[-1].items() if key.startswith(b"wsrec.")}
        assert last["wsrec.tables_version"] == 1
        assert len(last["wsrec.source_sha256"]) == 64
        assert {each["reason"] for each in last["wsrec.left_out"]} >= {
            "price: found '0.-1', which is no number, at `p`"
        }


class TestRows:
    def test_lead_back_to_their_messages(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades")
        texts = {
            row["seq"]: json.loads(row["text"])["data"]
            for row in open_capture(out).messages(["seq", "text"], channel="trade").read_all().to_pylist()
            if row["text"]
        }
        rows = read(tmp_path, "trades").select(["seq", "item", "trade_id", "price", "side", "symbol"]).to_pylist()
        assert len(rows) == TRADES
        for row in rows:
            data = texts[row["seq"]]
            assert (row["trade_id"], row["price"], row["side"]) == (str(data["t"]), float(data["p"]), "sell")
            assert (row["item"], row["symbol"]) == (0, data["s"])

    def test_a_gap_shows_in_the_rows_and_as_a_row(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades,gaps")
        trades = read(tmp_path, "trades").select(["trade_id", "state"]).to_pylist()
        (suspect,) = [row["trade_id"] for row in trades if row["state"] == "suspect"]
        gaps = read(tmp_path, "gaps").select(["kind", "missing", "channel", "symbol", "seq"]).to_pylist()
        assert [(gap["kind"], gap["missing"], gap["channel"], gap["symbol"]) for gap in gaps] == [
            ("gap", 1, "trade", "BTCUSDT")
        ]
        assert int(suspect) == int(trades[[row["trade_id"] for row in trades].index(suspect) - 1]["trade_id"]) + 2
        assert {row["state"] for row in trades} == {"ok", "suspect"}

    def test_a_file_alone_makes_the_same_as_in_its_row(self, out: Path) -> None:
        capture = open_capture(out)
        feed = find_feed("binance")
        tables = [Table.TRADES, Table.QUOTES, Table.GAPS]
        in_a_row = SessionTables(feed, capture.files, capture.event_files, tables)
        for file in capture.files:
            alone = SessionTables(feed, capture.files, capture.event_files, tables)
            assert list(alone.tables(file)) == list(in_a_row.tables(file))

    def test_what_makes_none_is_listed_with_its_reason(self, out: Path, tmp_path: Path) -> None:
        printed = run(out, "--out", tmp_path, "--tables", "trades").stdout
        assert "price: found '0.-1', which is no number, at `p`" in printed
        assert "side: found the word 'maybe', which is not declared at `m`" in printed
        found = json.loads(run(out, "--out", tmp_path, "--tables", "trades,quotes", "--json").stdout)
        assert found["rows"] == {"trades": TRADES, "quotes": QUOTES}
        assert found["messages"] == TRADES + QUOTES + sum(each["count"] for each in found["left_out"])
        assert sum(each["count"] for each in found["left_out"]) == len(ODD)


class TestSelection:
    def test_by_symbol_channel_and_time(self, out: Path, tmp_path: Path) -> None:
        since, until = START + 100_000_000, START + 200_000_000
        run(out, "--out", tmp_path, "--symbols", "ethusdt", "--channels", "bbo", "--since", since, "--until", until)
        quotes = read(tmp_path, "quotes")
        assert set(quotes["symbol"].to_pylist()) == {"ETHUSDT"}
        times = np.array(quotes["recv_time"].cast("int64"))
        assert len(times)
        assert ((times >= since) & (times < until)).all()
        assert not (tmp_path / "table=trades").exists()

    def test_on_the_fly_as_in_the_files(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades")
        selection = Selection(symbols=frozenset(["btcusdt"]))
        batches = [batch for _, batch in read_tables(open_capture(out), [Table.TRADES], selection)]
        assert pa.Table.from_batches(batches).num_rows == read(tmp_path, "trades").num_rows

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--tables", "trade"], "--tables: found 'trade', expected trades, quotes"),
            (["--channels", "tades"], "--channels: found 'tades', expected a channel of"),
            (["--since", "yesterday"], "expected 2026-11-22T17:30:00Z"),
        ],
    )
    def test_mistakes_are_named(self, out: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
        assert expected in run(out, "--out", tmp_path, *arguments, status=2).stderr


class TestFormats:
    def test_readers_take_the_files_as_they_are(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades")
        files = f"{tmp_path}/table=trades/**/*.parquet"
        query = f"select count(*), min(price), any_value(feed) from read_parquet('{files}', hive_partitioning = true)"
        assert duckdb.sql(query).fetchall() == [(TRADES, 60000.1, "binance")]
        assert pl.scan_parquet(files, hive_partitioning=True).select(pl.len()).collect().item() == TRADES
        whole = ds.dataset(tmp_path / "table=trades", partitioning="hive").to_table()
        assert whole.num_rows == TRADES

    @pytest.mark.parametrize("kind", ["csv", "arrow"])
    def test_others(self, out: Path, tmp_path: Path, kind: str) -> None:
        run(out, "--out", tmp_path, "--tables", "trades", "--format", kind, "--time", "us")
        paths = sorted(tmp_path.rglob(f"*.{kind}"))
        tables = [pyarrow.csv.read_csv(p) if kind == "csv" else pyarrow.ipc.open_file(p).read_all() for p in paths]
        whole = pa.concat_tables(tables)
        assert (whole.num_rows, whole["price"].to_pylist()[0]) == (TRADES, 60000.1)

    def test_microseconds_say_what_was_cut(self, out: Path, tmp_path: Path) -> None:
        printed = run(out, "--out", tmp_path, "--tables", "trades", "--time", "us").stdout
        assert "times cut to microseconds" in printed
        (first, *_) = sorted(tmp_path.rglob("*.parquet"))
        assert pq.read_schema(first).field("recv_time").type == pa.timestamp("us", "UTC")

    def test_decimals_are_exact_or_refused(self, out: Path, tmp_path: Path) -> None:
        run(out, "--out", tmp_path, "--tables", "trades", "--numbers", "decimal")
        assert str(read(tmp_path, "trades")["price"][0]) == "60000.100000000000000000"

    def test_a_number_that_no_decimal_holds_is_an_error_with_its_message(self, tmp_path: Path) -> None:
        record(tmp_path / "c", "binance", [(START, trade(1, price="0.1234567890123456789"))])
        printed = run(tmp_path / "c", "--numbers", "decimal", status=1).stderr
        assert "price: found 0.1234567890123456789" in printed
        assert "RefusedNumberError" not in printed
        assert "message 0 of session s" in printed

    def test_a_number_that_no_double_holds_is_counted(self, tmp_path: Path) -> None:
        record(tmp_path / "c", "binance", [(START, trade(1, price="0.12345678901234567891"))])
        assert json.loads(run(tmp_path / "c", "--json").stdout)["rounded"] == {"trades": 1}


class TestWhatIsRead:
    def test_channels_that_make_none_of_the_tables_are_not_read_and_not_reported(
        self, out: Path, tmp_path: Path
    ) -> None:
        found = json.loads(run(out, "--out", tmp_path, "--tables", "trades", "--json").stdout)
        assert found["rows"] == {"trades": TRADES}
        assert not [each for each in found["left_out"] if each["channel"] == "bookTicker"]
        assert found["messages"] == TRADES + len(ODD)

    def test_an_answer_to_a_request_is_called_that(self, out: Path, tmp_path: Path) -> None:
        found = json.loads(run(out, "--out", tmp_path, "--json").stdout)
        answers = [each for each in found["left_out"] if each["reason"] == "an answer to a request"]
        assert [(each["count"], each["is_skip"]) for each in answers] == [(1, True)]


class TestDisk:
    def test_a_full_one_is_named_with_the_table_and_leaves_no_part_of_one(self, out: Path, tmp_path: Path) -> None:
        with full_disk(2_000):
            printed = run(out, "--out", tmp_path / "t", "--tables", "trades,quotes", status=66).stderr
        assert re.search(r"^wsrec export: /.*/t/table=(trades|quotes)/.*\.parquet: File too large$", printed.strip())
        assert not [path for path in (tmp_path / "t").rglob("*") if path.is_file()]

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_folder_that_cannot_be_made_is_status_66(self, out: Path, tmp_path: Path, jobs: int) -> None:
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "table=trades").touch()
        printed = run(out, "--out", tmp_path / "t", "--tables", "trades", "--jobs", jobs, status=66).stderr
        assert re.search(r"^wsrec export: /.*/t/table=trades/.*\.parquet: Not a directory: '.*'$", printed.strip())


class TestDamage:
    def test_a_damaged_file_is_named_and_the_others_are_exported(self, out: Path, tmp_path: Path) -> None:
        shutil.copytree(out, tmp_path / "copy", ignore=shutil.ignore_patterns("tables"))
        first, *others = sorted((tmp_path / "copy" / "messages").rglob("*.parquet"))
        first.write_bytes(first.read_bytes()[:-100])
        printed = run(tmp_path / "copy", "--out", tmp_path / "t", "--tables", "trades", status=1)
        assert first.name in printed.stderr
        assert len(list((tmp_path / "t").rglob("*.parquet"))) == len(others)


class TestDoubt:
    """What is left out of a message may have changed what follows it."""

    def test_the_first_trade_after_one_that_was_left_out_is_suspect(self, tmp_path: Path) -> None:
        bad = trade(2, price="0.-1")
        texts = [trade(1), bad, trade(3), trade(4)]
        messages = [(START + n, text) for n, text in enumerate(texts)]
        record(tmp_path / "c", "binance", messages, topics_of(find_feed("binance"), ["trade"], ["BTCUSDT"]))
        run(tmp_path / "c", "--tables", "trades", "--out", tmp_path / "t")
        assert read(tmp_path / "t", "trades")["state"].to_pylist() == ["ok", "suspect", "ok"]

    def test_a_book_is_suspect_from_a_left_out_level_to_its_next_snapshot(self, tmp_path: Path) -> None:
        first, good = [["3", "1", "0", "1"]], [["4", "1", "0", "1"]]
        bad = self.book(3, [["0.-1", "1", "0", "1"], ["5", "1", "0", "1"]])
        again = [self.book(5, first, "snapshot"), self.book(6, good)]
        texts = [self.book(1, first, "snapshot"), self.book(2, good), bad, self.book(4, good), *again]
        states = {(0, "ok"), (1, "ok"), (2, "suspect"), (3, "suspect"), (4, "ok"), (5, "ok")}
        assert self.states(tmp_path, texts) == states

    def test_a_book_is_suspect_from_a_word_that_is_not_declared_to_its_next_snapshot(self, tmp_path: Path) -> None:
        actions = ["snapshot", "update", "weird", "update", "snapshot", "update"]
        texts = [self.book(number, [["3", "1", "0", "1"]], action) for number, action in enumerate(actions, 1)]
        assert self.states(tmp_path, texts) == {(0, "ok"), (1, "ok"), (3, "suspect"), (4, "ok"), (5, "ok")}

    def test_the_first_best_prices_after_a_change_of_one_side_are_suspect(self, tmp_path: Path) -> None:
        def best(number: int, bids: Any) -> bytes:
            data = {"s": "BTCUSDT", "b": bids, "a": [["3", "1"]], "u": number, "seq": number}
            about = {"topic": "orderbook.1.BTCUSDT", "type": "snapshot" if bids else "delta", "ts": 1795352400000}
            return json.dumps({**about, "data": data}).encode()

        messages = [(START + n, best(n + 1, [["2", "1"]] if n != 1 else [])) for n in range(4)]
        topics = topics_of(find_feed("bybit-linear"), ["orderbook.1"], ["BTCUSDT"])
        record(tmp_path / "c", "bybit-linear", messages, topics)
        printed = run(tmp_path / "c", "--tables", "quotes", "--out", tmp_path / "t").stdout
        assert "a change of one side of the best prices, as before 2024" in printed
        states = read(tmp_path / "t", "quotes")["state"].to_pylist()
        assert states[1] == "suspect"
        assert "suspect" not in (states[0], states[2])

    def test_a_time_that_cannot_be_is_counted_and_leaves_no_doubt(self, tmp_path: Path) -> None:
        texts = [trade(1), trade(2).replace(b'"T": ', b'"T": -'), trade(3)]
        messages = [(START + n, text) for n, text in enumerate(texts)]
        record(tmp_path / "c", "binance", messages, topics_of(find_feed("binance"), ["trade"], ["BTCUSDT"]))
        printed = run(tmp_path / "c", "--tables", "trades", "--out", tmp_path / "t").stdout
        assert "null in place of what is there" in printed
        assert "a time before 1970" in printed
        rows = read(tmp_path / "t", "trades")
        assert [time is None for time in rows["trade_time"].to_pylist()] == [False, True, False]
        assert rows["state"].to_pylist() == ["ok"] * 3

    @staticmethod
    def book(number: int, bids: Any, action: str = "update") -> bytes:
        before = -1 if action == "snapshot" else number - 1
        data = {"bids": bids, "asks": [], "ts": "1795352400000", "seqId": number, "prevSeqId": before}
        return json.dumps({"arg": {"channel": "books", "instId": "A-B"}, "action": action, "data": [data]}).encode()

    @staticmethod
    def states(folder: Path, texts: list[bytes]) -> set[tuple[int, str]]:
        """The states of the rows of each message, which are numbered from 0."""
        messages = [(START + n, text) for n, text in enumerate(texts)]
        record(folder / "c", "okx", messages, topics_of(find_feed("okx"), ["books"], ["A-B"]))
        run(folder / "c", "--tables", "book_changes", "--out", folder / "t")
        rows = read(folder / "t", "book_changes").select(["seq", "state"]).to_pylist()
        first = min(row["seq"] for row in rows)
        return {(row["seq"] - first, row["state"]) for row in rows}


class TestSummary:
    def test_counts_of_one_and_no_rows(self, tmp_path: Path) -> None:
        record(tmp_path, "binance", [(START, trade(1))], topics_of(find_feed("binance"), ["trade"], ["BTCUSDT"]))
        output = run(tmp_path, "--out", tmp_path / "t", "--tables", "trades,quotes,gaps").stdout
        assert re.search(r"^1 message, 1 row in 1 file \([\d,]+ bytes\) below .*; every number is exact$", output, re.M)
        assert (
            "\nquotes: no rows, as nothing that was asked for makes one\ngaps: no rows, as no gap is known\n" in output
        )
        assert "exact" not in run(tmp_path, "--out", tmp_path / "t", "--tables", "quotes", status=3).stdout

    def test_that_no_gap_is_known_is_an_answer(self, tmp_path: Path) -> None:
        record(tmp_path, "binance", [(START, trade(1))], topics_of(find_feed("binance"), ["trade"], ["BTCUSDT"]))
        result = run(tmp_path, "--out", tmp_path / "t", "--tables", "gaps")
        assert "gaps: no rows, as no gap is known\n" in result.stdout
        assert result.stderr == ""

    def test_books_without_a_snapshot_say_the_cure(self, tmp_path: Path) -> None:
        data = {"e": "depthUpdate", "E": START // 10**6, "s": "BTCUSDT", "U": 1, "u": 2, "b": [["1", "2"]], "a": []}
        text = json.dumps({"stream": "btcusdt@depth@100ms", "data": data}).encode()
        record(tmp_path, "binance", [(START, text)], topics_of(find_feed("binance"), ["depth@100ms"], ["BTCUSDT"]))
        output = run(tmp_path, "--out", tmp_path / "t").stdout
        assert "book_changes: 1 row is suspect: " in output
        assert "record with --snapshots start (docs/how-to/books.md)" in output


class TestNamesThatAreNotThere:
    @pytest.mark.parametrize("to", [(), ("--to", "tardis")])
    def test_a_symbol_is_said_with_those_that_are(self, out: Path, tmp_path: Path, to: tuple[str, ...]) -> None:
        problem = "--symbols: found 'XXX', which the capture does not have, expected BTCUSDT, ETHUSDT"
        for symbols, status in (("XXX", 3), ("XXX,BTCUSDT", 0)):
            asked = ("--tables", "trades", "--symbols", symbols, "--out", tmp_path / symbols)
            assert problem in run(out, *to, *asked, status=status).stderr

    def test_the_spelling_of_record_is_taken(self, out: Path, tmp_path: Path) -> None:
        result = run(out, "--tables", "quotes", "--symbols", "ETH/USDT", "--out", tmp_path)
        assert result.stderr == ""
        assert set(read(tmp_path, "quotes")["symbol"].to_pylist()) == {"ETHUSDT"}

    def test_a_channel_is_said_with_those_that_are(self, out: Path, tmp_path: Path) -> None:
        result = run(out, "--channels", "trades,book", "--out", tmp_path)
        assert "--channels: no row is of 'book'; the capture has bookTicker, trade" in result.stderr
        assert "'trades'" not in result.stderr
