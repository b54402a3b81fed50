"""Ctrl-C and SIGTERM at any moment of a command, also of its imports: its status says so, without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# a module, after whose import the signal is sent: from the first of wsrec's own to the last ones of a command
MOMENTS = (
    (signal.SIGINT, "--help", "wsrec.cli.early"),
    (signal.SIGINT, "feeds list", "pydantic"),
    (signal.SIGINT, "report", "numpy"),
    (signal.SIGINT, "verify --again", "wsrec.verify.verify"),
    (signal.SIGINT, "export --jobs 2", "wsrec.engine.processes"),
    (signal.SIGTERM, "feeds list", "wsrec.cli.early"),
    (signal.SIGTERM, "export --jobs 2", "wsrec.engine.processes"),
)


def signalled(words: list[str], moment: str, number: int) -> tuple[int, str, bool]:
    """Run wsrec and send the signal once it has imported a module: status, errors, and whether it imported it."""
    command = [sys.executable, "-P", "-X", "importtime", "-m", "wsrec", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        errors, reached = [], False
        for line in process.stderr:
            if not line.startswith("import time:"):
                errors.append(line)
            elif line.rpartition("|")[2].strip() == moment and not reached:
                reached = True
                process.send_signal(number)
        return process.wait(), "".join(errors), reached


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("interrupted")
    command = [sys.executable, "-P", "-m", "wsrec", "record", "demo", "--duration", "0.3s", "-q", "--out", str(folder)]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.mark.parametrize(("number", "command", "moment"), MOMENTS)
def test_a_command_ends_by_it(capture: Path, number, command, moment):
    words = command.split()
    reads = words[0] in ("report", "verify", "export")
    status, errors, reached = signalled([*words, *([str(capture)] if reads else [])], moment, number)
    assert reached
    # by the signal, which a shell calls 130 and 143, or after its cleaning up
    assert status in {-number, *([128 + number] if number == signal.SIGTERM else [])}, errors
    assert errors in ("", f"wsrec {words[0]}: interrupted\n", f"wsrec {command}: interrupted\n")


def test_in_the_background_of_a_script_it_stays_ignored():
    script = "import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    script += "sys.exit(subprocess.run([sys.executable, '-P', '-c', sys.argv[1]]).returncode)"
    inner = "import os, signal, wsrec.__main__; os.kill(os.getpid(), signal.SIGINT); print('on')"
    done = subprocess.run(
        [sys.executable, "-c", script, inner], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "on\n")
