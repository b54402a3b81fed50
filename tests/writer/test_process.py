"""wsrec.writer.process: a real writer process at the end of real rings."""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import events_of, messages_of, received
from tests.rings import Rings, payloads, plan, writer_job
from wsrec.format import manifest
from wsrec.ipc import FailedLine, Line, LogLine, Stop, SummaryLine, encode_job, encode_order
from wsrec.options.value_types import Rotation
from wsrec.plan.target import feed_of_url
from wsrec.ring.bytering import ENDED
from wsrec.ring.events import EventKind
from wsrec.segments.segment_ring import CaptureState, SegmentKind, SegmentRing
from wsrec.segments.stream_map import MapKind, StreamMap, StreamMapWriter
from wsrec.verify.verify import verify
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.recovery import recover

FEED = feed_of_url("wss://h/s").public_config()


class WriterProcess:
    """A writer, and what it says."""

    def __init__(self, out, rings: Rings, program=("-m", "wsrec.writer"), captured=None, **job) -> None:
        self.out, self.rings = out, rings
        self._program = program
        self.folder = out / ".wsrec" / "s"
        connections = tuple(plan(conn) for conn in rings.rings)
        slots, control_ring, status, *byte_rings = rings.fds
        job = {"batch": 0.02, **job}
        self._job = writer_job(
            out,
            connections,
            {"f": FEED},
            slots=slots,
            control_ring=control_ring,
            status=status,
            rings=tuple(byte_rings),
            **job,
        )
        # of the job, where `writer_job` has an option of the same name
        self._job = msgspec.structs.replace(self._job, **captured or {})
        self._start(self._job)
        rings.event(
            EventKind.ANCHOR,
            monotonic=time.monotonic_ns(),
            realtime=time.time_ns(),
            width_ns=1,
            clock="TSC",
            drift_ns=0,
        )  # as a receiver does first

    def _start(self, job) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", *self._program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[*self.rings.fds, *(fd for fd in (job.segments, job.stream_map) if fd is not None)],
        )
        self.process.stdin.write(encode_job(job))
        self.process.stdin.flush()

    def resume(self, program=("-m", "wsrec.writer")) -> None:
        """Kill the writer, and start another on the same rings."""
        self.close()
        self._program = program
        self._start(msgspec.structs.replace(self._job, resume=True, restart={"process": "writer"}))

    def put(self, payload: bytes, conn: int = 0) -> None:
        """Put a message once there is room, as TCP makes the receiver wait."""
        self.until(lambda: self.rings.room(conn) >= len(payload) and self.rings.slots.free(self.rings.producer.count))
        now = time.monotonic_ns()
        self.rings.put(payload, conn, event=now, handoff=now)

    def until(self, condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.002)

    def journalled(self) -> None:
        """Wait until all that was put is in the journal."""
        self.until(lambda: self.rings.slots.released.read() == self.rings.slots.published.read())

    def order(self) -> None:
        self.process.stdin.write(encode_order(Stop()))
        self.process.stdin.flush()

    def stop(self, *, finished: bool = True) -> list[Line]:
        """Ask it to end, as after a receiver that was finished, or that died."""
        self.rings.status.receiver["finished"] = finished
        self.order()
        return self.end()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def end(self) -> list[Line]:
        output, _ = self.process.communicate(timeout=120)
        return [msgspec.json.decode(line, type=Line) for line in output.splitlines()]


@pytest.fixture
def writer(rings, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(conns: int = 1, capacity: int = 64 * 4096, out=tmp_path, **job) -> WriterProcess:
            started = WriterProcess(out, rings(conns, capacity, 4096), **job)
            stack.callback(started.close)
            return started

        yield start


def check_files(out, count: int) -> list[manifest.ManifestLine]:
    """Contiguous seq, true digests, and nothing unfinished but what was set aside."""
    assert messages_of(out)["seq"].to_pylist() == list(range(count))
    lines = manifest.read(out)
    for line in lines:
        for path, digest in ((line.path, line.sha256), (line.events_path, line.events_sha256)):
            assert path is None or hashlib.sha256((out / path).read_bytes()).hexdigest() == digest
    aside = out / ".wsrec" / "aside"
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.parent != aside}
    assert not list(aside.glob("journal-*"))
    named = {path for line in lines for path in (line.path, line.events_path) if path}
    assert files == named | {".wsrec/manifest.jsonl"}
    assert {path.name for path in (out / ".wsrec").iterdir()} - {"aside"} == {"manifest.jsonl"}
    return lines


