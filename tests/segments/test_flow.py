"""The compiled flow table: which bytes of a stream arrived when, whatever the order of the segments."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.segments.packets import (
    ACK,
    FIN,
    PSH,
    QINQ,
    RST,
    SYN,
    URG,
    V4,
    V6,
    VLAN,
    Ends,
    checksum,
    packet,
    tagged,
    with_checksum,
)
from wsrec.segments.segment_ring import BrokenReason, SegmentFlag, SegmentKind, SegmentRing

capture = pytest.importorskip("wsrec.segments._capture", reason="the capture is not compiled")

NIC, REPEATED, FILLED, AHEAD = SegmentFlag.NIC, SegmentFlag.REPEATED, SegmentFlag.FILLED, SegmentFlag.AHEAD


class Seen(NamedTuple):
    """A record of the ring, without flow and connection."""

    kind: int
    offset: int
    length: int
    stamp: int
    flags: int = 0
    value: int = 0


class Table:
    """A flow table and its ring."""

    def __init__(self, capacity: int = 1 << 12, window: int = 1 << 30) -> None:
        import os

        fd = SegmentRing.create("t", capacity)
        try:
            self.ring = SegmentRing(fd)
        finally:
            os.close(fd)
        self.table = capture.FlowTable(self.ring, 16, window)
        self.taken = 0

    def watch(self, ends: Ends = V4, *, place: int = 0, flow: int = 1, records: bool = False) -> None:
        self.table.put(place, flow, 7, ends.port, ends.remote_address, ends.remote_port, records=records)

    def arrive(
        self, sequence: int, payload: bytes, stamp: int, flags: int = ACK, *, ends: Ends = V4, captured: int = 1 << 20
    ) -> None:
        data, protocol = packet(ends, sequence, payload, flags)
        self.table.packet(data[:captured], len(data), protocol, stamp)

    def open(self, first: int = 0, ends: Ends = V4, **named: Any) -> None:
        """Watch, and take the SYN-ACK in front of sequence number `first`."""
        self.watch(ends, **named)
        self.arrive(first - 1, b"", 1, SYN | ACK, ends=ends)
        (seen,) = self.take()
        assert seen == Seen(SegmentKind.OPEN, 0, 0, 1)

    def rows(self) -> np.ndarray[Any, Any]:
        until = self.ring.published.read()
        rows = self.ring.run(self.taken, until).copy()
        self.taken = until
        self.ring.released.publish(until)
        return rows

    def take(self) -> list[Seen]:
        return [
            Seen(*(int(row[name]) for name in ("kind", "offset", "length", "stamp", "flags", "value")))
            for row in self.rows()
        ]


def segment(offset: int, length: int, stamp: int, flags: int = 0) -> Seen:
    return Seen(SegmentKind.SEGMENT, offset, length, stamp, flags)


class TestOrder:
    """What each segment tells, one case at a time."""

    @pytest.fixture(params=[V4, V6], ids=["ipv4", "ipv6"])
    def ends(self, request) -> Ends:
        return request.param

    @pytest.mark.parametrize("first", [0, 1000, 2**31 - 5, 2**32 - 5])
    def test_in_order(self, first, ends):
        table = Table()
        table.open(first, ends)
        table.arrive(first, b"a" * 10, 100, ends=ends)
        table.arrive(first + 10, b"b" * 7, 101, ends=ends)
        assert table.take() == [segment(0, 10, 100), segment(10, 7, 101)]

    def test_offsets_go_on_where_sequence_numbers_wrap_again_and_again(self):
        table = Table()
        table.open(17)
        at, size = 0, 60_000
        for stamp in range(200_000):
            table.arrive(17 + at, b"x" * size, stamp + 5) if stamp % 1000 == 0 else self.fast(
                table, 17 + at, size, stamp + 5
            )
            at += size
            if stamp % 1000 == 0:
                last = table.take()[-1]
        assert at > 2 * 2**32
        table.arrive(17 + at, b"end", 9)
        assert table.take()[-1] == segment(at, 3, 9)
        assert last.offset < at

    @staticmethod
    def fast(table: Table, sequence: int, size: int, stamp: int) -> None:
        data, protocol = packet(V4, sequence, b"", ACK)
        data = with_checksum(data[:2] + struct.pack("!H", 40 + size) + data[4:])
        table.table.packet(data, 40 + size, protocol, stamp)
        table.ring.released.publish(table.ring.published.read())
        table.taken = table.ring.published.read()

    def test_the_first_arrival_counts_and_a_later_one_is_marked(self):
        table = Table()
        table.open(5)
        table.arrive(5, b"a" * 10, 100)
        table.arrive(5, b"a" * 10, 200)
        table.arrive(10, b"a" * 10, 300)
        assert table.take() == [
            segment(0, 10, 100),
            segment(0, 10, 200, REPEATED),
            segment(5, 5, 300, REPEATED),
            segment(10, 5, 300),
        ]

    def test_what_overtakes_is_ahead_and_what_comes_late_fills(self):
        table = Table()
        table.open()
        table.arrive(10, b"b" * 5, 100)
        table.arrive(20, b"d" * 5, 101)
        table.arrive(15, b"c" * 5, 102)
        table.arrive(0, b"a" * 10, 103)
        table.arrive(25, b"e" * 5, 104)
        assert table.take() == [
            segment(10, 5, 100, AHEAD),
            segment(20, 5, 101, AHEAD),
            segment(15, 5, 102, AHEAD | FILLED),
            segment(0, 10, 103, FILLED),
            segment(25, 5, 104),
        ]

    def test_a_segment_over_several_holes_tells_each_part(self):
        table = Table()
        table.open()
        table.arrive(10, b"b" * 5, 100)
        table.arrive(20, b"d" * 5, 101)
        table.take()
        table.arrive(0, b"x" * 30, 102)
        assert table.take() == [
            segment(0, 10, 102, FILLED),
            segment(10, 5, 102, REPEATED),
            segment(15, 5, 102, FILLED),
            segment(20, 5, 102, REPEATED),
            segment(25, 5, 102),
        ]

    def test_one_packet_that_two_devices_show_counts_once(self):
        table = Table()
        table.open()
        for _ in range(2):
            table.arrive(0, b"a" * 10, 100)
        assert table.take() == [segment(0, 10, 100)]

    def test_one_that_another_device_shows_later_is_no_repetition(self):
        """As a VLAN's device upon one whose packets have no stamp of their own: each is shown by both."""
        table = Table()
        table.open()
        for stamp, interface in ((100, 1), (101, 2), (102, 1), (103, 2)):
            data, protocol = packet(V4, 0, b"a" * 10)
            table.table.packet(data, len(data), protocol, stamp, interface=interface)
        data, protocol = packet(V4, 10, b"b")
        table.table.packet(data, len(data), protocol, 104, interface=2)
        assert table.take() == [segment(0, 10, 100), segment(0, 10, 102, REPEATED), segment(10, 1, 104)]

    def test_a_last_byte_that_comes_again_is_told(self):
        """As of a keep-alive probe (RFC 9293 3.8.4), or because TCP refused the first."""
        table = Table()
        table.open()
        table.arrive(0, b"a" * 10, 100)
        table.take()
        table.arrive(9, b"\0", 101)
        table.arrive(9, b"", 102)
        assert table.take() == [segment(9, 1, 101, REPEATED)]

    def test_a_nic_stamp_is_marked_and_one_far_from_the_clock_is_no_stamp(self):
        table = Table()
        table.open()
        data, protocol = packet(V4, 0, b"a")
        table.table.packet(data, len(data), protocol, 1000, nic=True)
        assert table.take() == [segment(0, 1, 1000, NIC)]

    def test_data_with_the_syn_or_the_fin_counts(self):
        table = Table()
        table.watch()
        table.arrive(99, b"early", 50, SYN | ACK)
        table.arrive(105, b"last", 51, ACK | FIN)
        assert table.take() == [Seen(SegmentKind.OPEN, 0, 0, 50), segment(0, 5, 50), segment(5, 4, 51)]

    def test_a_connection_whose_start_was_not_seen_has_no_record(self):
        table = Table()
        table.watch()
        table.arrive(99, b"data", 50)
        table.arrive(99, b"", 50, SYN)
        table.arrive(99, b"x", 50, RST | ACK)
        assert table.take() == []

    @pytest.mark.parametrize("is_behind_data", [False, True])
    def test_a_second_beginning_that_contradicts_the_first_ends_the_capture_of_the_flow(self, is_behind_data):
        table = Table()
        table.open(100)
        table.arrive(99, b"", 2, SYN | ACK)
        assert table.take() == []
        expected = []
        if is_behind_data:
            table.arrive(100, b"a", 3)
            expected = [segment(0, 1, 3)]
        table.arrive(499, b"", 4, SYN | ACK)
        table.arrive(500, b"a", 5)
        table.arrive(99, b"", 6, SYN | ACK)
        table.arrive(101, b"b", 7)
        at = int(is_behind_data)
        assert table.take() == [*expected, Seen(SegmentKind.BROKEN, at, 0, 4, 0, BrokenReason.CONTRADICTED)]

    def test_data_without_an_acknowledgement_is_none(self):
        table = Table()
        table.open()
        table.arrive(0, b"abc", 5, PSH)
        assert table.take() == []

    def test_urgent_data_ends_the_capture_of_the_flow(self):
        table = Table()
        table.open()
        table.arrive(0, b"abc", 5)
        table.arrive(3, b"def", 6, ACK | URG)
        table.arrive(6, b"ghi", 7)
        assert table.take() == [segment(0, 3, 5), Seen(SegmentKind.BROKEN, 3, 0, 6, 0, BrokenReason.URGENT)]

    @pytest.mark.parametrize("flags", [ACK, ACK | URG])
    def test_what_no_socket_can_accept_is_ignored(self, flags):
        table = Table(window=50_000)
        table.open()
        table.arrive(0, b"a" * 60_000, 5)
        table.arrive(60_000 + 50_001, b"x", 6, flags)
        table.arrive(9_998, b"x", 6, flags)
        table.arrive(60_000, b"bc", 7)
        assert table.take() == [segment(0, 60_000, 5), segment(60_000, 2, 7)]

    def test_what_goes_on_behind_a_hole_that_was_filled_unseen_counts(self):
        table = Table(window=50_000)
        table.open()
        for at in range(10_000, 200_000, 10_000):
            table.arrive(at, b"a" * 10_000, at)
        assert [(seen.offset, seen.stamp) for seen in table.take()] == [
            (at, at) for at in range(10_000, 200_000, 10_000)
        ]

    def test_holes_of_the_captures_own_are_no_order(self):
        table = Table()
        table.open()
        table.table.heal(10**9)
        for now in (10**9 - 1, 10**9):
            data, protocol = packet(V4, 10 if now < 10**9 else 30, b"abc", ACK)
            table.table.packet(data, len(data), protocol, 5, now=now)
        assert [seen.flags for seen in table.take()] == [0, AHEAD]

    @pytest.mark.parametrize("distance", [2**30 + 1, 2**31, -(2**30) - 50])
    def test_what_lies_beyond_every_window_is_ignored(self, distance):
        table = Table()
        table.open()
        table.arrive(distance, b"abc", 5)
        table.arrive(0, b"abc", 6)
        assert table.take() == [segment(0, 3, 6)]

    def test_bytes_before_the_first_are_cut_off(self):
        table = Table()
        table.open(100)
        table.arrive(90, b"x" * 15, 5)
        table.arrive(80, b"x" * 20, 6)
        assert table.take() == [segment(0, 5, 5)]


