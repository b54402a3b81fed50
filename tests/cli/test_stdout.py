"""Standard output on a full disk: every command says so in one line, with a status that says nothing of the data."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WSREC = (sys.executable, "-P", "-m", "wsrec")
REASON = "cannot write to stdout: No space left on device"


def run_full(*words: str) -> tuple[int, str]:
    """Run wsrec with a full disk as standard output: exit status and standard error."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*WSREC, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("stdout")
    command = [*WSREC, "record", "demo", "--duration", "0.3s", "--quiet", "--out", str(folder)]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.mark.parametrize("command", ["verify", "report", "verify --json", "recover"])
def test_a_result_of_reading(capture, command):
    words = command.split()
    assert run_full(*words, str(capture)) == (74, f"wsrec {words[0]}: {REASON}\n")


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("--help", "wsrec"),
        ("verify --help", "wsrec verify"),
        ("feeds schema", "wsrec feeds schema"),
        ("doctor", "wsrec doctor"),
        ("replay demo --json", "wsrec replay"),
        ("record --help", "wsrec record"),
    ],
)
def test_any_other(command, named):
    assert run_full(*command.split()) == (74, f"{named}: {REASON}\n")


def test_a_mistake_keeps_its_status():
    status, stated = run_full("verify", "--json", "--qqqqqq")
    assert status == 2
    assert [line.split(";")[0] for line in stated.splitlines()] == [
        "wsrec verify: no such option --qqqqqq",
        f"wsrec verify: {REASON}",
    ]


class TestRecord:
    def test_a_recording_that_is_otherwise_complete(self, tmp_path: Path):
        recorded = run_full("record", "demo", "--duration", "0.3s", "--json", "-q", "--out", str(tmp_path))
        assert recorded == (74, f"wsrec record: {REASON}\n")

    def test_a_failure_keeps_its_status(self, tmp_path: Path):
        status, stated = run_full("record", "demo", "--json", "--bogus", "--out", str(tmp_path))
        assert status == 2
        assert stated.splitlines()[-1] == f"wsrec record: {REASON}"


def test_the_status_stands_where_standard_error_is_full_too(capture):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*WSREC, "verify", str(capture)], stdout=full, stderr=full, timeout=60, check=False)
    assert done.returncode == 74


@pytest.mark.parametrize("words", ["verify", "report --json", "status", "--help"])
def test_a_reader_that_is_gone_is_no_error(capture, words):
    """Nothing is printed, and the status is that of a program which SIGPIPE ended, not one of the command's own."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [*WSREC, *words.split(), *([str(capture)] if words != "--help" else [])]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_without_a_standard_output_status_has_its_status(capture):
    command = shlex.join([*WSREC, "status", "--json", str(capture)])
    done = subprocess.run(["sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