class TestStop:
    def test_everything_put_is_in_the_files(self, writer, tmp_path):
        work = writer(conns=2)
        sent = [b"%d" % i * (i % 50) for i in range(3000)]
        for index, payload in enumerate(sent):
            work.put(payload, index % 2)
        (summary,) = work.stop()
        assert work.process.returncode == 0
        assert received(messages_of(tmp_path)) == sent
        check_files(tmp_path, 3000)
        assert isinstance(summary, SummaryLine)
        assert (summary.messages, summary.payload_bytes) == (3000, sum(map(len, sent)))
        assert events_of(tmp_path, "session_start")

    def test_an_incomplete_message_is_reported_and_harms_nothing(self, writer, tmp_path):
        work = writer()
        work.put(b"whole")
        work.rings.put(b"begun", flags=0, handoff=time.monotonic_ns())
        lines = work.stop()
        assert work.process.returncode == 0
        assert [line.level for line in lines if isinstance(line, LogLine)] == ["warning"]
        assert received(messages_of(tmp_path)) == [b"whole"]
        check_files(tmp_path, 1)

    def test_nothing_arrived(self, writer, tmp_path):
        (summary,) = writer().stop()
        assert (summary.messages, summary.first_recv_time) == (0, None)
        assert not (tmp_path / "messages").exists()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_are_the_supervisors_to_handle(self, writer, tmp_path, number):
        work = writer()
        work.put(b"one")
        work.journalled()
        work.process.send_signal(number)
        work.put(b"two")
        work.journalled()
        work.stop()
        assert received(messages_of(tmp_path)) == [b"one", b"two"]


class TestSupervisorGone:
    def test_the_writer_outlasts_the_receiver(self, writer, tmp_path):
        """It leaves a note for the next start, which removes it."""
        work = writer()
        work.put(b"before")
        work.journalled()
        work.rings.status.receiver["heartbeat"] = time.monotonic_ns()
        work.process.stdin.close()
        work.process.stdin = None
        work.journalled()
        time.sleep(0.3)  # longer than a writer needs to end, less than a receiver's silence
        work.put(b"after")
        work.rings.status.receiver["finished"] = True
        work.end()
        assert work.process.returncode == 0
        assert received(messages_of(tmp_path)) == [b"before", b"after"]
        (tmp_path / ".wsrec" / "orphaned-s.json").unlink()
        check_files(tmp_path, 2)


class TestReceiverGone:
    """Anyone who gives the order: a receiver that did not say that it was finished has lost what came at the end."""

    def test_each_connection_is_lost_from_its_last_frame(self, writer, tmp_path):
        work = writer(conns=3)
        work.put(b"first", 0)
        read = time.monotonic_ns()
        work.rings.put(b"last", 1, event=read, handoff=read)
        # one that has come to its end misses nothing
        work.rings.rings[2].complete_until.publish(ENDED)
        work.journalled()
        work.stop(finished=False)
        assert work.process.returncode == 0
        lost = {row["conn"]: row["detail"] for row in events_of(tmp_path, "lost_interval")}
        assert set(lost) == {0, 1}
        offset = time.time_ns() - time.monotonic_ns()
        assert abs(lost[1]["from"] - read - offset) < 50_000_000
        assert lost[1]["from_evidence"] == "last frame handed over"
        assert lost[1]["to_evidence"] == "session's end"

    def test_one_that_was_never_open_is_lost_from_the_start(self, writer, tmp_path):
        work = writer(conns=2, began=time.monotonic_ns())
        work.put(b"x", 0)
        work.journalled()
        work.stop(finished=False)
        lost = {row["conn"]: row["detail"] for row in events_of(tmp_path, "lost_interval")}
        assert lost[1]["from_evidence"] == "connection first wanted"
        assert lost[1]["from"] < lost[0]["from"]

    def test_one_that_was_finished_has_lost_nothing(self, writer, tmp_path):
        work = writer()
        work.put(b"x")
        work.stop()
        assert events_of(tmp_path, "lost_interval") == []


