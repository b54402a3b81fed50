"""Two sessions of a feed at once, as in a takeover: what both recorded is said by who counts it, and is had once."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from tests.page_blocks import ROOT
from tests.tables.recorded import record, topics_of
from wsrec.cli.main import main
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table
from wsrec.format.reading import open_capture
from wsrec.format.selection import Selection
from wsrec.tables.session_overlaps import session_overlaps

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
STEP = 1_000_123
PAGE = ROOT / "docs" / "reference" / "tables.md"
# trades and quotes 0 to 59 in the earlier session, 40 to 99 in the later
EARLIER, LATER, BOTH, ALL = range(60), range(40, 100), 20, 100
SAID = (
    f"trades of binance: up to {BOTH} messages of trade BTCUSDT, trade ETHUSDT are in two sessions at once, "
    r"(\S+) and (\S+), from 2026-11-22 13:00:00.080 to 2026-11-22 13:00:00.119"
)


def messages(numbers: Sequence[int], symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT")) -> list[tuple[int, bytes]]:
    """A trade of size 1 and a quote for each number, with the times of their arrival."""
    found = []
    for number in numbers:
        symbol = symbols[number % len(symbols)]
        about = {"e": "trade", "s": symbol, "t": number // len(symbols), "p": "1.5", "q": "1", "m": True}
        quote = {"u": number, "s": symbol, "b": "1.5", "B": "2", "a": "1.6", "A": "3"}
        time = START + 2 * number * STEP
        about |= {"E": time // 1_000_000, "T": time // 1_000_000}
        found.append((time, json.dumps({"stream": f"{symbol.lower()}@trade", "data": about}).encode()))
        found.append((time + STEP, json.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": quote}).encode()))
    return found


def capture_of(out: Path, *sessions: list[tuple[int, bytes]]) -> Path:
    topics = topics_of(find_feed("binance"), ["trade", "bookTicker"], ["BTCUSDT", "ETHUSDT"])
    for number, each in enumerate(sessions):
        record(out, "binance", each, topics, session=f"s{number}")
    return out


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of two sessions, of which the later began before the earlier ended."""
    return capture_of(tmp_path_factory.mktemp("taken") / "captures", messages(EARLIER), messages(LATER))


def run(*arguments: object, status: int = 0) -> Any:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def overlaps(capture: Path, *tables: Table, **chosen: Any) -> list[Any]:
    return session_overlaps(open_capture(capture).files, tables, Selection(**chosen))


