"""The `wsrec` command as a whole: help, version, completion."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from wsrec.cli.main import main


def commands(group: click.Group, *path: str):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


class TestHelp:
    @pytest.mark.parametrize("path", [(), *commands(main)], ids=" ".join)
    @pytest.mark.parametrize("option", ["-h", "--help"])
    def test_every_command_has_help_with_an_example(self, path, option):
        result = CliRunner().invoke(main, [*path, option], prog_name="wsrec")
        assert result.exit_code == 0
        assert result.output.startswith("Usage: wsrec")
        assert " ".join(("wsrec", *path)) in result.output.split("\n", 1)[1]

    def test_record_states_its_exit_statuses(self):
        text = CliRunner().invoke(main, ["record", "-h"]).output
        for word in (
            "0 clean and complete",
            "1 failed",
            "2 wrong usage",
            "3 nothing",
            "4 recorded",
            "66 the output",
            "75 another",
        ):
            assert word in text

    def test_without_arguments_it_shows_the_help(self):
        assert "First capture:" in CliRunner().invoke(main, []).output


class TestCommand:
    def test_one_does_not_import_what_the_others_need(self):
        needless = ("pyarrow", "cryptography", "wsrec.verify", "wsrec.report", "wsrec.bench", "wsrec.replay.server")
        script = f"import sys, wsrec.cli.record; print([name for name in {needless} if name in sys.modules])"
        result = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
        assert result.stdout == "[]\n"

    def test_an_unknown_command_is_2_without_traceback(self, wsrec):
        result = wsrec.run("rekord")
        assert result.returncode == 2
        assert "no such command 'rekord', did you mean `record`?" in result.stderr
        assert "Traceback" not in result.stderr
