"""`--format` of the commands that print a table: the same option, the same forms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.capture_files import START, Capture, message_columns
from wsrec.cli.main import main
from wsrec.cli.output_format import Column, Listing, OutputFormat, print_listing

HOSTILE = 'a|b\n"c",\x1b[31m`*<b>'


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environment)


@pytest.fixture
def out(capture: Capture) -> Path:
    columns = message_columns(60)
    columns["symbol"] = [HOSTILE] * 60
    capture.write(columns, events=[{"time": START, "kind": "session_start"}])
    (capture.out / ".wsrec").mkdir()
    return capture.out


COMMANDS = {
    "report": (),
    "verify": (),
    "compact": ("--dry-run",),
    "recover": (),
    "doctor": (),
    "feeds list": (),
    "feeds show": ("binance",),
    "feeds plan": ("binance",),
}


def words(command: str, out: Path) -> list[str | Path]:
    more = [out] if command in ("report", "verify", "compact", "recover") else []
    return [*command.split(), *more, *COMMANDS[command]]


class TestEachCommand:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_has_the_four_forms(self, out: Path, command: str) -> None:
        as_json = run(*words(command, out), "--format", "json").stdout
        json.loads(as_json)
        as_csv = run(*words(command, out), "--format", "csv").stdout
        rows = list(csv.reader(io.StringIO(as_csv)))
        assert len({len(row) for row in rows}) == 1
        as_markdown = run(*words(command, out), "--format", "markdown").stdout
        lines = as_markdown.splitlines()
        assert len(lines) == len(rows) + 1
        assert {line[0] + line[-1] for line in lines} == {"||"}
        assert set(lines[1]) <= set("|-: ")
        assert "\x1b" not in as_json + as_csv + as_markdown

    def test_table_is_the_default_and_json_the_short_form(self, out: Path) -> None:
        assert run("report", out, "--format", "table").stdout == run("report", out).stdout
        assert run("report", out, "--format", "json").stdout == run("report", out, "--json").stdout

    @pytest.mark.parametrize("command", COMMANDS)
    def test_refuses_two_forms_and_unknown_ones(self, out: Path, command: str) -> None:
        both = run(*words(command, out), "--json", "--format", "csv")
        assert (both.exit_code, "found csv beside --json" in both.stderr) == (2, True)
        wrong = run(*words(command, out), "--format", "xml")
        assert (wrong.exit_code, "found 'xml', expected table, json, csv or markdown" in wrong.stderr) == (2, True)

    def test_the_command_line_goes_before_the_environment(self, out: Path) -> None:
        assert run("report", out, "--json", WSREC_REPORT_FORMAT="csv").stdout.startswith("{")
        assert run("report", out, "--format", "csv", WSREC_REPORT_JSON="1").stdout.startswith("feed,")
        assert run("report", out, WSREC_REPORT_FORMAT="markdown").stdout.startswith("| feed")

    @pytest.mark.parametrize("option", [("--json",), ("--format", "json"), ("--format=json",)])
    def test_errors_are_json_too(self, tmp_path: Path, option: tuple[str, ...]) -> None:
        for result in (run("verify", tmp_path / "nowhere", *option), run("recover", tmp_path, *option)):
            assert json.loads(result.stdout)["status"] == result.exit_code > 0


class TestListing:
    LISTING = Listing(
        [Column("name"), Column("took", "ns"), Column("size", "bytes"), Column("rows", "count"), Column("at", "time")],
        [(HOSTILE, 12_345, 2_000_000, 1234, START), (None, None, None, None, None)],
    )

    def test_csv_has_exact_figures_with_their_units(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_listing(self.LISTING, OutputFormat.CSV)
        head, row, empty = csv.reader(io.StringIO(capsys.readouterr().out))
        assert head == ["name", "took_ns", "size_bytes", "rows", "at_ns"]
        assert row == ['a|b\\n"c",\\x1b[31m`*<b>', "12345", "2000000", "1234", str(START)]
        assert empty == [""] * 5

    @pytest.mark.parametrize("formula", ["=cmd()", "+1", "-1", "@sum"])
    def test_a_spreadsheet_runs_no_text(self, formula: str, capsys: pytest.CaptureFixture[str]) -> None:
        print_listing(Listing([Column("name"), Column("took", "ns")], [(formula, -1)]), OutputFormat.CSV)
        assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1] == [f"'{formula}", "-1"]

    def test_markdown_has_figures_for_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_listing(self.LISTING, OutputFormat.MARKDOWN)
        assert capsys.readouterr().out.splitlines() == [
            "| name | took | size | rows | at |",
            "| --- | ---: | ---: | ---: | ---: |",
            r'| a\|b\\n"c",\\x1b\[31m\`\*\<b> | 12.3 µs | 2.00 MB | 1,234 | 2026-11-22 13:00:00.000 |',
            "|  |  |  |  |  |",
        ]


class TestSql:
    def test_markdown_and_json(self, out: Path) -> None:
        question = "select symbol, count(*) as rows from messages group by symbol"
        lines = run("sql", out, question, "--format", "markdown").stdout.splitlines()
        assert lines[:2] == ["| symbol | rows |", "| --- | --- |"]
        assert json.loads(run("sql", out, question, "--json").stdout) == {"symbol": HOSTILE, "rows": 60}
        assert run("sql", out, question, "--json", "--format", "csv").exit_code == 2


class TestPiped:
    def test_a_row_is_one_line_however_narrow(self) -> None:
        narrow, wide = (run("feeds", "show", "binance", COLUMNS=columns).stdout for columns in ("20", "300"))
        assert narrow == wide
        assert max(map(len, narrow.splitlines())) > 100
