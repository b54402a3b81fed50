"""wsrec record --takeover with real processes: one recorder goes on where another ends, and nothing is lost between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import messages_of, received
from tests.supervise.test_supervisor import Recording, Stream, finished, free
from tests.writer.test_resume import Life, Session
from wsrec.format import manifest
from wsrec.format.lock import OutputLock
from wsrec.ipc import LogLine
from wsrec.supervise import takeover
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify


class Ticks(Stream):
    """An exchange whose numbers are those of the moment: anyone who listens gets the same ones, about 500 a second."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    async def __call__(self, connection) -> None:
        at = round((time.monotonic() - self.began) * 500)
        while True:
            while at <= (time.monotonic() - self.began) * 500:
                await connection.send(f"message {at}")
                at += 1
            await asyncio.sleep(0.005)


def test_a_recovery_that_is_cancelled_ends_soon_and_the_next_one_completes_it(tmp_path):
    """As on SIGTERM just after a takeover: the session is left as it was, for the next start."""
    with pytest.MonkeyPatch.context() as patch:
        session = Session(tmp_path, Life(patch))
        for _ in range(300):
            session.put(1, 10, 1)
            session.drain()
        session.bury()
        session.close()
    folder = tmp_path / ".wsrec" / session.job.session
    # the recovery makes it anew when it begins
    (folder / "taking").unlink()

    async def cancelled() -> None:
        lines: list[LogLine] = []
        task = asyncio.create_task(takeover.recover_beside(tmp_path, lines.append, []))
        while not (folder / "taking").exists():
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    # waits for the thread
    asyncio.run(cancelled())
    assert list(folder.glob("journal-*")), "it was recovered to its end"
    takeover.recover_left(tmp_path, lambda line: None, [])
    assert not folder.exists()
    assert received(messages_of(tmp_path)) == session.sent["b"]


class Recorders:
    """Recorders of one exchange into one folder."""

    def __init__(self, url: str, out: Path, stack: contextlib.ExitStack) -> None:
        self.url, self.out = url, out
        self._stack = stack

    def start(self, *arguments: object) -> Recording:
        command = [sys.executable, "-P", "-m", "wsrec", "record", self.url, "--out", str(self.out), "--json"]
        log = self._stack.enter_context((self.out.parent / f"log-{time.monotonic_ns()}").open("w"))
        process = subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=log, text=True)
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        work = Recording(process, self.out, Ticks())
        work.log = Path(log.name)
        return work

    def journalling(self, *arguments: object) -> Recording:
        before = self.sessions()
        work = self.start(*arguments)
        work.until(lambda: self.sessions() - before)
        (session,) = self.sessions() - before
        work.until(lambda: journal_bytes(self.out / ".wsrec" / session) > 20_000)
        work.session = session
        return work

    def sessions(self) -> set[str]:
        return {path.name for path in (self.out / ".wsrec").glob("*/") if path.name != "aside"}

    def pid(self) -> int:
        return int((self.out / ".wsrec" / "lock").read_text())


def journal_bytes(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in folder.glob("journal-*"))
    return 0


def ended(work: Recording, status: int = 0) -> dict:
    output, _ = work.process.communicate(timeout=120)
    log = work.log.read_text()
    assert work.process.returncode == status, log
    assert "Traceback" not in log
    return json.loads(output)


def stated(work: Recording, text: str) -> bool:
    return text in work.log.read_text()


def numbers(out: Path) -> dict[str, list[int]]:
    """The numbers that each session has, which have no hole."""
    found: dict[str, list[int]] = {}
    for line in sorted(manifest.read(out), key=lambda line: (line.session, line.number)):
        if line.path is not None:
            rows = received(pq.ParquetFile(out / line.path).read())
            found.setdefault(line.session, []).extend(int(row.split()[1]) for row in rows)
    for session in found.values():
        assert session == list(range(session[0], session[-1] + 1))
    return found


def without_hole(out: Path) -> int:
    """Make sure that the sessions together have every number from the first to the last; how many two of them share."""
    found = sorted(numbers(out).values())
    union = set().union(*found)
    assert union == set(range(min(union), max(union) + 1))
    return sum(map(len, found)) - len(union)


