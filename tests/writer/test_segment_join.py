"""wsrec.writer.segment_join: each frame's stage 1 is the first arrival of the byte that it had to wait for, or null."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from random import Random
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import slot
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.segments.repeats import NEVER, Repeats
from wsrec.segments.segment_ring import BrokenReason, CaptureState, SegmentFlag, SegmentKind, SegmentRing
from wsrec.segments.segment_store import SegmentStore
from wsrec.segments.stream_map import UNKNOWN_TAIL, MapKind, StreamMap, StreamMapWriter
from wsrec.stages import SegmentOrder, StampSource
from wsrec.wire.frames import TEXT
from wsrec.writer import segment_join
from wsrec.writer.batch import Batch
from wsrec.writer.segment_join import SegmentJoin

UTC = 1_795_355_999_000_000_000
KINDS = (MapKind.PLAIN, MapKind.TLS, MapKind.KERNEL)
WORDS = {0: SegmentOrder.IN_ORDER, SegmentFlag.AHEAD: SegmentOrder.AHEAD, SegmentFlag.FILLED: SegmentOrder.FILLED}


@dataclass
class Expected:
    """What a frame's row must have; None: it must be null."""

    stamp: int | None
    first: int | None
    order: int
    read_stamp: int


@dataclass
class Rig:
    """Both rings, with a join behind them."""

    segments: SegmentRing
    map: StreamMapWriter
    join: SegmentJoin
    slots: list = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    taken: int = 0
    flows: int = 0
    stamp: int = UTC
    is_late: bool = False
    held: list = field(default_factory=list)

    @classmethod
    def make(cls, records: int = 1 << 12) -> Rig:
        fds = SegmentRing.create("segments", records), StreamMap.create("map", records)
        segments, stream_map = SegmentRing(fds[0]), StreamMap(fds[1])
        segments.state.publish(CaptureState.RUNNING)
        segments.covered_until.publish(1 << 62)
        join = SegmentJoin(SegmentRing(fds[0]), StreamMap(fds[1]), 1 << 12)
        rig = cls(segments, StreamMapWriter(stream_map), join)
        rig.fds = fds
        return rig

    def record(self, kind, flow, offset=0, length=0, flags=0, value=0, stamp=None, conn=0):
        if stamp is None:
            self.stamp = stamp = self.stamp + 1000
        self.held.append((offset, stamp, length, flow, conn, kind, flags, value))
        if not self.is_late:
            self.publish()
        return stamp

    def publish(self, most=None):
        for record in self.held[:most]:
            count = self.segments.published.read()
            self.segments.run(count, count + 1)[0] = record
            self.segments.published.publish(count + 1)
        del self.held[:most]

    def arrives(self):
        """What the capture does while the join waits for it."""
        self.publish(len(self.held) // 2 + 1)
        self.segments.covered_until.publish(1 << 62 if not self.held else time.monotonic_ns())
        return False

    def frame(self, conn, offset, length, expected):
        stamp = expected.read_stamp
        source = StampSource.KERNEL if stamp else StampSource.NONE_KTLS
        flags = int(Flag.FIN | Flag.LAST)
        row = slot(offset=offset, length=length, conn=conn, opcode=TEXT, flags=flags, nic=stamp, source=source)
        # as if what the capture has covered were always behind
        row["handoff"] = row["event"] = 1 << 61
        self.slots.append(row)
        self.expected.append(expected)

    def take(self):
        """Join what was handed off, and compare."""
        slots, expected = self.slots, self.expected
        self.slots, self.expected = [], []
        if not slots:
            return None
        if self.held:
            self.segments.covered_until.publish(time.monotonic_ns())
        data = pa.array([b""] * len(slots), pa.large_binary())
        batch = self.join.join(Batch(np.array(slots, SLOT_DTYPE), data, self.taken), self.arrives)
        self.taken += len(slots)
        found = batch.slots.copy()
        for row, want in zip(found, expected, strict=True):
            assert int(row["nic"]) == (want.stamp or 0)
            assert int(row["segment_order"]) == want.order
            assert int(row["read_stamp"]) == want.read_stamp
            source = StampSource(int(row["source"]))
            assert (source is StampSource.SEGMENT) == (want.stamp is not None)
            assert want.stamp is not None or source.name.startswith("NONE")
            if want.stamp is not None:
                assert int(row["first_segment"]) == (want.first or 0)
        self.join.release()
        return found

    def again(self):
        """Another writer takes over."""
        self.join = SegmentJoin(SegmentRing(self.fds[0]), StreamMap(self.fds[1]), 1 << 12)


class Flow:
    """A connection with random frames, records and segments; the model of what is to be found."""

    def __init__(self, rig: Rig, random: Random, conn: int, head: int, kind: MapKind, *, first: bool) -> None:
        self.rig, self.random, self.conn, self.head, self.kind = rig, random, conn, head, kind
        rig.flows += 1
        self.number = rig.flows
        self.sent = 0  # stream offset of what the other side has sent
        self.arrived: dict[int, tuple[int, int]] = {}  # of each byte: its first arrival, and the flags of that
        self.tls13 = random.random() < 0.5
        rig.record(SegmentKind.OPEN, self.number, conn=conn)
        self.send(random.randrange(1, 400), drop=0)  # handshake
        self.begin = self.sent
        overhead, tail = (22, 17) if self.tls13 else (29, 16)
        self.overhead, self.tail = overhead, tail
        if kind is MapKind.KERNEL:
            rig.map.append(kind, conn, self.number, head, self.sent, tail=tail, overhead=overhead)
        else:
            rig.map.append(kind, conn, self.number, head, self.sent)
        self.frames: list[tuple[int, int]] = []

    def send(self, size: int, drop: float) -> tuple[int, int]:
        """Send bytes: they arrive in segments, some late, some again, some unseen by the capture."""
        start, random = self.sent, self.random
        self.sent += size
        cuts = sorted({start, self.sent, *(random.randrange(start, self.sent) for _ in range(random.randrange(4)))})
        segments = list(itertools.pairwise(cuts))
        if random.random() < 0.3:
            random.shuffle(segments)
        below = start
        for begin, end in segments:
            flags = 0
            if begin > below:
                flags = SegmentFlag.AHEAD
            elif any(byte in self.arrived for byte in (end,)):
                flags = SegmentFlag.FILLED
            if random.random() < drop:
                continue
            stamp = self.rig.record(SegmentKind.SEGMENT, self.number, begin, end - begin, int(flags), conn=self.conn)
            for byte in range(begin, end):
                self.arrived[byte] = stamp, WORDS[flags]
            while below in self.arrived:
                below += 1
            if random.random() < 0.1:
                self.rig.record(
                    SegmentKind.SEGMENT, self.number, begin, end - begin, int(SegmentFlag.REPEATED), conn=self.conn
                )
                for byte in range(begin, end):
                    self.arrived[byte] = self.arrived[byte][0], SegmentOrder.REPEATED
        return start, self.sent

    def arrived_at(self, first: int, last: int) -> tuple[int | None, int | None, int]:
        """Stamp, first arrival and order of a frame from one byte to another."""
        stamp, order = self.arrived[last]
        return stamp, self.arrived[first][0], int(order)

    def push(self, drop: float) -> None:
        """A few frames, in a record or more, or without."""
        random = self.random
        frames = [random.choice((0, 1, 5, 125, 126, 300)) for _ in range(random.randrange(1, 4))]
        content = sum(length + (2 if length < 126 else 4) for length in frames)
        places: list[tuple[int, int]] = []  # of each byte of the content: its own stream offset, and the needed one
        if self.kind is MapKind.PLAIN:
            start, end = self.send(content, drop)
            places = [(byte, byte) for byte in range(start, end)]
            count = self.head + content
        else:
            left, count = content, self.head
            while left:
                if self.kind is MapKind.KERNEL and self.tls13 and random.random() < 0.2:
                    self.ticket(count)
                size = random.randrange(1, left + 1) if random.random() < 0.4 else left
                start, end = self.send(size + self.overhead, drop)
                places += [(end - self.tail - size + at, end - 1) for at in range(size)]
                left, count = left - size, count + size
                if self.kind is MapKind.KERNEL:
                    self.rig.record(SegmentKind.TLS_RECORD, self.number, end, end - start, value=23)
                else:
                    known = random.random() < 0.9
                    tail = self.tail if known else UNKNOWN_TAIL
                    if not known:
                        places[-size:] = [(-1, needed) for _, needed in places[-size:]]
                    self.rig.map.append(MapKind.RECORD, self.conn, self.number, count, end, tail=tail)
        at = 0
        for length in frames:
            header = 2 if length < 126 else 4
            first, _ = places[at]
            _, needed = places[at + header + length - 1]
            stamp, order = self.arrived.get(needed, (None, 0))
            begun = self.arrived.get(first, (None, 0))[0]
            read = 0 if self.kind is MapKind.KERNEL else self.rig.stamp + random.randrange(50)
            # TCP may have refused the first of several, unless the read has its stamp
            if self.arrived.get(first, (0, 0))[1] == SegmentOrder.REPEATED and begun != read:
                begun = None
            if order == SegmentOrder.REPEATED and stamp != read:
                stamp, order = None, 0
            self.rig.frame(self.conn, self.head + at + header, length, Expected(stamp, begun, int(order), read))
            at += header + length
        self.head = count

    def ticket(self, count: int) -> None:
        """A record that is no data, but looks like it."""
        size = self.random.randrange(1, 60)
        start, end = self.send(size + self.overhead, 0)
        self.rig.record(SegmentKind.TLS_RECORD, self.number, end, end - start, value=23)
        self.rig.map.append(MapKind.CONTROL, self.conn, self.number, count, end, size=size)

    def discard(self) -> int:
        """The connection ends in the middle of a frame; the ring's head for the next one."""
        size = self.random.randrange(1, 200)
        if self.kind is MapKind.PLAIN:
            self.send(size, 0)
        else:
            start, end = self.send(size + self.overhead, 0)
            if self.kind is MapKind.KERNEL:
                self.rig.record(SegmentKind.TLS_RECORD, self.number, end, end - start, value=23)
            else:
                self.rig.map.append(MapKind.RECORD, self.conn, self.number, self.head + size, end, tail=self.tail)
        return self.head


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.0, 0.1]), st.booleans())
def test_as_a_simple_model(seed, drop, is_late):
    # however slow this machine is
    with mock.patch.multiple(segment_join, _WAIT_NS=60 * 10**9, _STALE_NS=60 * 10**9):
        compare(Rig.make(), Random(seed), drop, is_late=is_late)


