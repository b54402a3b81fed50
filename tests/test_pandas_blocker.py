"""wsrec's own processes start without pandas, which pyarrow imports wherever it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.capture_files import Capture, message_columns


def imports(*arguments: str | Path) -> set[str]:
    """The modules that a process imports from its start to its end."""
    command = [sys.executable, "-P", "-X", "importtime", "-m", *map(str, arguments)]
    seen = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stderr
    return {line.rpartition("|")[2].strip() for line in seen.splitlines() if line.startswith("import time:")}


class TestPandas:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        assert find_spec("pandas") is not None

    def test_the_writer_starts_without_it(self) -> None:
        seen = imports("wsrec.writer")
        assert "pyarrow.lib" in seen
        assert "pandas.core" not in seen

    def test_the_command_runs_without_it(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        seen = imports("wsrec", "report", capture.out)
        assert "pyarrow.lib" in seen
        assert "pandas.core" not in seen