@pytest.fixture
def recorders(exchange, tmp_path):
    with contextlib.ExitStack() as stack:
        (tmp_path / "out").mkdir()
        yield Recorders(exchange(Ticks()).url, tmp_path / "out", stack)


class TestTakeover:
    def test_nothing_is_lost_between_the_two(self, recorders):
        old = recorders.journalling()
        new = recorders.journalling("--takeover")
        assert old.process.poll() is None
        (capture,) = verify([recorders.out]).captures
        assert not [f for f in capture.findings if f.kind not in (Kind.INCOMPLETE, Kind.NOTE)]
        first = ended(old)
        assert (first["reason"], first["status"]) == ("another recorder took over", 0)
        new.until(lambda: stated(new, "this recorder holds"))
        assert recorders.pid() == new.process.pid
        assert not free(recorders.out)
        new.process.terminate()
        second = ended(new)
        assert second["sessions"] != first["sessions"]
        assert without_hole(recorders.out) > 0
        assert (len(numbers(recorders.out)), second["lost_intervals"]) == (2, 0)
        finished(recorders.out)
        assert free(recorders.out)
        assert verify([recorders.out]).status is VerifyStatus.HOLDS
        assert "recovered" not in new.log.read_text()

    @pytest.mark.long
    def test_again_and_again(self, recorders):
        works = [recorders.journalling()]
        for _ in range(2):
            works.append(recorders.journalling("--takeover"))
            ended(works[-2])
            works[-1].until(lambda: stated(works[-1], "this recorder holds"))
        works[-1].process.terminate()
        ended(works[-1])
        without_hole(recorders.out)
        assert len(numbers(recorders.out)) == 3

    @pytest.mark.long
    def test_two_at_once_are_one(self, recorders):
        old = recorders.journalling()
        os.kill(old.process.pid, signal.SIGSTOP)
        new = recorders.journalling("--takeover")
        for arguments in (["--takeover"], []):
            third = recorders.start("--duration", "1s", *arguments)
            assert f"process {new.process.pid})" in ended(third, 75)["error"]
        os.kill(old.process.pid, signal.SIGCONT)
        ended(old)
        new.until(lambda: stated(new, "this recorder holds"))
        new.process.terminate()
        ended(new)
        without_hole(recorders.out)

    @pytest.mark.long
    def test_without_a_holder_it_is_an_ordinary_start(self, recorders):
        work = recorders.start("--takeover", "--duration", "2s")
        assert ended(work)["messages"] > 0
        assert "this recorder holds" not in work.log.read_text()
        assert recorders.pid() == work.process.pid

    @pytest.mark.long
    def test_a_holder_that_was_killed_is_recovered(self, recorders):
        old = recorders.journalling()
        children = old.children()
        os.kill(old.process.pid, signal.SIGSTOP)
        for pid in [*children, old.process.pid]:
            os.kill(pid, signal.SIGKILL)
        old.process.wait()
        new = recorders.journalling("--takeover")
        new.process.terminate()
        ended(new)
        assert stated(new, "an interrupted session was recovered")
        assert len(numbers(recorders.out)) == 2

    @pytest.mark.long
    def test_a_holder_that_was_killed_meanwhile_is_recovered_beside_the_recording(self, recorders):
        old = recorders.journalling()
        new = recorders.journalling("--takeover")
        children = old.children()
        old.process.kill()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        old.process.communicate(timeout=120)
        new.until(lambda: stated(new, "an interrupted session was recovered"))
        assert new.process.poll() is None
        before = journal_bytes(recorders.out / ".wsrec" / new.session)
        new.until(lambda: journal_bytes(recorders.out / ".wsrec" / new.session) > before)
        new.process.terminate()
        ended(new)
        assert set(numbers(recorders.out)) == {old.session, new.session}
        finished(recorders.out)

    @pytest.mark.long
    def test_a_holder_that_hangs_is_recorded_beside(self, recorders):
        old = recorders.journalling()
        os.kill(old.process.pid, signal.SIGSTOP)
        new = recorders.journalling("--takeover")
        new.until(lambda: stated(new, f"stopping process {old.process.pid}"))
        before = journal_bytes(recorders.out / ".wsrec" / new.session)
        new.until(lambda: journal_bytes(recorders.out / ".wsrec" / new.session) > before)
        assert recorders.pid() == old.process.pid
        new.process.terminate()
        assert ended(new)["status"] == 0
        assert {line.session for line in manifest.read(recorders.out)} == {new.session}
        os.kill(old.process.pid, signal.SIGCONT)
        ended(old)
        without_hole(recorders.out)

    @pytest.mark.long
    def test_a_holder_whose_time_is_up_still_finishes_its_files(self, recorders):
        old = recorders.journalling("--duration", "3s")
        writer = old.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        old.until(lambda: not old.running("wsrec.receive"))
        # as for a person who ended it, and waits
        old.process.send_signal(signal.SIGTERM)
        new = recorders.start("--takeover", "--duration", "3s")
        assert ended(new)["status"] == 0
        assert stated(new, f"stopping process {old.process.pid}")
        assert stated(new, f"was not taken over: process {old.process.pid} still holds it")
        # on a busy machine it has been replaced by now, as it had no heartbeat
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGCONT)
        first = ended(old)
        assert (first["reason"], first["given_up"], first["finished"]) == ("the time was up", 0, True)
        finished(recorders.out)
        numbers(recorders.out)

    @pytest.mark.long
    def test_killed_while_it_waits_its_writer_keeps_others_away_until_it_is_done(self, recorders):
        old = recorders.journalling()
        os.kill(old.process.pid, signal.SIGSTOP)
        new = recorders.journalling("--takeover")
        writer = new.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        new.process.kill()
        new.process.wait()
        os.kill(old.process.pid, signal.SIGCONT)
        old.process.terminate()
        ended(old)
        # the lock is free, but the folder of the writer that is still working must not be recovered
        assert ended(recorders.start("--duration", "1s"), 75)
        os.kill(writer, signal.SIGCONT)
        new.until(lambda: free(recorders.out))
        assert set(numbers(recorders.out)) == {old.session, new.session}
        finished(recorders.out)

    @pytest.mark.long
    def test_an_unreachable_exchange_ends_no_recorder(self, recorders, wsrec):
        old = recorders.journalling()
        result = wsrec.run("record", "ws://localhost:1/", "--out", recorders.out, "--takeover", "--duration", "3s")
        assert result.returncode == 1
        assert old.process.poll() is None
        assert recorders.pid() == old.process.pid
        old.process.terminate()
        ended(old)