def compare(rig: Rig, random: Random, drop: float, *, is_late: bool) -> None:
    """Random connections, and batches of what they handed off."""
    rig.is_late = is_late
    if is_late:
        rig.segments.covered_until.publish(time.monotonic_ns())
    flows = [Flow(rig, random, conn, random.randrange(10_000), random.choice(KINDS), first=True) for conn in range(3)]
    for _ in range(random.randrange(1, 60)):
        at = random.randrange(len(flows))
        what = random.random()
        if what < 0.7:
            flows[at].push(drop)
        elif what < 0.82:
            rig.take()
        elif what < 0.85:
            rig.take()
            rig.again()
        else:
            old = flows[at]
            flows[at] = Flow(rig, random, old.conn, old.discard(), random.choice(KINDS), first=False)
    rig.take()


def plain(rig: Rig, seed: int = 1) -> Flow:
    return Flow(rig, Random(seed), 0, 100, MapKind.PLAIN, first=True)


def read_stamps(found) -> list[int]:
    return found["nic"].tolist()


class TestNull:
    def reason(self, rig: Rig) -> StampSource:
        rig.frame(0, 102, 10, Expected(None, None, 0, UTC))
        return StampSource(int(rig.take()["source"][0]))

    def test_the_capture_was_behind(self):
        rig = Rig.make()
        plain(rig)
        assert self.reason(rig) is StampSource.NONE_BEHIND

    def test_packets_were_dropped(self):
        rig = Rig.make()
        plain(rig)
        now = time.time_ns()
        rig.record(SegmentKind.LOSS, 0, now - 10**9, stamp=now, value=3)
        rig.frame(0, 102, 10, Expected(None, None, 0, UTC))
        rig.slots[0]["handoff"] = time.monotonic_ns()
        assert StampSource(int(rig.take()["source"][0])) is StampSource.NONE_DROPPED

    def test_the_connection_has_no_map(self):
        assert self.reason(Rig.make()) is StampSource.NONE_UNMAPPED

    def test_the_receiver_could_not_map_it(self):
        rig = Rig.make()
        plain(rig)
        rig.map.append(MapKind.UNMAPPED, 0, 0, 100, 0)
        assert self.reason(rig) is StampSource.NONE_UNMAPPED

    def test_its_beginning_was_not_captured(self):
        rig = Rig.make()
        rig.map.append(MapKind.PLAIN, 0, 77, 100, 0)
        assert self.reason(rig) is StampSource.NONE_UNMAPPED

    def test_records_of_the_map_were_lost(self):
        """The receiver found no room: which flow the bytes are of is not known, so none is guessed."""
        rig = Rig.make(128)
        flow = plain(rig)
        flow.push(0)
        rig.take()
        flow.send(50, 0)
        for _ in range(200):
            rig.map.append(MapKind.PLAIN, 5, flow.number, 0, 0)
        assert rig.map.lost
        rig.frame(0, flow.head + 2, 10, Expected(None, None, 0, UTC))
        rig.take()

    def test_nothing_is_captured(self):
        """Rows have the stamps of their reads."""
        rig = Rig.make()
        plain(rig)
        rig.segments.state.publish(CaptureState.REFUSED)
        row = slot(offset=102, length=1, opcode=TEXT, flags=Flag.FIN, nic=UTC, source=StampSource.KERNEL)
        batch = Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0)
        found = rig.join.join(batch, lambda: False).slots
        assert (found["nic"][0], found["source"][0], found["segment_order"][0]) == (UTC, StampSource.KERNEL, 0)


