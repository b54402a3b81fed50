"""Folders whose names are not UTF-8,: every command reads and writes there as it does elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner

from tests.tables.recorded import record, topics_of
from wsrec.cli.main import main
from wsrec.feed.load import find_feed

START = 1_795_352_400_000_000_000
NAMES = (b"plain", b"n\xff")
COMMANDS = (
    ("verify", "capture", "--again", "--json"),
    ("report", "capture", "--json"),
    ("export", "capture", "--json"),
    ("export", "capture", "--out", "tables", "--format", "csv"),
    ("sql", "capture", "select count(*) from messages, events, trades", "--format", "csv"),
    ("sql", "capture", "select * from messages", "--format", "parquet", "--out", "rows.parquet"),
    ("book", "capture", "--partial", "--every", "1s", "--out", "books.csv"),
    ("book", "capture", "--partial", "--every", "1s", "--jobs", "2", "--out", "books.parquet"),
    ("compact", "capture", "--json"),
    ("recover", "capture"),
)


def messages() -> list[tuple[int, bytes]]:
    found = []
    for number in range(40):
        time = START + number * 100_000_000
        trade = {"e": "trade", "s": "BTCUSDT", "t": number, "p": "6.10", "q": "0.5", "m": True, "T": time // 1_000_000}
        depth = {"e": "depthUpdate", "s": "BTCUSDT", "U": number, "u": number, "b": [["6", str(number)]], "a": []}
        for stream, data in (("btcusdt@trade", trade), ("btcusdt@depth@100ms", depth)):
            about = {"stream": stream, "data": {**data, "E": time // 1_000_000}}
            found.append((time + len(stream), json.dumps(about).encode()))
    return found


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two folders with the same capture, the second with a name that is not UTF-8."""
    topics = topics_of(find_feed("binance"), ["trade", "depth@100ms"], ["BTCUSDT"])
    made = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)) for name in NAMES]
    for folder in made:
        record(folder / "capture", "binance", messages(), topics, files=2, size=40)
    return made


def told(folder: Path, words: tuple[str, ...], memory: Path) -> tuple[Any, ...]:
    """What a command says of a folder, without its name."""
    at = [str(folder / word) if word.startswith(("capture", "tables", "rows.", "books.")) else word for word in words]
    environment = {"XDG_CACHE_HOME": str(memory)}
    result = CliRunner().invoke(main, at, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
    texts = [text.replace(ascii(str(folder))[1:-1], "FOLDER") for text in (result.stdout, result.stderr)]
    told = [json.loads(text) if text.startswith("{") else text for text in texts]
    return int(result.exit_code), *told


def test_every_command_says_the_same_of_any_folder(folders: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    for words in COMMANDS:
        plain, other = (told(folder, words, tmp_path / "cache") for folder in folders)
        assert plain == other, words
        assert plain[0] in (0, 4), (words, plain)
    plain, other = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in folders)
    assert plain == other
    books = [pyarrow.csv.read_csv(pa.OSFile(os.fsencode(folder / "books.csv"))) for folder in folders]
    assert books[0].num_rows
    assert books[0].equals(books[1])


def test_what_was_proved_there_is_remembered(folders: list[Path], tmp_path: Path) -> None:
    # a file that changed just now is not trusted
    time.sleep(0.15)
    told(folders[1], ("verify", "capture"), tmp_path / "cache")
    _, again, _ = told(folders[1], ("verify", "capture", "--json"), tmp_path / "cache")
    (session,) = again["captures"][0]["sessions"]
    assert session["remembered_since"] is not None


def test_nothing_is_recorded_there_and_the_option_is_named(tmp_path: Path) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/n\xff")
    result = CliRunner().invoke(main, ["record", "demo", "--duration", "1s", "--out", out])
    assert result.exit_code == 2
    assert result.stderr.startswith("wsrec record: --out: found ")
    assert "UTF-8" in result.stderr
    assert list(tmp_path.iterdir()) == []
