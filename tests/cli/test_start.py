"""How a command starts: what is asked often imports nothing that takes long, and a poll that finds the folder held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wsrec.cli.main import COMMANDS, main
from wsrec.feed.catalogue import catalogue, is_closed
from wsrec.feed.load import load_feed
from wsrec.format.lock import OutputLock

# each takes longer to import than all that these need, which tests of seconds could not tell on a busy machine
HEAVY = ("asyncio", "cryptography", "duckdb", "numpy", "pyarrow", "pydantic", "rich", "urllib3", "uvloop", "websockets")
HEAVY += ("yaml", "wsrec.supervise.supervisor", "wsrec.tables.export", "wsrec.verify.verify")
FREE = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def start(*words: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run wsrec: how it ended, its errors without what Python says of imports, and the heavy ones of these."""
    command = [sys.executable, "-P", "-X", "importtime", "-m", "wsrec", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**FREE, **variables})
    lines = done.stderr.splitlines(keepends=True)
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    done.stderr = "".join(line for line in lines if not line.startswith("import time:"))
    return done, sorted(imported.intersection(HEAVY))


def completed(words: str) -> tuple[list[str], list[str]]:
    """What bash would be offered for these words, and the heavy imports."""
    at = str(len(words.split(" ")) - 1)
    done, heavy = start(_WSREC_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=at)
    return [line.partition(",")[2] for line in done.stdout.splitlines()], heavy


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """An output folder that another recorder uses: this process."""
    with OutputLock(tmp_path):
        yield tmp_path


@pytest.mark.parametrize("words", ["--version", "--help", "record --help", "--bogus"])
def test_what_is_asked_often_imports_little(words):
    done, heavy = start(*words.split())
    assert done.returncode == (2 if words == "--bogus" else 0)
    assert heavy == []


def test_these_imports_would_be_seen():
    assert {"numpy", "pydantic", "yaml"} <= set(start("feeds", "show", "binance")[1])


class TestCompletion:
    def test_of_a_command(self):
        assert completed("wsrec re") == (["record", "report", "recover", "replay"], [])

    def test_of_an_option(self):
        assert completed("wsrec record binance --du") == (["--duration"], [])

    def test_of_the_programs_own_option(self):
        assert completed("wsrec --ver") == (["--version"], [])

    def test_of_a_feed(self):
        names, heavy = completed("wsrec record bin")
        assert names == [name for name in catalogue() if name.startswith("bin")]
        assert heavy == []

    def test_no_closed_market_is_offered(self):
        assert {name for name, file in catalogue().items() if is_closed(file)} == {
            name for name, file in catalogue().items() if load_feed(file).closed
        }
        assert completed("wsrec record bitme") == (["bitme"], [])


def test_the_help_lists_each_command_by_its_own_words():
    listed = {name: main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))}
    own = {name: command and command.get_short_help_str(limit=1000) for name, command in listed.items()}
    assert own == COMMANDS


class TestPollThatFindsTheFolderHeld:
    """What a crontab has, every few minutes (scripts/crontab.example)."""

    def test_it_is_done_at_once(self, held: Path):
        done, heavy = start("record", "binance", "--out", str(held), "--quiet", "--if-free")
        assert (done.returncode, done.stdout, done.stderr, heavy) == (0, "", "", [])

    def test_it_says_so(self, held: Path):
        done, heavy = start("record", "demo", "--out", str(held), "--if-free")
        said = f"nothing to do: {held} is held by another recorder (process {os.getpid()})\n"
        assert (done.returncode, done.stdout, done.stderr, heavy) == (0, "", said, [])

    def test_its_line_has_the_form_of_a_log(self, held: Path):
        done, heavy = start("record", "demo", "--out", str(held), "--log-format", "json")
        stated = json.loads(done.stderr)
        assert (done.returncode, stated["level"], stated["kind"], heavy) == (75, "error", "end", [])

    def test_without_if_free_it_is_75(self, held: Path):
        done, heavy = start("record", "binance", "okx", "--out", str(held), "--quiet", "--json")
        assert (done.returncode, heavy) == (75, [])
        assert done.stderr.startswith(f"wsrec record: {held} is held by another recorder (process {os.getpid()}); ")
        assert json.loads(done.stdout) == {
            "status": 75,
            "error": done.stderr.removeprefix("wsrec record: ").removesuffix("\n"),
        }

    @pytest.mark.parametrize(
        "mistaken",
        [
            "binanse",
            "bitmex",
            "binance binance",
            "binance demo",
            "binance --channels tradez",
            "binance --symbols BTC$",
            "binance --cpu 99999",
            "binance --duration 1x",
            "binance --takeover",
            "binance --proxy ftp://h:1",
            "wss:/x",
        ],
    )
    def test_a_mistake_is_2_all_the_same(self, held: Path, mistaken):
        done = CliRunner().invoke(main, ["record", *mistaken.split(), "--out", str(held), "--quiet", "--if-free"])
        assert (done.exit_code, done.stderr.startswith("wsrec record: ")) == (2, True), done.stderr

    def test_a_variables_mistake_is_2(self, held: Path):
        words = ["record", "binance", "--out", str(held), "--quiet", "--if-free"]
        done = CliRunner().invoke(main, words, env={"HTTPS_PROXY": "ftp://h:1"})
        assert (done.exit_code, "HTTPS_PROXY" in done.stderr) == (2, True), done.stderr

    def test_a_mistake_in_a_run_config_is_2(self, held: Path, tmp_path: Path):
        (tmp_path / "run.yaml").write_text(f"feeds: [{{feed: binance, channels: tradez}}]\nout: {held}\n")
        done = CliRunner().invoke(main, ["record", str(tmp_path / "run.yaml"), "--if-free"])
        assert done.exit_code == 2

    def test_another_format_is_66(self, held: Path):
        (held / ".wsrec" / "manifest.jsonl").write_text('{"format_version":1}\n')
        done, heavy = start("record", "binance", "--out", str(held), "--quiet", "--if-free")
        assert (done.returncode, heavy) == (66, [])
