"""tests.skips: a run of CI fails on an unexpected skip, and prints what was not tested, one line per reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import UNEXPECTED

ROOT = Path(__file__).parent.parent
TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.parametrize("number", range(3))
def test_skipped(number):
    pytest.skip("{reason}")
"""


def run(folder: Path, reason: str, ci: str) -> tuple[int, str]:
    """Exit status and output of a run of one test that passes and three that are skipped."""
    (folder / "test_some.py").write_text(TESTS.format(reason=reason))
    options = ("-c", os.devnull, "--rootdir", folder, "-p", "tests.skips", "-p", "no:cacheprovider", "-q")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, folder],
        cwd=ROOT,
        env={**os.environ, "CI": ci, "WSREC_EXPECTED_SKIPS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return result.returncode, result.stdout


@pytest.mark.long
def test_an_unexpected_one_fails_ci_only(tmp_path):
    reason = "the moon is not full"
    status, output = run(tmp_path, reason, "true")
    assert (status, output.count(reason)) == (UNEXPECTED, 1)
    assert f"not tested: 3 in test_some.py: {reason} [unexpected here: fails the run]" in output
    status, output = run(tmp_path, reason, "")
    assert status == 0
    assert f"not tested: 3 in test_some.py: {reason}\n" in output


@pytest.mark.long
def test_an_expected_one_fails_nothing(tmp_path):
    status, output = run(tmp_path, "root may read everything", "true")
    assert status == 0
    assert "not tested: 3 in test_some.py: root may read everything\n" in output


@pytest.mark.long
def test_what_needs_real_messages_is_one_line(tmp_path):
    status, output = run(tmp_path, "real messages are not beside the project", "")
    assert status == 0
    assert output.count("not tested") == 1
    assert "not tested: 3 that need real messages, which are not beside the project" in output
