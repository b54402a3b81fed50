"""What other recorders are known to have lost data by, each tried with real processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import received
from tests.supervise.conftest import Stream, finished
from wsrec.format import manifest
from wsrec.receive.backoff import LONGEST, Backoff
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify


def digests(out: Path) -> dict[str, str]:
    """The SHA-256 of every finished file, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.parquet")}


def messages(out: Path, session: str) -> list[bytes]:
    lines = sorted((line for line in manifest.read(out) if line.session == session), key=lambda line: line.number)
    rows = [row for line in lines if line.path for row in received(pq.ParquetFile(out / line.path).read())]
    return [row for row in rows if row.startswith(b"message")]


@pytest.mark.long
def test_a_restart_on_the_same_day_overwrites_nothing(wsrec, exchange, tmp_path):
    """Elsewhere: it opened the day's file anew and wrote from byte 0."""
    url = exchange(Stream()).url
    assert wsrec.run("record", url, "--out", tmp_path, "--duration", "1s").returncode == 0
    before = digests(tmp_path)
    assert wsrec.run("record", url, "--out", tmp_path, "--duration", "1s").returncode == 0
    after = digests(tmp_path)
    assert before.items() < after.items()
    assert len(after) == 2 * len(before)
    assert verify([tmp_path]).status is VerifyStatus.HOLDS


@pytest.mark.long
def test_after_a_kill_the_tail_and_all_that_comes_later_can_be_read(recording, wsrec, exchange):
    """Elsewhere: the compressed stream broke off, and what was appended to it after the restart was lost too."""
    work = recording()
    pids = work.children()
    os.kill(work.process.pid, signal.SIGSTOP)
    for pid in [*pids, work.process.pid]:
        os.kill(pid, signal.SIGKILL)
    work.process.wait()
    kept = work.journalled()
    assert len(kept) > 100
    result = wsrec.run("record", exchange(Stream()).url, "--out", work.out, "--duration", "2s", "--json")
    assert result.returncode in (0, 4), result.stderr
    (later,) = json.loads(result.stdout)["sessions"]
    (killed,) = {line.session for line in manifest.read(work.out)} - {later}
    assert messages(work.out, killed) == kept == [b"message %d" % index for index in range(len(kept))]
    found = messages(work.out, later)
    assert len(found) > 100
    assert found == [b"message %d" % index for index in range(len(found))]
    finished(work.out)


def test_backoff_never_grows_beyond_its_longest_wait_and_never_ends():
    """Elsewhere: it grew to hours, and the feed was dead without a word."""
    backoff = Backoff()
    waits = [backoff.next() for _ in range(5_000)]
    assert max(waits) <= LONGEST <= 60
    assert all(wait >= LONGEST / 2 for wait in waits[20:])


def test_sigterm_is_an_end_and_no_kill(recording):
    """Elsewhere: SIGTERM ended it on the spot, the last buffer with it."""
    work = recording("--json")
    sent = len(work.stream.times)
    work.process.terminate()
    output, _ = work.end(0)
    (session,) = {line.session for line in manifest.read(work.out)}
    found = messages(work.out, session)
    assert len(found) >= sent - 100
    assert found == [b"message %d" % index for index in range(len(found))]
    assert json.loads(output)["finished"]
    finished(work.out)


def test_a_disk_error_is_no_success(recording):
    """Elsewhere: the error was logged, and the exit status was 0."""
    work = recording("--json")
    shutil.rmtree(work.out, ignore_errors=True)
    output, log = work.end(1)
    outcome = json.loads(output)
    assert outcome["status"] == 1
    assert "writer failed" in outcome["error"]
    assert outcome["error"] in log


@pytest.mark.long
def test_a_folder_that_is_renamed_ends_the_recording_and_keeps_all(recording, wsrec, tmp_path):
    """Elsewhere: it was written into the moved folder for as long as nothing had to be opened, and then failed."""
    work = recording("--json")
    known = len(work.journalled())
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    work.out.rename(moved)
    output, log = work.end(1)
    assert "moved or renamed during the recording" in json.loads(output)["error"]
    assert f"is kept in {moved}/.wsrec/" in log
    assert "lost too" not in log
    result = wsrec.run("recover", moved)
    assert result.returncode == 0, result.stderr
    (session,) = {line.session for line in manifest.read(moved)}
    found = messages(moved, session)
    assert len(found) >= known
    assert found == [b"message %d" % index for index in range(len(found))]
