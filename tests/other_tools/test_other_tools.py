"""The other tools themselves, from PyPI, on files that wsrec exported from a real recording."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from tests.real_messages import DATA
from tests.tables.recorded import record, usdm_messages
from tests.tables.table_batches import usdm_rows
from wsrec.cli.main import main
from wsrec.feed.table_columns import Table
from wsrec.format.reading import open_capture
from wsrec.other_tools.hftbacktest import to_hftbacktest
from wsrec.other_tools.nautilus import to_nautilus
from wsrec.other_tools.tardis import to_tardis

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-tools" / "bin" / "python"
_BOOK = (Table.BOOK_CHANGES,)
RECORDING = DATA / "binance-usdm-btcusdt-20240808.txt.gz"


@pytest.fixture(scope="module")
def rows() -> list[tuple[Table, pa.RecordBatch]]:
    if not RECORDING.exists():
        pytest.skip(f"real messages are not beside the project: {RECORDING}")
    if not PYTHON.exists():
        pytest.skip("hftbacktest is not installed: scripts/other-tools installs it and nautilus_trader in .venv-tools")
    return list(usdm_rows())


def ask(folder: Path, question: str, *arguments: object) -> Any:
    """The answer to a question of in_other_tools.py."""
    result = folder / "answer.json"
    script = Path(__file__).with_name("in_other_tools.py")
    command = [str(each) for each in (PYTHON, script, question, result, *arguments)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(result.read_text())


def kept_book(rows: list[tuple[Table, pa.RecordBatch]]) -> list[dict[float, float]]:
    """Bids and asks after the last message, kept in two dictionaries."""
    sides: dict[str, dict[float, float]] = {"bid": {}, "ask": {}}
    for table, batch in rows:
        if table is Table.BOOK_CHANGES:
            columns = (batch[name].to_pylist() for name in ("action", "side", "price", "size"))
            for action, side, price, size in zip(*columns, strict=True):
                if action == "clear":
                    sides = {"bid": {}, "ask": {}}
                elif action == "delete":
                    sides[side].pop(price, None)
                else:
                    sides[side][price] = size
    return [sides["bid"], sides["ask"]]


def integers(batches: list[pa.RecordBatch], name: str) -> list[int]:
    return [value for batch in batches for value in batch[name].cast(pa.int64()).to_pylist()]


def recorded(folder: Path) -> tuple[Path, Path]:
    """The recording's begin as a capture: in the form of the recording, with its times; exported by the command."""
    record(folder / "captures", "binance-usdm", list(itertools.islice(usdm_messages(), 20_000)))
    command = ["export", str(folder / "captures"), "--to", "hftbacktest", "--out", str(folder / "exported")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    messages = open_capture(folder / "captures").messages(["recv_time", "text"], direction="recv").read_all()
    with gzip.open(folder / "again.txt.gz", "wt", compresslevel=1) as file:
        times = messages["recv_time"].cast(pa.int64()).to_pylist()
        file.writelines(f"{time} {text}\n" for time, text in zip(times, messages["text"].to_pylist(), strict=True))
    (exported,) = (folder / "exported").iterdir()
    return folder / "again.txt.gz", exported


def test_hftbacktest(rows: list[tuple[Table, pa.RecordBatch]], tmp_path: Path) -> None:
    taken = [(table, batch) for table, batch in rows if table is not Table.QUOTES]
    (exported,) = to_hftbacktest(taken, tmp_path).files
    (with_quotes,) = to_hftbacktest(rows, tmp_path / "quotes").files
    tardis = sorted(to_tardis(taken, tmp_path).files, reverse=True)
    asked = {
        "pairs": [(RECORDING, exported), recorded(tmp_path)],
        "backtests": [exported, with_quotes],
        "tardis": tardis,
    }
    answer = ask(tmp_path, "hftbacktest", json.dumps(asked, default=str))
    whole, of_capture = answer["pairs"]
    assert whole == {"events": 491_973, "equal": True}
    assert of_capture["equal"]
    assert of_capture["events"] > 50_000
    bids, asks = kept_book(rows)
    # the best levels beside the book change nothing
    assert answer["backtests"] == [{"bid": max(bids), "ask": min(asks), "position": 0.002, "trades": 21_313}] * 2
    assert answer["from_tardis"] > 445_521 + 21_313


def test_nautilus(rows: list[tuple[Table, pa.RecordBatch]], tmp_path: Path) -> None:
    # enough: it takes a second for each 100,000 rows
    rows = [(table, batch.filter(pc.less(batch["seq"], 25_000))) for table, batch in rows]
    counts = {table: sum(batch.num_rows for each, batch in rows if each is table) for table, _ in rows}
    outcome = to_nautilus(rows, tmp_path)
    assert not outcome.left_out
    tardis = to_tardis(rows, tmp_path / "tardis").files
    answer = ask(tmp_path, "nautilus", tmp_path, "BTCUSDT.BINANCE-USDM", *tardis)
    assert answer["counts"] == [counts[table] for table in (Table.TRADES, Table.QUOTES, Table.BOOK_CHANGES)]
    trades = [batch for table, batch in rows if table is Table.TRADES]
    sides = {"buy": "BUYER", "sell": "SELLER"}
    expected = zip(
        (f"{price:.1f}" for batch in trades for price in batch["price"].to_pylist()),
        (f"{size:.3f}" for batch in trades for size in batch["size"].to_pylist()),
        (sides[side] for batch in trades for side in batch["side"].to_pylist()),
        (trade_id for batch in trades for trade_id in batch["trade_id"].to_pylist()),
        integers(trades, "trade_time"),
        integers(trades, "recv_time"),
        strict=True,
    )
    assert answer["trades"] == [list(trade) for trade in expected]
    quotes = [batch for table, batch in rows if table is Table.QUOTES]
    numbers = {"bid_price": 1, "bid_size": 3, "ask_price": 1, "ask_size": 3}
    written = [
        [f"{value:.{digits}f}" for batch in quotes for value in batch[name].to_pylist()]
        for name, digits in numbers.items()
    ]
    times = [integers(quotes, name) for name in ("transact_time", "recv_time")]
    assert answer["quotes"] == [list(quote) for quote in zip(*written, *times, strict=True)]
    bids, asks = ({f"{price:.1f}": f"{size:.3f}" for price, size in side.items()} for side in kept_book(rows))
    assert [dict(side) for side in answer["book"]] == [bids, asks]
    # the `clear` of a snapshot is no row there
    clears = sum(pc.sum(pc.equal(batch["action"], "clear")).as_py() or 0 for table, batch in rows if table in _BOOK)
    datasets = {Table.TRADES: "trades", Table.QUOTES: "book_ticker", Table.BOOK_CHANGES: "incremental_book_L2"}
    assert answer["tardis"] == {
        f"binance-futures_{datasets[table]}_2024-08-08_BTCUSDT.csv.gz": [
            count - clears * (table in _BOOK),
            "BTCUSDT.BINANCE",
        ]
        for table, count in counts.items()
    }
