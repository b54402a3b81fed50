"""Recordings in progress are readable: what was journalled, once, in order, while files land."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

import wsrec
from tests.conftest import Wsrec
from tests.writer.test_recovery import interrupted
from wsrec.cli.main import main
from wsrec.format.unfinished_rows import UnfinishedRows
from wsrec.report.collect import collect
from wsrec.report.terminal import print_report
from wsrec.ring.slot_flags import CONTROL_RECORD
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.recovery import recover

__all__ = ["interrupted"]

COLUMNS = ["feed", "session", "seq", "recv_time", "handoff_monotonic", "text"]


@contextlib.contextmanager
def recorder_of_the_demo(out: Path, *options: str) -> Iterator[None]:
    """Records the demo, which has begun."""
    recorder = Wsrec().start("record", "demo", *options, "--out", out, "--quiet")
    try:
        until = time.monotonic() + 60
        while not last_journalled(out):
            assert recorder.poll() is None, recorder.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield
    finally:
        recorder.terminate()
        recorder.communicate(timeout=60)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recording of the demo that goes on while it is read, and finishes no file meanwhile."""
    out = tmp_path_factory.mktemp("running") / "out"
    with recorder_of_the_demo(out):
        yield out


def last_journalled(recording: Path) -> int:
    """Hand-off (stage clock, ns) of the last message in the journals; 0 without one."""
    last = 0
    for path in recording.glob(".wsrec/*/journal-*.arrows"):
        # without a beginning yet, or finished meanwhile
        with contextlib.suppress(pa.ArrowInvalid, FileNotFoundError):
            for batch in JournalReader(path):
                messages = batch.slots[batch.slots["flags"] & CONTROL_RECORD == 0]
                last = max(last, *messages["handoff"].tolist(), 0)
    return last


def rows_of(capture: wsrec.Capture) -> pa.Table:
    return capture.messages(COLUMNS).read_all()


def test_each_row_is_there_once_and_in_order_while_files_land(tmp_path):
    before: list[str] = []
    landed: set[Path] = set()
    with recorder_of_the_demo(tmp_path, "--rotate", "2s"):
        until = time.monotonic() + 60
        while len(landed) < 2 and time.monotonic() < until:
            journalled = last_journalled(tmp_path)
            capture = wsrec.open_capture(tmp_path)
            table = rows_of(capture)
            assert table["seq"].to_pylist() == list(range(len(table)))
            order = table["handoff_monotonic"].to_pylist()
            assert order == sorted(order)
            assert max(order, default=0) >= journalled
            texts = table["text"].to_pylist()
            assert texts[: len(before)] == before
            assert [each.recording for each in capture.unfinished] == [True]
            before = texts
            landed = set((tmp_path / "messages").rglob("*.parquet"))
        # without them if so requested
        finished = wsrec.open_capture(tmp_path, running=False)
        assert finished.unfinished == []
        assert all(path.is_relative_to(tmp_path) for kind in ("messages", "events") for path in finished.paths(kind))
    assert len(landed) >= 2
    assert len(before) > 100


def test_a_file_that_lands_takes_the_place_of_its_copy_which_goes_with_its_reader(interrupted):
    copies = UnfinishedRows([interrupted])
    one, other = copies.files("messages", ())
    assert one.exists()
    recover(interrupted, lambda _: None)
    landed = sorted((interrupted / "messages").rglob("*.parquet"))
    assert copies.files("messages", landed[:1]) == [other]
    assert copies.files("messages", landed) == []
    del copies
    assert not one.exists()


def test_events_and_metadata_are_those_of_a_recording(recording):
    capture = wsrec.open_capture(recording)
    kinds = capture.events(["kind"]).read_all()["kind"].to_pylist()
    assert "session_start" in kinds
    assert "session_end" not in kinds
    assert capture.files[-1].metadata.connections
    assert capture.event_files[-1].metadata.feed_config
    # a dataset may outlive its capture
    assert all(Path(name).is_relative_to(recording) for name in capture.dataset().files)