class TestRefused:
    """What TCP certainly refuses is no arrival."""

    @pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
    @pytest.mark.parametrize("kept", [1 << 20, 64], ids=["whole", "cut"])
    def test_a_segment_with_a_wrong_checksum_that_nobody_has_checked(self, ends, kept):
        table = Table()
        table.open(0, ends)
        data, protocol = packet(ends, 0, b"a" * 33)
        at = len(data) - 33 - 20
        pseudo = data[12:20] if ends is V4 else data[8:40]
        right = bytearray(data)
        struct.pack_into("!H", right, at + 16, checksum(pseudo + struct.pack("!HH", 6, 53) + data[at:]))
        wrong = bytearray(right)
        wrong[-1] ^= 1
        table.table.packet(bytes(wrong[:kept]), len(data), protocol, 5, checked=False)
        # where its content was not captured, it cannot be known
        seen = [] if kept > 64 else [segment(0, 33, 5)]
        assert table.take() == seen
        table.table.packet(bytes(right[:kept]), len(data), protocol, 6, checked=False)
        assert table.take() == [segment(0, 33, 6, REPEATED if seen else 0)]

    def test_a_header_of_ipv4_with_a_wrong_checksum(self):
        table = Table()
        table.open()
        data, protocol = packet(V4, 0, b"abc")
        spoiled = bytearray(data)
        spoiled[8] ^= 1
        table.table.packet(bytes(spoiled), len(data), protocol, 5)
        table.arrive(0, b"abc", 6)
        assert table.take() == [segment(0, 3, 6)]

    def test_what_is_for_another_address_of_this_machine(self):
        """As of a machine that forwards: the same peer, the same port, another address."""
        table = Table()
        table.open()
        other = V4._replace(local="10.0.0.99")
        table.arrive(0, b"abc", 5, ends=other)
        table.arrive(499, b"", 5, SYN | ACK, ends=other)
        table.arrive(0, b"abc", 6)
        assert table.take() == [segment(0, 3, 6)]

    @staticmethod
    def stamped(table: Table, sequence: int, payload: bytes, value: int | None, flags: int = ACK, now: int = 0) -> None:
        option = b"" if value is None else b"\1\1\x08\x0a" + struct.pack("!II", value, 0)
        if flags & SYN:
            option = b"\x02\x04\x05\xb4" + option
        data, protocol = packet(V4, sequence, payload, flags, options=option)
        table.table.packet(data, len(data), protocol, 5 + (value or 0), now=now)

    @pytest.mark.parametrize("first", [1000, 2**32 - 2])
    def test_a_segment_of_an_earlier_connection_by_its_timestamp(self, first):
        table = Table()
        table.watch()
        self.stamped(table, 99, b"", first, SYN | ACK)
        table.take()
        # as Linux has it, one tick is none
        for value, is_taken in ((first - 2, False), (first - 1, True), (first + 5, True), (None, True)):
            self.stamped(table, 100, b"abc", value & 2**32 - 1 if value is not None else None)
            assert bool(table.take()) is is_taken, value
        # such a one is gone after two minutes, and timestamps may have gone around
        self.stamped(table, 103, b"abc", first - 2, now=120 * 10**9)
        assert len(table.take()) == 1

    def test_timestamps_that_begin_with_nothing_or_twice_say_nothing_wrong(self):
        for beginnings, value in (((0,), 2**32 - 10), ((1000, 10), 500), ((1000, None), 500), ((None,), 5)):
            table = Table()
            table.watch()
            for beginning in beginnings:
                self.stamped(table, 99, b"", beginning, SYN | ACK)
            table.take()
            self.stamped(table, 100, b"abc", value)
            assert table.take() == [segment(0, 3, 5 + value)]

    @pytest.mark.parametrize(
        "options",
        [b"\x08\x0a\0\0", b"\x08\0\0\0", b"\x03\x01\0\0", b"\x03\xff\0\0", b"\1\1\1\x08", b"\0\x08\x0a\0" + bytes(8)],
    )
    def test_options_that_are_none(self, options):
        table = Table()
        table.watch()
        self.stamped(table, 99, b"", 1000, SYN | ACK)
        table.take()
        data, protocol = packet(V4, 100, b"abc", options=options)
        table.table.packet(data, len(data), protocol, 5)
        assert table.take() == [segment(0, 3, 5)]


