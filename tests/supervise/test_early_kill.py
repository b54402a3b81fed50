"""A session that is killed before anything of it is in a journal does not vanish: its time is a lost interval."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Wsrec, events_of
from tests.exchange import Exchange
from tests.supervise.conftest import Recording, Stream, free
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify


def kill(work: Recording) -> int:
    """Kill all of it; when that was (ns since the epoch)."""
    os.kill(work.process.pid, signal.SIGSTOP)
    moment = time.time_ns()
    for pid in [*work.children(), work.process.pid]:
        os.kill(pid, signal.SIGKILL)
    work.process.communicate()
    work.until(lambda: free(work.out))
    return moment


@contextlib.contextmanager
def recorder(out: Path, *arguments: object):
    stream = Stream()
    server = Exchange(stream)
    server.start()
    command = Wsrec().command("record", server.url, "--out", out, "--quiet", *arguments)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Recording(process, out, stream)
    finally:
        process.kill()
        process.communicate()
        server.stop()


@pytest.fixture(scope="module")
def unjournalled(tmp_path_factory) -> tuple[Path, int, int]:
    """A folder whose recorder's writer hung from its beginning; first message sent, and the kill of all of it."""
    out = tmp_path_factory.mktemp("unjournalled") / "out"
    with recorder(out) as work:
        os.kill(work.child("wsrec.writer"), signal.SIGSTOP)
        work.until(lambda: len(work.stream.times) > 300)
        killed = kill(work)
    return out, work.stream.times[0], killed


def lost(out: Path) -> list[tuple[int, int]]:
    return [(each["detail"]["from"], each["detail"]["to"]) for each in events_of(out, "lost_interval")]


def test_verify_says_before_that_it_is_not_recovered(unjournalled):
    out, _, _ = unjournalled
    found = verify([out])
    assert found.status == VerifyStatus.INCOMPLETE


def copied(unjournalled, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    subprocess.run(["cp", "-a", unjournalled[0], out], check=True)
    return out


def test_recover_makes_a_lost_interval_of_it(unjournalled, wsrec, tmp_path):
    out = copied(unjournalled, tmp_path)
    _, sent, killed = unjournalled
    result = wsrec.run("recover", out)
    assert (result.returncode, result.stderr) == (0, "")
    assert "not recorded: " in result.stdout
    assert "connection first wanted to heartbeat of the recorder" in result.stdout
    ((since, until),) = lost(out)
    assert since <= sent < killed - 1e9 / 4 <= until - 1e9 / 4
    found = verify([out])
    assert found.status == VerifyStatus.INCOMPLETE
    assert [len(session.losses) for session in found.captures[0].sessions] == [1]
    assert [f for f in found.captures[0].findings if f.kind not in ("incomplete", "note")] == []
    assert wsrec.run("recover", out).stdout == "nothing to recover\n"
    assert len(lost(out)) == 1


def test_the_next_record_says_so_and_makes_a_lost_interval_of_it(unjournalled, tmp_path):
    out = copied(unjournalled, tmp_path)
    _, sent, killed = unjournalled
    with recorder(out, "--duration", "0.3s") as work:
        _, log = work.process.communicate(timeout=120)
    assert "an interrupted session was recovered" in log
    assert "lost from" in log
    assert any(since <= sent < killed <= until for since, until in lost(out))
    assert verify([out]).status == VerifyStatus.INCOMPLETE


@pytest.mark.long
def test_one_whose_journal_has_no_batch_is_lost_from_its_beginning(wsrec, tmp_path):
    out = tmp_path / "out"
    with recorder(out, "--batch", "60s") as work:
        work.until(lambda: len(work.stream.times) > 300)
        killed = kill(work)
    wsrec.run("recover", out)
    ((since, until),) = lost(out)
    assert since <= work.stream.times[0] < killed <= until
    assert verify([out]).status == VerifyStatus.INCOMPLETE


@pytest.mark.long
def test_one_whose_journal_is_gone_is_lost_from_its_last_row_on(wsrec, tmp_path):
    out = tmp_path / "out"
    with recorder(out, "--rotate", "6kB") as work:
        work.until(lambda: len(list(out.glob("messages/**/*.parquet"))) > 2)
        os.kill(work.process.pid, signal.SIGSTOP)
        killed = kill(work)
    for path in out.glob(".wsrec/*/journal-*"):
        path.unlink()
    wsrec.run("recover", out)
    ((since, until),) = lost(out)
    assert since < killed <= until
    (session,) = verify([out]).captures[0].sessions
    assert (session.state, len(session.losses)) == ("interrupted", 1)


@pytest.mark.long
def test_a_folder_that_does_not_say_what_was_recorded_is_kept_and_reported(wsrec, tmp_path):
    folder = tmp_path / ".wsrec" / "20260101T000000Z-abcdef"
    folder.mkdir(parents=True)
    (folder / "taking").touch()
    for _ in range(2):
        result = wsrec.run("recover", tmp_path)
        assert result.returncode == 1
        assert "nothing shows what it was recording" in result.stderr
        assert verify([tmp_path]).status == VerifyStatus.INCOMPLETE


def test_one_that_had_received_nothing_leaves_nothing(wsrec, tmp_path):
    folder = tmp_path / ".wsrec" / "20260101T000000Z-abcdef"
    folder.mkdir(parents=True)
    (folder / "session.json.new").write_bytes(b"{")
    assert wsrec.run("recover", tmp_path).stdout == "nothing to recover\n"
    assert not folder.exists()