class TestRotation:
    def test_by_time(self, writer, tmp_path):
        work = writer(rotate=Rotation(seconds=0.3))
        count = 0
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            work.put(b"%d" % count)
            count += 1
            time.sleep(0.001)
        work.stop()
        lines = check_files(tmp_path, count)
        assert 4 <= len(lines) <= 6
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        # on a busy machine a file's time may pass with events alone
        for line in (line for line in lines if line.path):
            times = pq.ParquetFile(tmp_path / line.path).read()["handoff_time"].cast("int64").to_pylist()
            assert max(times) - min(times) <= 300_000_000

    @pytest.mark.long
    def test_by_time_while_the_clock_is_set_back_and_forth(self, writer, tmp_path):
        hour = 3_600_000_000_000
        reported = tmp_path / "set_by"
        reported.write_text("0")
        program = (
            f"import pathlib, sys, time; real, clock = time.time_ns, pathlib.Path({str(reported)!r})\n"
            "time.time_ns = lambda: real() + int(clock.read_text() or 0)\n"
            "from wsrec.writer.process import main; sys.exit(main())"
        )
        out = tmp_path / "out"
        work = writer(out=out, rotate=Rotation(seconds=0.3), program=("-c", program))
        count = 0
        for set_by in (0, -hour, 2 * hour):
            (tmp_path / "next").write_text(str(set_by))
            (tmp_path / "next").rename(reported)
            clocks = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns() + set_by}
            work.rings.event(EventKind.ANCHOR, **clocks, width_ns=1, clock="CLOCK_MONOTONIC", drift_ns=0)
            before, began = len(manifest.read(out)), time.monotonic()
            # files of this time are finished while it lasts
            while time.monotonic() - began < 0.7 or len(manifest.read(out)) < before + 4:
                assert time.monotonic() - began < 60, "no file ends"
                work.put(b"%d" % count)
                count += 1
                time.sleep(0.002)
        work.stop()
        lines = manifest.read(out)
        assert sorted(messages_of(out)["seq"].to_pylist()) == list(range(count))
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        assert len({Path(line.path or line.events_path).name for line in lines}) == len(lines)
        hours = [line.path.partition("hour=")[2][:2] for line in lines if line.path]
        assert len({*hours}) >= 3

    def test_by_size(self, writer, tmp_path):
        work = writer(rotate=Rotation(bytes=100_000))
        for _ in range(10):
            for _ in range(50):
                work.put(bytes(1000))
            work.journalled()
        work.stop()
        lines = check_files(tmp_path, 500)
        assert [line.rows for line in lines] == [100] * 5

    def test_a_message_over_two_files_keeps_the_journals_until_it_has_landed(self, writer, tmp_path):
        work = writer(rotate=Rotation(bytes=1000))
        work.rings.put(bytes(2000), flags=0, handoff=time.monotonic_ns())
        work.journalled()
        work.rings.put(b"ping", opcode=9, handoff=time.monotonic_ns())
        work.journalled()
        work.until(lambda: manifest.read(tmp_path))
        assert len(list(work.folder.glob("journal-*"))) == 2
        work.rings.put(b"end", opcode=0, handoff=time.monotonic_ns())
        work.stop()
        assert received(messages_of(tmp_path)) == [bytes(2000) + b"end"]
        check_files(tmp_path, 2)


