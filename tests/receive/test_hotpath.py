"""wsrec.receive.hotpath: bytes in through a real socket, slots out."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Opcode

from tests.effort import examples
from tests.receive.conftest import BAD_RECORD, END_RECORD, Rig, frame, record, text
from wsrec.host import clock
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath
from wsrec.receive.ktls import KtlsTransport
from wsrec.ring.bytering import MIN_RING
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.stages import StampSource
from wsrec.wire.errors import ProtocolError

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70_000]


class TestOneFrameOneSlot:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_the_payload_lies_where_the_slot_says(self, rig, opcode, size):
        payload = random.Random(size).randbytes(size)
        (slot,) = rig.feed(frame(opcode, payload))
        assert (slot.opcode, slot.flags, slot.payload, slot.conn) == (opcode, Flag.FIN | Flag.LAST, payload, 3)

    def test_the_frames_of_one_read_are_counted(self, rig):
        data = b"".join(text(f"message {n}") for n in range(5))
        rig.server.sendall(data)
        slots = rig.read()
        assert [slot.payload for slot in slots] == [b"message %d" % n for n in range(5)]
        assert [slot.frame_in_read for slot in slots] == [0, 1, 2, 3, 4]
        assert {slot.frames_in_read for slot in slots} == {5}
        assert {slot.read_bytes for slot in slots} == {len(data)}

    def test_a_frame_counts_for_the_read_that_completed_it(self, rig):
        one, two = text("one"), text("two")
        rig.server.sendall(one + two[:3])
        (slot,) = rig.read()
        assert (slot.payload, slot.frame_in_read, slot.frames_in_read) == (b"one", 0, 1)
        rig.server.sendall(two[3:] + one)
        slots = rig.read()
        assert [(slot.payload, slot.frame_in_read, slot.frames_in_read) for slot in slots] == [
            (b"two", 0, 2),
            (b"one", 1, 2),
        ]
        assert {slot.read_bytes for slot in slots} == {len(two) - 3 + len(one)}

    def test_payloads_stand_one_behind_the_other_with_only_headers_between(self, rig):
        rig.server.sendall(text("a" * 10) + text("b" * 200))
        one, two = rig.read()
        assert (one.offset, two.offset) == (2, 2 + 10 + 4)

    def test_as_many_frames_as_a_read_can_bring(self, make_rig):
        with make_rig(slots=1 << 17) as rig:
            slots = rig.feed(text("") * 66_000)
            assert len(slots) == 66_000
            assert max(slot.frames_in_read for slot in slots) > 30_000
            for read in {slot.event: slot for slot in slots}.values():
                assert read.frame_in_read == read.frames_in_read - 1

    @pytest.mark.parametrize("start", [2**40 - 100, 2**63 - 100])
    def test_counts_go_on_over_the_seam_and_never_wrap(self, make_rig, start):
        with make_rig(ring=MIN_RING, start=start) as rig:
            payloads = [random.Random(n).randbytes(5000) for n in range(40)]
            slots = [slot for payload in payloads for slot in rig.feed(text(payload))]
            assert [slot.payload for slot in slots] == payloads
            assert [slot.offset for slot in slots] == [start + 4 + n * 5004 for n in range(40)]

    def test_what_it_counts(self, rig):
        rig.feed(text("abc"))
        rig.feed(text("abc")[:3])
        assert (rig.hot.reads, rig.hot.frames, rig.hot.received, rig.hot.unparsed) == (2, 1, 8, 3)


class TestFragments:
    def test_flags_say_what_begins_and_what_ends(self, rig):
        slots = rig.feed(
            frame(BINARY, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c") + text("whole")
        )
        assert [(slot.opcode, slot.fin, slot.payload) for slot in slots] == [
            (BINARY, False, b"a"),
            (CONT, False, b"b"),
            (CONT, True, b"c"),
            (TEXT, True, b"whole"),
        ]

    def test_control_frames_between_them(self, rig):
        rig.feed(frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(CONT, b"b"))
        assert rig.reader.received() == [(PING, b"p"), (TEXT, b"ab")]
        assert [control[:2] for control in rig.controls] == [(PING, b"p")]

    def test_empty_fragments(self, rig):
        rig.feed(frame(TEXT, fin=False) + frame(CONT, fin=False) + frame(CONT))
        assert rig.reader.received() == [(TEXT, b"")]

    def test_across_reads(self, rig):
        for data in (frame(TEXT, b"a", fin=False), frame(CONT, b"b", fin=False), frame(CONT, b"c")):
            rig.feed(data)
        assert rig.reader.received() == [(TEXT, b"abc")]


class TestControlFrames:
    @pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
    def test_have_a_slot_and_are_passed_on_after_it_is_published(self, rig, opcode):
        payload = b"\x03\xe8bye"
        rig.server.sendall(text("before") + frame(opcode, payload) + text("after"))
        slots = rig.read()
        assert [(slot.opcode, slot.payload) for slot in slots] == [(1, b"before"), (opcode, payload), (1, b"after")]
        assert rig.controls == [(opcode, payload, 3)]

    def test_in_their_order(self, rig):
        rig.feed(frame(PING, b"1") + frame(PONG, b"2") + frame(PING, b"3"))
        assert [control[:2] for control in rig.controls] == [(PING, b"1"), (PONG, b"2"), (PING, b"3")]


class TestCut:
    @pytest.mark.parametrize("size", [0, 5, 125, 126, 300])
    def test_at_every_byte(self, make_rig, size):
        payload = random.Random(size).randbytes(size)
        data = text(payload)
        with make_rig() as rig:
            for cut in range(1, len(data)):
                rig.server.sendall(data[:cut])
                assert rig.read() == []
                rig.server.sendall(data[cut:])
                (slot,) = rig.read()
                assert (slot.payload, slot.read_bytes) == (payload, len(data) - cut)

    def test_byte_by_byte(self, rig):
        data = text("first") + frame(PING, b"x") + frame(BINARY, bytes(200), fin=False) + frame(CONT, b"end")
        for at in range(len(data)):
            rig.server.sendall(data[at : at + 1])
            rig.read()
        assert rig.reader.received() == [(TEXT, b"first"), (PING, b"x"), (BINARY, bytes(200) + b"end")]


class TestLargeFrames:
    @pytest.mark.parametrize("size", [MIN_RING // 4 - 4, MIN_RING // 4 + 1, MIN_RING // 2, MIN_RING, 5 * MIN_RING + 17])
    @pytest.mark.parametrize("fin", [True, False])
    def test_larger_than_the_ring_in_parts(self, make_rig, size, fin):
        payload = random.Random(size).randbytes(size)
        with make_rig(ring=MIN_RING) as rig:
            slots = rig.feed(frame(BINARY, payload, fin=fin))
            assert b"".join(slot.payload for slot in slots) == payload
            assert [slot.opcode for slot in slots] == [BINARY] + [CONT] * (len(slots) - 1)
            assert [slot.fin for slot in slots] == [False] * (len(slots) - 1) + [fin]
            rig.feed(frame(PING, b"x") if fin else frame(PING, b"x") + frame(CONT, b"end"))
            assert rig.reader.received() == [(BINARY, payload), (PING, b"x")] or not fin
            if not fin:
                assert rig.reader.received() == [(PING, b"x"), (BINARY, payload + b"end")]

    def test_up_to_a_quarter_of_the_ring_in_one_piece(self, make_rig):
        payload = bytes(MIN_RING // 4 - 4)
        with make_rig(ring=MIN_RING) as rig:
            for at in range(0, len(data := text(payload)), 1000):
                rig.feed(data[at : at + 1000])
            (slot,) = rig.reader.taken
            assert slot.payload == payload

    def test_a_part_is_never_small(self, make_rig):
        with make_rig(ring=MIN_RING) as rig:
            for at in range(0, len(data := text(bytes(3 * MIN_RING))), 999):
                rig.feed(data[at : at + 999])
            assert min(len(slot.payload) for slot in rig.reader.taken[:-1]) >= MIN_RING // 4 - 10
            assert rig.reader.received() == [(TEXT, bytes(3 * MIN_RING))]

    def test_the_next_frame_of_the_same_read_follows(self, make_rig):
        with make_rig(ring=MIN_RING) as rig:
            rig.feed(text(bytes(100_000)) + text("next") + text(bytes(100_000)))
            assert rig.reader.received() == [(TEXT, bytes(100_000)), (TEXT, b"next"), (TEXT, bytes(100_000))]


class TestFullRing:
    def test_of_bytes_stops_reading_and_loses_nothing(self, make_rig):
        sent = [random.Random(n).randbytes(3000) for n in range(30)]
        with make_rig(ring=MIN_RING) as rig:
            rig.server.sendall(b"".join(map(text, sent)))
            rig.pump(release=False)
            assert (rig.full, rig.hot.has_room()) == (1, False)
            rig.hot.on_readable()
            assert rig.full == 2
            while len(rig.reader.taken) < len(sent):
                rig.reader.release()
                assert rig.hot.has_room()
                rig.pump(release=False)
            assert [payload for _, payload in rig.reader.received()] == sent

    def test_of_slots_stops_reading_and_loses_nothing(self, make_rig):
        # from half of the slots on there is no room for a read of the smallest frames
        count = 18_000
        with make_rig(slots=1 << 15) as rig:
            data = memoryview(b"".join(text(b"%d" % n) for n in range(count)))
            rig.server.setblocking(False)
            view = data[rig.server.send(data) :]
            rig.pump(release=False)
            while not rig.full:
                view = view[rig.server.send(view) :]
                rig.pump(release=False)
            assert rig.ring.room(rig.ring.head.read()) > 1 << 19
            # there is still room for the receiver's own records
            assert rig.slots.free(rig.producer.count) >= 16
            while view or rig.readable():
                rig.reader.release()
                if view:
                    view = view[rig.server.send(view) :]
                rig.pump(release=False)
            assert [payload for _, payload in rig.reader.received()] == [b"%d" % n for n in range(count)]

    def test_the_writer_never_finds_more_than_the_ring_holds(self, make_rig):
        with make_rig(ring=MIN_RING) as rig:
            rig.server.setblocking(False)
            while not rig.full:
                rig.server.send(text(bytes(1000)) * 10)
                rig.pump(release=False)
                assert rig.ring.head.read() - rig.ring.tail.read() <= MIN_RING


class TestDiscard:
    def test_bytes_that_no_slot_refers_to_are_given_back(self, make_rig):
        with make_rig(ring=MIN_RING) as rig:
            rig.feed(text("kept") + text(bytes(10_000))[:9000])
            assert rig.ring.head.read() > 9000
            rig.hot.discard()
            assert rig.ring.head.read() == len(text("kept"))
            assert rig.hot.unparsed == 0

    def test_an_answer_that_never_opened_leaves_the_ring_empty(self, make_rig):
        with make_rig(ring=MIN_RING, opening=lambda rig, data: len(data)) as rig:
            rig.feed(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + bytes(5000))
            rig.hot.discard()
            assert rig.ring.room(rig.ring.head.read()) == MIN_RING


class TestOpening:
    def test_frames_behind_the_handshake_are_taken_from_the_same_read(self, make_rig):
        def opening(rig: Rig, data: memoryview) -> int:
            seen.append(bytes(data))
            rig.hot.open = b"\n" in bytes(data)
            return bytes(data).find(b"\n") + 1 or len(data)

        seen: list[bytes] = []
        with make_rig(opening=opening) as rig:
            rig.server.sendall(b"hand")
            assert rig.read() == []
            rig.server.sendall(b"shake\n" + text("one") + text("two")[:2])
            (slot,) = rig.read()
            assert seen == [b"hand", b"shake\n" + text("one") + text("two")[:2]]
            assert (slot.payload, slot.offset, slot.frames_in_read) == (b"one", 12, 1)
            rig.feed(text("two")[2:])
            assert rig.reader.received() == [(TEXT, b"one"), (TEXT, b"two")]


class TestStamps:
    def test_never_decrease_within_a_frame(self, rig):
        before = clock.now()
        for n in range(20):
            rig.feed(text("x" * n) * n)
        after = clock.now()
        assert len(rig.reader.taken) == 190
        for slot in rig.reader.taken:
            stamps = [slot.event, slot.recv_start, slot.recv_end, slot.parsed, slot.handoff]
            assert stamps == sorted(stamps)
            assert before <= slot.event <= slot.handoff <= after

    def test_each_frame_of_a_read_is_parsed_at_its_own_time(self, rig):
        slots = rig.feed(text("x") * 50)
        parsed = [slot.parsed for slot in slots]
        assert parsed == sorted(parsed)
        assert len(set(parsed)) > 1
        handoffs = [slot.handoff for slot in slots]
        assert handoffs == sorted(handoffs)
        assert len(set(handoffs)) == (4 if CompiledHotPath is type(rig.hot) else 1)
        assert all(slot.parsed <= slot.handoff for slot in slots)

    def test_a_frame_of_two_reads_has_those_of_the_second(self, rig):
        data = text("cut here")
        rig.feed(data[:4])
        between = clock.now()
        (slot,) = rig.feed(data[4:])
        assert slot.event >= between

    def test_the_clock_is_read_at_each_stage(self, rig, set_clock):
        set_clock(itertools.count(1000).__next__)
        rig.server.sendall(text("a") + text("b"))
        one, two = rig.read()
        assert (one.event, one.recv_start, one.recv_end, one.parsed) == (1000, 1001, 1002, 1003)
        assert (two.event, two.recv_start, two.recv_end, two.parsed) == (1000, 1001, 1002, 1004)
        assert one.handoff == two.handoff == 1005

    @pytest.mark.parametrize("position", [1, 2, 3])
    @pytest.mark.parametrize(("jump", "coarse"), [(2**32 - 1, False), (2**32, True), (2**41, True)])
    def test_a_stop_of_seconds_makes_the_differences_coarse(self, rig, set_clock, position, jump, coarse):
        times = [1000] * position + [1000 + jump] * 10
        set_clock(iter(times).__next__)
        rig.server.sendall(text("x"))
        (slot,) = rig.read()
        assert bool(slot.flags & Flag.COARSE) is coarse
        assert slot.fin
        stamps = [slot.event, slot.recv_start, slot.recv_end, slot.parsed]
        for found, true in zip(stamps, times, strict=False):
            assert true - 3 * 1024 < found <= true
            assert coarse or found == true
        assert slot.parsed <= slot.handoff

    @pytest.mark.skipif(clock.counter is None, reason="the compiled clock was not built here")
    def test_the_compiled_ones_are_coarse_too(self):
        """A counter whose every tick lasts a second."""
        with Rig(CompiledHotPath) as rig:
            try:
                clock.counter.follow(clock.counter.sample()[0], 0, 1 << 62)
                rig.server.sendall(text("x") + frame(PING))
                slots = rig.read()
            finally:
                clock.counter.follow(0, 0, 0)
        for slot in slots:
            assert slot.flags & Flag.COARSE
            assert slot.recv_end - slot.recv_start > 2**32
            assert slot.event <= slot.recv_start <= slot.recv_end <= slot.parsed

    @pytest.mark.long
    def test_a_read_of_seconds_makes_the_differences_coarse(self, rig):
        """The same with a real clock and a transport that takes its time, for both implementations."""
        transport = rig.transport

        class Slow:
            stamp, source, read_bytes, fileno = 0, StampSource.NONE_OPENSSL, 3, transport.fileno
            by_record, more = False, transport.more

            def read(self, into):
                time.sleep(4.4)
                return transport.read(into)

        rig.transport = Slow()
        rig.remake()
        rig.server.sendall(text("x"))
        (slot,) = rig.read()
        rig.transport = transport
        assert slot.flags & Flag.COARSE
        assert 4_300_000_000 < slot.recv_end - slot.recv_start < 60_000_000_000
        assert slot.event <= slot.recv_start <= slot.recv_end <= slot.parsed <= slot.handoff

    @pytest.mark.usefixtures("kernel_stamps")
    def test_the_kernel_s_stamp_is_of_now(self, make_rig):
        with make_rig(tcp=True) as rig:
            (slot,) = rig.feed(text("x"))
            assert slot.source is StampSource.KERNEL
            assert abs(time.time_ns() - slot.nic) < 1_000_000_000

    def test_without_stamps_the_slot_says_why(self, rig):
        (slot,) = rig.feed(text("x"))
        assert (slot.nic, slot.source) == (0, StampSource.NONE_UNSUPPORTED)


class TestProtocolErrors:
    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (b"\x81\x80masked", CloseCode.PROTOCOL_ERROR),
            (b"\xc1\x01x", CloseCode.PROTOCOL_ERROR),
            (b"\x83\x01x", CloseCode.PROTOCOL_ERROR),
            (b"\x09\x00", CloseCode.PROTOCOL_ERROR),
            (b"\x89\x7e\x00\x7e" + bytes(126), CloseCode.PROTOCOL_ERROR),
            (b"\x80\x01x", CloseCode.PROTOCOL_ERROR),
            (b"\x82\x7f\x80" + bytes(7), CloseCode.PROTOCOL_ERROR),
            (b"\x01\x01a\x81\x01b", CloseCode.PROTOCOL_ERROR),
            (b"\x81\x7e\x03\xe9", CloseCode.MESSAGE_TOO_BIG),
            (b"\x01\x7e\x03\xe8" + bytes(1000) + b"\x80\x01x", CloseCode.MESSAGE_TOO_BIG),
        ],
    )
    def test_frames_before_the_bad_one_are_published_and_the_end_reported_once(self, make_rig, bad, code):
        with make_rig(max_message=1000) as rig:
            rig.server.sendall(text("good") + frame(PING, b"p") + bad + text("never"))
            slots = rig.read()
            assert [slot.payload for slot in slots][:2] == [b"good", b"p"]
            assert b"never" not in [slot.payload for slot in slots]
            (error,) = rig.ends
            assert isinstance(error, ProtocolError)
            assert error.code == code
            assert [control[:2] for control in rig.controls] == [(PING, b"p")]

    def test_a_bad_header_is_reported_before_its_payload_comes(self, make_rig):
        with make_rig(max_message=1000) as rig:
            rig.feed(b"\x82\x7f" + (1001).to_bytes(8, "big"))
            assert [error.code for error in rig.ends] == [CloseCode.MESSAGE_TOO_BIG]

    @pytest.mark.parametrize("size", [999, 1000])
    def test_the_largest_message_allowed(self, make_rig, size):
        with make_rig(max_message=1000) as rig:
            rig.feed(text(bytes(size)) + frame(TEXT, bytes(size - 1), fin=False) + frame(CONT, b"x"))
            assert (rig.reader.received(), rig.ends) == ([(TEXT, bytes(size)), (TEXT, bytes(size - 1) + b"x")], [])


# RFC 3629 section 4: the edges of what each first byte allows, and what is none at all
VALID = ["", "ascii", "κόσμε", "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff", "a" * 63 + "é" + "b" * 130]
INVALID = [
    bytes.fromhex(digits)
    for digits in (
        *("80", "bf", "c0af", "c1bf", "c2", "c27f", "c2c0", "e09fbf", "e0a0", "e282", "e28228", "eda080", "edbfbf"),
        *("f08fbfbf", "f0908080ff", "f4908080", "f5808080", "fe", "ff"),
    )
]


class TestText:
    @pytest.mark.parametrize("payload", VALID)
    @pytest.mark.parametrize("before", [0, 1, 7, 8, 63, 64, 65, 200])
    def test_that_is_utf8_is_taken(self, make_rig, payload, before):
        data = b"x" * before + payload.encode()
        with make_rig(validate_text=True) as rig:
            (slot,) = rig.feed(text(data))
            assert slot.payload == data
            assert rig.ends == []

    @pytest.mark.parametrize("payload", INVALID)
    @pytest.mark.parametrize("around", [0, 1, 8, 64, 200])
    def test_that_is_not_ends_it_with_1007_after_the_frames_before_it(self, make_rig, payload, around):
        bad = b"x" * around + payload + b"y" * around
        with make_rig(validate_text=True) as rig:
            (slot,) = rig.feed(text("good") + text(bad) + text("after"))
            assert slot.payload == b"good"
            (end,) = rig.ends
            assert end.code is CloseCode.INVALID_DATA

    @pytest.mark.parametrize("payload", INVALID)
    def test_that_is_invalid_is_recorded_without_validation(self, rig, payload):
        (slot,) = rig.feed(text(payload))
        assert slot.payload == payload

    def test_a_binary_message_may_be_anything(self, make_rig):
        with make_rig(validate_text=True) as rig:
            assert [slot.payload for slot in rig.feed(frame(BINARY, b"\xff") * 2)] == [b"\xff"] * 2
            rig.feed(frame(BINARY, b"\xff", fin=False) + frame(CONT, b"\xfe"))
            assert rig.ends == []

    def test_a_character_may_lie_across_fragments_and_reads(self, make_rig):
        data = "κόσμε".encode()
        wire = (
            frame(TEXT, data[:1], fin=False) + frame(PING) + frame(CONT, data[1:4], fin=False) + frame(CONT, data[4:])
        )
        with make_rig(validate_text=True) as rig:
            for byte in wire:
                rig.feed(bytes((byte,)))
            assert rig.ends == []
            assert (TEXT, data) in rig.reader.received()

    @pytest.mark.parametrize("fin", [True, False])
    def test_broken_text_is_refused_before_its_frame_is_complete(self, make_rig, fin):
        wire = frame(TEXT, b"good \xf4\x90\x80\x80 and much more" * 10, fin=fin)
        with make_rig(validate_text=True) as rig:
            fed = next(at for at, byte in enumerate(wire) if rig.feed(bytes((byte,))) or rig.ends)
            # beyond U+10FFFF from the second byte on
            assert fed == wire.index(b"\x90")
            assert rig.ends[0].code is CloseCode.INVALID_DATA

    def test_a_message_that_ends_within_a_character_is_refused(self, make_rig):
        with make_rig(validate_text=True) as rig:
            rig.feed(frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"\x82"))
            assert rig.ends[0].code is CloseCode.INVALID_DATA

    def test_a_large_message_is_validated_in_its_parts(self, make_rig):
        data = ("é" * (3 * MIN_RING)).encode()
        with make_rig(ring=MIN_RING, validate_text=True) as rig:
            rig.feed(text(data))
            assert rig.ends == []
            assert rig.reader.received() == [(TEXT, data)]
            rig.feed(text(data + b"\xff"))
            assert rig.ends[0].code is CloseCode.INVALID_DATA

    @given(
        st.lists(st.text(max_size=100).map(str.encode) | st.binary(max_size=100), max_size=6).map(b"".join), st.data()
    )
    @settings(max_examples=examples(200), deadline=None)
    def test_is_taken_exactly_where_python_takes_it(self, make_rig, payload, data):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        edges = [0, *cuts, len(payload)]
        wire = b"".join(
            frame(CONT if index else TEXT, payload[first:last], fin=index == len(cuts))
            for index, (first, last) in enumerate(itertools.pairwise(edges))
        )
        try:
            payload.decode()
            valid = True
        except UnicodeDecodeError:
            valid = False
        step = data.draw(st.integers(1, len(wire)))
        with make_rig(validate_text=True) as rig:
            for at in range(0, len(wire), step):
                rig.feed(wire[at : at + step])
            assert (rig.reader.received() == [(TEXT, payload)]) is valid
            assert [end.code for end in rig.ends] == [] if valid else [CloseCode.INVALID_DATA]


class TestEnd:
    def test_of_the_stream(self, rig):
        rig.feed(text("last"))
        rig.server.shutdown(socket.SHUT_WR)
        assert rig.read() == []
        assert rig.ends == [None]

    def test_in_the_middle_of_a_frame(self, rig):
        rig.feed(text("never whole")[:5])
        rig.server.close()
        rig.read()
        assert rig.ends == [None]
        assert rig.hot.unparsed == 5

    def test_what_came_before_it_is_published_first(self, rig):
        rig.server.sendall(text("last"))
        rig.server.close()
        assert [slot.payload for slot in rig.read()] == [b"last"]
        assert rig.ends == []
        rig.read()
        assert rig.ends == [None]

    def test_by_a_reset_where_the_kernel_decrypts(self, make_rig):
        """The kernel reports it once: the next read sees an orderly end."""
        with make_rig(tcp=True) as rig:
            transport = KtlsTransport.__new__(KtlsTransport)
            vars(transport).update(vars(rig.transport), source=StampSource.NONE_KTLS, _sending=None, _keys=None)
            rig.transport = transport
            rig.remake()
            rig.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rig.server.close()
            rig.read()
            (end,) = rig.ends
            assert isinstance(end, ConnectionResetError)

    def test_by_a_reset(self, make_rig):
        with make_rig(tcp=True) as rig:
            rig.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rig.server.close()
            rig.read()
            (error,) = rig.ends
            assert isinstance(error, ConnectionResetError)

    def test_nothing_to_read_is_no_end(self, rig):
        rig.hot.on_readable()
        assert (rig.ends, rig.hot.reads, rig.reader.take()) == ([], 0, [])


class TestRecords:
    """A transport that decrypts by itself delivers a read record by record."""

    @pytest.fixture
    def rig(self, make_rig):
        with make_rig(by_record=True) as rig:
            yield rig

    def test_each_is_handed_off_before_the_next_is_decrypted(self, rig):
        rig.server.sendall(b"".join(record(text(f"message {n}")) for n in range(4)))
        slots = rig.read()
        assert [slot.payload for slot in slots] == [b"message %d" % n for n in range(4)]
        for one, two in itertools.pairwise(slots):
            assert (one.event, one.recv_start) == (two.event, two.recv_start)
            assert one.recv_end <= one.parsed <= one.handoff <= two.recv_end
        assert len({slot.recv_end for slot in slots}) == 4

    def test_the_frames_of_one_share_its_stage_4_and_hand_off(self, rig):
        rig.server.sendall(record(text("a") + text("b")) + record(text("c")))
        one, two, three = rig.read()
        assert (one.recv_end, one.handoff) == (two.recv_end, two.handoff)
        assert two.handoff <= three.recv_end

    def test_the_read_is_what_is_counted(self, rig):
        data = record(text("a") + text("b")) + record(text("c")) + record(text("d"))
        rig.server.sendall(data)
        slots = rig.read()
        assert [slot.frame_in_read for slot in slots] == [0, 1, 2, 3]
        assert [bool(slot.flags & Flag.LAST) for slot in slots] == [False, False, False, True]
        assert {(slot.frames_in_read, slot.read_bytes) for slot in slots} == {(4, len(data))}
        assert (rig.hot.reads, rig.hot.frames, rig.hot.received) == (1, 4, 12)

    def test_a_consumer_that_looks_in_between_takes_the_read_whole(self, rig):
        rig.on_batch = lambda first, stop: seen.append(len(rig.reader.take()))
        rig.remake()
        seen: list[int] = []
        # more follows the last frame, so that its mark comes late
        rig.server.sendall(record(text("a")) + record(text("b")) + record(text("cut")[:3]))
        assert [slot.frames_in_read for slot in rig.read()] == [2, 2]
        assert seen == [0, 0]

    @pytest.mark.parametrize("tail", [record(text("cut")[:3]), record(text("cut"))[:4], record(b""), b"\0"])
    def test_the_mark_comes_after_a_record_that_completes_no_frame(self, rig, tail):
        rig.server.sendall(record(text("a")) + record(text("b")) + tail)
        slots = rig.read()
        assert [(slot.payload, slot.frames_in_read) for slot in slots] == [(b"a", 2), (b"b", 2)]

    def test_a_frame_may_need_several(self, rig):
        wire = text("over three records") + text("whole")
        rig.server.sendall(b"".join(record(part) for part in (wire[:1], wire[1:9], wire[9:])))
        slots = rig.read()
        assert [slot.payload for slot in slots] == [b"over three records", b"whole"]
        assert {slot.frames_in_read for slot in slots} == {2}

    def test_a_batch_is_reported_for_each(self, rig):
        reported: list[tuple[int, int, int]] = []
        rig.on_batch = lambda first, stop: reported.append((first, stop, rig.slots.published.read()))
        rig.remake()
        rig.server.sendall(record(text("a") + text("b")) + record(text("c")))
        rig.read()
        assert reported == [(0, 2, 2), (2, 3, 3)]

    def test_a_control_frame_waits_for_the_read_to_be_whole(self, rig):
        """What it causes takes slots, and none may come between those of the read."""
        rig.server.sendall(record(text("a") + frame(PING, b"p")) + record(text("b")) + record(frame(CLOSE)))
        assert [slot.opcode for slot in rig.read()] == [TEXT, PING, TEXT, CLOSE]
        assert rig.controls == [(PING, b"p", 4), (CLOSE, b"", 4)]

    @pytest.mark.parametrize(("last", "kind"), [(END_RECORD, type(None)), (BAD_RECORD, OSError)])
    def test_what_came_before_the_end_is_handed_off_and_passed_on_first(self, rig, last, kind):
        rig.server.sendall(record(text("a")) + record(frame(PING)) + last + record(text("behind")))
        slots = rig.read()
        assert [(slot.opcode, slot.frames_in_read) for slot in slots] == [(TEXT, 2), (PING, 2)]
        assert [control[:2] for control in rig.controls] == [(PING, b"")]
        (end,) = rig.ends
        assert type(end) is kind

    @pytest.mark.parametrize(("last", "kind"), [(END_RECORD, type(None)), (BAD_RECORD, OSError)])
    def test_an_end_before_anything(self, rig, last, kind):
        rig.server.sendall(last)
        assert rig.read() == []
        (end,) = rig.ends
        assert type(end) is kind

    def test_nothing_is_parsed_behind_a_bad_frame(self, rig):
        rig.server.sendall(record(text("a")) + record(text("b") + b"\x83\x01x") + record(text("never")) + BAD_RECORD)
        assert [(slot.payload, slot.frames_in_read) for slot in rig.read()] == [(b"a", 2), (b"b", 2)]
        (end,) = rig.ends
        assert isinstance(end, ProtocolError)
        assert rig.hot.unparsed == len(b"\x83\x01x" + text("never"))

    def test_nothing_is_parsed_once_the_connection_has_ended(self, rig):
        def on_batch(first: int, stop: int) -> None:
            rig.hot.stopped = True

        rig.on_batch = on_batch
        rig.remake()
        rig.server.sendall(record(text("a")) + record(text("never")))
        assert [slot.payload for slot in rig.read()] == [b"a"]
        assert rig.hot.unparsed == len(text("never"))

    def test_the_opening_may_take_several_and_ends_with_one(self, make_rig):
        def opening(rig: Rig, data: memoryview) -> int:
            rig.hot.open = b"\n" in bytes(data)
            return len(data)

        with make_rig(by_record=True, opening=opening) as rig:
            rig.server.sendall(record(b"hand") + record(b"shake\n") + record(text("a")))
            (slot,) = rig.read()
            assert (slot.payload, slot.frame_in_read, slot.frames_in_read) == (b"a", 0, 1)

    def test_an_event_of_a_read_without_frames_is_not_marked_as_the_last_one(self, make_rig):
        def opening(rig: Rig, data: memoryview) -> int:
            rig.producer.event(EventKind.CONNECT, text="refused")
            return len(data)

        with make_rig(by_record=True, opening=opening) as rig:
            rig.server.sendall(record(b"503"))
            (slot,) = rig.read()
            assert slot.flags == Flag.EVENT | Flag.FIN

    def test_a_refusal_is_read_once(self, make_rig):
        def opening(rig: Rig, data: memoryview) -> int:
            seen.append(bytes(data))
            rig.hot.stopped = True
            return len(data)

        seen: list[bytes] = []
        with make_rig(by_record=True, opening=opening) as rig:
            rig.server.sendall(record(b"503") + record(b"behind"))
            assert rig.read() == []
            assert seen == [b"503"]

    def test_a_record_cut_anywhere(self, rig):
        data = record(text("first")) + record(text("second"))
        for at in range(len(data)):
            rig.server.sendall(data[at : at + 1])
            rig.read()
        assert rig.reader.received() == [(TEXT, b"first"), (TEXT, b"second")]
        assert {slot.frames_in_read for slot in rig.reader.taken} == {1}


sizes = st.sampled_from([*SIZES, 20_000]) | st.integers(0, 300) | st.integers(0, 70_000)
control = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def conversations(draw) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What a server may send, and what a recorder must make of it."""
    wire, model = b"", []
    for _ in range(draw(st.integers(0, 6))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        fragments = draw(st.lists(sizes, min_size=1, max_size=4))
        whole = b""
        for index, size in enumerate(fragments):
            payload = random.Random(size + index).randbytes(size)
            whole += payload
            wire += frame(opcode if index == 0 else CONT, payload, fin=index == len(fragments) - 1)
            if index < len(fragments) - 1:
                for reported in draw(st.lists(control, max_size=2)):
                    wire += frame(*reported)
                    model.append(reported)
        model.append((opcode, whole))
    return wire, model


class TestAgainstTheModel:
    @given(
        conversations(),
        st.lists(st.floats(0, 1), max_size=8),
        st.sampled_from([MIN_RING, 1 << 17, 1 << 20]),
        st.sampled_from([0, 2**40 - 7, 2**63 - 2**20]),
        st.booleans(),
    )
    @settings(max_examples=examples(150), deadline=None)
    def test_any_valid_frames_however_cut_and_released(self, make_rig, talk, cuts, ring, start, lazy):
        wire, model = talk
        edges = [0, *sorted(int(cut * len(wire)) for cut in cuts), len(wire)]
        with make_rig(ring=ring, start=start) as rig:
            rig.server.setblocking(False)
            for first, last in itertools.pairwise(edges):
                view = memoryview(wire)[first:last]
                while view or rig.readable():
                    if view:
                        view = view[send(rig, view) :]
                    full = rig.full
                    rig.pump(release=not lazy)
                    if lazy and rig.full > full:
                        rig.reader.release()
            assert rig.ends == []
            assert rig.reader.received() == model
            assert [reported[:2] for reported in rig.controls] == [message for message in model if message[0] >= CLOSE]
            assert rig.hot.unparsed == 0

    @given(
        st.lists(st.binary(max_size=200) | st.builds(frame, st.sampled_from(list(Opcode)), st.binary(max_size=125))),
        st.integers(1, 300),
    )
    @settings(max_examples=examples(200), deadline=None)
    def test_any_bytes_end_it_or_lie_in_slots_but_never_raise(self, make_rig, parts, size):
        data = b"".join(parts)
        with make_rig(ring=MIN_RING, max_message=1000) as rig:
            end = 0
            for at in range(0, len(data), size):
                # the reader asserts of every slot that it lies between tail and head
                for slot in rig.feed(data[at : at + size]):
                    assert end <= slot.offset
                    end = slot.offset + len(slot.payload)
                    assert data[slot.offset : end] == slot.payload
            assert len(rig.ends) <= 1
            assert end <= len(data)


@pytest.mark.skipif(CompiledHotPath is None, reason="the compiled hot path was not built here")
class TestBothAlike:
    """The compiled twin and the readable one, fed the same: the same slots, the same calls, the same errors."""

    @given(
        st.lists(
            st.binary(max_size=300)
            | st.builds(
                frame,
                st.sampled_from([Opcode.CONT, Opcode.TEXT, Opcode.BINARY]),
                st.binary(max_size=300),
                fin=st.booleans(),
            )
            | st.builds(frame, st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.binary(max_size=125))
            | st.builds(frame, st.just(Opcode.TEXT), st.integers(0, 70_000).map(bytes)),
            max_size=12,
        ),
        st.lists(st.floats(0, 1), max_size=6),
        st.booleans(),
        st.none() | st.lists(st.integers(0, 16_384), min_size=1, max_size=6),
        st.sampled_from([b"", END_RECORD, BAD_RECORD]),
    )
    @settings(max_examples=examples(300), deadline=None)
    def test_any_bytes_however_cut(self, parts, cuts, validate_text, records, end):
        data = b"".join(parts)
        if records is not None:
            data = b"".join(map(record, in_records(data, records))) + end
        edges = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
        options = {"validate_text": validate_text, "by_record": records is not None}
        assert self.seen(CompiledHotPath, data, edges, **options) == self.seen(HotPath, data, edges, **options)

    def seen(self, hot_path, data, edges, **options):
        with Rig(hot_path, ring=MIN_RING, max_message=60_000, **options) as rig:
            slots = []
            rig.server.setblocking(False)
            for first, last in itertools.pairwise(edges):
                view = memoryview(data)[first:last]
                while (view or rig.readable()) and not rig.ends:
                    if view:
                        view = view[send(rig, view) :]
                    slots += rig.pump(release=True)
            return (
                [
                    (s.offset, s.opcode, s.flags, s.frame_in_read, s.frames_in_read, s.read_bytes, s.payload)
                    for s in slots
                ],
                [reported[:2] for reported in rig.controls],
                [(type(end), getattr(end, "code", None), str(end)) for end in rig.ends],
                rig.hot.unparsed,
                (rig.hot.reads, rig.hot.frames, rig.hot.received),
            )


def in_records(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """`data` in records of these sizes in turn."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        # one without content carries nothing on
        yield data[at : at + size]
        at += size or (sum(sizes) == 0)


def send(rig: Rig, view: memoryview) -> int:
    try:
        return rig.server.send(view)
    except BlockingIOError:
        return 0


def test_a_consumer_in_the_same_process_gets_each_batch_once_it_is_published(rig: Rig) -> None:
    reported: list[tuple[int, int, int]] = []
    rig.on_batch = lambda first, stop: reported.append((first, stop, rig.slots.published.read()))
    rig.remake()
    rig.server.sendall(text("a") + text("b"))
    rig.read()
    rig.server.sendall(text("c"))
    rig.read()
    assert reported == [(0, 2, 2), (2, 3, 3)]
