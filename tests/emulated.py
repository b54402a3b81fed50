"""Tests that an emulated machine runs, with another kernel: scripts/kernel-vm."""

from __future__ import annotations

import compileall
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from wsrec.receive import ktls

ROOT = Path(__file__).parents[1]
_MACHINE = ROOT / "scripts" / "kernel-vm"
# neither can write where the machine sees this one's files
_PLUGINS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
LIMIT = 900
"""Seconds: it is several times slower than this machine, which may have much else to do."""


class Done(NamedTuple):
    """What the machine left, and its output."""

    out: Path
    output: str


def skip_without_machine() -> None:
    """Skip the test where there is no such machine."""
    able = subprocess.run([_MACHINE, "--check"], capture_output=True, text=True, check=False)
    if able.returncode:
        pytest.skip(able.stderr.strip())


def run_in_machine(out: Path, command: str, tests_of_ktls: Sequence[str]) -> Done:
    """Run a shell command in it, for which `$OUT` is `out`; before it tests of kTLS, if this kernel has none.

    Args:
        out: the folder that comes back.
        command: the command.
        tests_of_ktls: arguments for pytest; what it prints and its status are in `out/ktls`.

    """
    # what is not compiled here is compiled there by every process, in ten times the time
    compileall.compile_dir(ROOT / "wsrec", quiet=2)
    if ktls.unable() is not None:
        tests = shlex.join([sys.executable, "-m", "pytest", "-q", *_PLUGINS, *tests_of_ktls])
        command = f'{tests} > "$OUT/ktls" 2>&1; echo "status $?" >> "$OUT/ktls"; {command}'
    done = subprocess.run(
        [_MACHINE, "--timeout", str(LIMIT), "--out", out, "--", "sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return Done(out, done.stdout + done.stderr)
