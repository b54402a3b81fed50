"""wsrec.verify on captures whose clock was set, and on words that had to wait: they are sound, and called so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import events_of, messages_of
from tests.rings import Rings, plan, writer_job
from wsrec.host.clock import now
from wsrec.plan.target import feed_of_url
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify
from wsrec.wire.frames import PONG
from wsrec.writer.pipeline import Pipeline

FEED = feed_of_url("wss://h/s").public_config()
HOUR = 3_600_000_000_000
MILLISECOND = 1_000_000


class Recorder:
    """A pipeline at the end of real rings, whose machine's UTC can be set."""

    def __init__(self, rings: Rings, out: Path) -> None:
        folder = out / ".wsrec" / "s"
        folder.mkdir(parents=True)
        self.out, self.rings = out, rings
        self.pipeline = Pipeline(writer_job(out, (plan(0),), {"f": FEED}), folder)
        self._drain = rings.drain()
        self._number = 1
        self._before: tuple[int, int] | None = None
        self.set_by = 0
        self.anchor()

    def anchor(self) -> None:
        """What a receiver does every second."""
        stage, realtime = now(), time.time_ns() + self.set_by
        clocks = {"monotonic": stage, "realtime": realtime, "clock": "CLOCK_MONOTONIC", "drift_ns": 0}
        self.rings.event(EventKind.ANCHOR, **clocks, width_ns=100)

    def set_clock(self, by: int) -> None:
        self.set_by += by
        self.anchor()
        self.rings.event(EventKind.CLOCK_STEP, step_ns=by)

    def receive(self, payload: bytes = b"{}") -> None:
        moment = now()
        nic = time.time_ns() + self.set_by
        self.rings.put(
            payload,
            event=moment,
            recv_start=10,
            recv_end=20,
            parsed=5,
            handoff=now(),
            nic=nic,
            source=StampSource.KERNEL,
        )

    def take(self) -> None:
        batch = self._drain.take()
        if batch is not None:
            self.pipeline.take(batch, self._number)
            self._drain.release()

    def rotate(self) -> None:
        self.pipeline.finish(self._number)
        self._number += 1

    def contradictions(self) -> list[str]:
        (capture,) = verify([self.out]).captures
        return [finding.what for finding in capture.findings if finding.kind in (Kind.CONTRADICTION, Kind.DAMAGED)]


@pytest.fixture
def recorder(tmp_path) -> Iterator[Recorder]:
    rings = Rings(1, 1 << 16, 64)
    yield Recorder(rings, tmp_path)
    rings.close()


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All rows by their number: the folders are by the hour, and the hour may be set."""
    table = messages_of(out).sort_by("seq")
    times = {name: table[name].cast("int64") for name in ("recv_time", "handoff_time")}
    return pa.table({**times, **{name: table[name] for name in ("handoff_monotonic", "direction")}}).to_pylist()


class TestSteps:
    @pytest.mark.parametrize("by", [-HOUR, HOUR, -2 * MILLISECOND])
    @pytest.mark.parametrize("rotates", [False, True])
    def test_a_clock_that_is_set_is_no_damage(self, recorder, by, rotates):
        for _ in range(5):
            recorder.receive()
        recorder.take()
        if rotates:
            recorder.rotate()
        recorder.set_clock(by)
        for _ in range(5):
            recorder.receive()
        recorder.take()
        recorder.rotate()
        assert recorder.contradictions() == []
        stamps = [row["handoff_monotonic"] for row in rows_of(recorder.out)]
        assert stamps == sorted(stamps)

    def test_there_and_back_within_one_file(self, recorder):
        for by in (-HOUR, HOUR, -7 * HOUR, 7 * HOUR):
            recorder.receive()
            recorder.set_clock(by)
            recorder.receive()
        recorder.take()
        recorder.rotate()
        assert recorder.contradictions() == []

    @pytest.mark.parametrize("steps", [(-HOUR,), (HOUR, -7 * HOUR), (-HOUR, HOUR, -2 * HOUR)])
    def test_intervals_say_what_the_clock_showed_and_end_where_it_was_set(self, recorder, steps):
        for by in steps:
            for _ in range(3):
                recorder.receive()
            recorder.set_clock(by)
        for _ in range(3):
            recorder.receive()
        recorder.take()
        recorder.rotate()
        (capture,) = verify([recorder.out]).captures
        (session,) = capture.sessions
        (stream,) = session.streams
        showed = {row["handoff_monotonic"]: row["handoff_time"] for row in rows_of(recorder.out)}
        ends = {(each.monotonic_start, each.start) for each in stream.intervals}
        ends |= {(each.monotonic_end, each.end) for each in stream.intervals}
        assert {utc for stage, utc in ends if stage in showed} <= set(showed.values())
        assert len(stream.intervals) > len(steps)
        for each in stream.intervals:
            assert abs((each.end - each.start) - (each.monotonic_end - each.monotonic_start)) < MILLISECOND
        assert session.duration == max(showed) - events_of(recorder.out)[0]["monotonic"]

    def test_events_keep_the_order_of_happening(self, recorder):
        recorder.take()
        recorder.set_clock(-HOUR)
        recorder.rings.event(EventKind.STALL, 0, duration_ns=1)
        recorder.take()
        recorder.rotate()
        kinds = [event["kind"] for event in events_of(recorder.out)]
        assert kinds == ["anchor", "anchor", "clock_step", "stall"]


class TestWordsThatWait:
    def test_a_flood_of_pings_is_no_damage(self, recorder):
        # more than the ring of words holds: some of them wait, and frames are handed off meanwhile
        for _ in range(40):
            recorder.rings.producer.sent(0, PONG, bytes(125))
        for _ in range(10):
            recorder.receive()
        while not recorder.rings.producer.flush():
            recorder.take()
        recorder.take()
        recorder.rotate()
        assert recorder.contradictions() == []
        sent = [row["recv_time"] for row in rows_of(recorder.out) if row["direction"] == "sent"]
        assert len(sent) == 40
        assert sent == sorted(sent)
