"""wsrec.supervise.supervisor with real processes: every way to end, and what is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import events_of, messages_of, received
from tests.supervise.conftest import Recording, Stream, finished, free, gone, numbered
from wsrec.format import manifest

# a recorder that nohup started is not to hear of a hang-up, nor are its tests
HANG_UP = pytest.param(
    signal.SIGHUP,
    marks=[
        pytest.mark.long,
        pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="hang-ups are ignored here"),
    ],
)
CPUS = sorted(os.sched_getaffinity(0))


def command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def allowed_list(pid: int) -> str:
    """The processors that a process may run on, as the kernel lists them."""
    (line,) = re.findall(r"^Cpus_allowed_list:\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return line


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
        work = recording("--json")
        os.kill(work.child("wsrec.writer"), signal.SIGSTOP)
        work.process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        work.process.send_signal(signal.SIGINT)
        output, log = work.end(1)
        outcome = json.loads(output)
        assert outcome["given_up"] > 0
        lost = f"{outcome['given_up']:,} received frames were not journalled and are lost"
        assert outcome["error"] == f"ended at once on a second SIGINT: {lost}"
        assert outcome["error"] in log
        assert "signal 9" not in log

    @pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.long)])
    def test_only_the_second_one_discards_when_the_time_was_up_before_both(self, recording, count):
        work = recording("--json", "--duration", "2s")
        writer = work.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        work.until(lambda: not work.running("wsrec.receive"))
        for _ in range(count):
            work.process.send_signal(signal.SIGTERM)
            time.sleep(1.2)
        if count == 1:
            os.kill(writer, signal.SIGCONT)
        output, log = work.end(count - 1)
        outcome = json.loads(output)
        assert outcome["reason"] == "the time was up"
        assert "SIGTERM: the recording is already ending (the time was up); another one discards" in log
        assert bool(outcome["given_up"]) == ("a second SIGTERM" in log) == (count == 2)
        if count == 1:
            assert outcome["messages"] == len(numbered(work.out)) > 100
            finished(work.out)


class TestWaiting:
    @pytest.mark.parametrize("wait", ["spin", pytest.param("adaptive", marks=pytest.mark.long)])
    def test_a_signal_finishes_the_files(self, recording, wait):
        work = recording("--json", "--wait", wait)
        work.process.send_signal(signal.SIGTERM)
        output, _ = work.end(0)
        assert json.loads(output)["messages"] == len(numbered(work.out)) > 100
        finished(work.out)


class TestProcessors:
    @pytest.mark.skipif(CPUS[1:] == [], reason="needs two processors")
    @pytest.mark.parametrize("wait", ["epoll", pytest.param("spin", marks=pytest.mark.long)])
    def test_each_receiver_runs_on_its_own(self, wsrec, exchange, tmp_path, wait):
        first, second = CPUS[:2]
        urls = [exchange(Stream()).url, exchange(Stream()).url.replace("localhost", "127.0.0.1")]
        process = wsrec.start("record", *urls, "--cpu", f"{second},{first}", "--out", tmp_path, "--wait", wait)
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
            assert detail["waiting"] == wait
        # both connections are there, each by a session of its own
        feeds = {path.name for path in (tmp_path / "messages").iterdir()}
        assert feeds == {"feed=localhost", "feed=127.0.0.1"}
        assert len({line.session for line in manifest.read(tmp_path)}) == 2
        finished(tmp_path)

    def test_the_writer_runs_on_its_own(self, recording):
        work = recording("--writer-cpu", str(CPUS[-1]))
        assert allowed_list(work.child("wsrec.writer")) == str(CPUS[-1])
        assert len(allowed_list(work.child("wsrec.receive"))) >= len(str(CPUS[-1]))
        work.process.terminate()
        work.end(0)

    @pytest.mark.skipif(CPUS[1:] == [], reason="needs two processors")
    @pytest.mark.parametrize("shared", [False, True], ids=["one each", "one for all"])
    def test_the_writers_of_several_receivers_run_on_theirs(self, wsrec, exchange, tmp_path, shared):
        first, second = CPUS[:2]
        urls = [exchange(Stream()).url, exchange(Stream()).url.replace("localhost", "127.0.0.1")]
        writers = str(second) if shared else f"{first},{second}"
        placed = ["--cpu", f"{second},{first}", "--writer-cpu", writers]
        work = Recording(wsrec.start("record", *urls, *placed, "--out", tmp_path), tmp_path, Stream())
        expected = [str(second)] * 2 if shared else [str(first), str(second)]
        try:
            # both of them have started
            work.until(
                lambda: (
                    sorted(allowed_list(pid) for pid in work.children() if "wsrec.writer" in command(pid)) == expected
                )
            )
            work.until(lambda: len({path.parent for path in tmp_path.rglob("journal-*")}) == 2)
            work.process.terminate()
            work.end(0)
        finally:
            work.process.kill()
            work.process.communicate()
        # the n-th writer serves the n-th receiver, as the events of each session say
        places = set()
        for file in (tmp_path / "events").rglob("*.parquet"):
            rows = pq.ParquetFile(file).read(["kind", "detail"]).to_pylist()
            said = [json.loads(row["detail"]) for row in rows if row["kind"] == "scheduling"]
            cpus = {each["process"]: each["cpus"] for each in said}
            places.add((*cpus["receiver"], *cpus["writer"]))
        assert places == {(second, second if shared else first), (first, second)}
        finished(tmp_path)

    def test_realtime_is_in_force_or_refused_with_the_hint(self, recording):
        work = recording("--rt-priority", "20")
        work.process.terminate()
        _, log = work.end(0)
        (detail,) = [
            row["detail"] for row in events_of(work.out, "scheduling") if row["detail"]["process"] == "receiver"
        ]
        if (detail["policy"], detail["priority"]) != ("fifo", 20):
            assert "CAP_SYS_NICE" in log


class TestKilled:
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

    def test_the_supervisor_is_reported_by_the_next_start_though_nothing_of_it_was_lost(
        self, recording, wsrec, exchange, tmp_path
    ):
        """From the kill to that start nothing was recorded, and no file says so."""
        work = recording()
        pids = work.children()
        work.process.kill()
        work.until(lambda: all(map(gone, pids)))
        heard = tmp_path / "heard"
        arguments = ["--duration", "1s", "--quiet", "--on-event", f"cat >> {heard}"]
        result = wsrec.run("record", exchange(Stream()).url, "--out", work.out, *arguments)
        assert result.returncode == 0
        pattern = r"the previous recorder \(session .+\) ended without its supervisor, which was killed.*; nothing was "
        assert re.search(pattern + "recorded from 20.+ to 20.+ UTC", result.stderr)
        assert next(json.loads(line)["kind"] for line in heard.read_text().splitlines()) == "lost_interval"

    @pytest.mark.long
    def test_with_its_receiver_the_writer_books_what_is_lost_and_the_next_start_says_so(
        self, recording, wsrec, exchange
    ):
        work = recording("--quiet")
        writer, receiver = work.child("wsrec.writer"), work.child("wsrec.receive")
        work.process.send_signal(signal.SIGSTOP)
        for pid in (receiver, work.process.pid):
            os.kill(pid, signal.SIGKILL)
        killed = time.time_ns()
        work.until(lambda: gone(writer))
        (lost,) = events_of(work.out, "lost_interval")
        assert lost["conn"] == 0
        detail = lost["detail"]
        last = messages_of(work.out)["recv_time"].cast("int64").to_pylist()[-1]
        assert last <= detail["from"] <= killed <= detail["to"] <= time.time_ns()
        assert detail["reason"] == "the receiver died without reporting its end"
        assert (detail["from_evidence"], detail["bound"]) == ("last frame handed over", "exact")
        finished(work.out)
        assert wsrec.run("verify", work.out).returncode == 4

        for heard in (True, False):
            result = wsrec.run("record", exchange(Stream()).url, "--out", work.out, "--duration", "1s", "--quiet")
            assert result.returncode == 0
            assert ("ended without its supervisor" in result.stderr and "lost interval" in result.stderr) is heard

    def test_the_output_stays_locked_until_the_writer_has_ended(self, recording):
        work = recording()
        writer = work.child("wsrec.writer")
        # or it might have ended before anybody looks
        os.kill(writer, signal.SIGSTOP)
        work.process.kill()
        work.process.wait()
        assert not free(work.out)
        os.kill(writer, signal.SIGCONT)
        work.until(lambda: free(work.out))
        assert gone(writer)
        finished(work.out)

    @pytest.mark.long
    def test_the_next_recording_brings_home_what_an_abandoned_writer_left(self, recording, wsrec, exchange):
        work = recording()
        os.kill(work.child("wsrec.writer"), signal.SIGSTOP)
        work.process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        work.process.send_signal(signal.SIGINT)
        summary, _ = work.end(1)
        assert "unfinished files" in summary
        kept = len(work.journalled())
        assert kept > 100
        server = exchange(Stream())
        result = wsrec.run("record", server.url, "--out", work.out, "--duration", "4s")
        assert result.returncode in (0, 4), result.stderr
        assert "recovered" in result.stderr
        (_, *rest) = sorted({line.session for line in manifest.read(work.out)})
        assert rest
        assert len([m for m in received(messages_of(work.out)) if m.startswith(b"message")]) >= kept
        finished(work.out)
