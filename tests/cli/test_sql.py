"""wsrec sql: questions to a capture, in every form of answer, with nothing cut and nothing changed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.tables.full_disk import full_disk
from tests.tables.recorded import record, topics_of
from wsrec.cli.main import main
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import COLUMNS, Table
from wsrec.format.reading import open_capture

START = 1_795_352_400_000_000_000  # 2026-11-22 13:00 UTC
SYMBOLS = ("BTCUSDT", "ETHUSDT")
TRADES = 60
HOSTILE = "\x1b[2J\u202e,\"\n'"


def trades(count: int) -> list[tuple[int, bytes]]:
    """So many trades of two symbols, with the times of their arrival."""
    texts = []
    for number in range(count):
        about = {"e": "trade", "s": SYMBOLS[number % 2], "t": number, "p": "60000.10", "q": "0.5", "m": True}
        times = {"E": START // 1_000_000 + number - 5, "T": START // 1_000_000 + number - 7}
        texts.append(json.dumps({"stream": "btcusdt@trade", "data": about | times}).encode())
    return [(START + (number + 1) * 1_000_123, text) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of 60 trades of two symbols in two files; its folder's name is a pattern for DuckDB."""
    folder = tmp_path_factory.mktemp("it's [a] capture?*")
    messages = [(START, json.dumps({"stream": HOSTILE}).encode()), *trades(TRADES)]
    record(folder, "binance", messages, topics_of(find_feed("binance"), ["trade"], SYMBOLS), files=2, size=30)
    return folder


@pytest.fixture
def capture(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(recorded, tmp_path / recorded.name))