class TestSignal:
    """Who is sent a signal."""

    def test_a_process_that_has_not_locked_the_file_is_never(self, tmp_path):
        lines: list[str] = []
        hold = [shutil.which("flock") or "flock", str(tmp_path / ".wsrec" / "lock"), "sleep", "60"]
        (tmp_path / ".wsrec").mkdir()
        holder = subprocess.Popen(hold, start_new_session=True)
        stranger = subprocess.Popen(["sleep", "60"], pass_fds=[])
        try:
            while free(tmp_path):
                time.sleep(0.02)
            (tmp_path / ".wsrec" / "lock").write_text(f"{stranger.pid}\n")
            with OutputLock(tmp_path, takeover=True) as lock:
                assert not lock.held
                takeover._request_end(lock, lambda line: lines.append(line.message))
            assert "has not locked it" in lines[0]
            assert stranger.poll() is None
        finally:
            stranger.kill()
            os.killpg(holder.pid, signal.SIGKILL)
            stranger.wait()
            holder.wait()

    @pytest.mark.parametrize(
        "content", [b"", b"0\n", b"-1\n", b"1\n", b"99999999\n", b"junk", b"\xff\xfe\0" * 100, b"9" * 4096]
    )
    def test_whatever_stands_in_the_file(self, tmp_path, content):
        lines: list[str] = []
        with OutputLock(tmp_path) as held:
            os.ftruncate(held.fds[0], 0)
            os.pwrite(held.fds[0], content, 0)
            with OutputLock(tmp_path, takeover=True) as lock:
                takeover._request_end(lock, lambda line: lines.append(line.message))
        assert "cannot be stopped" in lines[0]
