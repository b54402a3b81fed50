"""wsrec verify: options, streams and exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.verify.conftest import message_paths, out, record, untouched  # noqa: F401 (fixtures)
from tests.verify.remembering import settle
from wsrec.cli.main import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


class TestVerify:
    def test_a_whole_capture(self, untouched):  # noqa: F811
        result = run(untouched)
        assert (result.exit_code, result.stderr) == (0, "")
        for word in ("holds: nothing damaged", "proved", "unbroken", "silent", "ledger", "none missing", "trade AB"):
            assert word in result.stdout

    def test_the_streams_figures_are_whole_in_a_narrow_file(self, untouched, monkeypatch):  # noqa: F811
        monkeypatch.setenv("COLUMNS", "40")
        lines = run(untouched).stdout.splitlines()
        (heads,) = (line.split() for line in lines if line.startswith("stream "))
        assert heads == ["stream", "conn", "channel", "and", "symbol", "messages", "proved", "unbroken", "incomplete"]
        rows = [line for line in lines if line.startswith(("proved ", "unbroken ", "silent "))]
        assert len(rows) > 2
        assert not [row for row in rows if "…" in row]

    def test_a_damaged_one(self, out, monkeypatch):  # noqa: F811
        monkeypatch.setenv("COLUMNS", "40")
        damaged = message_paths(out)[0]
        damaged.write_bytes(b"PAR1")
        result = run(out)
        assert result.exit_code == 1
        lines = result.stdout.splitlines()
        assert lines[0] == str(out)
        assert lines[1].startswith(f"damaged {damaged.relative_to(out)}: it is truncated at byte 4 of ")
        assert "is truncated at byte 4 of" in result.stdout
        assert "DAMAGED" in result.stdout
        assert "trade AB, connection 0: incomplete" in result.stdout

    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_quietly(self, untouched, out, more):  # noqa: F811
        holds = run(untouched, "--quiet", *more)
        assert (holds.exit_code, holds.output) == (0, "")
        message_paths(out)[0].write_bytes(b"PAR1")
        result = run(out, "--quiet", *more)
        assert (result.exit_code, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"wsrec verify: {out}: damaged messages/")
        assert "is truncated at byte 4" in line

    @pytest.mark.parametrize("arguments", [[], ["nowhere"]])
    def test_wrong_usage(self, arguments):
        assert run(*arguments).exit_code == 2

    def test_nothing_there(self, tmp_path):
        assert run(tmp_path).exit_code == 3

    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_help_has_examples_and_statuses(self, option):
        result = run(option)
        assert result.exit_code == 0
        assert "wsrec verify captures --json | jq" in result.stdout
        assert "1 damaged or contradictory" in result.stdout


class TestMemory:
    @pytest.fixture
    def settled(self, out):  # noqa: F811
        settle()
        return out

    def test_a_second_run_says_the_same_and_how_much_of_it_it_has_not_read(self, settled, tmp_path):
        arguments = (settled, "--memory", tmp_path / "memory")
        first, second, again = run(*arguments), run(*arguments), run(*arguments, "--again")
        assert [each.exit_code for each in (first, second, again)] == [0, 0, 0]
        assert again.stdout == first.stdout
        lines = second.stdout.splitlines()
        (said,) = (line for line in lines if line.startswith("memory "))
        files = len(list(settled.rglob("*.parquet")))
        assert f"{files} of {files} files were proved by an earlier verify" in said
        assert [line for line in lines if line != said] == first.stdout.splitlines()

    def test_by_default_it_lies_in_the_cache(self, settled, cache):
        run(settled)
        assert "proved by an earlier verify" in run(settled).stdout
        assert list((cache / "wsrec" / "proved").rglob("*.proved"))

    def test_one_that_cannot_be_kept_is_said_where_it_was_asked_for(self, settled, tmp_path):
        (tmp_path / "file").write_text("")
        result = run(settled, "--memory", tmp_path / "file" / "memory")
        assert (result.exit_code, "not remembered" in result.stderr) == (0, True)

    def test_what_is_remembered_needs_neither_arrow_nor_numpy(self, settled, tmp_path):
        arguments = ["verify", str(settled), "--quiet", "--memory", str(tmp_path / "memory")]
        run(*arguments[1:])
        script = (
            "import sys; from wsrec.cli.main import main; main(sys.argv[1:], standalone_mode=False); "
            "print([name for name in ('numpy', 'pyarrow', 'pydantic') if name in sys.modules])"
        )
        result = subprocess.run([sys.executable, "-P", "-c", script, *arguments], capture_output=True, text=True)
        assert result.stdout == "[]\n", result.stderr
