"""wsrec export --to: a capture in another tool's files, and what the command says of them."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.order_books.book_capture import opened
from tests.order_books.book_capture import record as record_book
from tests.order_books.small_books import message as message_of_book
from tests.order_books.small_books import small_feed, snapshot
from tests.tables.recorded import record, topics_of
from tests.venues.listings import LISTINGS
from wsrec.cli.main import main
from wsrec.feed.load import find_feed
from wsrec.other_tools.export_to import listed_decimals
from wsrec.tables.column_names import TARDIS_NAMES
from wsrec.tables.listings import Listings

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def message(kind: str, **data: Any) -> bytes:
    return json.dumps({"stream": f"btcusdt@{kind}", "data": data}).encode()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of 60 trades of two symbols, 60 quotes without a time of the exchange, and what fits nothing."""
    folder = tmp_path_factory.mktemp("capture")
    texts = []
    for number in range(60):
        times = {"E": START // 1_000_000 + number - 5, "T": START // 1_000_000 + number - 7}
        about = {"e": "trade", "s": SYMBOLS[number % 2], "t": number, "p": "60000.10", "q": "0.5", "m": True}
        texts.append(message("trade", **about, **times))
        texts.append(message("bookTicker", u=number, s="BTCUSDT", b="1.5", B="2", a="1.6", A="3"))
    texts.append(message("trade", e="trade", s="BTCUSDT", t=99, p="0.-1", q="1", m=True, E=1, T=1))
    messages = [(START + number * 1_000_123, text) for number, text in enumerate(texts)]
    record(folder, "binance", messages, topics_of(find_feed("binance"), ["trade", "bookTicker"], SYMBOLS), files=2)
    return folder


def run(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def test_hftbacktest(out: Path, tmp_path: Path) -> None:
    lines = run(out, "--to", "hftbacktest", "--out", tmp_path).output.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "binance_BTCUSDT_20261122.npz",
        "binance_ETHUSDT_20261122.npz",
    ]
    data = np.load(tmp_path / "binance_BTCUSDT_20261122.npz")["data"]
    assert len(data) == 30
    assert set(data["px"]) == {60000.1}
    assert np.all(data["local_ts"] > data["exch_ts"])
    assert lines[0] == "hftbacktest events: 60 written"
    run(out, "--to", "hftbacktest", "--out", tmp_path, "--clock-shift", "123456789012")
    later = np.load(tmp_path / "binance_BTCUSDT_20261122.npz")["data"]
    assert list(later["local_ts"][:30] - data["local_ts"]) == [123_456_789_012] * 30
    assert any(line.startswith("binance: least latency ") for line in lines)
    assert any(re.match(r"\d+ messages, 2 files below ", line) for line in lines)
    assert "left out:" in lines


def test_without_a_time_of_the_exchange_the_user_has_to_give_one(out: Path, tmp_path: Path) -> None:
    arguments = (out, "--to", "hftbacktest", "--tables", "quotes", "--out", tmp_path)
    refused = run(*arguments, status=2).output
    assert refused.startswith("wsrec export: quotes of binance, channel bookTicker: no time of the exchange (seq ")
    assert "--exchange-offset TIME" in refused
    assert not list(tmp_path.iterdir())
    lines = run(*arguments, "--exchange-offset", "3ms").output.splitlines()
    assert "quotes of binance: rows without a time of the exchange are taken to have happened 3.00 ms" in lines[1]
    data = np.load(next(tmp_path.iterdir()))["data"]
    assert set(data["local_ts"] - data["exch_ts"]) == {3_000_000}


def test_nautilus(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = run(out, "--to", "nautilus", "--symbols", "btcusdt").output.splitlines()
    (file,) = (tmp_path / "nautilus/data/trade_tick/BTCUSDT.BINANCE").iterdir()
    assert pq.read_metadata(file).num_rows == 30
    # Binance's spot quotes have no time
    assert not (tmp_path / "nautilus/data/quote_tick").exists()
    assert lines[0] == "nautilus trade_tick: 30 written"
    assert lines[1].startswith("quotes: 60 left out: no time of the exchange, which it needs as `ts_event`")


def test_a_catalogue_is_not_put_where_it_would_be_read_as_messages(out: Path) -> None:
    refused = run(out, "--to", "nautilus", "--out", out / "x", status=2)
    assert "whose readers would take the catalogue's files for messages" in refused.output


@pytest.mark.parametrize("arguments", [(), ("--to", "tardis"), ("--to", "hftbacktest"), ("--format", "csv")])
@pytest.mark.parametrize("folder", ["messages", "messages/feed=binance/x", "events/tables"])
def test_nothing_is_put_between_the_messages_and_events(out: Path, arguments: tuple[str, ...], folder: str) -> None:
    refused = run(out, *arguments, "--out", out / folder, status=2)
    assert re.search(r"--out: found '.*', which is in the (messages|events) of a capture, expected a", refused.output)


@pytest.mark.parametrize("arguments", [(), ("--to", "tardis")])
def test_a_feed_that_the_capture_does_not_have_is_a_mistake(
    out: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = Path(__file__).parents[2] / "configs" / "kraken.yaml"
    refused = run(out, *arguments, "--feed", file, "--out", tmp_path / "out", status=2)
    assert "kraken.yaml is of the feed kraken, expected one of the capture's: binance" in refused.output
    assert not (tmp_path / "out").exists()


def test_decimals_of_nautilus_are_those_of_the_listing() -> None:
    feed, (answer, *_) = find_feed("binance-coinm"), LISTINGS["binance-coinm"]
    listings = Listings(feed, [(START, json.dumps(answer).encode())])
    assert listed_decimals("binance-coinm", listings, START + 1)["binance-coinm", "BTCUSD_PERP"] == (1, 0)
    assert listed_decimals("binance-coinm", Listings(feed, []), START) == {}


def test_tardis_as_json(out: Path, tmp_path: Path) -> None:
    result = json.loads(run(out, "--to", "tardis", "--out", tmp_path, "--json").output)
    names = [f"binance_{name}.csv.gz" for name in ("book_ticker_2026-11-22_BTCUSDT", "trades_2026-11-22_BTCUSDT")]
    assert [Path(path).name for path in result["files"]] == [*names, "binance_trades_2026-11-22_ETHUSDT.csv.gz"]
    assert result["written"] == {"tardis trades": 60, "tardis book_ticker": 60}
    assert (result["to"], result["messages"], result["rounded"]) == ("tardis", 121, 0)
    (left_out,) = result["left_out"]
    assert (left_out["channel"], left_out["table"], left_out["count"]) == ("trade", "trades", 1)
    assert (
        "quotes of binance: 60 rows have no time of the exchange: their `timestamp` is the local time"
        in result["notes"]
    )
    assert len(gzip.decompress((tmp_path / names[0]).read_bytes()).splitlines()) == 61


def test_its_names_for_columns(out: Path, tmp_path: Path) -> None:
    for kind in ("parquet", "csv"):
        folder = tmp_path / kind
        run(out, "--names", "tardis", "--tables", "trades", "--format", kind, "--out", folder)
        file = sorted(folder.rglob(f"*.{kind}"))[0]
        table = pq.ParquetFile(file).read() if kind == "parquet" else pyarrow.csv.read_csv(file)
        assert {"exchange", "timestamp", "local_timestamp", "id", "price", "amount"} < set(table.column_names)
        assert not set(table.column_names) & TARDIS_NAMES.keys()
        assert table["exchange"].unique().to_pylist() == ["binance"]
        if kind == "parquet":
            assert str(table.schema.field("local_timestamp").type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--to", "tardis", "--jobs", "2"), "--jobs: found it beside --to"),
        (("--to", "tardis", "--format", "csv"), "--to: found it beside --format, which excludes it"),
        (("--to", "tardis", "--names", "tardis"), "--names: found it beside --to"),
        (("--to", "hftbacktest", "--time", "us"), "--time: found it beside --to"),
        (("--to", "nautilus", "--tables", "candles"), "--tables: found candles, which nautilus has nothing for"),
        (("--exchange-offset", "1s"), "--exchange-offset: found it without --to"),
        (("--clock-shift", "1"), "--clock-shift: found it without --to"),
        (("--to", "tardis", "--clock-shift", "1"), "--clock-shift: found it beside --to tardis"),
        (("--since", "2026-11-22T13:00Z", "--until", "2026-11-22T13:00Z"), "--until: found a time that is not after"),
        (("--to", "excel"), "expected hftbacktest, nautilus or tardis"),
    ],
)
def test_what_does_not_go_together(out: Path, arguments: tuple[str, ...], problem: str) -> None:
    assert problem in run(out, *arguments, status=2).output


def test_nothing_for_the_tool(out: Path, tmp_path: Path) -> None:
    refused = run(out, "--to", "tardis", "--tables", "liquidations", "--out", tmp_path, status=3)
    assert "no message makes a row for tardis" in refused.output


@pytest.fixture
def damaged(out: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The capture in three files, the second of them damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    first, *_ = sorted((copy / "messages").rglob("*.parquet"))
    second = first.with_name(f"other-{first.name}")
    content = first.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    second.write_bytes(content[:500] + bytes(footer - 500) + content[footer:])
    third = first.with_name(f"short-{first.name}")
    third.write_bytes(content[:1000])
    return copy, second, third


@pytest.mark.parametrize("tool", ["hftbacktest", "nautilus", "tardis"])
def test_damaged_files_are_named_and_the_others_are_exported(
    damaged: tuple[Path, Path, Path], tool: str, tmp_path: Path
) -> None:
    copy, *bad = damaged
    result = run(copy, "--to", tool, "--tables", "trades", "--out", tmp_path / tool, "--json", status=1)
    found = json.loads(result.stdout)
    assert sum(found["written"].values()) == 60
    assert sorted(found["files"]) == sorted(str(path) for path in (tmp_path / tool).rglob("*.*") if path.is_file())
    lines = result.stderr.splitlines()
    assert len(lines) == len(found["errors"]) == 2
    for path in bad:
        assert [str(path) in line for line in lines].count(True) == 1
    assert "lack those" not in result.output


def test_if_all_files_are_damaged_that_is_the_status(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(sorted((out / "messages").rglob("*.parquet"))[0].read_bytes()[:1000])
    assert str(file) in run(file, "--to", "tardis", "--out", tmp_path / "t", status=1).stderr


def test_a_book_that_goes_on_after_a_damaged_file_is_said(tmp_path: Path) -> None:
    entries = [*opened(START, ["book.A"]), snapshot(1, 10), *(message_of_book(n, 9 + n, {10: n}) for n in range(2, 10))]
    record_book(tmp_path / "out", small_feed(), entries, "book", "A", files=3)
    _, second, _ = sorted((tmp_path / "out" / "messages").rglob("*.parquet"))
    arguments = (tmp_path / "out", "--to", "tardis", "--out", tmp_path / "t")
    assert "lack those" not in run(*arguments).stdout
    second.write_bytes(second.read_bytes()[:1000])
    result = run(*arguments, status=1)
    assert str(second) in result.stderr
    assert "book_changes after a damaged file lack those that were in it" in result.stdout
