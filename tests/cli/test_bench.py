"""`wsrec bench`: small runs of the command, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

SMALL = ("saturated", "--transport", "tcp", "--messages", 300, "--rounds", 1)


def children_of(pid: int) -> list[int]:
    """All processes below `pid`."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        return []
    found = [int(child) for task in tasks.iterdir() for child in task.joinpath("children").read_text().split()]
    return found + [below for child in found for below in children_of(child)]


class TestRun:
    @pytest.mark.long
    def test_figures_on_stdout_progress_on_stderr_all_of_it_as_json(self, wsrec, tmp_path: Path):
        file = tmp_path / "bench.json"
        only = ("--only", "wsrec-python", "--only", "bare-recv", "--json", file)
        result = wsrec.run("bench", *SMALL, *only, env={**os.environ, "TMPDIR": str(tmp_path)})
        assert result.returncode == 0, result.stderr
        assert "saturated, tcp" in result.stdout
        assert "round 1 of 1: bare-recv" in result.stderr
        written = json.loads(file.read_text())
        measured = [(one["name"], one["records"]) for one in written["saturated"]]
        assert measured == [(name, records) for records in ("lone", "bulk") for name in ("wsrec-python", "bare-recv")]
        assert written["options"]["messages"] == 300
        assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]

        again = wsrec.run("bench", "--from", file)
        assert again.stdout == result.stdout
        markdown = wsrec.run("bench", "--from", file, "--markdown")
        assert "| bare-recv |" in markdown.stdout


class TestRefusals:
    def test_an_unknown_contestant(self, wsrec):
        result = wsrec.run("bench", "--only", "curl")
        assert result.returncode == 2
        assert "--only: found 'curl', expected wsrec," in result.stderr

    def test_a_processor_that_is_not_there(self, wsrec):
        result = wsrec.run("bench", "--cpu", 9999)
        assert result.returncode == 2
        assert "found 9999, which is not a processor that wsrec may use" in result.stderr

    def test_no_recording(self, wsrec, tmp_path: Path):
        (tmp_path / "notes.txt").write_text("hello\n")
        result = wsrec.run("bench", "--recording", tmp_path / "notes.txt")
        assert result.returncode == 1
        assert "neither a Parquet file of wsrec nor a text recording" in result.stderr

    def test_json_that_cannot_be_written_is_refused_at_once(self, wsrec, tmp_path: Path):
        result = wsrec.run("bench", "--json", tmp_path / "nowhere" / "bench.json")
        assert result.returncode == 66
        assert "cannot be written" in result.stderr

    def test_json_of_something_else(self, wsrec, tmp_path: Path):
        (tmp_path / "other.json").write_text("{}")
        result = wsrec.run("bench", "--from", tmp_path / "other.json")
        assert result.returncode == 1
        assert "give a file that --json wrote" in result.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")
class TestInterrupt:
    @pytest.mark.parametrize(
        ("number", "measure"),
        [
            (signal.SIGINT, "saturated"),
            pytest.param(signal.SIGKILL, "recording", marks=pytest.mark.long),
            pytest.param(signal.SIGINT, "recording", marks=pytest.mark.long),
            pytest.param(signal.SIGTERM, "saturated", marks=pytest.mark.long),
            pytest.param(signal.SIGTERM, "recording", marks=pytest.mark.long),
            pytest.param(signal.SIGKILL, "saturated", marks=pytest.mark.long),
        ],
        ids=lambda value: getattr(value, "name", value),
    )
    def test_leaves_nothing_behind(self, wsrec, tmp_path: Path, number: signal.Signals, measure: str):
        options = (measure, "--messages", 10**9, "--seconds", 600, "--only", "wsrec", "--only", "wsrec-python-writer")
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with wsrec.start("bench", *options, env=environment) as process:
            wanted, below = 4 if measure == "recording" else 2, []
            deadline = time.monotonic() + 30
            # sender, and the receiver, or `wsrec record` and its two
            while len(below) < wanted and time.monotonic() < deadline:
                time.sleep(0.1)
                below = children_of(process.pid)
            assert len(below) >= wanted
            time.sleep(0.5)
            below = children_of(process.pid)
            process.send_signal(number)
            process.communicate(timeout=120)
        assert process.returncode not in (0, None)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
        if number != signal.SIGKILL:
            assert list(tmp_path.iterdir()) == []

    @pytest.mark.long
    def test_nor_does_a_recording_of_the_demo_that_is_killed(self, wsrec, tmp_path: Path):
        """Receiver and writer finish the files, and the exchange that was started for them ends too."""
        with wsrec.start("record", "demo", "--out", tmp_path) as process:
            deadline = time.monotonic() + 30
            while len(below := children_of(process.pid)) < 3 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(below) == 3
            process.kill()
            process.communicate(timeout=120)
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
