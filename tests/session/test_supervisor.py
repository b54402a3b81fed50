"""wsrec.session.supervisor with real processes: every way to end, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import events_of, messages_of, received
from tests.store.rings import payloads
from wsrec.session.lock import OutputLock, OutputLockedError
from wsrec.store import manifest
from wsrec.store.journal import JournalReader

# a recorder that nohup started is not to hear of a hang-up, nor are its tests
HANG_UP = pytest.param(
    signal.SIGHUP,
    marks=pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="hang-ups are ignored here"),
)
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class Stream:
    """An endless exchange: numbered messages, a thousand a second; remembers how many it sent."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, connection) -> None:
        while True:
            for _ in range(10):
                await connection.send(f"message {self.sent}")
                self.sent += 1
            await asyncio.sleep(0.01)


class Recording:
    """`wsrec record` of a stream, running."""

    def __init__(self, process: subprocess.Popen[str], out: Path, stream: Stream) -> None:
        self.process, self.out, self.stream = process, out, stream

    def child(self, module: str) -> int:
        for pid in self.children():
            with contextlib.suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                    return pid
        raise LookupError(module)

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def journalled(self) -> list[bytes]:
        """The messages in the journal now."""
        found = []
        for path in sorted((self.out / ".wsrec").glob("*/journal-*.arrows")):
            with contextlib.suppress(Exception):
                found += [p for batch in JournalReader(path) for p in payloads(batch) if p.startswith(b"message")]
        return found

    def until(self, condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self, status: int) -> tuple[str, str]:
        output, log = self.process.communicate(timeout=60)
        assert self.process.returncode == status, log
        assert "Traceback" not in log
        return output, log


@pytest.fixture
def recording(wsrec, exchange, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, **options: object) -> Recording:
            stream = Stream()
            server = exchange(stream)
            process = wsrec.start("record", server.url, "--out", tmp_path, *arguments, **options)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            started = Recording(process, tmp_path, stream)
            started.until(lambda: len(started.journalled()) > 100)
            return started

        yield start


def numbered(out: Path) -> list[bytes]:
    """The messages of an output folder, which must be those from the first on."""
    found = received(messages_of(out))
    assert found == [b"message %d" % index for index in range(len(found))]
    return found


def finished(out: Path) -> None:
    assert [path for path in (out / ".wsrec").iterdir() if path.is_dir() and path.name != "aside"] == []
    assert all((out / line.path).exists() for line in manifest.read(out) if line.path)


def free(out: Path) -> bool:
    try:
        with OutputLock(out):
            return True
    except OutputLockedError:
        return False


def command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def allowed_list(pid: int) -> str:
    """The processors that a process may run on, as the kernel lists them."""
    (line,) = re.findall(r"^Cpus_allowed_list:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return line


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, HANG_UP])
    def test_they_finish_the_files(self, recording, number):
        work = recording("--json")
        work.process.send_signal(number)
        output, log = work.end(0)
        outcome = json.loads(output)
        assert outcome["reason"] == signal.Signals(number).name
        assert outcome["messages"] == len(numbered(work.out)) > 100
        assert "error" not in log
        finished(work.out)

    @pytest.mark.parametrize("number", [signal.SIGINT, HANG_UP])
    def test_to_the_whole_group_as_a_terminal_sends_them(self, recording, number):
        work = recording(process_group=0)
        os.killpg(work.process.pid, number)
        work.end(0)
        assert len(numbered(work.out)) > 100
        finished(work.out)

    def test_twice_at_once_is_once(self, recording):
        work = recording()
        work.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        work.process.send_signal(signal.SIGINT)
        work.end(0)
        finished(work.out)

    def test_a_second_one_later_gives_up(self, recording):
        work = recording()
        os.kill(work.child("wsrec.store"), signal.SIGSTOP)
        work.process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        work.process.send_signal(signal.SIGINT)
        _, log = work.end(1)
        assert "given up on a second SIGINT" in log


class TestBusyPoll:
    def test_a_signal_finishes_the_files(self, recording):
        work = recording("--json", "--busy-poll")
        work.process.send_signal(signal.SIGTERM)
        output, _ = work.end(0)
        assert json.loads(output)["messages"] == len(numbered(work.out)) > 100
        finished(work.out)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