class TestFlows:
    def test_others_at_the_same_port_are_not_of_the_flow(self):
        table = Table()
        table.open()
        for ends in (V4._replace(remote="10.0.0.3"), V4._replace(remote_port=444), V4._replace(port=40_002), V6):
            table.arrive(0, b"abc", 5, ends=ends)
        assert table.take() == []

    def test_each_has_its_number_and_its_connection(self):
        table = Table()
        table.open()
        table.open(50, V6, place=3, flow=9)
        table.arrive(0, b"a", 5)
        table.arrive(50, b"b", 6, ends=V6)
        assert [(int(row["flow"]), int(row["conn"])) for row in table.rows()] == [(1, 7), (9, 7)]

    def test_one_that_was_removed_gets_nothing_and_its_port_goes_on_with_another(self):
        table = Table()
        table.open()
        table.table.remove(0)
        table.arrive(0, b"a", 5)
        assert table.take() == []
        table.open(place=1, flow=2)
        table.table.remove(0)
        table.arrive(0, b"a", 5)
        assert [int(row["flow"]) for row in table.rows()] == [2]


class TestPackets:
    """What is around the segment."""

    @pytest.mark.parametrize("tags", [(VLAN,), (QINQ, VLAN)], ids=["one tag", "two tags"])
    def test_tags_that_were_left_in_the_packet(self, tags):
        table = Table()
        table.open()
        data, protocol = tagged(*packet(V4, 0, b"abc"), *tags)
        table.table.packet(data, len(data), protocol, 5)
        assert table.take() == [segment(0, 3, 5)]

    @pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
    def test_a_packet_too_large_for_its_length_field(self, ends):
        table = Table()
        table.open(0, ends)
        data, protocol = packet(ends, 0, b"x" * 150_000, jumbo=True)
        table.table.packet(data[:120], len(data), protocol, 5)
        assert table.take() == [segment(0, 150_000, 5)]

    def test_padding_is_no_payload(self):
        table = Table()
        table.open()
        data, protocol = packet(V4, 0, b"")
        table.table.packet(data + bytes(6), len(data) + 6, protocol, 5)
        data, protocol = packet(V4, 0, b"ab", options=b"\1" * 12)
        table.table.packet(data + bytes(6), len(data) + 6, protocol, 6)
        assert table.take() == [segment(0, 2, 6)]

    def test_nothing_that_is_cut_or_not_tcp_is_taken(self):
        for ends in (V4, V6):
            table = Table()
            table.open(0, ends)
            data, protocol = packet(ends, 0, b"abc")
            header = len(data) - 3
            for size in range(header):
                # as captured, and as sent
                table.table.packet(data[:size], size, protocol, 5)
                if size < header:
                    table.table.packet(data[:size], len(data), protocol, 5)
            table.table.packet(data, len(data), 0x0806, 5)
            assert table.take() == []
        table = Table()
        table.open()
        data, protocol = packet(V4, 0, b"abc")
        for at, value in ((0, 0x44), (0, 0x65), (6, 0x20), (7, 1), (9, 17), (32, 0x40), (32, 0xF0), (2, 0xFF)):
            changed = bytearray(data)
            changed[at] = value
            table.table.packet(with_checksum(bytes(changed)), len(data), protocol, 5)
        assert table.take() == []


