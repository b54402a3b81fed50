"""wsrec.ring.recovery_point: where a producer that died has left its rings, whatever it was doing."""

from __future__ import annotations

import os

from wsrec.ring import recovery_point
from wsrec.ring.bytering import ByteRing
from wsrec.ring.mirror import PAGE
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slotring import SlotRing, count_reads


def rings(slots: int = 64, size: int = PAGE) -> tuple[SlotRing, ByteRing]:
    descriptors = SlotRing.create("t", slots), ByteRing.create("t", size)
    made = SlotRing(descriptors[0]), ByteRing(descriptors[1])
    for fd in descriptors:
        os.close(fd)
    return made


def publish(slots: SlotRing, offset: int, length: int, conn: int, flags: Flag = Flag.FIN, event: int = 7) -> None:
    count = slots.published.read()
    write(slots, count, offset, length, conn, flags, event)
    slots.published.publish(count + 1)


def write(slots: SlotRing, count: int, offset: int, length: int, conn: int, flags: Flag, event: int) -> None:
    slot = slots.run(count, count + 1)
    slot["offset"], slot["length"], slot["conn"], slot["flags"], slot["event"] = offset, length, conn, flags, event


class TestOfConnection:
    def test_an_empty_ring(self):
        slots, ring = rings()
        ring.head.publish(300)
        assert recovery_point.of_connection(slots, ring, 0) == (0, 0)

    def test_the_end_of_the_last_slot_of_that_connection(self):
        slots, ring = rings()
        ring.head.publish(500)
        publish(slots, 100, 50, conn=3, event=1)
        publish(slots, 160, 20, conn=3, event=2)
        publish(slots, 900, 5, conn=4, event=3)
        publish(slots, 400, 9, conn=3, flags=Flag.SENT | Flag.FIN, event=4)
        assert recovery_point.of_connection(slots, ring, 3) == (180, 2)
        assert recovery_point.of_connection(slots, ring, 5) == (0, 0)
        assert recovery_point.of_control_ring(slots, ring) == (409, 4)

    def test_where_the_writer_has_released_all_it_is_the_tail(self):
        slots, ring = rings()
        publish(slots, 100, 50, conn=3)
        slots.released.publish(1)
        ring.tail.publish(150)
        ring.head.publish(200)
        assert recovery_point.of_connection(slots, ring, 3) == (150, 0)

    def test_what_was_written_and_not_published_does_not_count(self):
        slots, ring = rings()
        for number in range(slots.capacity):
            publish(slots, 10 * number, 10, conn=0)
        slots.released.publish(slots.capacity)
        ring.tail.publish(10 * slots.capacity)
        write(slots, slots.capacity, 99_999, 5, 0, Flag.FIN, 8)
        assert recovery_point.of_connection(slots, ring, 0) == (10 * slots.capacity, 0)


class TestEndRead:
    def test_half_a_read_becomes_a_whole_one(self):
        slots, _ = rings()
        publish(slots, 0, 10, conn=0)
        publish(slots, 10, 10, conn=0)
        assert count_reads(slots.run(0, 2).copy()) == 0
        recovery_point.end_read(slots)
        assert count_reads(slots.run(0, 2).copy()) == 2

    def test_words_and_an_empty_ring_are_left_as_they_are(self):
        slots, _ = rings()
        recovery_point.end_read(slots)
        publish(slots, 0, 10, conn=0, flags=Flag.EVENT | Flag.FIN)
        recovery_point.end_read(slots)
        assert slots.run(0, 1)["flags"][0] == Flag.EVENT | Flag.FIN
