"""wsrec.ring.bytering: bytes in, the same bytes out, wherever in the ring they lie."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.effort import examples
from wsrec.ring.bytering import ByteRing, check_capacity
from wsrec.ring.mirror import PAGE, create_shared, map_words
from wsrec.ring.slotring import SlotRing

STARTS = [0, 1, 4095, 2**40, 2**40 - 3, 2**63 - 70_000, 2**63 - 1]


class Model(RuleBasedStateMachine):
    """One producer and one consumer, each with its own mapping, against a plain bytearray."""

    @initialize(
        capacity=st.sampled_from([PAGE << n for n in range(5) if PAGE << n <= max(PAGE, 65536)]),
        start=st.sampled_from(STARTS),
        seed=st.integers(0, 2**32),
    )
    def make(self, capacity, start, seed):
        fd = ByteRing.create("t", capacity)
        self.producer, self.consumer = ByteRing(fd), ByteRing(fd)
        os.close(fd)
        self.producer.head.publish(start)
        self.consumer.tail.publish(start)
        self.random = random.Random(seed)
        self.written = self.published = self.released = start
        self.kept = bytearray()  # from `released` to `written`

    @rule(share=st.floats(0, 1))
    def write(self, share):
        """Part of a frame: in the ring, but not yet published."""
        data = self.random.randbytes(int(share * self.producer.room(self.written)))
        self.producer.slice(self.written, len(data))[:] = data
        self.written += len(data)
        self.kept += data

    @rule()
    def fill(self):
        self.write(1.0)
        assert self.producer.room(self.written) == 0

    @rule()
    def publish(self):
        self.producer.head.publish(self.written)
        self.published = self.written

    @precondition(lambda self: self.published > self.released)
    @rule(start=st.floats(0, 1), stop=st.floats(0, 1))
    def read(self, start, stop):
        size = self.published - self.released
        first, last = sorted((int(start * size), int(stop * size)))
        assert self.consumer.slice(self.released + first, last - first) == self.kept[first:last]

    @precondition(lambda self: self.published > self.released)
    @rule(share=st.floats(0, 1))
    def release(self, share):
        size = int(share * (self.published - self.released))
        self.released += size
        del self.kept[:size]
        self.consumer.tail.publish(self.released)

    @invariant()
    def everything_is_there_in_one_piece(self):
        whole = self.consumer.slice(self.released, len(self.kept))
        assert whole.contiguous
        assert whole == self.kept

    @invariant()
    def counters_are_counts_and_never_positions(self):
        assert self.consumer.head.read() == self.published
        assert self.producer.tail.read() == self.released
        assert self.producer.room(self.written) == self.producer.capacity - (self.written - self.released)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


class TestRing:
    @pytest.mark.parametrize("start", STARTS)
    def test_a_run_of_the_whole_capacity_is_contiguous_at_any_offset(self, owned, start):
        ring = ByteRing(owned(ByteRing.create("t", PAGE)))
        data = random.Random(start).randbytes(PAGE)
        for offset in (start, start + 1, start + PAGE // 2, start + PAGE - 1):
            ring.slice(offset, PAGE)[:] = data
            assert ring.slice(offset, PAGE) == data

    def test_a_new_ring_is_empty(self, owned):
        ring = ByteRing(owned(ByteRing.create("t", 4 * PAGE)))
        assert (ring.head.read(), ring.tail.read(), ring.room(0)) == (0, 0, 4 * PAGE)
        assert (ring.capacity, ring.mask, len(ring.view)) == (4 * PAGE, 4 * PAGE - 1, 8 * PAGE)

    def test_head_and_tail_have_a_cache_line_each(self, owned):
        fd = owned(ByteRing.create("t", PAGE))
        ring, words = ByteRing(fd), map_words(fd, PAGE)
        ring.head.publish(11)
        ring.tail.publish(22)
        assert (words[8], words[16]) == (11, 22)
        assert sum(words[9:16]) == sum(words[17:]) == 0

    def test_another_process_sees_bytes_and_counter(self, owned, other_process):
        fd = owned(ByteRing.create("t", PAGE))
        ring = ByteRing(fd)
        start = 2**40 + PAGE - 2
        ring.slice(start, 4)[:] = b"wrap"
        ring.head.publish(start + 4)
        code = (
            "import sys; from wsrec.ring.bytering import ByteRing; ring = ByteRing(int(sys.argv[1]))\n"
            "head = ring.head.read(); print(head, bytes(ring.slice(head - 4, 4)).decode()); ring.tail.publish(head)"
        )
        assert other_process(code, fd) == f"{start + 4} wrap\n"
        assert ring.tail.read() == start + 4


class TestRefused:
    @pytest.mark.parametrize("size", [-PAGE, 0, 1, PAGE // 2, PAGE - 1, PAGE + 1, 3 * PAGE, (1 << 20) - 1])
    def test_a_size_that_is_no_power_of_two_is_refused(self, size):
        for make in (check_capacity, lambda size: ByteRing.create("t", size)):
            with pytest.raises(ValueError, match="power of two"):
                make(size)

    def test_shared_memory_of_something_else(self, owned):
        for fd in (create_shared("t", 2 * PAGE), SlotRing.create("t", 64)):
            with pytest.raises(ValueError, match="not a byte ring"):
                ByteRing(owned(fd))

    def test_another_version(self, owned):
        fd = owned(ByteRing.create("t", PAGE))
        map_words(fd, PAGE)[1] += 1
        with pytest.raises(ValueError, match="this version"):
            ByteRing(fd)

    def test_shared_memory_that_is_too_small(self, owned):
        with pytest.raises(ValueError):
            ByteRing(owned(create_shared("t", 64)))

    def test_a_header_that_promises_more_than_there_is(self, owned):
        fd = owned(ByteRing.create("t", PAGE))
        map_words(fd, PAGE)[2] = 1 << 30
        with pytest.raises(ValueError, match="ends before"):
            ByteRing(fd)