class TestProcessors:
    @pytest.mark.skipif(CPUS[1:] == [], reason="needs two processors")
    @pytest.mark.parametrize("busy_poll", [[], ["--busy-poll"]], ids=["epoll", "busy-poll"])
    def test_each_receiver_runs_on_its_own(self, wsrec, exchange, tmp_path, busy_poll):
        first, second = CPUS[:2]
        urls = [exchange(Stream()).url, exchange(Stream()).url.replace("localhost", "127.0.0.1")]
        process = wsrec.start("record", *urls, "--cpu", f"{second},{first}", "--out", tmp_path, *busy_poll)
        work = Recording(process, tmp_path, Stream())
        try:
            work.until(lambda: work.journalled()[500:])
            allowed = [allowed_list(pid) for pid in work.children() if "wsrec.receive" in command(pid)]
            assert sorted(allowed) == [str(first), str(second)]
            process.terminate()
            work.end(0)
        finally:
            process.kill()
            process.communicate()
        receivers = {
            tuple(row["detail"]["cpus"]): row["detail"]
            for row in events_of(tmp_path, "scheduling")
            if row["detail"]["process"] == "receiver"
        }
        assert sorted(receivers) == [(first,), (second,)]
        for (cpu,), detail in receivers.items():
            assert detail["processor"]["cpu"] == cpu
            assert detail["waiting"] == ("busy-poll" if busy_poll else "epoll")
        # both connections are there, each by a session of its own
        feeds = {path.name for path in (tmp_path / "messages").iterdir()}
        assert feeds == {"feed=localhost", "feed=127.0.0.1"}
        assert len({line.session for line in manifest.read(tmp_path)}) == 2
        finished(tmp_path)

    def test_the_writer_runs_on_its_own(self, recording):
        work = recording("--writer-cpu", str(CPUS[-1]))
        assert allowed_list(work.child("wsrec.store")) == str(CPUS[-1])
        assert len(allowed_list(work.child("wsrec.receive"))) >= len(str(CPUS[-1]))
        work.process.terminate()
        work.end(0)

    def test_realtime_is_in_force_or_refused_with_the_cure(self, recording):
        work = recording("--rt-priority", "20")
        work.process.terminate()
        _, log = work.end(0)
        (detail,) = [
            row["detail"] for row in events_of(work.out, "scheduling") if row["detail"]["process"] == "receiver"
        ]
        if (detail["policy"], detail["priority"]) != ("fifo", 20):
            assert "CAP_SYS_NICE" in log


class TestKilled:
    def test_a_receiver(self, recording):
        work = recording()
        os.kill(work.child("wsrec.receive"), signal.SIGKILL)
        before = len(work.journalled())
        _, log = work.end(1)
        assert "the receiver was killed by signal 9" in log
        assert len(numbered(work.out)) >= before
        assert events_of(work.out, "lost_interval")[0]["detail"]["reason"] == "the receiver died"
        finished(work.out)

    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
    def test_one_of_two_receivers_is_told_at_once_and_the_other_goes_on(self, wsrec, exchange, tmp_path):
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
        urls = [exchange(Stream()).url, exchange(Stream()).url.replace("localhost", "127.0.0.1")]
        process = wsrec.start("record", *urls, "--cpu", cpus, "--out", tmp_path)
        work = Recording(process, tmp_path, Stream())
        try:
            work.until(lambda: len(work.journalled()) > 100)
            os.kill(work.child("wsrec.receive"), signal.SIGKILL)
            while "no longer recorded" not in process.stderr.readline():
                assert process.poll() is None
            before = len(work.journalled())
            work.until(lambda: len(work.journalled()) > before + 100)
            process.terminate()
            work.end(1)
        finally:
            process.kill()
            process.communicate()
        finished(tmp_path)

    def test_a_writer(self, recording):
        work = recording()
        os.kill(work.child("wsrec.store"), signal.SIGKILL)
        summary, log = work.end(1)
        assert "the writer was killed by signal 9" in log
        kept = work.journalled()
        assert kept == [b"message %d" % index for index in range(len(kept))]
        assert len(kept) > 100
        assert "what was not finished" in summary

    def test_the_supervisor_leaves_no_orphans_and_finished_files(self, recording):
        work = recording()
        pids = work.children()
        assert len(pids) == 2
        work.process.kill()
        before = len(work.journalled())
        work.until(lambda: all(map(gone, pids)))
        assert len(numbered(work.out)) >= before
        assert events_of(work.out, "close")
        finished(work.out)

    def test_the_output_stays_locked_until_the_writer_has_ended(self, recording):
        work = recording()
        writer = work.child("wsrec.store")
        work.process.kill()
        work.process.wait()
        assert not free(work.out)
        work.until(lambda: free(work.out))
        assert gone(writer)
        finished(work.out)

    def test_the_next_recording_brings_home_what_a_killed_writer_left(self, recording, wsrec, exchange):
        work = recording()
        os.kill(work.child("wsrec.store"), signal.SIGKILL)
        work.end(1)
        kept = len(work.journalled())
        server = exchange(Stream())
        result = wsrec.run("record", server.url, "--out", work.out, "--duration", "4s")
        assert result.returncode in (0, 4), result.stderr
        assert "recovered" in result.stderr
        (_, *rest) = sorted({line.session for line in manifest.read(work.out)})
        assert rest
        assert len([m for m in received(messages_of(work.out)) if m.startswith(b"message")]) >= kept
        finished(work.out)