@pytest.mark.filterwarnings("ignore::wsrec.RepeatedFileWarning")
def test_of_two_copies_with_other_rows_neither_is_read_and_both_folders_are_named(recording, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(recording, tmp_path / name)
        # what is journalled next is in the second one only
        until, last = time.monotonic() + 60, last_journalled(recording)
        while last_journalled(recording) == last and time.monotonic() < until:
            time.sleep(0.05)
    with pytest.raises(
        wsrec.CaptureError,
        match=r"one: session \S+ is unfinished there and in \S+two, with other rows; neither was read",
    ):
        wsrec.open_capture(tmp_path)


def test_the_report_says_that_it_is_running(recording):
    session = next(recording.glob(".wsrec/*/journal-*.arrows")).parent.name
    report = collect([recording])
    assert [(each.session, each.recording) for each in report.unfinished] == [(session, True)]
    assert report.recordings[0].sessions[0].missing == 0
    console = Console(file=io.StringIO(), width=300)
    print_report(report, console)
    assert f"{session} is being recorded into" in console.file.getvalue()


def test_tables_of_what_is_not_finished_say_so(recording, tmp_path):
    with recorder_of_the_demo(tmp_path / "finished"):
        pass
    sources, out = [str(recording), str(tmp_path / "finished")], tmp_path / "tables"
    result = CliRunner().invoke(main, ["export", *sources, "--tables", "trades", "--out", str(out)])
    assert result.exit_code == 0, result.output
    session = next(recording.glob(".wsrec/*/journal-*.arrows")).parent.name
    marks = {
        each.name.startswith(session): json.loads(pq.read_metadata(each).metadata[b"wsrec.unfinished"])
        for each in out.rglob("*.parquet")
    }
    assert marks == {True: True, False: False}
    assert "of sessions that are not finished: export them again when they are" in result.output


STOPPING = """
import os, signal, sys

class Stop:
    def find_spec(self, name, *_):
        if name == "wsrec.writer.pipeline":
            os.kill(os.getpid(), signal.SIGSTOP)

if "wsrec.writer.unfinished_rows" in sys.orig_argv:
    sys.meta_path.insert(0, Stop())
"""


def processes(place: Path) -> dict[int, str]:
    """The processes that have this folder in their arguments, and the state of each (proc(5))."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{place}/".encode() in (each / "cmdline").read_bytes():
                found[int(each.name)] = (each / "stat").read_text().rpartition(") ")[2][0]
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_reader_that_is_ended_leaves_nothing_running(recording, tmp_path, number, wsrec):
    copies, code = tmp_path / "copies", tmp_path / "code"
    copies.mkdir()
    code.mkdir()
    # what makes the copies stops itself when it begins: it would be done at any time
    (code / "sitecustomize.py").write_text(STOPPING)
    environment = {**os.environ, "TMPDIR": str(copies)}
    reader = wsrec.start("report", recording, env={**environment, "PYTHONPATH": str(code)})
    until = time.monotonic() + 60
    while "T" not in processes(copies).values():
        assert reader.poll() is None, reader.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    reader.send_signal(number)
    reader.communicate(timeout=60)
    until = time.monotonic() + 60
    while processes(copies) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes(copies) == {}
    if number == signal.SIGTERM:
        assert reader.returncode == 128 + number
    else:
        # until somebody reads again
        assert len(list(copies.iterdir())) == 1
        assert wsrec.run("report", recording, env=environment).returncode == 0
    assert list(copies.iterdir()) == []


def test_only_copies_that_nobody_holds_are_removed(recording, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = UnfinishedRows([recording])
    (held,) = tmp_path.iterdir()
    (tmp_path / "wsrec-unfinished-left" / "0").mkdir(parents=True)
    (tmp_path / "wsrec-unfinished-file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "wsrec-unfinished-link").symlink_to(tmp_path / "elsewhere")
    second = UnfinishedRows([recording])
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {held.name, "wsrec-unfinished-file", "wsrec-unfinished-link", "elsewhere"}
    assert "wsrec-unfinished-left" not in names
    assert len(names) == 5
    del first, second
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_without_any_is_read_as_before(tmp_path):
    assert UnfinishedRows([tmp_path, tmp_path / "none", "*.parquet"]).sessions == []


def test_what_cannot_be_read_is_named(tmp_path):
    folder = tmp_path / "out" / ".wsrec" / "20261122T130000Z-a1"
    folder.mkdir(parents=True)
    (folder / "journal-000001.arrows").write_bytes(b"")
    (folder / "session.json").write_bytes(b"{")
    with pytest.raises(wsrec.CaptureError, match=r"unfinished rows cannot be read .*session\.json: it is damaged"):
        wsrec.open_capture(tmp_path / "out")
