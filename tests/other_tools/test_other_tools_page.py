"""docs/how-to/other-tools.md: its programs run on exported tables, and it says what the exporters do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tables.recorded import record, topics_of
from wsrec.cli.main import main
from wsrec.feed.load import find_feed
from wsrec.options.export import Tool
from wsrec.other_tools.export_to import tables_of
from wsrec.other_tools.tardis import DATASETS

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "other-tools.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXPORT = re.search(r"^wsrec export captures --tables \S+$", PAGE, re.MULTILINE)
START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported capture of trades, quotes and mark prices of Binance USD-M."""
    folder = tmp_path_factory.mktemp("page")
    texts = []
    for number in range(30):
        times = {"E": START // 1_000_000 + number, "T": START // 1_000_000 + number, "s": "BTCUSDT"}
        trade = {"e": "trade", "t": number, "p": "60000.1", "q": "0.5", "X": "MARKET", "m": True}
        quote = {"e": "bookTicker", "u": number, "b": "1.5", "B": "2", "a": "1.6", "A": "3"}
        mark = {
            "e": "markPriceUpdate",
            "p": "60001.5",
            "i": "60000",
            "P": "60000",
            "r": "0.0001",
            "T": 1_795_353_600_000,
        }
        for stream, data in (("trade", trade), ("bookTicker", quote), ("markPrice@1s", mark)):
            texts.append(json.dumps({"stream": f"btcusdt@{stream}", "data": times | data}).encode())
    messages = [(START + number * 1_000_123, text) for number, text in enumerate(texts)]
    feed = find_feed("binance-usdm")
    record(folder / "captures", feed.name, messages, topics_of(feed, ["trade", "bookTicker", "markPrice"], ["BTCUSDT"]))
    assert EXPORT is not None
    words = EXPORT[0].split()[1:]
    words[1] = str(folder / "captures")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return folder


def test_there_are_programs() -> None:
    assert len(PROGRAMS) == 3


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_its_programs_run(
    program: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(program, "example", "exec"), {"__name__": "example"})
    shown = capsys.readouterr().out
    assert "BTCUSDT" in shown
    assert any(value in shown for value in ("60000.1", "60001.5"))


def test_it_has_every_table_of_each_tool() -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    titles = {Tool.HFTBACKTEST: "hftbacktest", Tool.NAUTILUS: "nautilus_trader", Tool.TARDIS: "tardis.dev"}
    for tool, title in titles.items():
        rows = re.findall(r"^\| `(\w+)` \|", sections[title], re.MULTILINE)
        assert set(rows) == {str(table) for table in tables_of(tool)[0]}
    for table, dataset in DATASETS.items():
        assert f"| `{table}` | `{dataset.format(levels=25)}`" in sections[titles[Tool.TARDIS]]
