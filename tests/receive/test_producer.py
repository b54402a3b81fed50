"""wsrec.receive.producer: what the receiver says keeps its place and is never dropped."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.receive.conftest import Reader, Slot
from wsrec.host.clock import now
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.mirror import PAGE
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slotring import SlotRing
from wsrec.stages import StampSource


def make(control_ring: int = PAGE, slots: int = 64) -> tuple[Producer, Reader]:
    descriptors = SlotRing.create("t", slots), ByteRing.create("t", control_ring)
    ours, theirs = [(SlotRing(descriptors[0]), ByteRing(descriptors[1])) for _ in range(2)]
    for fd in descriptors:
        os.close(fd)
    return Producer(*ours), Reader(*theirs, {})


def drain(producer: Producer, reader: Reader) -> list[Slot]:
    while not producer.flush():
        assert reader.take(), "records wait although the rings are empty"
    reader.take()
    return reader.taken


class TestWords:
    def test_an_event_has_its_own_time_and_no_stamp(self):
        producer, reader = make()
        producer.event(EventKind.CONNECT, conn=4, url="wss://x")
        (slot,) = reader.take()
        assert (slot.conn, slot.opcode, slot.flags) == (4, 0, Flag.EVENT | Flag.FIN)
        assert (slot.nic, slot.source) == (0, StampSource.NONE_SENT)
        assert slot.handoff > 0
        (event,) = reader.events()
        assert (event.kind, event.conn, event.detail) == (EventKind.CONNECT, 4, {"url": "wss://x"})

    @pytest.mark.parametrize("payload", [b"", b"hello", bytes(125)])
    def test_a_frame_that_we_sent(self, payload):
        producer, reader = make()
        producer.sent(9, 10, payload)
        (slot,) = reader.take()
        assert (slot.conn, slot.opcode, slot.flags, slot.payload) == (9, 10, Flag.SENT | Flag.FIN, payload)

    def test_frames_go_on_where_the_words_ended(self):
        producer, reader = make()
        producer.event(EventKind.SESSION_START)
        producer.sent(0, 1, b"x")
        assert producer.count == producer.slots.published.read() == 2
        assert len(reader.take()) == 2

    @pytest.mark.parametrize("size", [PAGE // 4, PAGE // 4 + 1, PAGE, 10 * PAGE + 3])
    def test_words_larger_than_the_ring_are_cut_and_keep_their_order(self, size):
        producer, reader = make()
        payload = bytes(n % 251 for n in range(size))
        producer.sent(1, 1, payload)
        producer.sent(1, 2, b"next")
        slots = drain(producer, reader)
        assert [slot.opcode for slot in slots] == [1] + [0] * (len(slots) - 2) + [2]
        assert [slot.fin for slot in slots] == [False] * (len(slots) - 2) + [True, True]
        assert len({slot.event for slot in slots[:-1]}) == 1
        assert reader.sent() == [(1, payload), (2, b"next")]


class TestFull:
    @pytest.mark.parametrize(("size", "count"), [(1000, 50), (0, 300)], ids=["bytes", "slots"])
    def test_words_wait_and_come_later_in_order(self, size, count):
        producer, reader = make()
        for number in range(count):
            producer.sent(0, 1, b"%08d" % number + bytes(size))
        assert not producer.flush()
        assert len(reader.take(release=False)) < count
        assert not producer.flush()
        reader.release()
        drain(producer, reader)
        assert [int(payload[:8]) for _, payload in reader.sent()] == list(range(count))

    def test_nothing_that_waits_is_overtaken_by_something_small(self):
        producer, reader = make()
        for _ in range(4):
            producer.sent(0, 1, bytes(PAGE // 4))
        producer.sent(0, 1, b"big" * 300)
        producer.sent(0, 1, b"")
        drain(producer, reader)
        assert [len(payload) for _, payload in reader.sent()] == [PAGE // 4] * 4 + [900, 0]

    def test_words_keep_the_time_when_they_were_said(self):
        producer, reader = make()
        for _ in range(200):
            producer.sent(0, 1, b"")
        waited = now()
        slots = drain(producer, reader)
        happened, handed_off = [slot.event for slot in slots], [slot.handoff for slot in slots]
        assert (happened, handed_off) == (sorted(happened), sorted(handed_off))
        assert len(happened) == 200
        # they happened before there was room, and were handed off after
        assert happened[-1] < waited < handed_off[-1]

    @given(st.lists(st.binary(max_size=3 * PAGE), max_size=30), st.lists(st.booleans(), max_size=30))
    @settings(deadline=None, max_examples=examples(50))
    def test_nothing_is_dropped_however_it_is_read(self, payloads, takes):
        producer, reader = make()
        for number, payload in enumerate(payloads):
            producer.sent(0, 2, payload)
            if number < len(takes) and takes[number]:
                reader.take()
        drain(producer, reader)
        assert reader.sent() == [(2, payload) for payload in payloads]

    def test_a_new_producer_goes_on_where_a_killed_one_ended(self):
        descriptors = SlotRing.create("t", 64), ByteRing.create("t", PAGE)
        reader = Reader(SlotRing(descriptors[0]), ByteRing(descriptors[1]), {})
        for number in range(3):
            Producer(SlotRing(descriptors[0]), ByteRing(descriptors[1])).sent(0, 1, b"%d" % number)
        for fd in descriptors:
            os.close(fd)
        reader.take()
        assert reader.sent() == [(1, b"0"), (1, b"1"), (1, b"2")]

    def test_words_that_a_killed_one_had_not_published_leave_no_room_behind(self):
        descriptors = SlotRing.create("t", 64), ByteRing.create("t", PAGE)
        reader = Reader(SlotRing(descriptors[0]), ByteRing(descriptors[1]), {})
        for number in range(10):
            control_ring = ByteRing(descriptors[1])
            Producer(SlotRing(descriptors[0]), control_ring).sent(0, 1, b"%d" % number)
            # killed between the two counters
            control_ring.head.publish(control_ring.head.read() + PAGE // 4)
        for fd in descriptors:
            os.close(fd)
        reader.take()
        assert reader.sent() == [(1, b"%d" % number) for number in range(10)]
