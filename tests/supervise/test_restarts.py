"""A receiver or a writer that dies or hangs, for real: it is started again, and what was received is kept."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import threading
import time

import pytest

from tests.conftest import events_of, messages_of, received
from tests.exchange import sends
from tests.supervise.conftest import Recording, Stream, finished, gone, numbered
from wsrec.format import manifest
from wsrec.supervise.process_supervisor import STORM_DEATHS

RECEIVER, WRITER = "wsrec.receive", "wsrec.writer"
CPUS = sorted(os.sched_getaffinity(0))
# A message is stamped by the exchange before it is sent, with others of its burst
BURST_NS = 100_000_000

SPIN_AT_SIGNAL = """
import signal, sys
if "wsrec.receive" in sys.orig_argv:
    def spin(*_):
        while True:
            pass
    signal.signal(signal.SIGUSR1, spin)
"""


def kill(work: Recording, module: str) -> int:
    pid = work.child(module)
    os.kill(pid, signal.SIGKILL)
    work.until(lambda: gone(pid))
    return pid


def goes_on(work: Recording, more: int = 300) -> None:
    """Wait until messages are journalled that were sent from now on."""
    sent = len(work.stream.times)
    work.until(lambda: any(int(message.split()[1]) > sent + more for message in work.journalled()[-500:]))


def missing_is_declared(work: Recording, restarts: int = 1) -> None:
    """Every message is there but those sent within the lost intervals, of which there are `restarts`."""
    table = messages_of(work.out)
    assert table["seq"].to_pylist() == list(range(len(table)))
    found = received(table)
    numbers = [int(message.split()[1]) for message in found]
    assert numbers == sorted(set(numbers))
    lost = [(row["detail"]["from"] - BURST_NS, row["detail"]["to"]) for row in events_of(work.out, "lost_interval")]
    assert len(lost) == restarts
    absent = set(range(numbers[-1])) - set(numbers)
    sent = [work.stream.times[number] for number in absent]
    assert all(any(begin <= moment <= end for begin, end in lost) for moment in sent)


def verified(work: Recording, wsrec, status: int) -> dict:
    result = wsrec.run("verify", work.out, "--json")
    assert result.returncode == status, result.stdout + result.stderr
    return json.loads(result.stdout)


class TestReceiver:
    def test_a_killed_receiver_costs_a_lost_interval_that_is_declared(self, recording, wsrec):
        work = recording("--json")
        pid = kill(work, RECEIVER)
        goes_on(work)
        work.process.terminate()
        output, log = work.end(4)
        outcome = json.loads(output)
        assert outcome["restarts"] == 1
        assert outcome["lost_intervals"] == 1
        assert outcome["reconnects"] == 1
        assert "the receiver was killed by signal 9; restarted at once" in log
        missing_is_declared(work)
        (restart,) = events_of(work.out, "restart")
        assert restart["detail"]["process"] == "receiver"
        assert restart["detail"]["pid"] == pid
        assert restart["detail"]["how"] == "was killed by signal 9"
        (lost,) = events_of(work.out, "lost_interval")
        assert lost["conn"] == 0
        assert lost["detail"]["reason"] == "the receiver was killed by signal 9"
        (disconnect,) = events_of(work.out, "disconnect")
        assert disconnect["conn"] == 0
        finished(work.out)
        (capture,) = verified(work, wsrec, 4)["captures"]
        (session,) = capture["sessions"]
        incomplete = [i for s in session["streams"] for i in s["intervals"] if i["state"] == "incomplete"]
        # what the last read brought was handed off a little later
        assert len(incomplete) <= 2
        assert incomplete[0]["end"] == incomplete[-1]["start"] or len(incomplete) == 1
        # two receivers put their clocks onto UTC each by itself
        assert lost["detail"]["from"] - 1_000_000 <= incomplete[0]["start"] < lost["detail"]["to"]
        assert all(interval["reason"].endswith(lost["detail"]["reason"]) for interval in incomplete)

    @pytest.mark.long
    def test_killed_again_and_again(self, recording):
        work = recording("--json")
        for _ in range(3):
            kill(work, RECEIVER)
            goes_on(work, 10)
        work.process.terminate()
        output, _ = work.end(4)
        assert json.loads(output)["restarts"] == 3
        missing_is_declared(work, 3)
        finished(work.out)

    @pytest.mark.long
    def test_a_receiver_without_heartbeat_is_killed_and_restarted(self, recording):
        work = recording()
        pid = work.child(RECEIVER)
        os.kill(pid, signal.SIGSTOP)
        work.until(lambda: gone(pid), seconds=60)
        goes_on(work)
        work.process.terminate()
        _, log = work.end(4)
        assert "the receiver had no heartbeat for 10 s and was killed" in log
        missing_is_declared(work)
        (lost,) = events_of(work.out, "lost_interval")
        assert lost["detail"]["duration_ns"] > 9e9
        finished(work.out)

    @pytest.mark.long
    def test_killed_while_it_stops_is_not_started_again(self, recording):
        work = recording()
        pid = work.child(RECEIVER)
        os.kill(pid, signal.SIGSTOP)
        work.process.terminate()
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        _, log = work.end(1)
        assert "the receiver was killed by signal 9" in log
        assert events_of(work.out, "restart") == []
        numbered(work.out)
        (lost,) = events_of(work.out, "lost_interval")
        assert lost["conn"] == 0
        finished(work.out)

    @pytest.mark.long
    def test_one_that_spins_when_the_end_is_requested(self, recording, tmp_path_factory):
        """It works for ever, and gives no heartbeat: that ends nothing later than one that hangs."""
        inserted = tmp_path_factory.mktemp("inserted")
        (inserted / "sitecustomize.py").write_text(SPIN_AT_SIGNAL)
        work = recording(env={**os.environ, "PYTHONPATH": str(inserted)})
        pid = work.child(RECEIVER)
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.2)
        began = time.monotonic()
        work.process.terminate()
        _, log = work.end(1)
        assert time.monotonic() - began < 30
        assert "no heartbeat" in log
        assert "received data is kept" in log
        assert len(numbered(work.out)) > 100
        (lost,) = events_of(work.out, "lost_interval")
        assert lost["conn"] == 0
        finished(work.out)

    @pytest.mark.long
    def test_a_storm_is_given_up_and_the_files_are_finished(self, recording, wsrec):
        work = recording()
        for _ in range(STORM_DEATHS + 1):
            kill(work, RECEIVER)
        _, log = work.end(1)
        assert f"the receiver died {STORM_DEATHS + 1} times within 60 s of work" in log
        assert "not restarted again" in log
        numbered(work.out)
        (lost,) = events_of(work.out, "lost_interval")
        assert work.stream.times[len(numbered(work.out))] > lost["detail"]["from"] - BURST_NS
        finished(work.out)
        verified(work, wsrec, 4)

    @pytest.mark.long
    def test_a_signal_while_it_waits_to_be_started_again(self, recording):
        work = recording()
        for _ in range(STORM_DEATHS):
            kill(work, RECEIVER)
        work.process.terminate()
        _, log = work.end(4)
        assert "error" not in log
        assert len(events_of(work.out, "lost_interval")) == 1
        finished(work.out)

    @pytest.mark.long
    def test_killed_while_the_exchange_was_away(self, wsrec, exchange, tmp_path):
        stream, away = Stream(), threading.Event()

        async def serve(connection):
            sending = asyncio.ensure_future(stream(connection))
            while not away.is_set() and not sending.done():
                await asyncio.sleep(0.01)
            sending.cancel()

        def refuse(connection, request):
            return connection.respond(503, "away") if away.is_set() else None

        server = exchange(serve, process_request=refuse)
        process = wsrec.start("record", server.url, "--out", tmp_path)
        work = Recording(process, tmp_path, stream)
        try:
            work.until(lambda: len(work.journalled()) > 100)
            away.set()
            sent, since = len(stream.times), time.time_ns()
            time.sleep(2)
            kill(work, RECEIVER)
            away.clear()
            work.until(lambda: len(work.journalled()) > sent + 100)
            process.terminate()
            work.end(4)
        finally:
            process.kill()
            process.communicate()
        (lost,) = events_of(tmp_path, "lost_interval")
        assert lost["detail"]["from"] < since + BURST_NS
        assert lost["detail"]["duration_ns"] > 1.8e9
        verified(work, wsrec, 4)

    @pytest.mark.long
    def test_killed_when_one_of_its_connections_had_come_to_its_end(self, wsrec, exchange, tmp_path):
        short, stream = exchange(sends(["x"] * 10)), Stream()
        url = exchange(stream).url.replace("localhost", "127.0.0.1")
        process = wsrec.start("record", short.url, url, "--until-close", "--out", tmp_path)
        work = Recording(process, tmp_path, stream)
        try:
            work.until(lambda: len(work.journalled()) > 1000)
            kill(work, RECEIVER)
            goes_on(work)
            process.terminate()
            work.end(4)
        finally:
            process.kill()
            process.communicate()
        assert short.connections == 1
        assert [row["conn"] for row in events_of(tmp_path, "lost_interval")] == [1]


class TestWriter:
    def test_a_killed_writer_costs_nothing(self, recording, wsrec):
        work = recording("--json")
        pid = kill(work, WRITER)
        goes_on(work)
        work.process.terminate()
        output, log = work.end(0)
        outcome = json.loads(output)
        assert outcome["restarts"] == 1
        assert outcome["messages"] == len(numbered(work.out))
        assert "the writer was killed by signal 9; restarted at once; received data is kept" in log
        assert "error" not in log
        (restart,) = events_of(work.out, "restart")
        assert restart["detail"]["process"] == "writer"
        assert restart["detail"]["pid"] == pid
        assert len({line.session for line in manifest.read(work.out)}) == 1
        finished(work.out)
        verified(work, wsrec, 0)

    @pytest.mark.long
    def test_a_writer_without_heartbeat_is_killed_and_restarted(self, recording):
        work = recording()
        pid = work.child(WRITER)
        os.kill(pid, signal.SIGSTOP)
        work.until(lambda: gone(pid), seconds=60)
        goes_on(work)
        work.process.terminate()
        _, log = work.end(0)
        assert "the writer had no heartbeat for 10 s and was killed" in log
        numbered(work.out)
        finished(work.out)

    @pytest.mark.long
    def test_stopped_while_the_end_is_requested(self, wsrec, exchange, tmp_path):
        """Its ring is full and the rest waits in the socket: what the exchange sent by then is read."""
        stream = Stream(padding=1000)
        process = wsrec.start("record", exchange(stream).url, "--out", tmp_path, "--ring-size", "64KiB")
        work = Recording(process, tmp_path, stream)
        try:
            work.until(lambda: len(work.journalled()) > 100)
            pid = work.child(WRITER)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
            process.terminate()
            # longer than the answer to a close frame is waited for
            time.sleep(3)
            os.kill(pid, signal.SIGCONT)
            work.end(0)
        finally:
            process.kill()
            process.communicate()
        # the last one may have been too late
        assert len(received(messages_of(tmp_path))) >= len(stream.times) - 1
        assert events_of(tmp_path, "lost_interval") == []

    def test_killed_while_it_finishes(self, recording):
        work = recording()
        pid = work.child(WRITER)
        os.kill(pid, signal.SIGSTOP)
        work.process.terminate()
        receiver = work.child(RECEIVER)
        work.until(lambda: gone(receiver))
        os.kill(pid, signal.SIGKILL)
        _, log = work.end(0)
        assert "the writer was killed by signal 9; restarted" in log
        assert len(numbered(work.out)) > 100
        assert events_of(work.out, "session_end")
        finished(work.out)

    @pytest.mark.long
    def test_without_memory(self, wsrec, exchange, tmp_path):
        async def large(connection):
            for number in itertools.count():
                await connection.send(f"message {number} " + "x" * 20_000)
                await asyncio.sleep(0.0005)

        process = wsrec.start("record", exchange(large).url, "--out", tmp_path)
        work = Recording(process, tmp_path, Stream())
        try:
            pid = work.child(WRITER)
            work.until(lambda: len(work.journalled()) > 1000)
            resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))
            work.until(lambda: gone(pid))
            before = len(work.journalled())
            work.until(lambda: len(work.journalled()) > before + 100)
            process.terminate()
            _, log = work.end(0)
        finally:
            process.kill()
            process.communicate()
        assert "the writer ran out of memory" in log
        numbers = [int(message.split()[1]) for message in received(messages_of(tmp_path))]
        assert numbers == list(range(len(numbers)))
        finished(tmp_path)

    @pytest.mark.long
    def test_a_storm_is_given_up_and_the_journals_are_kept(self, recording, wsrec):
        work = recording()
        for _ in range(STORM_DEATHS + 1):
            kill(work, WRITER)
        summary, log = work.end(1)
        assert f"the writer died {STORM_DEATHS + 1} times within 60 s of work" in log
        assert "unfinished files" in summary
        kept = len(work.journalled())
        assert kept > 100
        assert wsrec.run("recover", work.out).returncode == 0
        assert len(numbered(work.out)) >= kept


class TestBoth:
    def test_killed_at_once(self, recording, wsrec):
        work = recording("--json")
        pids = work.child(RECEIVER), work.child(WRITER)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        work.until(lambda: all(map(gone, pids)))
        goes_on(work)
        work.process.terminate()
        output, _ = work.end(4)
        assert json.loads(output)["restarts"] == 2
        missing_is_declared(work)
        assert {row["detail"]["process"] for row in events_of(work.out, "restart")} == {"receiver", "writer"}
        finished(work.out)
        verified(work, wsrec, 4)


@pytest.mark.skipif(CPUS[1:] == [], reason="needs two processors")
class TestSeveralPairs:
    @pytest.fixture
    def streams(self):
        return Stream(), Stream()

    @pytest.fixture
    def pairs(self, wsrec, exchange, tmp_path, streams):
        first, second = (exchange(stream).url for stream in streams)
        urls = first, second.replace("localhost", "127.0.0.1")
        process = wsrec.start("record", *urls, "--cpu", ",".join(map(str, CPUS[:2])), "--out", tmp_path, "--json")
        work = Recording(process, tmp_path, streams[0])
        work.until(lambda: all(len(stream.times) > 100 for stream in streams) and len(work.journalled()) > 200)
        yield work
        process.kill()
        process.communicate()

    def test_a_receiver_is_started_again(self, pairs, streams):
        kill(pairs, RECEIVER)
        pairs.until(lambda: len(pairs.running(RECEIVER)) == 2)
        # one that is never connected again would be a failure
        sent = [len(stream.times) for stream in streams]
        pairs.until(lambda: all(len(stream.times) > before + 300 for stream, before in zip(streams, sent, strict=True)))
        pairs.process.terminate()
        output, _ = pairs.end(4)
        assert json.loads(output)["lost_intervals"] == 1
        finished(pairs.out)

    @pytest.mark.long
    def test_one_that_keeps_dying_is_reported_at_once_and_the_other_goes_on(self, pairs):
        other = pairs.running(RECEIVER)[1]
        victim = pairs.running(RECEIVER)[0]
        for number in range(STORM_DEATHS + 1):
            os.kill(victim, signal.SIGKILL)
            pairs.until(lambda gone_pid=victim: gone(gone_pid))
            if number < STORM_DEATHS:
                victim = pairs.until(lambda: next((p for p in pairs.running(RECEIVER) if p != other), None))
        while "no longer recorded" not in pairs.process.stderr.readline():
            assert pairs.process.poll() is None
        before = len(pairs.journalled())
        pairs.until(lambda: len(pairs.journalled()) > before + 100)
        pairs.process.terminate()
        output, _ = pairs.end(1)
        assert json.loads(output)["finished"]
        finished(pairs.out)