class TestMemory:
    @pytest.mark.parametrize("kind", KINDS)
    def test_tls_records_that_map_nothing_are_not_kept(self, kind):
        rig = Rig.make()
        flow = Flow(rig, Random(1), 0, 100, kind, first=True)
        for kernel in rig.join._map._kernel.get(0, ()):
            kernel.is_lost = True
        flow.push(0)
        rig.take()
        for kernel in rig.join._map._kernel.get(0, ()):
            kernel.is_lost = True
        end = flow.sent
        for size in range(100, 200):
            end += size
            rig.record(SegmentKind.TLS_RECORD, flow.number, end, size, value=23)
        rig.frame(0, flow.head + 2, 10, Expected(None, None, 0, UTC))
        rig.take()
        assert not rig.join._store.tls
        assert all(kernel._held is None for kernel in rig.join._map._kernel.get(0, ()))

    def test_flows_that_have_ended_are_forgotten(self):
        """As where a server ends each connection soon, of which some cannot be mapped and others never have a row."""
        rig = Rig.make()
        head = 100
        for number in range(200):
            flow = Flow(rig, Random(number), 0, head, KINDS[number % 3], first=True)
            if number % 4 == 1:
                rig.map.append(MapKind.UNMAPPED, 0, flow.number, head, 0)
            rig.record(SegmentKind.SEGMENT, flow.number, 0, 5, int(SegmentFlag.REPEATED))
            if flow.kind is not MapKind.KERNEL:
                rig.record(SegmentKind.TLS_RECORD, flow.number, flow.sent, 40, value=23)
            if number % 5 == 2:
                rig.record(SegmentKind.BROKEN, flow.number, 0, value=BrokenReason.RECORDS)
            if number % 4 == 0:
                flow.push(0)
                rig.take()
            else:
                # a row of another connection
                rig.frame(1, 102, 10, Expected(None, None, 0, UTC))
                rig.take()
            head = flow.head
        store = rig.join._store
        store._pruned = 0
        rig.frame(0, head + 2, 1, Expected(None, None, 0, UTC))
        rig.take()
        kept = {
            "flows": store._flows,
            "records": store,
            "repeats": store._repeats,
            "tls": store.tls,
            "ended": store.broken,
        }
        assert {name: len(held) for name, held in kept.items() if len(held) > 30} == {}
        assert len(rig.join._map) < 30

    @pytest.mark.parametrize("kind", KINDS)
    def test_flows_without_a_row_do_not_pile_up(self, kind):
        """As of a server that answers each attempt with an error: it goes through the byte ring, and has no row."""
        rig = Rig.make()
        for number in range(150):
            Flow(rig, Random(number), 0, 100 + number, kind, first=True)
            rig.frame(1, 102, 10, Expected(None, None, 0, UTC))
            rig.take()
        assert len(rig.join._map) < 100
        assert sum(map(len, rig.join._map._kernel.values())) < 100
        # the last of them is mapped
        flow = Flow(rig, Random(1), 0, 1000, kind, first=True)
        flow.push(0)
        rig.take()

    def test_flows_whose_numbers_have_come_around_are_told_apart(self):
        rig = Rig.make()
        for number in (1, 1 + (1 << 16)):
            rig.record(SegmentKind.SEGMENT, number, 0, 10, stamp=UTC + number)
        store = SegmentStore(rig.segments)
        store.read(0)
        flows = np.array([1, 1 + (1 << 16)], np.uint32)
        found = store.find(flows, np.zeros(2, np.uint64))
        assert not (found.known & (found.stamp != np.uint64(UTC) + flows)).any()

    def test_what_is_of_a_flow_that_cannot_be_mapped_is_not_kept(self):
        rig = Rig.make()
        flow = plain(rig)
        rig.map.append(MapKind.UNMAPPED, 0, flow.number, 100, 0)
        for _ in range(20):
            flow.send(1000, 0)
            rig.frame(0, 102, 10, Expected(None, None, 0, UTC))
            rig.take()
            assert len(rig.join._store) == 0

    def test_segments_are_kept_up_to_a_number(self):
        rig = Rig.make()
        store = SegmentStore(rig.segments, most=100)
        flow = plain(rig)
        for _ in range(200):
            flow.send(10, 0)
        store.read(0)
        assert len(store) == 100
        # the newest
        found = store.find(np.array([flow.number, flow.number], np.uint32), np.array([0, flow.sent - 1], np.uint64))
        assert found.known.tolist() == [False, True]

    def test_a_flow_whose_rows_are_not_all_joined_is_mapped_though_another_has_begun(self):
        rig = Rig.make()
        flow = plain(rig)
        for _ in range(6):
            flow.push(0)
        Flow(rig, Random(2), 0, flow.discard(), MapKind.PLAIN, first=False)
        slots, expected = rig.slots, rig.expected
        for at in range(len(slots)):
            rig.slots, rig.expected = slots[at : at + 1], expected[at : at + 1]
            rig.take()