class TestLoss:
    def test_a_ring_without_room_loses_and_tells_before_anything_else(self):
        table = Table(128)
        table.open()
        for number in range(200):
            table.arrive(number * 3, b"abc", 1000 + number)
        seen = table.take()
        table.arrive(600, b"abc", 2000)
        loss, last = table.take()
        assert loss.kind == SegmentKind.LOSS
        assert last == segment(600, 3, 2000)
        told = [one for one in seen if one.kind == SegmentKind.SEGMENT]
        lost = sum(one.value for one in (*seen, loss) if one.kind == SegmentKind.LOSS)
        assert told == [segment(number * 3, 3, 1000 + number) for number in range(len(told))]
        assert 64 < len(told) < 200
        assert len(told) + lost == 200
        assert table.ring.dropped.read() == lost

    def test_holes_without_end_do_not_grow_the_table(self):
        table = Table()
        table.open()
        for number in range(1, 2000):
            table.arrive(number * 10, b"abc", number)
        seen = table.take()
        assert [(one.offset, one.flags) for one in seen] == [(number * 10, AHEAD) for number in range(1, 2000)]
        # a hole that was given up is not filled later: nothing of it has a stamp
        table.arrive(13, b"x" * 7, 5000)
        assert table.take() == [segment(13, 7, 5000, REPEATED)]
        table.arrive(19_993, b"x" * 7, 5001)
        assert [one.flags & REPEATED for one in table.take()] == [0]

    def test_forged_holes_cost_little_and_only_until_the_stream_has_passed_them(self):
        """Each of the forged has one byte, anywhere in the window; meanwhile the stream goes on in order."""
        table = Table(1 << 14, window=1 << 20)
        table.open()
        choose = random.Random(1)
        forged = sorted(choose.sample(range(5_000, 1 << 20), 300))
        for number, at in enumerate(forged):
            table.arrive(at, b"x", number + 1)
        table.take()
        size, told = 1000, 0
        for at in range(0, 1_100_000, size):
            table.arrive(at, b"a" * size, 10_000 + at)
            told += sum(one.length for one in table.take() if not one.flags & REPEATED)
            if at < 5_000:
                assert told == at + size
        # of the smallest holes, not from the beginning to the end
        assert told > 500_000
        table.arrive(1_100_000, b"b" * 10, 9)
        assert table.take() == [segment(1_100_000, 10, 9)]