class TestBatches:
    def test_bytes_that_make_a_batch_do_not_wait_for_its_time(self, writer):
        work = writer(capacity=256 * 4096, batch=1000.0, batch_size=50_000)
        work.until(lambda: (work.folder / "journal-000001.arrows").exists())
        for _ in range(60):
            work.put(bytes(1000))
        work.until(lambda: work.rings.slots.released.read() > 40)
        work.stop()

    def test_the_rings_are_freed_only_by_what_is_journalled(self, writer):
        work = writer()
        work.put(b"x" * 5000)
        work.journalled()
        (journal,) = work.folder.glob("journal-*")
        assert [p for batch in JournalReader(journal) for p in payloads(batch)][-1] == b"x" * 5000
        work.stop()


# Parquet that does nothing as long as there is a file of that name
HELD = """
import os, sys, time
from wsrec.writer import process
take = process.Pipeline.take
def held(self, *arguments):
    while os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    take(self, *arguments)
process.Pipeline.take = held
sys.exit(process.main())
"""


class TestParquetBehind:
    """What Parquet has not taken waits in the journal, on the disk: not in memory, and not in the rings."""

    @pytest.mark.parametrize("rotate", [1 << 30, 5 << 20], ids=["one file", "many files"])
    def test_the_rings_do_not_wait_for_it_and_the_order_is_kept(self, writer, tmp_path, rotate):
        out, hold = tmp_path / "out", tmp_path / "hold"
        hold.touch()
        work = writer(out=out, capacity=256 * 4096, program=("-c", HELD, str(hold)), rotate=Rotation(bytes=rotate))
        payload, before = bytes(9000), 0
        for index in range(8000):
            if index == 1000:
                before = resident(work.process.pid)
            work.put(b"%d " % index + payload)
        work.journalled()
        grown = resident(work.process.pid) - before
        assert not int(work.rings.status.writer["messages"])
        hold.unlink()
        work.stop()
        assert work.process.returncode == 0
        check_files(out, 8000)
        texts = messages_of(out, columns=["seq", "text"])["text"]
        assert [int(text.as_py().split(" ")[0]) for text in texts] == list(range(8000))
        assert grown < 20 << 20  # of 63 MB

    def test_killed_meanwhile_everything_is_recovered(self, writer, tmp_path):
        out, hold = tmp_path / "out", tmp_path / "hold"
        hold.touch()
        work = writer(out=out, program=("-c", HELD, str(hold)), rotate=Rotation(bytes=100_000))
        for index in range(300):
            work.put(b"%d" % index + bytes(1000))
            if not index % 50:
                work.journalled()
        work.journalled()
        assert len(list(work.folder.glob("journal-*"))) > 1
        work.process.kill()
        work.process.wait()
        (recovered,) = recover(out, pytest.fail)
        assert recovered.rows == 300
        assert [int(data.split(b"\0")[0]) for data in received(messages_of(out))] == list(range(300))