class TestRepeats:
    @given(
        runs=st.lists(
            st.tuples(st.integers(1, 3), st.integers(0, 30), st.integers(1, 9), st.integers(5, 99)), max_size=12
        ),
        most=st.integers(3, 12),
    )
    def test_as_a_simple_model(self, runs, most):
        repeats, known = Repeats(most), {}
        for flow, start, size, since in runs:
            key = np.array([(flow << 48) + start], np.uint64)
            repeats.add(np.array([flow], np.uint32), key, np.array([size], np.uint64), np.array([since], np.uint64), 0)
            for byte in range(start, start + size):
                known[flow, byte] = min(known.get((flow, byte), NEVER), since)
        asked = [(flow, byte) for flow in range(4) for byte in range(45)]
        keys = np.array([(flow << 48) + byte for flow, byte in asked], np.uint64)
        found = repeats.since(keys).tolist()
        wanted = [known.get(one, NEVER) for one in asked]
        assert len(repeats) <= most
        if len(runs) <= most:
            assert found == wanted
        assert all(one <= other for one, other in zip(found, wanted, strict=True))


class TestContradicted:
    def joined(self, rig: Rig, **fields):
        given = {"flags": Flag.FIN, "event": 1 << 61, **fields}
        row = slot(offset=102, length=10, opcode=TEXT, handoff=1 << 61, **given)
        found = rig.join.join(
            Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0), lambda: False
        ).slots[0]
        return tuple(int(found[name]) for name in ("nic", "source", "read_stamp", "first_segment", "segment_order"))

    def flow(self, *segments: tuple[int, int, int, int]) -> Rig:
        """The frame's 12 bytes in segments: from, length, stamp, flags."""
        rig = Rig.make()
        flow = plain(rig)
        for start, length, stamp, flags in segments:
            rig.record(SegmentKind.SEGMENT, flow.number, flow.begin + start, length, flags, stamp=stamp)
        return rig

    @pytest.mark.parametrize("late", [0, 1])
    def test_a_segment_is_not_later_than_the_stamp_of_its_read(self, late):
        rig = self.flow((0, 12, UTC + late, 0))
        expected = (0, StampSource.NONE_CONTRADICTED, UTC, 0, 0) if late else (UTC, StampSource.SEGMENT, UTC, UTC, 1)
        assert self.joined(rig, nic=UTC, source=StampSource.KERNEL) == expected

    @pytest.mark.parametrize("coarse", [False, True])
    @pytest.mark.parametrize("late", [-(10**9), 10**9])
    def test_nor_than_the_end_of_a_read_without_one(self, late, coarse):
        now, flags = time.monotonic_ns(), Flag.FIN | (Flag.COARSE if coarse else 0)
        took = 30 * 10**9 >> 10 if coarse else 2 * 10**9
        end = time.time_ns() + (took << 10 if coarse else took) * 2
        rig = self.flow((0, 12, end + late, 0))
        nic, source, *_ = self.joined(
            rig, event=now, recv_start=took, recv_end=took, source=StampSource.NONE_KTLS, flags=flags
        )
        expected = (0, StampSource.NONE_CONTRADICTED) if late > 0 else (end + late, StampSource.SEGMENT)
        assert (nic, source) == expected

    def test_stamps_of_two_clocks_are_not_compared(self):
        rig = self.flow((0, 12, UTC + 1, SegmentFlag.NIC))
        found = self.joined(rig, nic=UTC, source=StampSource.KERNEL)
        assert found == (UTC + 1, StampSource.SEGMENT_NIC, 0, UTC + 1, SegmentOrder.IN_ORDER)

    @pytest.mark.parametrize("flags", [0, SegmentFlag.AHEAD])
    def test_the_first_byte_came_later_only_where_the_last_was_ahead_of_it(self, flags):
        rig = self.flow((0, 6, UTC + 5, 0), (6, 6, UTC, flags))
        nic, _, _, first, _ = self.joined(rig, nic=UTC + 9, source=StampSource.KERNEL)
        assert (nic, first) == (UTC, UTC + 5 if flags else 0)

    @pytest.mark.parametrize("nic", [(0, 1), (1, 0), (1, 1)])
    def test_the_first_byte_has_no_stamp_of_another_clock_than_the_last(self, nic):
        """A NIC that does not stamp every packet, or whose clock was given up meanwhile."""
        rig = self.flow((0, 6, UTC, nic[0]), (6, 6, UTC + 5, nic[1]))
        found, _, _, first, _ = self.joined(rig, source=StampSource.NONE_KTLS)
        assert (found, first) == (UTC + 5, UTC if nic[0] == nic[1] else 0)

    def test_the_first_byte_did_not_come_later_than_the_read(self):
        rig = self.flow((0, 6, UTC + 5, 0), (6, 6, UTC, SegmentFlag.AHEAD))
        nic, _, _, first, _ = self.joined(rig, nic=UTC + 3, source=StampSource.KERNEL)
        assert (nic, first) == (UTC, 0)

    def test_of_what_filled_a_hole_the_read_has_the_stamp_of_what_came_before_it(self):
        """TCP joins both, and both are in the same read."""
        rig = self.flow((0, 12, UTC + 5, SegmentFlag.FILLED))
        found = self.joined(rig, nic=UTC, source=StampSource.KERNEL)
        assert found == (UTC + 5, StampSource.SEGMENT, UTC, UTC + 5, SegmentOrder.FILLED)

    @pytest.mark.parametrize("nic", [0, SegmentFlag.NIC])
    @pytest.mark.parametrize("before", [-2, 2])
    @pytest.mark.parametrize("others", [[], [(3, 5, 10)], [(11, 1, 10), (0, 4, 12)]])
    def test_what_came_again_before_it_was_read_has_no_stamp(self, before, nic, others):
        """TCP may have refused the first: for its acknowledgement, or because it had no memory for it."""
        second = 10**9
        read = time.time_ns() + 4 * second
        came = [(0, 12, read - 5 * second, nic), (0, 12, read - before * second, SegmentFlag.REPEATED | nic)]
        came += [(start, size, read + at * second, SegmentFlag.REPEATED | nic) for start, size, at in others]
        rig = self.flow(*came)
        reads = {"event": time.monotonic_ns(), "recv_start": 2 * second, "recv_end": 2 * second}
        found = self.joined(rig, source=StampSource.NONE_KTLS, **reads)
        if before > 0:
            assert found == (0, StampSource.NONE_CONTRADICTED, 0, 0, 0)
        else:
            source = StampSource.SEGMENT_NIC if nic else StampSource.SEGMENT
            assert found == (read - 5 * second, source, 0, read - 5 * second, SegmentOrder.REPEATED)

    def test_the_stamp_of_the_read_proves_that_the_first_was_taken(self):
        rig = self.flow((0, 12, UTC, 0), (0, 12, UTC + 7, SegmentFlag.REPEATED))
        found = self.joined(rig, nic=UTC, source=StampSource.KERNEL)
        assert found == (UTC, StampSource.SEGMENT, UTC, UTC, SegmentOrder.REPEATED)
        assert self.joined(rig, nic=UTC + 7, source=StampSource.KERNEL)[:2] == (0, StampSource.NONE_CONTRADICTED)

    @pytest.mark.parametrize("stamp", [0, UTC])
    def test_what_a_capture_that_was_killed_had_not_looked_at_may_have_come_again(self, stamp):
        """The next one, of the next receiver, is ahead of the read, but does not know."""
        rig = self.flow((0, 12, UTC, 0))
        rig.segments.former.publish(rig.flows)
        found = self.joined(rig, nic=stamp, source=StampSource.KERNEL if stamp else StampSource.NONE_KTLS)
        assert found[:2] == ((UTC, StampSource.SEGMENT) if stamp else (0, StampSource.NONE_BEHIND))

    def test_a_connection_with_two_beginnings(self):
        rig = Rig.make()
        flow = plain(rig)
        rig.record(SegmentKind.BROKEN, flow.number, 0, value=BrokenReason.CONTRADICTED)
        assert self.joined(rig)[:2] == (0, StampSource.NONE_CONTRADICTED)


