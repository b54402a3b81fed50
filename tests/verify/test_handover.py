"""One connection takes over from another: recorder and verifier report what was missing when the old one ended.

Captures are written by the real pipeline, event by event as a receiver reports them (times in ms).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import events_of
from tests.rings import plan, slot, writer_job
from tests.subscriptions import request, requested
from tests.verify.conftest import BOOT, OFFSET
from wsrec.feed.schema import Feed
from wsrec.format.moment import Moment
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.verify.model import Capture, State, Stream
from wsrec.verify.verify import verify
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.ledger import RingCounts
from wsrec.writer.pipeline import Pipeline

MS = 1_000_000
TOPICS = ("x.A", "x.B")
Happened = tuple[int, int, Event | bytes]


def feed(**channel: Any) -> Feed:
    return Feed.model_validate(
        {
            "name": "mine",
            "description": "two symbols, and nothing that confirms a subscription",
            "sockets": {"main": {"url": "ws://h/s"}},
            "symbols": {"pattern": "[A-Z]+", "words": "letters", "example": "A"},
            "subscribe": {"message": '{"topics":{topics},"id":{id}}', "batch": 1},
            "limits": {"streams_per_connection": 10, "messages_per_second": 1, "connects": 9, "connects_interval": 1},
            "fields": {"channel": ["c"], "symbol": ["s"]},
            "channels": {"x": {"topic": "x.{symbol}", **channel}},
        }
    )


def stated(kind: EventKind, time: int, conn: int, **detail: Any) -> Happened:
    return time, conn, Event(kind, conn, detail=detail)


def begins(conn: int, time: int, **asked: int) -> list[Happened]:
    """A connection opens, and asks for symbols at these times."""
    subscribed = [stated(EventKind.SUBSCRIBE, at, conn, topics=[f"x.{symbol}"]) for symbol, at in asked.items()]
    return [stated(EventKind.CONNECT, time, conn, url="wss://h/s"), *subscribed]


def numbers(conn: int, symbol: str, first: int, start: int, stop: int, **more: Any) -> list[Happened]:
    """A message each 100 ms, that counts."""
    texts = ({"c": "x", "s": symbol, "n": first + n, **more} for n in range((stop - start) // 100))
    return [(start + 100 * n, conn, msgspec.json.encode(text)) for n, text in enumerate(texts)]


def ends(time: int, *, by: str = "exchange", since: int = 1000) -> list[Happened]:
    """Connection 0 is closed, and 1 is in its place."""
    until = {"monotonic_from": BOOT + since * MS, "monotonic_to": BOOT + time * MS}
    return [
        stated(EventKind.CLOSE, time, 0, code=1000, reason="", by=by),
        stated(EventKind.DISCONNECT, time, 0, message="", received_bytes=1, discarded_bytes=0),
        stated(EventKind.REPLACED, time, 1, from_conn=0, to_conn=1, reason="because", proved=True, **until),
    ]


class Written(NamedTuple):
    missing: int
    out: Path

    @property
    def capture(self) -> Capture:
        (capture,) = verify([self.out]).captures
        return capture

    def stream(self, conn: int, symbol: str) -> Stream:
        (session,) = self.capture.sessions
        (stream,) = (each for each in session.streams if (each.conn, each.symbol) == (conn, symbol))
        return stream

    def incomplete(self, conn: int, symbol: str) -> list[tuple[int, int, str]]:
        """In ms since the start."""
        found = [each for each in self.stream(conn, symbol).intervals if each.state is State.INCOMPLETE]
        return [((i.monotonic_start - BOOT) // MS, (i.monotonic_end - BOOT) // MS, i.reason) for i in found]


def write(out: Path, about: Feed, happened: list[Happened]) -> Written:
    anchor = {"monotonic": BOOT, "realtime": BOOT + OFFSET, "width_ns": 50, "clock": "TSC", "drift_ns": 0}
    began = (1, 0, Event(EventKind.ANCHOR, None, detail=anchor))
    rows = [began, *sorted(happened, key=lambda one: one[0])]
    payloads = [what.encode() if isinstance(what, Event) else what for _, _, what in rows]
    slots, heads = np.zeros(len(rows), SLOT_DTYPE), {0: 0, 1: 0}
    for row, (time, conn, what) in enumerate(rows):
        moment = BOOT + time * MS
        own = isinstance(what, Event)
        heads[conn] += 0 if own else len(payloads[row]) + 2
        slots[row] = slot(
            conn=conn,
            offset=0 if own else heads[conn] - len(payloads[row]),
            length=len(payloads[row]),
            opcode=0 if own else TEXT,
            flags=Flag.EVENT | Flag.FIN if own else Flag.FIN | Flag.LAST,
            handoff=moment,
            event=0 if own else moment - 10,
        )
    folder = out / ".wsrec" / "s"
    folder.mkdir(parents=True)
    asks = tuple(
        request(f'{{"topics":["x.{symbol}"],"id":1}}', requested(about, "x", symbol), number=number)
        for number, symbol in enumerate("AB", 1)
    )
    sides = (plan(0, "mine", requests=asks), plan(1, "mine", requests=asks, standby_of=0))
    pipeline = Pipeline(writer_job(out, sides, {"mine": about.public_config()}), folder, act=lambda _: None)
    pipeline.begin_session(Moment(BOOT + MS + OFFSET, BOOT + MS))
    for first in range(0, len(slots), 7):
        part = slice(first, first + 7)
        pipeline.take(Batch(slots[part], pa.array(payloads[part], pa.large_binary()), first), 1)
    writer, frames = pipeline.feeds["mine"], sum(not isinstance(what, Event) for _, _, what in rows)
    receiver = {"reads": frames, "frames": frames, "bytes": sum(heads.values()), "discarded_bytes": 0, "stalls": 0}
    counted = writer.counts.named("rows")
    end = int(slots[-1]["handoff"]) + MS
    rings = RingCounts(len(slots), heads, {**receiver, "finished": True})
    writer.event(Moment(end + OFFSET, end), EventKind.SESSION_END, **counted, **rings.detail([0, 1]))
    pipeline.finish(1)
    folder.rmdir()
    return Written(writer.counts.gaps + writer.counts.refused + writer.counts.lost_intervals, out)


FIRST = [*begins(0, 10, A=11, B=12), *numbers(0, "A", 0, 100, 5000), *numbers(0, "B", 0, 100, 5000)]


class TestAskedForTooLate:
    def test_what_was_requested_after_the_old_one_had_ended_is_incomplete_in_between(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=7000), *numbers(1, "A", 10, 1100, 9000), *numbers(1, "B", 70, 7100, 9000)]
        found = write(tmp_path, feed(), [*FIRST, *ends(5000), *second])
        assert found.missing == 1
        (event,) = events_of(tmp_path, EventKind.LATE)
        assert (event["conn"], event["detail"]["topics"]) == (1, ["x.B"])
        assert found.capture.status == 4
        ((start, end, reason),) = found.incomplete(1, "B")
        assert (start, end) == (5000, 7100)
        assert "before" in reason
        assert found.incomplete(1, "A") == []

    def test_and_so_it_is_where_no_message_came_since(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=7000), *numbers(1, "A", 10, 1100, 9000)]
        found = write(tmp_path, feed(), [*FIRST, *ends(5000), *second])
        assert found.missing == 1
        ((start, end, _),) = found.incomplete(1, "B")
        assert start == 5000
        assert end >= 7000

    def test_or_just_requested(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=4950), *numbers(1, "A", 10, 1100, 9000), *numbers(1, "B", 53, 5300, 9000)]
        found = write(tmp_path, feed(), [*FIRST, *ends(5000), *second])
        assert found.missing == 1
        assert [each[:2] for each in found.incomplete(1, "B")] == [(5000, 5300)]

    def test_what_had_time_to_begin_is_not(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 9000), *numbers(1, "B", 60, 6000, 9000)]
        found = write(tmp_path, feed(), [*FIRST, *ends(5000), *second])
        assert found.missing == 0
        assert found.capture.status == 0
        assert found.incomplete(1, "B") == []


NEXT = {"exchange_seq": ["n"], "sequence": "next"}


class TestNumbersAcross:
    @pytest.mark.parametrize("first", [6000, 4500], ids=["behind the old one's end", "beside it"])
    def test_numbers_that_do_not_join_are_a_gap(self, tmp_path, first):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 9000)]
        second += numbers(1, "B", 60, first, 9000)
        found = write(tmp_path, feed(**NEXT), [*FIRST, *ends(5000), *second])
        assert found.missing == 1
        (gap,) = events_of(tmp_path, EventKind.GAP)
        assert (gap["conn"], gap["symbol"]) == (1, "B")
        assert {"expected": 49, "found": 60, "missing": 11}.items() <= gap["detail"].items()
        assert found.capture.status == 4
        assert found.stream(1, "B").state is State.INCOMPLETE
        assert [found.stream(*which).state for which in ((0, "A"), (1, "A"))] == [State.PROVED] * 2
        if first == 6000:
            ((start, end, reason),) = found.incomplete(1, "B")
            assert (start, end) == (5000, 6000)
            assert "expected 49, found 60" in reason

    def test_what_brought_nothing_between_two_others_is_no_bridge(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 8000)]
        third = [*begins(0, 6000, A=6010, B=6020), *numbers(0, "A", 60, 6100, 9000), *numbers(0, "B", 85, 8600, 9000)]
        back = {"from_conn": 1, "to_conn": 0, "reason": "again", "proved": True}
        ended = [
            stated(EventKind.DISCONNECT, 8000, 1, message="", received_bytes=1, discarded_bytes=0),
            stated(EventKind.REPLACED, 8000, 0, **back, monotonic_from=BOOT, monotonic_to=BOOT + 8000 * MS),
        ]
        found = write(tmp_path, feed(**NEXT), [*FIRST, *ends(5000), *second, *third, *ended])
        assert found.missing == 1
        (gap,) = events_of(tmp_path, EventKind.GAP)
        assert {"expected": 49, "found": 85, "from_conn": 0}.items() <= gap["detail"].items()
        assert found.capture.status == 4
        assert [each[:2] for each in found.incomplete(0, "B")][-1][1] == 8600
        # that of the other symbol is whole all the same
        assert found.stream(0, "A").state is State.PROVED

    @pytest.mark.parametrize(("number", "first"), [(49, 6000), (30, 6000), (10, 1100)])
    def test_numbers_that_join_are_none(self, tmp_path, number, first):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 9000)]
        found = write(tmp_path, feed(**NEXT), [*FIRST, *ends(5000), *second, *numbers(1, "B", number, first, 9000)])
        assert found.missing == 0
        assert found.capture.status == 0

    def test_nor_are_numbers_that_begin_anew(self, tmp_path):
        resets = {"resets": {"numbers": [60]}}
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 9000)]
        found = write(
            tmp_path, feed(**NEXT, **resets), [*FIRST, *ends(5000), *second, *numbers(1, "B", 60, 6000, 9000)]
        )
        assert found.missing == 0
        assert found.capture.status == 0

    def test_what_does_not_say_the_number_before_it_is_held_against_nothing(self, tmp_path):
        rule = {"exchange_seq": ["n"], "seq_previous": ["p"], "sequence": "previous"}
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "B", 60, 6000, 6100, p=-1)]
        happened = [(t, c, w) for t, c, w in FIRST if not isinstance(w, bytes)]
        happened += numbers(0, "B", 0, 100, 200, p=-1)
        found = write(tmp_path, feed(**rule), [*happened, *ends(5000), *second])
        assert found.missing == 0


class TestUnproved:
    """What took over without a message is not known to be there until the first one comes."""

    def ends_unproved(self, time: int) -> list[Happened]:
        *before, (at, conn, replaced) = ends(time)
        assert isinstance(replaced, Event)
        return [*before, stated(replaced.kind, at, conn, **{**replaced.detail, "proved": False})]

    def states(self, found: Written, conn: int, symbol: str) -> list[tuple[int, int, State]]:
        intervals = found.stream(conn, symbol).intervals
        return [((i.monotonic_start - BOOT) // MS, (i.monotonic_end - BOOT) // MS, i.state) for i in intervals]

    def test_a_life_without_a_message_is_silent_though_the_stream_had_some_before(self, tmp_path):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 10, 1100, 8000), *numbers(1, "B", 10, 1100, 8000)]
        back = {"from_conn": 1, "to_conn": 0, "reason": "again", "proved": False}
        third = [
            *begins(0, 6000, A=6010, B=6020),
            stated(EventKind.ACK, 6100, 0, topics=["x.A", "x.B"]),
            stated(EventKind.DISCONNECT, 8000, 1, message="", received_bytes=1, discarded_bytes=0),
            stated(EventKind.REPLACED, 8000, 0, **back, monotonic_from=BOOT, monotonic_to=BOOT + 8000 * MS),
            (20000, 0, b'{"c":"else"}'),
        ]
        found = write(tmp_path, feed(**NEXT), [*FIRST, *ends(5000), *second, *third])
        assert found.missing == 0
        assert [state for start, _, state in self.states(found, 0, "A") if start >= 6000] == [State.SILENT]

    @pytest.mark.parametrize("proved", [False, True])
    def test_and_so_it_is_up_to_its_first_message(self, tmp_path, proved):
        second = [*begins(1, 1000, A=1010, B=1020), *numbers(1, "A", 50, 7000, 9000), *numbers(1, "B", 50, 7000, 9000)]
        turn = ends(5000) if proved else self.ends_unproved(5000)
        confirmed = [stated(EventKind.ACK, 1100, 1, topics=[f"x.{symbol}"]) for symbol in "AB"]
        found = write(tmp_path, feed(), [*FIRST, *turn, *second, *confirmed])
        first = self.states(found, 1, "A")[0]
        assert first == (1100, 7000, State.UNBROKEN if proved else State.SILENT)

    def test_nor_is_a_life_that_brought_nothing_at_all_unbroken(self, tmp_path):
        cut = stated(EventKind.DISCONNECT, 5000, 0, message="killed", received_bytes=None, discarded_bytes=0)
        again = [*begins(0, 6000, A=6010, B=6020), stated(EventKind.ACK, 6100, 0, topics=["x.A", "x.B"])]
        found = write(tmp_path, feed(**NEXT), [*FIRST, cut, *again, (20000, 1, b'{"c":"else"}')])
        assert [state for start, _, state in self.states(found, 0, "A") if start >= 6000] == [State.SILENT]