@st.composite
def _segments(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Segments of a short stream, cut and sent in any order and again."""
    cuts = sorted(draw(st.sets(st.integers(0, 120), min_size=2, max_size=16)))
    parts = [(start, end - start) for start, end in pairwise(cuts)]
    sent = draw(st.permutations(parts))
    again = draw(st.lists(st.tuples(st.integers(-20, 130), st.integers(2, 40)), max_size=8))
    return draw(st.permutations([*sent, *again]))


class TestModel:
    """Against a model that knows each byte."""

    @given(segments=_segments(), first=st.one_of(st.integers(0, 2**32 - 1), st.integers(2**32 - 130, 2**32 - 1)))
    @settings(max_examples=examples(400))
    def test_every_byte_is_told_as_the_model_has_it(self, segments, first):
        table = Table()
        table.open(first)
        known: set[int] = set()
        for stamp, (offset, length) in enumerate(segments, 100):
            table.arrive(first + offset, b"x" * length, stamp)
            start, end = max(offset, 0), max(offset + length, 0)
            hole = next(byte for byte in range(200) if byte not in known)
            expected = []
            for byte in range(start, end):
                if byte in known:
                    expected.append((byte, stamp, int(REPEATED)))
                    continue
                filled = FILLED if any(other > byte for other in known) else 0
                expected.append((byte, stamp, int(filled | (AHEAD if start > hole else 0))))
            known.update(range(start, end))
            seen = table.take()
            told = [(byte, one.stamp, one.flags) for one in seen for byte in range(one.offset, one.offset + one.length)]
            assert told == expected
            # and in as few records as there are changes
            assert len(seen) == sum(1 for index, one in enumerate(told) if not index or one[2] != told[index - 1][2])


def _records(sizes: list[int]) -> bytes:
    return b"".join(bytes([23, 3, 3]) + struct.pack("!H", size) + bytes(size) for size in sizes)


class TestRecords:
    """TLS record headers, of a flow whose payload is captured."""

    @given(
        sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
        data=st.data(),
        first=st.integers(2**32 - 200, 2**32 - 1),
    )
    @settings(max_examples=examples(300))
    def test_however_the_stream_is_cut_and_ordered(self, sizes, data, first):
        stream = _records(sizes)
        cuts = sorted({0, len(stream), *data.draw(st.sets(st.integers(0, len(stream)), max_size=10))})
        parts = data.draw(st.permutations(list(pairwise(cuts))))
        table = Table()
        table.open(first, records=True)
        for stamp, (start, end) in enumerate(parts, 100):
            table.arrive(first + start, stream[start:end], stamp)
            again = data.draw(st.sampled_from([(0, 0), *parts]))
            table.arrive(first + again[0], stream[again[0] : again[1]], stamp)
        ends = np.cumsum([5 + size for size in sizes])
        assert [(one.offset, one.length, one.value) for one in table.take() if one.kind == SegmentKind.TLS_RECORD] == [
            (int(end), 5 + size, 23) for end, size in zip(ends, sizes, strict=True)
        ]

    def test_from_where_the_tunnel_ends(self):
        table = Table()
        table.watch(records=True)
        table.table.records_from(0, 2**64 - 1)
        table.arrive(2**32 - 1, b"", 1, SYN | ACK)
        answer = b"HTTP/1.1 200 OK\r\n\r\n"
        table.arrive(0, answer, 2)
        table.table.records_from(0, len(answer))
        table.arrive(len(answer), _records([3]), 3)
        assert table.take()[-1] == Seen(SegmentKind.TLS_RECORD, len(answer) + 8, 8, 0, 0, 23)

    def test_content_is_not_needed_but_headers_are(self):
        table = Table()
        table.open(records=True)
        stream = _records([100, 10])
        data, protocol = packet(V4, 0, stream[:105])
        table.table.packet(data[:60], len(data), protocol, 5)
        table.arrive(105, stream[105:], 6)
        assert [one.offset for one in table.take() if one.kind == SegmentKind.TLS_RECORD] == [105, 120]
        data, protocol = packet(V4, 120, stream)
        table.table.packet(data[:60], len(data), protocol, 7)
        assert [(one.kind, one.offset) for one in table.take()] == [
            (SegmentKind.SEGMENT, 120),
            (SegmentKind.TLS_RECORD, 225),
            (SegmentKind.BROKEN, 225),
        ]
        table.arrive(240, stream, 8)
        assert [one.kind for one in table.take()] == [SegmentKind.SEGMENT]

    @pytest.mark.parametrize(
        "header", [b"\x13\x03\x03\0\1", b"\x19\x03\x03\0\1", b"\x17\x02\x03\0\1", b"\x17\x03\x03\xff\xff"]
    )
    def test_what_is_no_record_ends_them(self, header):
        table = Table()
        table.open(records=True)
        table.arrive(0, _records([1]) + header + b"x", 5)
        assert [(one.kind, one.value) for one in table.take()][1:] == [
            (SegmentKind.TLS_RECORD, 23),
            (SegmentKind.BROKEN, BrokenReason.RECORDS),
        ]

    def test_what_waits_behind_a_hole_is_bounded(self):
        table = Table(1 << 14)
        table.open(records=True)
        for number in range(1, 1100):
            table.arrive(number * 10 + 20_000, b"x" * 10, number)
        assert [one.value for one in table.take() if one.kind == SegmentKind.BROKEN] == [BrokenReason.RECORDS]
