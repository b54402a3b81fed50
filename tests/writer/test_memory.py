"""The largest message that is allowed, and what inflates to more: a writer's memory stays within what is promised.

docs/explanation/durability.md, "Memory": 250 MB and four times --max-message.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import events_of, messages_of, received
from tests.effort import thinned
from tests.writer.test_process import WriterProcess
from wsrec.ipc import SummaryLine
from wsrec.ring.slot_flags import Flag
from wsrec.supervise.outcome import ExitStatus, exit_status
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify
from wsrec.writer.recovery import recover

LARGEST = 16 << 20
RING = 8 << 20
ALLOWED = 250_000_000 + 4 * LARGEST


@pytest.fixture
def writer(rings, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(out=tmp_path / "out", **options) -> WriterProcess:
            started = WriterProcess(out, rings(1, RING, 4096), max_message=LARGEST, **options)
            stack.callback(started.close)
            return started

        yield start


def put(work: WriterProcess, payload: bytes, flags: int = 0, opcode: int = 1) -> None:
    """A message, in parts where it is larger than half the ring, as the hot path puts it."""
    for at in range(0, len(payload), RING // 2):
        part, last = payload[at : at + RING // 2], at + RING // 2 >= len(payload)
        work.until(lambda part=part: work.rings.room(0) >= len(part))
        now = time.monotonic_ns()
        bits = (Flag.FIN if last else 0) | (0 if at else flags)
        work.rings.put(part, opcode=0 if at else opcode, flags=bits, event=now - 1_000, handoff=now)


def deflated(size: int) -> bytes:
    """A text of this size as one compressed message: what repeats in it is compressed once."""
    stream = zlib.compressobj(9, wbits=-15)
    head = stream.compress(b"[") + stream.flush(zlib.Z_FULL_FLUSH)
    blocks, rest = divmod(size - 2, 1 << 20)
    block = stream.compress(b"1" * (1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    tail = stream.compress(b"1" * rest + b"]") + stream.flush(zlib.Z_SYNC_FLUSH)
    return (head + block * blocks + tail)[:-4]


def peak(pid: int) -> int:
    """Largest memory of a process so far (bytes)."""
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kib) << 10


def small(work: WriterProcess) -> None:
    """Have a small message written."""
    put(work, b"small")
    taken(work, 1)


def taken(work: WriterProcess, count: int) -> None:
    work.journalled()
    work.until(lambda: int(work.rings.status.writer["messages"]) >= count)


class TestBound:
    @pytest.mark.parametrize(
        ("opcode", "head", "tail"),
        thinned([(1, b'{"a": "', b'"}'), (2, b"\0", b"\0"), (1, "\N{FACE WITH TEARS OF JOY}".encode(), b"\xff")]),
        ids=["text", "binary", "text-that-is-none"],
    )
    def test_the_largest_message(self, writer, tmp_path, opcode, head, tail):
        work = writer()
        small(work)
        body = random.Random(1).randbytes(LARGEST // 2).hex().encode()[: LARGEST - len(head) - len(tail)]
        message = head + body + tail
        for _ in range(3):
            put(work, message, opcode=opcode)
            # what is in its batch is not encoded with it
            put(work, b"after")
        taken(work, 7)
        assert peak(work.process.pid) < ALLOWED
        work.stop()
        assert [hashlib.sha256(each).digest() for each in received(messages_of(tmp_path / "out"))] == [
            hashlib.sha256(each).digest() for each in [b"small", *[message, b"after"] * 3]
        ]

    @pytest.mark.long
    def test_many_small_ones_that_inflate_to_it(self, writer, tmp_path):
        work = writer()
        small(work)
        for _ in range(12):
            put(work, deflated(LARGEST - 1), Flag.RSV1)
        taken(work, 13)
        assert peak(work.process.pid) < ALLOWED
        work.stop()
        assert [len(each) for each in received(messages_of(tmp_path / "out"))] == [5, *[LARGEST - 1] * 12]
        assert not events_of(tmp_path / "out", "not_inflated")

    def test_a_bomb_stays_as_it_came_with_the_limit_that_it_broke(self, writer, tmp_path):
        work = writer()
        small(work)
        bomb = deflated(300 * LARGEST // 16)
        put(work, bomb, Flag.RSV1)
        taken(work, 2)
        assert peak(work.process.pid) < ALLOWED
        work.stop()
        assert received(messages_of(tmp_path / "out")) == [b"small", bomb]
        (event,) = events_of(tmp_path / "out", "not_inflated")
        assert f"more than {LARGEST} bytes when inflated (raise --max-message)" in event["detail"]["message"]


def anonymous(work: WriterProcess) -> int:
    """Memory of a writer now, without what it maps (bytes)."""
    (kib,) = re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{work.process.pid}/status").read_text())
    return int(kib) << 10


class TestGrowth:
    """Memory does not grow with what was recorded: what was joined, or stood beside what was inflated, is let go."""

    SIZE = 1 << 20

    @pytest.mark.long
    def test_of_fragments(self, writer):
        text = b"x" * self.SIZE

        def message(work: WriterProcess) -> None:
            for opcode, flags in ((1, 0), (0, Flag.FIN)):
                work.until(lambda: work.rings.room(0) >= len(text))
                now = time.monotonic_ns()
                work.rings.put(text, opcode=opcode, flags=flags, event=now, handoff=now)

        self.grows(writer(), message, 1)

    @pytest.mark.long
    def test_of_what_stands_beside_compressed_messages(self, writer):
        text, small = b"y" * (2 * self.SIZE), deflated(1000)

        def message(work: WriterProcess) -> None:
            work.until(lambda: work.rings.room(0) >= len(text) + 2 * len(small))
            now = time.monotonic_ns()
            # of one read, so that they are in one batch
            work.rings.put(small, flags=Flag.FIN | Flag.RSV1, last=False, event=now, handoff=now)
            work.rings.put(text, event=now, handoff=now)

        self.grows(writer(), message, 2)

    def grows(self, work: WriterProcess, message: Callable[[WriterProcess], None], rows: int) -> None:
        before = 0
        for count in range(1, 101):
            message(work)
            if count == 30:
                taken(work, 30 * rows)
                before = anonymous(work)
        taken(work, 100 * rows)
        # 70 messages of 2 MiB; row groups are held in between
        assert anonymous(work) - before < 100_000_000
        work.stop()


# a writer, or a recovery, that is killed at once by a message with this in it
DIES = """
import os, signal, sys
from wsrec.writer import feed_writer
add = feed_writer.FeedWriter.add
def deadly(self, slots, when, payload, number):
    if any(b"poison" in (data.as_py() or b"") for data in payload):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, slots, when, payload, number)