class TestWaits:
    def test_for_a_capture_that_is_behind(self):
        rig = Rig.make()
        flow = plain(rig)
        rig.segments.covered_until.publish(time.monotonic_ns() - 500_000_000)
        polls = []

        def arrives() -> bool:
            polls.append(1)
            if len(polls) == 5:
                rig.record(SegmentKind.SEGMENT, flow.number, flow.begin, 12, stamp=UTC + 7)
                rig.segments.covered_until.publish(time.monotonic_ns())
            return False

        row = slot(offset=102, length=10, opcode=TEXT, flags=Flag.FIN, event=1 << 61, handoff=time.monotonic_ns())
        found = rig.join.join(Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0), arrives).slots
        assert (found["nic"].tolist(), found["first_segment"].tolist(), len(polls)) == ([UTC + 7], [UTC + 7], 5)

    def test_for_a_repetition_that_the_capture_may_not_have_seen_yet(self):
        """All is there at once; that it came again before it was read is seen later."""
        rig = Rig.make()
        flow = plain(rig)
        rig.record(SegmentKind.SEGMENT, flow.number, flow.begin, 12, stamp=UTC)
        rig.segments.covered_until.publish(time.monotonic_ns() - 500_000_000)
        polls = []

        def arrives() -> bool:
            polls.append(1)
            if len(polls) == 3:
                rig.record(SegmentKind.SEGMENT, flow.number, flow.begin, 12, SegmentFlag.REPEATED, stamp=UTC + 7)
                rig.segments.covered_until.publish(1 << 62)
            return False

        row = slot(offset=102, length=10, opcode=TEXT, flags=Flag.FIN, event=1 << 61, handoff=time.monotonic_ns())
        found = rig.join.join(Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0), arrives).slots
        assert found["source"].tolist() == [StampSource.NONE_CONTRADICTED]

    @pytest.mark.parametrize("stamp", [UTC, UTC + 1])
    def test_not_where_the_stamp_of_the_read_is_that_of_the_segment(self, stamp):
        rig = Rig.make()
        flow = plain(rig)
        rig.record(SegmentKind.SEGMENT, flow.number, flow.begin, 12, stamp=UTC)
        rig.segments.covered_until.publish(time.monotonic_ns() - 500_000_000)
        polls = []
        given = {"event": 1 << 61, "handoff": time.monotonic_ns(), "nic": stamp, "source": StampSource.KERNEL}
        row = slot(offset=102, length=10, opcode=TEXT, flags=Flag.FIN, **given)
        batch = Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0)
        found = rig.join.join(batch, lambda: bool(polls.append(1)) or True).slots
        # one that is not known to have come once is none: the capture has to be ahead of the read
        source = StampSource.SEGMENT if stamp == UTC else StampSource.NONE_BEHIND
        assert (found["source"].tolist(), len(polls)) == ([source], stamp != UTC)

    @pytest.mark.parametrize("why", ["covered", "ended", "stale", "pressed"])
    def test_not_for_what_will_not_come(self, why):
        rig = Rig.make()
        plain(rig)
        now, polls = time.monotonic_ns(), []
        behind = {"covered": -(10**9), "stale": 2 * 10**9}.get(why, 50_000_000)
        rig.segments.covered_until.publish(now - behind)
        if why == "ended":
            rig.segments.state.publish(CaptureState.ENDED)
        row = slot(offset=102, length=10, opcode=TEXT, flags=Flag.FIN, event=1 << 61, handoff=now)
        batch = Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0)
        rig.join.join(batch, lambda: bool(polls.append(1)) or why == "pressed")
        assert len(polls) == (why == "pressed")

    def test_no_longer_than_the_capture_needs(self):
        rig = Rig.make()
        plain(rig)
        row = slot(offset=102, length=10, opcode=TEXT, flags=Flag.FIN, event=1 << 61, handoff=1 << 62)
        batch = Batch(np.array([row], SLOT_DTYPE), pa.array([b"x"], pa.large_binary()), 0)

        def keeps_up() -> bool:
            rig.segments.covered_until.publish(time.monotonic_ns())
            return False

        keeps_up()
        assert rig.join.join(batch, keeps_up).slots["source"].tolist() == [StampSource.NONE_BEHIND]


