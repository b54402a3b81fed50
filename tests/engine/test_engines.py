"""wsrec.engine: a function over many files gives the same everywhere, and what fails is named."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import work
from wsrec.engine.choose import engine_for
from wsrec.engine.processes import Processes
from wsrec.engine.work import EngineError, InProcess, Item, _shares, reduce
from wsrec.options.engine import EngineOptions


@pytest.fixture(scope="module", params=[1, 2, 3])
def engine(request):
    with engine_for(EngineOptions(jobs=request.param)) as engine:
        yield engine


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    paths = [tmp_path / str(number) for number in range(40)]
    for path in paths:
        path.write_text(path.name)
    return [Item(files=(str(path),), size=int(path.name) + 1) for path in paths]


NUMBERS = [str(number) for number in range(40)]


class TestMap:
    def test_results_come_in_the_order_of_the_items(self, engine, items):
        assert [*engine.map(work.read_slowly_at_first, items)] == [[number] for number in NUMBERS]

    def test_progress_counts_bytes_to_the_end(self, engine, items):
        seen: list[tuple[int, int]] = []
        assert len([*engine.map(work.read, items, lambda done, total: seen.append((done, total)))]) == 40
        assert len(seen) == 40
        assert seen == sorted(seen)
        assert seen[-1] == (820, 820)

    def test_nothing_to_do(self, engine):
        assert [*engine.map(work.read, [])] == []
        assert reduce(engine, work.read, work.joined, []) is None

    def test_an_error_names_the_file(self, engine, items, tmp_path):
        missing = str(tmp_path / "gone")
        with pytest.raises(EngineError, match=f"^{missing} and 1 more: FileNotFoundError: ") as caught:
            list(engine.map(work.read, [*items, Item(files=(missing, "other"))]))
        assert "in read" in "".join(caught.value.__notes__)


class TestReduce:
    def test_neighbours_are_merged_in_order(self, engine, items):
        assert reduce(engine, work.read, work.joined, items) == NUMBERS

    def test_an_error_names_the_file_in_its_share(self, engine, items, tmp_path):
        Path(items[17].files[0]).unlink()
        with pytest.raises(EngineError, match=f"^{items[17].files[0]}: FileNotFoundError: "):
            reduce(engine, work.read, work.joined, items)

    @given(sizes=st.lists(st.integers(0, 10**9), max_size=80), workers=st.integers(1, 9))
    def test_shares_are_the_items_in_order(self, sizes, workers):
        items = [Item(files=(str(number),), size=size) for number, size in enumerate(sizes)]
        shares = _shares(items, workers)
        assert [file for share in shares for file in share.files] == [str(number) for number in range(len(sizes))]
        assert sum(share.size for share in shares) == sum(sizes)
        # large enough to be worth moving, small enough to end together
        assert len(shares) <= max(3 * 8 * workers, 1) if workers > 1 else len(shares) == len(sizes)
        assert pickle.loads(pickle.dumps(shares)) == shares


class TestProcesses:
    def test_that_many(self, items):
        with Processes(2) as engine:
            used = set(engine.map(work.process, items[:8]))
        assert len(used) == 2
        assert os.getpid() not in used
        assert set(InProcess().map(work.process, items[:2])) == {os.getpid()}

    def test_a_killed_one_is_named_with_its_file(self, items):
        with (
            Processes(2) as engine,
            pytest.raises(EngineError, match=f"{items[2].files[0]}: the worker process .* was killed by SIGKILL .out"),
        ):
            list(engine.map(work.die, items))

    def test_without_pandas_and_secrets(self, items, monkeypatch):
        monkeypatch.setenv("SECRET_KEY", "x")
        with Processes(1) as engine:
            assert [*engine.map(work.modules, items[:1])] == [[False, False]]

    def test_none_outlives_an_interrupt(self, tmp_path):
        """Ctrl-C in the middle of an item."""
        code = f"""
from tests.engine import work
from wsrec.engine.processes import Processes
from wsrec.engine.work import Item
with Processes(2) as engine:
    list(engine.map(work.wait, [Item(files=({str(tmp_path / "a")!r},)), Item(files=({str(tmp_path / "b")!r},))]))
"""
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
            pids = [_pid(tmp_path / name) for name in "ab"]
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert "KeyboardInterrupt" in err
        assert not [pid for pid in pids if _runs(pid)]

    def test_none_outlives_a_killed_caller(self, tmp_path):
        code = f"""
from tests.engine import work
from wsrec.engine.processes import Processes
from wsrec.engine.work import Item
with Processes(1) as engine:
    list(engine.map(work.wait, [Item(files=({str(tmp_path / "a")!r},))]))
"""
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            pid = _pid(tmp_path / "a")
            process.kill()
        deadline = time.monotonic() + 10
        while _runs(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(path.read_text())


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
