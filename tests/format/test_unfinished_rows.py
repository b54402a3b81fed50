"""Recordings in progress are readable: what was journalled, once, in order, while files land."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
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
from wsrec.cli.main import main
from wsrec.format.unfinished_rows import UnfinishedRows
from wsrec.report.collect import collect
from wsrec.report.terminal import print_report

SECOND = 1_000_000_000
COLUMNS = ["feed", "session", "seq", "recv_time", "handoff_monotonic", "text"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recording of the demo that goes on while it is read, a file every two seconds."""
    out = tmp_path_factory.mktemp("running") / "out"
    recorder = Wsrec().start("record", "demo", "--rotate", "2s", "--out", out, "--quiet")
    try:
        until = time.monotonic() + 60
        while not list(out.glob(".wsrec/*/journal-*.arrows")):
            assert recorder.poll() is None, recorder.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(1)
        yield out
    finally:
        recorder.terminate()
        recorder.communicate(timeout=60)


def rows_of(capture: wsrec.Capture) -> pa.Table:
    return capture.messages(COLUMNS).read_all()


def test_each_row_is_there_once_and_in_order_while_files_land(recording):
    before: list[str] = []
    landed: set[Path] = set()
    until = time.monotonic() + 60
    while len(landed) < 2 and time.monotonic() < until:
        asked = time.time_ns()
        capture = wsrec.open_capture(recording)
        table = rows_of(capture)
        assert table["seq"].to_pylist() == list(range(len(table)))
        order = table["handoff_monotonic"].to_pylist()
        assert order == sorted(order)
        texts = table["text"].to_pylist()
        assert texts[: len(before)] == before
        assert table["recv_time"][-1].value > asked - 2 * SECOND
        assert [each.recording for each in capture.unfinished] == [True]
        before = texts
        landed = set((recording / "messages").rglob("*.parquet"))
    assert len(landed) >= 2
    assert len(before) > 100


def test_a_file_that_lands_takes_the_place_of_its_copy_which_goes_with_its_reader(recording):
    copies = UnfinishedRows([recording])
    until = time.monotonic() + 60
    # none if the journal was finished before its copy was begun
    while not copies.files("messages", ()) and time.monotonic() < until:
        copies = UnfinishedRows([recording])
    own = copies.files("messages", ())[-1]
    assert own.exists()
    final = next(recording.glob("messages/*")) / own.relative_to(own.parents[2])
    assert own in copies.files("messages", set((recording / "messages").rglob("*.parquet")) - {final})
    assert own not in copies.files("messages", [final])
    del copies
    assert not own.exists()


def test_events_and_metadata_are_those_of_a_recording(recording):
    capture = wsrec.open_capture(recording)
    kinds = capture.events(["kind"]).read_all()["kind"].to_pylist()
    assert "session_start" in kinds
    assert "session_end" not in kinds
    assert capture.files[-1].metadata.connections
    assert capture.event_files[-1].metadata.feed_config
    # a dataset may outlive its capture
    assert all(Path(name).is_relative_to(recording) for name in capture.dataset().files)


def test_only_finished_files_if_asked(recording):
    capture = wsrec.open_capture(recording, running=False)
    assert capture.unfinished == []
    assert all(path.is_relative_to(recording) for kind in ("messages", "events") for path in capture.paths(kind))


@pytest.mark.filterwarnings("ignore::wsrec.RepeatedFileWarning")
def test_of_two_copies_with_other_rows_neither_is_read_and_both_folders_are_named(recording, tmp_path):
    said = ""
    # a file may be finished between the two, which is then no copy of journals
    for number in range(20):
        with contextlib.suppress(shutil.Error):
            for name in ("one", "two"):
                shutil.copytree(recording, tmp_path / str(number) / name)
                time.sleep(0.3)
        try:
            wsrec.open_capture(tmp_path / str(number))
        except wsrec.CaptureError as error:
            said = str(error)
        if "is unfinished there and in" in said:
            break
    assert re.search(r"one: session \S+ is unfinished there and in \S+two, with other rows; neither was read", said)


def test_the_report_says_that_it_is_running(recording):
    session = next(recording.glob(".wsrec/*/journal-*.arrows")).parent.name
    report = collect([recording])
    assert [(each.session, each.recording) for each in report.unfinished] == [(session, True)]
    assert report.recordings[0].sessions[0].missing == 0
    console = Console(file=io.StringIO(), width=300)
    print_report(report, console)
    assert f"{session} is being recorded into" in console.file.getvalue()


def test_tables_of_what_is_not_finished_say_so(recording, tmp_path):
    until = time.monotonic() + 60
    # none if all that was journalled was finished before it was read
    while True:
        result = CliRunner().invoke(main, ["export", str(recording), "--tables", "trades", "--out", str(tmp_path)])
        assert result.exit_code == 0, result.output
        files = sorted(tmp_path.rglob("*.parquet"))
        marks = [json.loads(pq.read_metadata(each).metadata[b"wsrec.unfinished"]) for each in files]
        if True in marks or time.monotonic() > until:
            break
    assert marks.index(True) == len(marks) - 1
    assert "of sessions that are not finished: export them again when they are" in result.output


def processes(place: Path) -> list[int]:
    """The processes that have this folder in their arguments, once they are at work."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_one = f"{place}/".encode() in (each / "cmdline").read_bytes()
            found += [int(each.name)] if is_one and "libarrow" in (each / "maps").read_text() else []
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_reader_that_is_ended_leaves_nothing_running(recording, tmp_path, number, wsrec):
    reader = wsrec.start("report", recording, env={**os.environ, "TMPDIR": str(tmp_path)})
    until = time.monotonic() + 20
    while not (children := processes(tmp_path)):
        assert reader.poll() is None, reader.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    # it would read for long
    os.kill(children[0], signal.SIGSTOP)
    reader.send_signal(number)
    reader.communicate(timeout=60)
    while processes(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes(tmp_path) == []
    if number == signal.SIGTERM:
        assert reader.returncode == 128 + number
    else:
        # until somebody reads again
        assert len(list(tmp_path.iterdir())) == 1
        assert wsrec.run("report", recording, env={**os.environ, "TMPDIR": str(tmp_path)}).returncode == 0
    assert list(tmp_path.iterdir()) == []


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