class TestWriterReplaced:
    def test_a_plain_connection_is_mapped_as_before(self):
        rig = Rig.make()
        flow = plain(rig)
        for _ in range(5):
            flow.push(0)
        rig.take()
        rig.again()
        for _ in range(5):
            flow.push(0)
        rig.take()

    def test_what_the_kernel_decrypts_is_null_where_the_beginning_is_gone(self):
        rig = Rig.make(256)
        # under TLS 1.2, so that the map has a single record
        flow = next(
            flow
            for flow in (Flow(rig, Random(n), n, 100, MapKind.KERNEL, first=True) for n in range(9))
            if not flow.tls13
        )
        while rig.segments.published.read() < 150:
            flow.push(0)
            rig.take()
        # of these the records are there, and some before them
        for _ in range(20):
            flow.push(0)
        rig.again()
        for expected in rig.expected:
            expected.stamp, expected.order = None, 0
        assert {StampSource(source) for source in rig.take()["source"].tolist()} == {StampSource.NONE_UNMAPPED}

    def test_after_long_without_one_nothing_that_is_in_the_rings_is_left_out(self):
        rig = Rig.make(256)
        flow = plain(rig)
        start, _ = flow.send(12, 0)
        while rig.segments.published.read() < 250:
            flow.send(9, 0)
        rig.again()
        rig.frame(0, flow.head + 2, 10, Expected(*flow.arrived_at(start, start + 11), rig.stamp))
        rig.take()

    def test_rows_that_it_takes_again_have_the_same_segments(self):
        rig = Rig.make()
        flow = plain(rig)
        flow.push(0)
        slots, expected = list(rig.slots), list(rig.expected)
        first = rig.take()
        rig.again()
        rig.slots, rig.expected = slots, expected
        assert rig.take().tolist() == first.tolist()


def test_what_is_not_needed_any_more_is_forgotten():
    rig = Rig.make()
    flows = [Flow(rig, Random(n), n, 0, KINDS[n], first=True) for n in range(3)]
    for _ in range(50):
        for flow in flows:
            for _ in range(5):
                flow.push(0)
        rig.take()
        assert len(rig.join._store) < 60
        assert len(rig.join._map) < 30
    assert rig.segments.released.read() == rig.segments.published.read()
    assert rig.map.map.released.read() == rig.map.map.published.read()
