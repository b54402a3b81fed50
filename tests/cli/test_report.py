"""wsrec report: options, streams and exit status."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from wsrec.format.schema import MESSAGE_SCHEMA, SEGMENT_COLUMNS
from wsrec.format.version import FORMAT_VERSION


def run(*arguments: str | Path) -> Result:
    # `wsrec.cli` may re-export commands under their modules' names
    command = importlib.import_module("wsrec.cli.report").report
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A capture of five received messages."""
    values = {
        "seq": range(5),
        "recv_source": ["kernel"] * 5,
        "direction": ["recv"] * 5,
        "opcode": ["text"] * 5,
        "channel": ["trade"] * 5,
        "symbol": ["BTC"] * 5,
        "text": ["{}"] * 5,
        "data": [None] * 5,
        **dict.fromkeys(SEGMENT_COLUMNS, [None] * 5),
    }
    arrays = [
        pa.array(list(values.get(field.name, range(number, number + 5)))).cast(field.type)
        for number, field in enumerate(MESSAGE_SCHEMA)
    ]
    about = {"format_version": FORMAT_VERSION, "session": "s", "feed": "binance", "host": {"name": "tokyo1"}}
    schema = MESSAGE_SCHEMA.with_metadata({f"wsrec.{key}": json.dumps(value) for key, value in about.items()})
    path = tmp_path / "out" / "messages" / "feed=binance" / "s-000001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(arrays, schema=schema), path)
    return tmp_path / "out"