feed_writer.FeedWriter.add = deadly
"""
WRITER = DIES + "from wsrec.writer import process\nsys.exit(process.main())\n"
RECOVERY = (
    DIES
    + "from pathlib import Path\nfrom wsrec.writer.recovery import recover\nprint(recover(Path(sys.argv[1]), print))\n"
)


def check(out: Path) -> None:
    """Everything is there but for the message, whose bytes stand beside."""
    assert received(messages_of(out)) == [b"0", b"1", b"2", b"", b"4", b"5"]
    (event,) = events_of(out, "set_aside")
    file = out / event["detail"]["file"]
    assert file.read_bytes() == b"a poison pill"
    assert event["detail"]["bytes"] == 13
    assert event["detail"]["sha256"] == hashlib.sha256(b"a poison pill").hexdigest()
    # the capture has it not: it counts as lost, of its connection alone and for as long as it took to come
    (lost,) = [event for event in events_of(out, "lost_interval") if event["conn"] == 0]
    assert (lost["detail"]["reason"], lost["detail"]["bound"]) == ("a message was set aside", "exact")
    assert 0 < lost["detail"]["duration_ns"] < 1_000_000_000
    assert verify([out]).status is VerifyStatus.INCOMPLETE
    assert [session.balance.balanced for capture in verify([out]).captures for session in capture.sessions] == [True]


class TestPoison:
    MESSAGES = (b"0", b"1", b"2", b"a poison pill", b"4", b"5")

    @pytest.mark.long
    def test_a_message_that_kills_every_writer_is_set_aside(self, writer, tmp_path):
        out = tmp_path / "out"
        work = writer(program=("-c", WRITER), batch=0.2)
        for message in self.MESSAGES:
            put(work, message)
        # the supervisor gives up after the sixth death
        for _ in range(5):
            deadline = time.monotonic() + 60
            while work.process.poll() is None and time.monotonic() < deadline:
                if int(work.rings.status.writer["messages"]) >= 6:
                    break
                time.sleep(0.01)
            if work.process.poll() is None:
                break
            work.resume(program=("-c", WRITER))
        # what a receiver counts
        stated = work.rings.status.receiver
        stated["frames"], stated["bytes"] = len(self.MESSAGES), work.rings.rings[0].head.read()
        (summary,) = [line for line in work.stop() if isinstance(line, SummaryLine)]
        assert work.process.returncode == 0
        assert exit_status([summary], None) == ExitStatus.GAPS
        check(out)

    @pytest.mark.long
    def test_also_by_recovery(self, writer, tmp_path):
        out = tmp_path / "out"
        work = writer(program=("-c", WRITER), batch=0.2)
        for message in self.MESSAGES:
            put(work, message)
        work.process.wait(60)
        for _ in range(5):
            result = subprocess.run([sys.executable, "-c", RECOVERY, out], capture_output=True, text=True, check=False)
            if result.returncode == 0:
                break
        assert result.returncode == 0, result
        assert recover(out, pytest.fail) == []
        check(out)