class TestWhatIsThereTwice:
    def test_by_table_with_sessions_times_streams_and_number(self, taken_over: Path) -> None:
        found = overlaps(taken_over, Table.TRADES, Table.QUOTES, Table.CANDLES, Table.GAPS)
        assert [(each.table, each.messages) for each in found] == [("trades", BOTH), ("quotes", BOTH)]
        first, last = START + 2 * LATER[0] * STEP, START + (2 * EARLIER[-1] + 1) * STEP
        # arrival times are those of a clock that was measured
        assert (found[0].since, found[0].until) == (pytest.approx(first, abs=100), pytest.approx(last, abs=100))
        assert found[0].streams == ["trade BTCUSDT", "trade ETHUSDT"]
        assert found[0].earlier != found[0].later

    def test_of_what_was_chosen(self, taken_over: Path) -> None:
        (found,) = overlaps(taken_over, Table.TRADES, symbols=frozenset({"BTC/USDT"}))
        assert (found.streams, found.messages) == (["trade BTCUSDT"], BOTH // 2)
        middle = START + 2 * 50 * STEP - STEP // 2
        assert overlaps(taken_over, Table.TRADES, since=middle)[0].messages == BOTH // 2
        assert overlaps(taken_over, Table.TRADES, until=middle)[0].messages == BOTH // 2
        assert not overlaps(taken_over, Table.TRADES, until=START + 2 * LATER[0] * STEP - STEP)
        assert not overlaps(taken_over, Table.TRADES, channels=("bookTicker",))

    def test_sessions_one_after_the_other_have_nothing_in_common(self, tmp_path: Path) -> None:
        assert not overlaps(capture_of(tmp_path, messages(range(40)), messages(LATER)), Table.TRADES)

    def test_nor_have_sessions_of_other_symbols(self, tmp_path: Path) -> None:
        one, other = messages(EARLIER, ["BTCUSDT"]), messages(LATER, ["ETHUSDT"])
        assert not overlaps(capture_of(tmp_path, one, other), Table.TRADES)


class TestWhoSaysSo:
    def test_export(self, taken_over: Path, tmp_path: Path) -> None:
        for form in ("parquet", "csv", "arrow"):
            result = run("export", taken_over, "--tables", "trades", "--out", tmp_path / form, "--format", form)
            assert re.search(f"{SAID}, and there twice: to count each once: docs/", result.stdout), result.stdout
        result = run("export", taken_over, "--tables", "trades", "--out", tmp_path / "json", "--json")
        (found,) = json.loads(result.stdout)["twice"]
        assert (found["feed"], found["table"], found["messages"]) == ("binance", "trades", BOTH)
        assert {found["earlier"], found["later"]} == {file.session for file in open_capture(taken_over).files}

    def test_export_of_one_session_says_nothing(self, taken_over: Path, tmp_path: Path) -> None:
        file = open_capture(taken_over).files[0].path
        assert "two sessions" not in run("export", file, "--tables", "trades", "--out", tmp_path).output

    def test_export_to_another_tool_is_refused(self, taken_over: Path, tmp_path: Path) -> None:
        result = run("export", taken_over, "--to", "tardis", "--tables", "trades", "--out", tmp_path / "t", status=2)
        assert re.search(f"{SAID}, and would be there twice: export one session's files", result.stderr)
        assert not (tmp_path / "t").exists()

    def test_sql_before_the_answer_on_standard_error(self, taken_over: Path) -> None:
        result = run("sql", taken_over, "select sum(size) s from trades", "--format", "csv")
        assert float(result.stdout.split()[1]) == len(EARLIER) + len(LATER)
        assert re.search(f"wsrec sql: {SAID}, and there twice: ", result.stderr)

    @pytest.mark.parametrize(
        "question", ["select session, sum(size) from trades group by session", "select count(*) from events"]
    )
    def test_sql_not_of_other_questions(self, taken_over: Path, question: str) -> None:
        assert "two sessions" not in run("sql", taken_over, question).stderr


def recipes() -> list[str]:
    """The questions of the page."""
    section = PAGE.read_text().partition("\n## Two sessions at once\n")[2].partition("\n## ")[0]
    return [shlex.split(line)[-1] for line in re.findall(r"^wsrec sql .*$", section, re.MULTILINE)]


class TestEachOnce:
    def test_the_page_has_a_recipe_by_id_and_one_by_time(self) -> None:
        by_id, by_time = recipes()
        assert "trade_id" in by_id
        assert "trade_id" not in by_time

    @pytest.mark.parametrize("place", [0, 1])
    def test_by_the_page_s_recipes(self, taken_over: Path, place: int) -> None:
        result = run("sql", taken_over, recipes()[place], "--format", "csv")
        assert "two sessions" not in result.stderr
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        # of each its first session
        assert sorted(Counter(row["session"] for row in rows).values()) == [ALL - len(EARLIER), len(EARLIER)]
        assert len({row["recv_time"] for row in rows}) == ALL

    def test_several_rows_of_an_id_and_rows_without_stay(self) -> None:
        connection = duckdb.connect()
        connection.execute("create table trades (feed text, session text, channel text, symbol text, trade_id text, "
                           "recv_time int, state text)")  # fmt: skip
        rows = [("a", "7"), ("a", "7"), ("b", "7"), ("b", "7"), ("a", None), ("b", None)]
        for time, (session, number) in enumerate(rows):
            connection.execute("insert into trades values ('f', ?, 'c', 's', ?, ?, 'ok')", [session, number, time])
        found = connection.sql(recipes()[0]).select("session, trade_id").fetchall()
        assert sorted(found, key=str) == sorted([("a", "7"), ("a", "7"), ("a", None), ("b", None)], key=str)