class TestReport:
    def test_prints_to_standard_output(self, out: Path) -> None:
        result = run(out)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "binance on tokyo1" in result.stdout
        assert "unproved: no loss known" in result.stdout
        assert "complete: seq 0..4, none missing" in run(out, "--details").stdout

    def test_of_a_name_that_is_not_there_the_error_is_all(self, out: Path) -> None:
        result = run(out, "--symbol", "BTCUSD")
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("wsrec report: --symbol: found 'BTCUSD'")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("options", [["--json"], []])
    def test_the_number_of_processes_does_not_matter(self, out: Path, options: list[str]) -> None:
        assert run(out, *options, "--jobs", "2").stdout_bytes == run(out, *options).stdout_bytes

    def test_one_place_to_read_in(self, out: Path) -> None:
        both = run(out, "--jobs", "2", "--spark", "spark://127.0.0.1:1")
        assert (both.exit_code, both.stdout) == (2, "")
        assert "--spark: found it beside --jobs, which excludes it" in both.stderr
        wrong = run(out, "--spark", "127.0.0.1:7077")
        assert wrong.exit_code == 2
        assert "--spark: found '127.0.0.1:7077', expected the cluster's master, as in spark://host:7077" in wrong.stderr

    def test_a_worker_that_cannot_start(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.executable", "/bin/false")
        result = run(out, "--jobs", "2", "--json")
        assert result.exit_code == 66
        assert "s-000001.parquet: the worker process that read it ended with status 1" in result.stderr
        assert json.loads(result.stdout)["status"] == 66

    def test_json(self, out: Path) -> None:
        result = run(out, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["recordings"][0]["rows"] == {"recv": {"text": 5}}

    def test_a_pattern(self, out: Path) -> None:
        assert run(out / "messages" / "feed=*" / "*.parquet").exit_code == 0

    @pytest.mark.parametrize("option", [(), ("--json",)])
    def test_a_damaged_file_is_reported_on_standard_error_and_by_the_status(
        self, out: Path, option: tuple[str, ...]
    ) -> None:
        bad = out / "messages" / "feed=binance" / "s-000002.parquet"
        bad.write_bytes(b"PAR1")
        result = run(out, *option)
        assert result.exit_code == 1
        assert str(bad) in result.stderr
        assert "set the file aside" in result.stderr
        assert "binance" in result.stdout

    def test_a_source_that_does_not_exist(self) -> None:
        result = run("nowhere")
        assert result.exit_code == 2
        assert "found 'nowhere', which does not exist, and no file matches it as a pattern\n" in result.stderr

    def test_a_folder_that_is_being_recorded_to(self, tmp_path: Path) -> None:
        session = tmp_path / ".wsrec" / "20261122T130000Z-aaaa"
        session.mkdir(parents=True)
        (session / "journal-000001.arrows").write_bytes(b"")
        result = run(tmp_path)
        assert result.exit_code == 3
        assert "a recording is in progress there or was interrupted" in result.stderr

    def test_a_hostile_file_name_is_cleaned(self, out: Path) -> None:
        bad = out / "messages" / "\x1b[2J.parquet"
        bad.write_bytes(b"")
        assert "\x1b" not in run(out).stderr

    def test_no_source_is_wrong_usage(self) -> None:
        assert run().exit_code == 2

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_help_has_examples(self, option: str) -> None:
        result = run(option)
        assert result.exit_code == 0
        assert "wsrec report out --json | jq" in result.stdout


class TestPart:
    def test_the_options_choose(self, out: Path) -> None:
        result = run(out, "--symbol", "btc", "--channel", "trade", "--since", "2026-01-01", "--json")
        assert (result.exit_code, result.stdout, "no message" in result.stderr) == (3, result.stdout, True)
        assert json.loads(result.stdout)["part"]["symbols"] == ["btc"]
        chosen = run(out, "--symbol", "btc", "--channel", "trade", "--until", "2026-01-01", "--json")
        assert (chosen.exit_code, chosen.stderr) == (0, "")
        assert json.loads(chosen.stdout)["recordings"][0]["rows"] == {"recv": {"text": 5}}

    def test_it_is_not_called_complete(self, out: Path) -> None:
        result = run(out, "--until", "2026-01-01", "--symbol", "BTC", "--details")
        assert "seq 0..4" in result.stdout
        assert "complete:" not in result.stdout
        assert " to 1)" not in result.stdout

    def test_a_symbol_that_is_not_there(self, out: Path) -> None:
        result = run(out, "--symbol", "BTCC")
        assert (result.exit_code, "expected BTC, did you mean `BTC`?" in result.stderr) == (3, True)

    def test_times_in_the_wrong_order(self, out: Path) -> None:
        result = run(out, "--since", "-10m", "--until", "-20m")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--until: found a time that is not after that of --since" in result.stderr


class TestPage:
    """`--html`; tests/pictures/test_page.py looks at the page itself."""

    def test_a_page_instead_of_the_report(self, out: Path) -> None:
        file = out.parent / "report.html"
        result = run(out, "--html", file)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{file}: 1.")
        assert result.stdout.count("\n") == 1
        assert "binance" in file.read_text()

    def test_beside_json(self, out: Path) -> None:
        file = out.parent / "report.html"
        result = run(out, "--html", file, "--json")
        assert result.stdout == run(out, "--json").stdout
        assert file.exists()

    def test_two_captures(self, out: Path) -> None:
        file = out.parent / "report.html"
        assert run(out, "--against", out, "--html", file).exit_code == 0
        assert f"{out} against {out}" in file.read_text()

    def test_nothing_to_compare_with(self, out: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        file = tmp_path / "report.html"
        result = run(out, "--against", tmp_path / "empty", "--html", file)
        assert result.exit_code == 3
        assert "empty" in result.stderr
        assert not file.exists()

    def test_usage(self, out: Path) -> None:
        result = run(out, "--against", out)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--against: found it without --html, expected --html FILE" in result.stderr
        result = run(out, "--html", out.parent / "x.html", "--details")
        assert result.exit_code == 2
        assert "--details: found it beside --html" in result.stderr

    def test_files_that_are_no_pages_stay(self, out: Path) -> None:
        (file,) = out.rglob("*.parquet")
        before = file.read_bytes()
        result = run(out, "--html", file)
        assert (result.exit_code, result.stdout) == (66, "")
        assert "it is no HTML page, and is not replaced; give another name" in result.stderr
        assert file.read_bytes() == before

    def test_a_folder_that_is_not_there(self, out: Path) -> None:
        result = run(out, "--html", out / "no" / "report.html")
        assert result.exit_code == 66
        assert f"No such file or directory: '{out / 'no'}'" in result.stderr


class TestFigures:
    """`--figures`; tests/pictures/test_csv_tables.py looks at the files themselves."""

    def test_beside_the_report(self, out: Path) -> None:
        folder = out.parent / "new" / "figures"
        result = run(out, "--figures", folder)
        assert (result.exit_code, result.stderr) == (0, "")
        written = sorted(each.name for each in folder.iterdir())
        assert result.stdout == run(out).stdout + f"{folder}: {len(written)} CSV files\n"
        assert {"latency_over_time.csv", "percentiles.csv", "slowest_frames.csv"} <= {*written}
        header, *rows = (folder / "traffic_over_time.csv").read_text().splitlines()
        messages = header.split(",").index("messages")
        assert [row.split(",")[messages] for row in rows] == ["5"]

    def test_beside_a_page(self, out: Path) -> None:
        file, folder = out.parent / "report.html", out.parent / "figures"
        result = run(out, "--html", file, "--figures", folder, "--against", out)
        assert [line.split(":")[0] for line in result.stdout.splitlines()] == [str(file), str(folder)]
        assert run(out, "--figures", folder, "--json").stdout == run(out, "--json").stdout

    def test_a_file_that_is_no_figure_stays(self, out: Path) -> None:
        kept = out.parent / "events.csv"
        kept.write_text("mine\n")
        result = run(out, "--figures", out.parent)
        assert (result.exit_code, result.stdout) == (66, "")
        assert "it is no figure of wsrec, and is not replaced; name another folder" in result.stderr
        assert kept.read_text() == "mine\n"
        result = run(out, "--figures", kept)
        assert (result.exit_code, result.stdout) == (2, "")
        assert not list(out.parent.glob("*over_time*"))

    def test_a_part(self, out: Path) -> None:
        folder = out.parent / "figures"
        # the five arrive one ns after the other
        assert run(out, "--figures", folder, "--since", "4").exit_code == 0
        assert (folder / "streams.csv").read_text().splitlines()[1].startswith("binance,tokyo1,trade,BTC,3,0,")

    def test_nothing_to_draw(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = run(tmp_path / "empty", "--figures", tmp_path / "figures")
        assert result.exit_code == 3
        assert not (tmp_path / "figures").exists()
