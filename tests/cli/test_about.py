"""`wsrec --version`: what a report of an error has to say of the installation."""

from __future__ import annotations

import json
import platform
import tomllib
from pathlib import Path

import pyarrow
import pytest
from click.testing import CliRunner

from wsrec.cli import about
from wsrec.cli.main import main
from wsrec.version import __version__, commit, full_version

ROOT = Path(__file__).parent.parent.parent


def run(*words: str, **environment: str):
    return CliRunner().invoke(main, [*words], env={"WSREC_PURE": "", **environment})


def test_two_lines_for_people():
    result = run("--version")
    first, second = result.stdout.splitlines()
    assert (result.exit_code, first) == (0, f"wsrec {full_version()}")
    words = second.split(", ")
    assert words[0].startswith(("compiled", "Python"))
    assert words[-2:] == [f"CPython {platform.python_version()}", f"pyarrow {pyarrow.__version__}"]


@pytest.mark.parametrize("words", [("--version", "--json"), ("--json", "--version")])
def test_an_object_for_programs(words):
    stated = json.loads(run(*words).stdout)
    found = commit()
    assert stated["version"] == __version__
    assert (stated["commit"], stated["changed"]) == ((found.name, found.changed) if found else (None, None))
    assert (stated["python"], stated["pyarrow"]) == (platform.python_version(), pyarrow.__version__)


def test_the_implementation(monkeypatch):
    assert "Python (WSREC_PURE is set)" in run("--version", WSREC_PURE="1").stdout
    with monkeypatch.context() as patch:
        patch.setattr(about, "find_spec", lambda name: None)
        assert run("--version").stdout.splitlines()[1].startswith("Python, ")
        patch.setattr(about, "find_spec", lambda name: None if name.endswith("_book") else name)
        assert "compiled without book, " in run("--version").stdout
        patch.setattr(about, "find_spec", lambda name: name)
        assert run("--version").stdout.splitlines()[1].startswith("compiled, ")


def test_what_it_looks_for_is_what_the_build_compiles():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(about.COMPILED) == sorted(each["name"] for each in settings["ext-modules"])


def test_a_variable_of_that_name_is_not_the_option():
    result = run("feeds", "show", "binance", WSREC_VERSION="0.3.0", WSREC_JSON="x")
    assert result.exit_code == 0
    assert "binance" in result.stdout


def test_json_before_a_command_is_refused():
    result = run("--json", "doctor")
    assert result.exit_code == 2
    assert result.stderr == "wsrec: --json: found it before the command, expected it after: `wsrec COMMAND --json`\n"