def ask(capture: Path, question: str, *arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["sql", str(capture), question, *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output if status else result.stdout


def rows(capture: Path, question: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ask(capture, question, "--format", "json").splitlines()]


def export(capture: Path, *arguments: object) -> None:
    result = CliRunner().invoke(main, ["export", str(capture), "--tables", "trades", *map(str, arguments)])
    assert result.exit_code == 0, result.output


def spoil_messages(capture: Path) -> None:
    """Damage every messages file behind its footer, and leave it as old as it was."""
    for path in (capture / "messages").rglob("*.parquet"):
        times = path.stat()
        content = bytearray(path.read_bytes())
        content[4:300] = bytes(296)
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


class TestViews:
    def test_messages_and_events_have_their_owner(self, recorded: Path) -> None:
        (found,) = rows(recorded, "select feed, session, count(*) n, max(recv_time) t from messages group by all")
        whole = open_capture(recorded).messages(["recv_time"], direction="recv").read_all()
        assert (found["feed"], found["n"]) == ("binance", TRADES + 1)
        assert found["t"] == whole["recv_time"].cast(pa.string())[-1].as_py().replace(" ", " ")
        kinds = {row["kind"] for row in rows(recorded, "select feed, kind from events where feed = 'binance'")}
        assert {"connect", "subscribe"} <= kinds

    def test_tables_are_made_for_the_question(self, recorded: Path) -> None:
        found = rows(
            recorded, "select symbol, count(*) n, min(price) p, min(state) s from trades group by 1 order by 1"
        )
        assert found == [{"symbol": symbol, "n": TRADES // 2, "p": 60000.1, "s": "ok"} for symbol in SYMBOLS]
        assert not (recorded / "tables").exists()

    def test_a_table_may_be_read_twice_in_a_question(self, recorded: Path) -> None:
        question = 'select count(*) n from trades a join "TRADES" b using (trade_id) join messages m on m.seq = a.seq'
        assert rows(recorded, question) == [{"n": TRADES}]

    @pytest.mark.parametrize("table", [Table.TRADES, Table.CANDLES, Table.GAPS])
    def test_each_table_is_there_with_its_columns(self, recorded: Path, table: Table) -> None:
        names = [row["column_name"] for row in rows(recorded, f"describe {table}")]
        assert {column.name for column in COLUMNS[table]} <= set(names)


class TestExportedTables:
    def test_are_read_where_there_are_some(self, capture: Path) -> None:
        export(capture)
        spoil_messages(capture)
        assert rows(capture, "select count(*) n from trades") == [{"n": TRADES}]
        shutil.rmtree(capture / "tables")
        assert ".parquet: " in ask(capture, "select count(*) n from trades", status=1)

    def test_are_read_after_their_messages_were_sorted(self, capture: Path) -> None:
        export(capture)
        assert CliRunner().invoke(main, ["compact", str(capture)]).exit_code == 0
        spoil_messages(capture)
        assert rows(capture, "select count(*) n from trades") == [{"n": TRADES}]
        manifest = capture / ".wsrec" / "manifest.jsonl"
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(line for line in lines if '"replaces":null' in line))
        ask(capture, "select count(*) n from trades", status=1)

    def test_what_was_made_instead_is_said(self, capture: Path) -> None:
        arguments = ["sql", str(capture), "select count(*) from trades"]
        said = CliRunner().invoke(main, arguments).stderr
        assert said == (
            "wsrec sql: trades of 2 files made for this question, without a current export in the capture (`wsrec "
            "export` makes one)\n"
        )
        export(capture)
        assert not CliRunner().invoke(main, arguments).stderr

    @pytest.mark.parametrize(
        "arguments",
        [("--symbols", "BTCUSDT"), ("--since", "2030-01-01T00:00Z"), ("--time", "us"), ("--numbers", "decimal")],
    )
    def test_are_not_read_where_they_are_others(self, capture: Path, arguments: tuple[str, ...]) -> None:
        CliRunner().invoke(main, ["export", str(capture), "--tables", "trades", *arguments])
        found = rows(capture, "select count(*) n, min(typeof(price)) p, max(recv_time)::varchar t from trades")[0]
        assert (found["n"], found["p"]) == (TRADES, "DOUBLE")
        assert re.search(r"\.\d{9}", found["t"])

    def test_are_not_read_where_the_messages_are_newer(self, capture: Path) -> None:
        export(capture)
        for path in (capture / "messages").rglob("*.parquet"):
            os.utime(path)
        spoil_messages(capture)
        ask(capture, "select count(*) n from trades", status=1)

    def test_are_not_read_where_their_source_had_fewer_rows_however_old_it_is(self, tmp_path: Path) -> None:
        """As while a session is recorded: the finished file is older than the table of what was in it then."""
        capture = tmp_path / "capture"
        record(capture, "binance", trades(40), topics_of(find_feed("binance"), ["trade"], SYMBOLS))
        export(capture)
        record(tmp_path / "whole", "binance", trades(TRADES), topics_of(find_feed("binance"), ["trade"], SYMBOLS))
        for kind in ("messages", "events"):
            (now,), (then,) = ((tmp_path / name / kind).rglob("*.parquet") for name in ("whole", "capture"))
            shutil.copyfile(now, then)
            os.utime(then, ns=(0, 0))
        assert rows(capture, "select count(*) n from trades") == [{"n": TRADES}]

    def test_are_not_read_where_a_file_that_came_later_tells_more_of_their_rows(self, tmp_path: Path) -> None:
        capture, later = tmp_path / "capture", tmp_path / "later"
        messages = [
            (time, text.replace(b'"t": %d,' % number, b'"t": %d,' % (number // 2)))
            for number, (time, text) in enumerate(trades(TRADES))
        ]
        record(capture, "binance", messages, topics_of(find_feed("binance"), ["trade"], SYMBOLS), 3, TRADES // 3)
        files = sorted(capture.rglob("*-000002.parquet"))
        for path in files:
            (later / path.relative_to(capture)).parent.mkdir(parents=True)
            path.rename(later / path.relative_to(capture))
        export(capture)
        question = "select state, count(*) n from trades group by 1 order by 1"
        third = TRADES // 3
        assert rows(capture, question) == [{"state": "ok", "n": 2 * third - 2}, {"state": "suspect", "n": 2}]
        for path in files:
            (later / path.relative_to(capture)).rename(path)
        assert rows(capture, question) == [{"state": "ok", "n": TRADES}]

    def test_are_read_where_a_later_file_tells_nothing_of_their_rows(self, tmp_path: Path) -> None:
        capture, later = tmp_path / "capture", tmp_path / "later"
        record(capture, "binance", trades(TRADES), topics_of(find_feed("binance"), ["trade"], SYMBOLS), 3, TRADES // 3)
        files = sorted(capture.rglob("*-000003.parquet"))
        for path in files:
            (later / path.relative_to(capture)).parent.mkdir(parents=True)
            path.rename(later / path.relative_to(capture))
        export(capture)
        made = sorted((capture / "tables").rglob("*.parquet"))
        for path in made:
            # what is read from them, and is in no message
            table = pq.read_table(path)
            price = table.schema.get_field_index("price")
            changed = table.set_column(price, table.schema.field(price), pc.add(table["price"], 1.0))
            about = pq.read_metadata(path).metadata
            wsrec_own = {key: value for key, value in about.items() if key.startswith(b"wsrec.")}
            pq.write_table(changed.replace_schema_metadata(wsrec_own), path)
        for path in files:
            (later / path.relative_to(capture)).rename(path)
        found = {row["price"]: row["n"] for row in rows(capture, "select price, count(*) n from trades group by 1")}
        assert found[60001.1] == sum(pq.read_metadata(path).num_rows for path in made)
        assert found[60000.1] == TRADES - found[60001.1] > 0

    def test_what_is_not_exported_yet_is_made(self, capture: Path) -> None:
        export(capture)
        next((capture / "tables").rglob("*.parquet")).unlink()
        found = rows(capture, "select count(*) n, count(distinct seq) d from trades")
        assert found == [{"n": TRADES, "d": TRADES}]


class TestForms:
    QUESTION = (
        "select recv_time, symbol, price, flags, 'x'::blob b, null nothing, true yes, seq from trades order by seq"
    )

    def test_a_table_has_all_digits(self, recorded: Path) -> None:
        head, first, *rest = ask(recorded, self.QUESTION).splitlines()
        assert head.split() == ["recv_time", "symbol", "price", "flags", "b", "nothing", "yes", "seq"]
        assert re.match(r"2026-11-22 13:00:00\.\d{9}Z  BTCUSDT  60000\.1 ", first)
        assert len(rest) == TRADES - 1

    def test_a_table_says_that_there_are_more_rows(self, recorded: Path) -> None:
        result = CliRunner().invoke(main, ["sql", str(recorded), "select range r from range(1001)"])
        assert len(result.stdout.splitlines()) == 1001
        assert result.stderr == "wsrec sql: these are the first 1,000 rows; --format csv or json has all\n"

    def test_csv(self, recorded: Path) -> None:
        head, first, *rest = csv.reader(io.StringIO(ask(recorded, self.QUESTION, "--format", "csv")))
        assert head == ["recv_time", "symbol", "price", "flags", "b", "nothing", "yes", "seq"]
        assert first[1:] == [
            "BTCUSDT",
            "60000.1",
            "",
            "78",
            "",
            "true",
            rows(recorded, self.QUESTION)[0]["seq"].__str__(),
        ]
        assert len(rest) == TRADES - 1
        assert ask(recorded, "select 1 a where false", "--format", "csv") == '"a"\n'

    def test_json_has_numbers_of_any_size_and_nested_values(self, recorded: Path) -> None:
        question = (
            "select 12345678901234567890::hugeint h, 1.50::decimal(9,2) d, [1, null] l, {'t': '2026-01-01'::date} s"
        )
        (line,) = ask(recorded, question, "--format", "json").splitlines()
        assert line == '{"h":12345678901234567890,"d":1.50,"l":[1,null],"s":{"t":"2026-01-01"}}'

    def test_parquet(self, recorded: Path, tmp_path: Path) -> None:
        file = tmp_path / "x.parquet"
        assert ask(recorded, self.QUESTION, "--format", "parquet", "--out", file) == ""
        table = pq.read_table(file)
        assert table.num_rows == TRADES
        assert table.schema.field("recv_time").type == pa.timestamp("ns", "UTC")
        assert os.listdir(tmp_path) == ["x.parquet"]  # noqa: PTH208

    @pytest.mark.parametrize("form", ["csv", "json"])
    def test_a_file_has_what_is_printed(self, recorded: Path, tmp_path: Path, form: str) -> None:
        file = tmp_path / "x"
        ask(recorded, self.QUESTION, "--format", form, "--out", file)
        assert file.read_text() == ask(recorded, self.QUESTION, "--format", form)
        refused = ask(recorded, "select text::int x from messages", "--format", form, "--out", tmp_path / "y", status=2)
        assert "Conversion Error" in refused
        assert list(tmp_path.iterdir()) == [file], "no part of an answer"

    def test_hostile_text_does_not_reach_the_terminal(self, recorded: Path) -> None:
        question = "select json_extract_string(text, '$.stream') as \"a\x1b\" from messages where symbol is null"
        for form in ("table", "json"):
            found = ask(recorded, question, "--format", form)
            assert "\x1b" not in found
            assert "\u202e" not in found
        assert HOSTILE in [line for (line,) in csv.reader(io.StringIO(ask(recorded, question, "--format", "csv"), ""))]


class TestRefusals:
    @pytest.mark.parametrize(
        ("question", "problem"),
        [
            ("select * from tradez", "no table tradez: did you mean `trades`?"),
            ("select * from nothing", "no table nothing: there are messages, events, trades, "),
            ("selec 1", 'Parser Error: syntax error at or near "selec"'),
            ("select nix from trades", 'Binder Error: Referenced column "nix" not found'),
            ("select text::int from messages", "Conversion Error: Could not convert string"),
            ("", "found no statement, expected one SELECT"),
            ("select 1; select 2", "found SELECT and SELECT, expected one SELECT"),
            ("drop table trades", "found DROP, expected one SELECT"),
            ("copy (select 1) to 'x'", "found COPY, expected one SELECT"),
            ("attach 'x.db'", "found ATTACH, expected one SELECT"),
            ("create table x as select 1", "found CREATE, expected one SELECT"),
            ("install httpfs", "found LOAD, expected one SELECT"),
        ],
    )
    def test_are_one_line_and_status_2(self, recorded: Path, question: str, problem: str) -> None:
        (line,) = ask(recorded, question, status=2).splitlines()
        assert line.startswith(f"wsrec sql: {problem}")

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("--format", "parquet"), "--format: found parquet without --out"),
            (("--out", "x"), "--out: found it with --format table"),
            (("--format", "xml"), "--format: found 'xml', expected table, csv, json, markdown or parquet"),
        ],
    )
    def test_of_options(self, recorded: Path, arguments: tuple[str, ...], problem: str) -> None:
        assert problem in ask(recorded, "select 1", *arguments, status=2)

    def test_columns_of_one_name_would_be_lost(self, recorded: Path, tmp_path: Path) -> None:
        for arguments in (("--format", "json"), ("--format", "parquet", "--out", tmp_path / "x")):
            problem = ask(recorded, "select 1 a, 2 a", *arguments, status=2)
            assert problem == "wsrec sql: 2 columns are named a: name them apart with AS\n"

    def test_of_a_full_disk_are_status_66(self, recorded: Path) -> None:
        with full_disk(2_000):
            printed = ask(recorded, "select count(*) from trades", status=66)
        assert re.search(r"^wsrec sql: /\S+/table=trades/\S+\.parquet: File too large$", printed, re.MULTILINE)

    def test_without_duckdb(self, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "duckdb", None)
        problem = ask(recorded, "select 1", status=2)
        assert problem == "wsrec sql: DuckDB is not installed: pip install 'wsrec[sql]' (in a clone: '.[sql]')\n"

    def test_no_capture(self, tmp_path: Path) -> None:
        ask(tmp_path, "select 1", status=3)
        ask(tmp_path / "none", "select 1", status=2)

    def test_nothing_is_changed(self, recorded: Path) -> None:
        def state() -> dict[Path, str]:
            return {
                path: hashlib.sha256(path.read_bytes()).hexdigest() for path in recorded.rglob("*") if path.is_file()
            }

        before = state()
        ask(recorded, "select count(*) from trades, messages, gaps")
        assert state() == before


def test_a_pipe_is_not_replaced(recorded: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    words = ["sql", str(recorded), "select 1", "--format", "csv", "--out", str(tmp_path / "rows.csv")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 66
    assert "which is not replaced; give another name" in result.stderr
    assert "wsrec did not write" not in result.stderr
