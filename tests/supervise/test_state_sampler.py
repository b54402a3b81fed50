"""wsrec.supervise.state_sampler: the state of a recording, from status pages whose figures the tests write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from wsrec.histogram import COARSE_OF, bucket_index
from wsrec.ipc import LogLine
from wsrec.options.record import RecordOptions
from wsrec.options.value_types import Rotation
from wsrec.plan.connections import ConnectionPlan
from wsrec.supervise.free_space import FreeSpace
from wsrec.supervise.recent_log import KINDS, RecentLog
from wsrec.supervise.state import ConnectionState, RecorderState
from wsrec.supervise.state_sampler import StateSampler
from wsrec.supervise.supervisor import Supervisor

SECOND = 1_000_000_000


def connection(conn: int, feed: str, **more: Any) -> ConnectionPlan:
    return ConnectionPlan(**{"conn": conn, "feed": feed, "url": "ws://h/", "public_url": "ws://h/", **more})


PLANS = [
    connection(0, "one", replaceable=True, idle_timeout=5.0),
    connection(1, "two", url="wss://user:hunter22@host:99/p?key=SECRETSECRET", public_url="wss://host:99/p"),
    connection(2, "two", start_after=3600.0),
]


class Recorder:
    """A recorder without processes: only the memory that they would share."""

    def __init__(self, out: Path, plans: list[ConnectionPlan], **options: Any) -> None:
        self.log = RecentLog()
        self.space = FreeSpace(out)
        self.supervisor = Supervisor(("two",), [], plans, RecordOptions(out=out, **options), self.log.note)
        for pair in self.supervisor.pairs:
            pair._create_memory([*pair.plans, *pair.standbys], 64 << 10, len(plans), segments=False)
        self.sampler = StateSampler(self.supervisor, self.log, self.space)

    def beat(self) -> None:
        for pair in self.supervisor.pairs:
            assert pair.status is not None
            pair.status.receiver["heartbeat"] = pair.status.writer["heartbeat"] = time.monotonic_ns()

    def connected(self, conn: int, opened: int, active: int | None = None) -> None:
        self.page.put_received(conn, 1, conn if active is None else active, opened, opened, 7, 1000, 2, 3)

    def messages(self, conn: int, count: int, ns: int, last: int) -> None:
        row = self.page.connections[conn]
        row["writer"]["messages"] += count
        row["writer"]["payload_bytes"] += 10 * count
        row["writer"]["last_message"] = last
        row["latency"][COARSE_OF[bucket_index(np.array([ns]))]] += count

    @property
    def page(self) -> Any:
        return self.supervisor.pairs[0].status

    def state(self) -> RecorderState:
        return self.sampler.state()

    def conn(self, number: int) -> ConnectionState:
        (found,) = [each for each in self.state().connections if each.conn == number]
        return found


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path, PLANS)
    yield made
    for pair in made.supervisor.pairs:
        pair.close()


class TestConnections:
    def test_at_the_beginning(self, recorder: Recorder) -> None:
        recorder.beat()
        states = recorder.state().connections
        assert [each.state for each in states] == ["connecting", "connecting", "waiting"]
        assert [(each.feed, each.conn, each.active) for each in states] == [("one", 0, 0), ("two", 1, 1), ("two", 2, 2)]
        assert all(each.age_ns is None and each.opened_ns is None and not each.messages for each in states)

    def test_without_secrets(self, recorder: Recorder) -> None:
        assert recorder.conn(1).host == "host:99"
        text = msgspec.json.encode(recorder.state())
        assert b"SECRET" not in text
        assert b"hunter22" not in text

    def test_open(self, recorder: Recorder) -> None:
        now = time.monotonic_ns()
        recorder.beat()
        recorder.connected(1, now - 60 * SECOND)
        recorder.messages(1, 4, 1000, now - 2 * SECOND)
        found = recorder.conn(1)
        assert found.state == "open"
        assert found.age_ns is not None
        assert 2 * SECOND <= found.age_ns < 60 * SECOND <= (found.opened_ns or 0)
        assert (found.messages, found.payload_bytes, found.wire_bytes) == (4, 40, 1000)
        assert (found.stalls, found.reconnects) == (2, 3)
        assert found.latency.p50 == pytest.approx(1000, rel=1 / 16)

    def test_silent_beyond_the_idle_timeout(self, recorder: Recorder) -> None:
        now = time.monotonic_ns()
        recorder.beat()
        recorder.connected(0, now - 60 * SECOND)
        recorder.messages(0, 1, 1000, now - 6 * SECOND)
        assert recorder.conn(0).state == "silent"
        recorder.connected(0, now, active=3)
        assert (recorder.conn(0).state, recorder.conn(0).active) == ("open", 3)

    def test_down(self, recorder: Recorder) -> None:
        now = time.monotonic_ns()
        recorder.beat()
        recorder.page.put_received(1, 0, 1, now, now, 7, 1000, 2, 3)
        assert recorder.conn(1).state == "down"
        recorder.page.receiver["finished"] = True
        assert recorder.conn(1).state == "ended"

    def test_what_a_dead_receiver_said_is_not_believed(self, recorder: Recorder) -> None:
        now = time.monotonic_ns()
        recorder.connected(1, now)
        recorder.page.receiver["heartbeat"] = now - 60 * SECOND
        assert recorder.conn(1).state == "down"

    def test_of_several_receivers(self, tmp_path: Path) -> None:
        several = Recorder(tmp_path, PLANS, cpu=(0, 1))
        several.beat()
        for pair in several.supervisor.pairs:
            assert pair.status is not None
            pair.status.put_received(0, 1, pair.plans[0].conn, 1, 1, 1, 100, 0, 0)
        found = several.state()
        assert [(each.conn, each.wire_bytes) for each in found.connections] == [(0, 100), (1, 100), (2, 0)]
        assert len(found.sessions) == 2
        assert [each.name for each in found.processes] == ["receiver 0", "writer 0", "receiver 1", "writer 1"]
        assert found.connected == 2


class TestWindow:
    def test_rates_and_latencies_are_recent(self, recorder: Recorder) -> None:
        recorder.beat()
        recorder.messages(1, 1_000_000, 1 << 40, time.monotonic_ns())
        recorder.sampler.tick()
        began = time.monotonic()
        recorder.messages(1, 100, 1 << 10, time.monotonic_ns())
        recorder.page.writer["messages"] += 100
        recorder.page.steps[-1, bucket_index(np.array([5000]))] += 100
        time.sleep(0.05)
        found, most = recorder.state(), 100 / 0.05
        least = 100 / (time.monotonic() - began + 0.05)
        (of_one,) = [each for each in found.connections if each.conn == 1]
        assert least <= of_one.rate <= most
        assert least <= found.rate <= most
        assert of_one.latency.p99 is not None
        assert of_one.latency.p99 < 1 << 11
        assert found.steps[-1].key == "total"
        assert found.steps[-1].latency.p50 == pytest.approx(5000, rel=1 / 128)

    def test_a_window_has_an_end(self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.monotonic_ns()
        moments = iter(range(now, now + 10_000 * SECOND, SECOND))
        monkeypatch.setattr("wsrec.supervise.state_sampler.time.monotonic_ns", lambda: next(moments))
        for _ in range(100):
            recorder.sampler.tick()
        assert recorder.state().window_ns < 40 * SECOND


class TestRecording:
    def test_phase(self, recorder: Recorder) -> None:
        assert (recorder.state().phase, recorder.state().reason) == ("starting", None)
        recorder.page.receiver["connected"] = 1
        assert recorder.state().phase == "recording"
        recorder.supervisor._stop("the time was up")
        assert (recorder.state().phase, recorder.state().reason) == ("finishing", "the time was up")

    def test_json_can_be_read_back(self, recorder: Recorder) -> None:
        recorder.log.note(LogLine(level="warning", message="x"))
        recorder.space.note(0.0, 1 << 40)
        found = recorder.state()
        assert msgspec.json.decode(msgspec.json.encode(found), type=RecorderState) == found

    def test_lag_of_a_writer_that_hangs_grows(self, recorder: Recorder) -> None:
        pair, now = recorder.supervisor.pairs[0], time.monotonic_ns()
        assert pair.slots is not None
        recorder.page.writer["heartbeat"] = now - 30 * SECOND
        assert recorder.state().journal_lag_ns == 0
        pair.slots.published.publish(10)
        assert recorder.state().journal_lag_ns >= 30 * SECOND
        assert recorder.state().waiting == 10

    def test_the_process_is_named(self, recorder: Recorder) -> None:
        assert recorder.state().pid == os.getpid()
        assert recorder.state().processes[0].heartbeat_ns is None

    @pytest.mark.parametrize(("rotate", "most"), [(60.0, 60), (3600.0, 3600), (86_400.0, 3600), (1000.0, 1000)])
    def test_next_rotation(self, tmp_path: Path, rotate: float, most: int) -> None:
        found = Recorder(tmp_path, PLANS, rotate=Rotation(seconds=rotate)).state()
        assert 0 < found.next_rotation - found.time <= most * SECOND
        of_hour = found.next_rotation // SECOND % 3600
        assert of_hour % min(rotate, 3600) == 0


class TestRecentLog:
    def test_figures_do_not_make_a_kind(self) -> None:
        log = RecentLog()
        for number in range(5):
            log.note(LogLine(level="warning", message=f"lost {number:,} of 1,000", conn=1))
        log.note(LogLine(level="warning", message="lost 5 of 1,000", conn=2))
        log.note(LogLine(level="info", message="fine"))
        assert [(each.count, each.message, each.conn) for each in log.recent()] == [
            (1, "lost 5 of 1,000", 2),
            (5, "lost 4 of 1,000", 1),
        ]
        assert log.lines == {"info": 1, "warning": 6, "error": 0}

    def test_only_the_last_are_kept(self) -> None:
        log = RecentLog()
        for number in range(KINDS + 5):
            log.note(LogLine(level="error", message="x" * number))
        assert [len(each.message) for each in log.recent()] == list(range(KINDS + 4, 4, -1))


class TestFreeSpace:
    def test_until_it_is_full(self, tmp_path: Path) -> None:
        space = FreeSpace(tmp_path, reserve=1000)
        assert space.state() is None
        for second in range(0, 7200, 2):
            space.note(second, 1_000_000 - 10 * second)
        found = space.state()
        assert found is not None
        assert found.free == 1_000_000 - 71_980 - 1000
        assert found.full_in_ns == pytest.approx(found.free / 10 * SECOND)

    def test_a_disk_that_does_not_fill(self, tmp_path: Path) -> None:
        space = FreeSpace(tmp_path)
        for second in range(100):
            space.note(second, 1000)
        assert space.state() is not None
        assert space.state().full_in_ns is None  # type: ignore[union-attr]

    def test_a_real_one(self, tmp_path: Path) -> None:
        space = FreeSpace(tmp_path)
        space.start()
        deadline = time.monotonic() + 60
        while (found := space.state()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        space.stop()
        assert found.free > 0
