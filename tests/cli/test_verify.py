"""wsrec verify: options, streams and exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.verify.conftest import message_paths, out, record, untouched  # noqa: F401 (fixtures)
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
    def test_quietly(self, out, more):  # noqa: F811
        message_paths(out)[0].write_bytes(b"PAR1")
        result = run(out, "--quiet", *more)
        assert (result.exit_code, result.output) == (1, "")

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
