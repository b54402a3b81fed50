"""wsrec.ring.slotring: 64 bytes a frame, from one process to another, never torn."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.ring.bytering import ByteRing
from wsrec.ring.mirror import PAGE, map_words
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE, SLOT_SIZE
from wsrec.ring.slotring import SlotRing, count_reads


class TestRing:
    @pytest.fixture
    def ring(self, owned) -> SlotRing:
        return SlotRing(owned(SlotRing.create("t", 64)))

    @pytest.mark.parametrize("start", [0, 2**40 - 5, 2**63 - 10])
    def test_a_run_across_the_seam_is_one_array(self, ring, start):
        for count in range(start, start + 64):
            ring.slots[count & ring.mask]["offset"] = count
        for first in range(start, start + 64, 7):
            run = ring.run(first, start + 64)
            assert run["offset"].tolist() == list(range(first, start + 64))
            assert np.shares_memory(run, ring.slots)

    def test_a_run_of_nothing_is_empty(self, ring):
        assert len(ring.run(63, 63)) == 0

    def test_writing_a_run_writes_the_ring(self, ring):
        ring.run(60, 70)["conn"] = 9
        assert sorted(np.flatnonzero(ring.slots[:64]["conn"] == 9)) == [0, 1, 2, 3, 4, 5, 60, 61, 62, 63]

    @given(start=st.integers(0, 2**63 - 1), used=st.integers(0, 64))
    @settings(max_examples=examples(50))
    def test_free_is_what_was_not_taken(self, start, used):
        ring = self.ring_of(64)
        ring.released.publish(start)
        assert ring.free(start + used) == 64 - used

    @staticmethod
    def ring_of(capacity: int) -> SlotRing:
        fd = SlotRing.create("t", capacity)
        try:
            return SlotRing(fd)
        finally:
            os.close(fd)

    @pytest.mark.parametrize("capacity", [-64, 0, 1, PAGE // SLOT_SIZE - 1, PAGE // SLOT_SIZE // 2, 100, 65, 3 << 10])
    def test_other_capacities_are_refused(self, capacity):
        with pytest.raises(ValueError, match="power of two"):
            SlotRing.create("t", capacity)

    def test_foreign_shared_memory_is_refused(self, owned):
        with pytest.raises(ValueError, match="not a slot ring"):
            SlotRing(owned(ByteRing.create("t", PAGE)))

    def test_another_version_is_refused(self, owned):
        fd = owned(SlotRing.create("t", 64))
        map_words(fd, PAGE)[1] += 1
        with pytest.raises(ValueError, match="this version"):
            SlotRing(fd)


# Every field of slot n follows from n, so that one torn or stale field shows
PRODUCER = """
import sys
from wsrec.ring.slot_layout import SLOT
from wsrec.ring.slotring import SlotRing
fd, start, count = map(int, sys.argv[1:])
ring = SlotRing(fd)
n, stop = start, start + count
while n < stop:
    room = min(ring.free(n), 1 + n % 97, stop - n)
    for n in range(n, n + room):
        x = n * 0x9E3779B97F4A7C15 & (1 << 64) - 1
        low, high = x & 0xFFFFFFFF, x >> 32
        SLOT.pack_into(ring.view, (n & ring.mask) * 64, n, x, x ^ n, ~x & (1 << 64) - 1, low, high, low ^ high,
                       high, low, low & 0xFFFF, high & 0xFFFF, low >> 16, low & 0xFF, high & 0xFF, low >> 24)
    n += room > 0
    if room:
        ring.published.publish(n)
"""


class TestTwoProcesses:
    @pytest.mark.parametrize("capacity", [64, 4096])
    @pytest.mark.parametrize("start", [0, 2**63 - 100_000])
    def test_nothing_torn_lost_or_out_of_order_at_full_speed(self, owned, capacity, start):
        count = 250_000 if capacity > 64 else 50_000
        fd = owned(SlotRing.create("t", capacity))
        ring = SlotRing(fd)
        ring.published.publish(start)
        ring.released.publish(start)
        command = [sys.executable, "-P", "-c", PRODUCER, str(fd), str(start), str(count)]
        taken, stop, deadline = start, start + count, time.monotonic() + 60
        with subprocess.Popen(command, pass_fds=(fd,)) as producer:
            while taken < stop:
                published = ring.published.read()
                assert taken <= published <= taken + capacity
                if published > taken:
                    check(ring.run(taken, published).copy(), taken)
                    taken = published
                    ring.released.publish(taken)
                assert time.monotonic() < deadline
            assert producer.wait(10) == 0
        assert ring.published.read() == stop


def check(slots: np.ndarray, first: int) -> None:
    n = np.arange(len(slots), dtype=np.uint64) + np.uint64(first)
    x = n * np.uint64(0x9E3779B97F4A7C15)
    low, high = x & np.uint64(0xFFFFFFFF), x >> np.uint64(32)
    shift = np.uint64(16), np.uint64(24)
    expected = [n, x, x ^ n, ~x, low, high, low ^ high, high, low]
    expected += [low & np.uint64(0xFFFF), high & np.uint64(0xFFFF), low >> shift[0]]
    expected += [low & np.uint64(0xFF), high & np.uint64(0xFF), low >> shift[1]]
    for name, values in zip(SLOT_DTYPE.names, expected, strict=True):
        assert np.array_equal(slots[name], values), name


FRAME, LAST, OWN = 0, Flag.LAST, Flag.EVENT


class TestCountReads:
    @staticmethod
    def slots(flags: list[int]) -> Any:
        slots = np.zeros(len(flags), SLOT_DTYPE)
        slots["flags"] = flags
        within = 0
        for slot, flag in zip(slots, flags, strict=True):
            slot["frame_in_read"] = within
            within = within + 1 if flag == FRAME else 0
        return slots

    @pytest.mark.parametrize(
        ("flags", "whole", "counts"),
        [
            ([], 0, []),
            ([LAST], 1, [1]),
            ([FRAME, FRAME, LAST], 3, [3, 3, 3]),
            ([LAST, FRAME, LAST, OWN, LAST], 5, [1, 2, 2, 0, 1]),
            ([OWN, Flag.SENT, FRAME], 2, [0, 0]),
            ([FRAME, FRAME], 0, []),
            ([LAST, FRAME], 1, [1]),
        ],
    )
    def test_a_read_ends_with_the_frame_that_says_so(self, flags, whole, counts):
        slots = self.slots(flags)
        assert count_reads(slots) == whole
        assert slots["frames_in_read"][:whole].tolist() == counts

    @pytest.mark.parametrize(
        ("flags", "counts"), [([FRAME, FRAME], [2, 2]), ([LAST, OWN, FRAME], [1, 0, 1]), ([LAST], [1]), ([], [])]
    )
    def test_after_the_receivers_end_what_is_there_is_all(self, flags, counts):
        slots = self.slots(flags)
        assert count_reads(slots, final=True) == len(flags)
        assert slots["frames_in_read"].tolist() == counts

    def test_the_rest_of_a_read_that_was_taken_in_two_has_the_whole_count(self):
        slots = self.slots([FRAME, FRAME, FRAME, LAST, LAST])[2:]
        assert count_reads(slots) == 3
        assert slots["frames_in_read"].tolist() == [4, 4, 1]