def resident(pid: int) -> int:
    """Memory of a process (bytes)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


class TestKilled:
    def test_the_journal_holds_what_was_released_and_the_rings_the_rest(self, writer):
        work = writer()
        sent = [b"%d" % i for i in range(500)]
        for payload in sent[:300]:
            work.put(payload)
        work.journalled()
        for payload in sent[300:]:
            work.rings.put(payload)
        work.process.kill()
        work.process.wait()
        (journal,) = work.folder.glob("journal-*")
        kept = [p for batch in JournalReader(journal) for p in payloads(batch)]
        rest = work.rings.drain().take()
        kept += payloads(rest) if rest is not None else []
        assert [p for p in kept if not p.startswith(b"{")] == sent


def numbered(index: int) -> bytes:
    return b"%d " % index + bytes(index % 700)


class TestSegments:
    """Stage 1 from captured segments."""

    class Capture:
        """The rings of a receiver that captures the segments of one connection without TLS."""

        def __init__(self) -> None:
            self.fds = {"segments": SegmentRing.create("segments", 1024), "stream_map": StreamMap.create("map", 1024)}
            self.ring = SegmentRing(self.fds["segments"])
            self.ring.state.publish(CaptureState.RUNNING)
            self.sent = 0
            self._put(0, 0, SegmentKind.OPEN, 0)
            StreamMapWriter(StreamMap(self.fds["stream_map"])).append(MapKind.PLAIN, 0, 1, 0, 0)

        def segment(self, length: int) -> int:
            """The next bytes arrive."""
            self.sent += length
            return self._put(self.sent - length, length, SegmentKind.SEGMENT, time.time_ns())

        def _put(self, offset: int, length: int, kind: SegmentKind, stamp: int) -> int:
            count = self.ring.published.read()
            self.ring.run(count, count + 1)[0] = (offset, stamp, length, 1, 0, kind, 0, 0)
            self.ring.published.publish(count + 1)
            # no more comes before the row that this segment brings
            self.ring.covered_until.publish(time.monotonic_ns() + 60_000_000_000)
            return stamp

    def test_in_the_files_also_of_a_writer_that_took_over(self, writer):
        """The beginning of the connection was in the ring of the one that was killed."""
        capture = self.Capture()
        work = writer(captured=capture.fds)
        stamps = []
        for number in range(40):
            # header and payload
            stamps.append(capture.segment(2 + 5))
            work.put(b"%05d" % number)
            if number % 10 == 9:
                work.journalled()
            if number == 19:
                work.resume()
        assert any(isinstance(line, SummaryLine) for line in work.stop())
        table = messages_of(work.out)
        assert table["recv_source"].to_pylist() == ["segment"] * 40
        assert table["recv_time"].cast(pa.int64()).to_pylist() == stamps
        assert table["first_segment_to_nic"].to_pylist() == [0] * 40
        assert table["segment_order"].to_pylist() == ["in_order"] * 40
        (found,) = verify([work.out]).captures
        # this receiver did not say what it counted
        assert [each.what for each in found.findings if "stage 1" in each.what or "row" in each.what] == []

    def test_of_a_writer_that_died_with_its_rings(self, writer):
        """The journal has what the segments said."""
        capture = self.Capture()
        work = writer(captured=capture.fds)
        stamps = []
        for number in range(20):
            stamps.append(capture.segment(2 + 5))
            work.put(b"%05d" % number)
        work.journalled()
        work.close()
        recover(work.out, pytest.fail)
        table = messages_of(work.out)
        assert table["recv_time"].cast(pa.int64()).to_pylist() == stamps
        assert table["segment_order"].to_pylist() == ["in_order"] * 20


class TestResumed:
    """A writer that was killed, and another that goes on with its rings and its folder."""

    @pytest.mark.long
    def test_killed_ten_times_under_load_every_message_is_in_the_files_once(self, writer, tmp_path):
        work = writer(conns=2, rotate=Rotation(bytes=200_000), capacity=256 * 4096)
        chance = random.Random(7)
        count = shown = 0
        for _ in range(10):
            until = time.monotonic() + chance.uniform(0.3, 1.5)
            while time.monotonic() < until:
                for _ in range(20):
                    work.put(numbered(count), count % 2)
                    count += 1
                time.sleep(0.001)
            # two that are killed at the same message would have it set aside
            work.until(lambda shown=shown: int(work.rings.status.writer["messages"]) > shown)
            shown = int(work.rings.status.writer["messages"])
            work.resume()
            assert int(work.rings.status.writer["messages"]) >= shown
        *_, summary = work.stop()
        assert work.process.returncode == 0
        assert received(messages_of(tmp_path)) == [numbered(index) for index in range(count)]
        lines = check_files(tmp_path, count)
        assert [line.number for line in lines] == sorted({line.number for line in lines})
        assert isinstance(summary, SummaryLine)
        assert (summary.messages, summary.payload_bytes) == (count, sum(len(numbered(i)) for i in range(count)))
        assert [line["path"] for line in summary.files] == [line.path for line in lines]
        assert int(work.rings.status.writer["messages"]) == count
        assert int(work.rings.status.writer["files"]) == len(lines)
        assert len(events_of(tmp_path, "session_start")) == 1
        assert len(events_of(tmp_path, "session_end")) == 1
        assert events_of(tmp_path, "lost_interval") == []
        assert 1 <= len(events_of(tmp_path, "restart")) <= 10

    def test_the_rings_are_drained_before_what_was_left_is_home(self, writer, tmp_path):
        out, hold = tmp_path / "out", tmp_path / "hold"
        hold.touch()
        work = writer(out=out)
        work.put(b"before")
        work.journalled()
        work.resume(program=("-c", HELD, str(hold)))
        for _ in range(100):
            work.put(bytes(10_000))  # more than the ring holds
        work.journalled()
        hold.unlink()
        work.stop()
        assert received(messages_of(out)) == [b"before", *[bytes(10_000)] * 100]
        check_files(out, 101)

    def test_killed_in_the_middle_of_an_append_nothing_is_lost(self, writer, tmp_path):
        work = writer()
        work.put(b"whole")
        work.journalled()
        work.process.kill()
        work.process.wait()
        (journal,) = work.folder.glob("journal-*")
        work.rings.put(b"torn", handoff=time.monotonic_ns())
        with journal.open("ab") as file:
            file.write(b"\xff\xff\xff\xff\x00\x01\x00\x00 half of a batch")
        work.resume()
        work.stop()
        assert received(messages_of(tmp_path)) == [b"whole", b"torn"]
        check_files(tmp_path, 2)

    def test_a_batch_that_the_disk_gave_back_wrong_is_an_interval_that_was_lost(self, writer, tmp_path):
        work = writer()
        for payload in (b"first", b"damaged", b"last"):
            work.put(payload)
            work.journalled()
        work.process.kill()
        work.process.wait()
        (journal,) = work.folder.glob("journal-*")
        data = journal.read_bytes()
        journal.write_bytes(data.replace(b"damaged", b"DAMAGED"))
        work.resume()
        work.put(b"after")
        work.stop()
        assert received(messages_of(tmp_path)) == [b"first", b"last", b"after"]
        (lost,) = events_of(tmp_path, "lost_interval")
        assert lost["detail"]["slots"] == 1
        assert lost["detail"]["from"] <= lost["detail"]["to"]
        (aside,) = (tmp_path / ".wsrec" / "aside").glob("journal-*")
        assert b"DAMAGED" in aside.read_bytes()

    def test_a_full_disk_is_waited_for(self, writer, tmp_path):
        work = writer()
        work.put(b"before")
        work.journalled()
        limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100, r.RLIM_INFINITY)); "
        run = "import sys; from wsrec.writer.process import main; sys.exit(main())"
        work.resume(program=("-c", limit + run))
        work.until(lambda: int(work.rings.status.writer["disk_trouble"]))
        work.put(b"during")
        _, hard = resource.prlimit(work.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(work.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        work.journalled()
        work.stop()
        assert work.process.returncode == 0
        assert received(messages_of(tmp_path)) == [b"before", b"during"]
        check_files(tmp_path, 2)

    def test_killed_again_and_for_good_the_rest_is_recovered(self, writer, tmp_path):
        out, hold = tmp_path / "out", tmp_path / "hold"
        hold.touch()
        work = writer(out=out, program=("-c", HELD, str(hold)))
        for index in range(100):
            work.put(numbered(index))
        work.journalled()
        work.resume(program=("-c", HELD, str(hold)))
        for index in range(100, 200):
            work.put(numbered(index))
        work.journalled()
        work.close()
        (recovered,) = recover(out, pytest.fail)
        assert recovered.rows == 200
        assert received(messages_of(out)) == [numbered(index) for index in range(200)]
        check_files(out, 200)


def fill(writer, disk: Path, **options) -> tuple[WriterProcess, Path]:
    """A writer whose disk is full, and what has to go from it; a hundred messages wait in the rings."""
    work = writer(out=disk, capacity=256 * 4096, **options)
    work.put(b"before")
    work.journalled()
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    for index in range(100):
        work.put(numbered(index))
    work.until(lambda: int(work.rings.status.writer["disk_trouble"]))
    return work, ballast


class TestDiskTrouble:
    def test_a_full_disk_is_reported_at_once_and_nothing_is_lost(self, writer, tmp_path):
        work = writer(capacity=256 * 4096)
        work.put(b"before")
        work.journalled()
        _, hard = resource.prlimit(work.process.pid, resource.RLIMIT_FSIZE)
        size = next(work.folder.glob("journal-*")).stat().st_size
        resource.prlimit(work.process.pid, resource.RLIMIT_FSIZE, (size + 100, hard))
        work.put(b"during " * 1000)
        work.until(lambda: int(work.rings.status.writer["disk_trouble"]))
        resource.prlimit(work.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        work.journalled()
        work.put(b"after")
        lines = work.stop()
        assert work.process.returncode == 0
        assert [line.level for line in lines[:-1]] == ["error", "info"]
        assert lines[0].hint is not None
        assert not int(work.rings.status.writer["disk_trouble"])
        assert received(messages_of(tmp_path)) == [b"before", b"during " * 1000, b"after"]
        check_files(tmp_path, 3)

    def test_a_stop_while_the_disk_is_full_waits_for_space(self, writer, small_disk):
        work, ballast = fill(writer, small_disk)
        work.rings.status.receiver["finished"] = True
        work.order()
        time.sleep(0.5)
        assert work.process.poll() is None
        ballast.unlink()
        work.end()
        assert work.process.returncode == 0
        assert received(messages_of(small_disk)) == [b"before", *(numbered(index) for index in range(100))]

    @pytest.mark.long
    def test_a_stop_while_the_disk_stays_full_names_what_is_lost_and_keeps_the_rest(self, writer, small_disk):
        impatient = "import sys, wsrec.writer.process as p; p._DISK_TIMEOUT = 1.0; sys.exit(p.main())"
        work, ballast = fill(writer, small_disk, program=("-c", impatient))
        waiting = work.rings.slots.published.read() - work.rings.slots.released.read()
        assert waiting >= 100
        *_, failed = work.stop()
        assert work.process.returncode == 1
        assert isinstance(failed, FailedLine)
        assert f"{waiting} frames and events in the rings are lost" in failed.message
        assert failed.hint is not None
        assert "kept" in failed.hint
        ballast.unlink()
        recover(small_disk, pytest.fail)
        assert received(messages_of(small_disk)) == [b"before"]

    def test_a_reserve_is_left_free(self, writer, small_disk):
        work = writer(out=small_disk, capacity=256 * 4096, reserve=6 << 20)
        work.put(b"before")
        work.journalled()
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(6 << 20))
        work.put(b"during")
        work.until(lambda: int(work.rings.status.writer["disk_trouble"]))
        assert shutil.disk_usage(small_disk).free > 1 << 20
        ballast.unlink()
        work.journalled()
        work.stop()
        assert work.process.returncode == 0
        assert received(messages_of(small_disk)) == [b"before", b"during"]
        assert any("--reserve" in event["detail"]["message"] for event in events_of(small_disk, "disk"))

    def test_a_file_in_the_way_is_not_overwritten_and_the_journal_is_kept(self, writer, tmp_path):
        work = writer()
        work.put(b"mine")
        work.journalled()
        moment = time.gmtime()
        for kind in ("messages", "events"):
            folder = tmp_path / kind / "feed=f" / time.strftime("date=%Y-%m-%d/hour=%H", moment)
            folder.mkdir(parents=True)
            (folder / "s-000001.parquet").write_bytes(b"precious")
        lines = work.stop()
        assert work.process.returncode == 1
        assert isinstance(lines[-1], FailedLine)
        assert str(work.folder) in lines[-1].hint
        assert {path.read_bytes() for path in tmp_path.rglob("s-000001.parquet")} == {b"precious"}
        (journal,) = work.folder.glob("journal-*")
        assert b"mine" in [p for batch in JournalReader(journal) for p in payloads(batch)]


class TestNoJob:
    def test_it_says_so(self):
        result = subprocess.run(
            [sys.executable, "-P", "-m", "wsrec.writer"], input=b"", capture_output=True, check=False, timeout=60
        )
        assert result.returncode == 1
        assert "job cannot be read" in msgspec.json.decode(result.stdout, type=FailedLine).message
