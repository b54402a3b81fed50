"""wsrec.writer.batch: what the writer takes out of the rings is what the receiver put there."""

from __future__ import annotations

import timeit

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import HEADER, Rings, payloads
from wsrec.ring.events import Event, EventKind
from wsrec.ring.mirror import PAGE
from wsrec.ring.slot_flags import Flag
from wsrec.wire.frames import PONG, TEXT
from wsrec.writer.batch import Batch, Drain, payload_list

# around the 12 bytes that a view holds itself
SIZES = st.one_of(st.integers(0, 40), st.integers(0, PAGE // 3))


class TestTake:
    def test_nothing_published_is_no_batch(self, rings):
        assert rings().drain().take() is None

    @pytest.mark.parametrize("size", range(41))
    def test_short_payloads(self, rings, size):
        ends = rings()
        expected = [bytes(range(size)), b"", bytes(reversed(range(size)))]
        for payload in expected:
            ends.put(payload)
        assert payloads(ends.drain().take()) == expected

    def test_a_payload_as_large_as_the_ring(self, rings):
        ends = rings(capacity=4 * PAGE)
        payload = np.random.default_rng(1).bytes(4 * PAGE - HEADER)
        ends.put(payload)
        assert payloads(ends.drain().take()) == [payload]

    def test_slots_are_copied_as_they_stand(self, rings):
        ends = rings(2)
        ends.put(b"a", 1, handoff=7, nic=8, read_bytes=9)
        drain = ends.drain()
        batch = drain.take()
        drain.release()
        ends.put(b"b", 0)
        assert {name: int(batch.slots[name][0]) for name in ("conn", "handoff", "nic", "read_bytes", "opcode")} == {
            "conn": 1, "handoff": 7, "nic": 8, "read_bytes": 9, "opcode": TEXT,
        }  # fmt: skip

    def test_own_words_come_from_the_receivers_own_ring(self, rings):
        ends = rings(2)
        ends.put(b"received", 1)
        ends.producer.sent(1, PONG, b"sent")
        ends.event(EventKind.STALL, conn=1, duration_ns=5)
        batch = ends.drain().take()
        *frames, event = payloads(batch)
        assert frames == [b"received", b"sent"]
        assert Event.decode(event) == Event(EventKind.STALL, 1, detail={"duration_ns": 5})
        assert batch.slots["flags"].tolist() == [Flag.FIN | Flag.LAST, Flag.FIN | Flag.SENT, Flag.FIN | Flag.EVENT]

    def test_a_read_that_is_still_being_handed_off_is_left_for_the_next_time(self, rings):
        ends = rings()
        drain = ends.drain()
        ends.put(b"one", last=False)
        assert drain.take() is None
        ends.put(b"two", frame_in_read=1)
        ends.put(b"three", last=False)
        batch = drain.take()
        assert payloads(batch) == [b"one", b"two"]
        assert batch.slots["frames_in_read"].tolist() == [2, 2]
        drain.release()
        last = drain.take(final=True)
        assert (payloads(last), last.slots["frames_in_read"].tolist()) == ([b"three"], [1])

    @settings(max_examples=examples(60), deadline=None)
    @given(st.data())
    def test_any_traffic_over_several_connections_and_wraps(self, data):
        ends = Rings(conns=3)
        try:
            drain = ends.drain()
            taken: list[tuple[int, bytes]] = []
            expected: list[tuple[int, bytes]] = []
            for fill in data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=60)):
                conn, size = fill % 3, data.draw(SIZES)
                if ends.room(conn) < size or not ends.slots.free(ends.producer.count):
                    batch = drain.take()
                    taken += zip(batch.slots["conn"].tolist(), payloads(batch), strict=True)
                    drain.release()
                payload = bytes((fill + i) & 0xFF for i in range(size))
                ends.put(payload, conn)
                expected.append((conn, payload))
            batch = drain.take()
            taken += zip(batch.slots["conn"].tolist(), payloads(batch), strict=True)
            assert taken == expected
        finally:
            ends.close()


class TestRelease:
    def test_the_rings_keep_a_batch_until_it_is_released(self, rings):
        ends = rings(2)
        ends.put(b"x" * 100, 0)
        ends.put(b"y" * 50, 1)
        before = [ends.room(0), ends.room(1)]
        drain = ends.drain()
        drain.take()
        assert [ends.room(0), ends.room(1)] == before
        assert ends.slots.free(2) == ends.slots.capacity - 2
        drain.release()
        assert [ends.room(0), ends.room(1)] == [PAGE - HEADER] * 2
        assert ends.slots.free(2) == ends.slots.capacity

    def test_what_came_after_the_batch_is_not_released(self, rings):
        ends = rings()
        drain = ends.drain()
        ends.put(b"first")
        drain.take()
        ends.put(b"second")
        drain.release()
        assert ends.room(0) == PAGE - HEADER - len(b"second") - HEADER
        assert payloads(drain.take()) == [b"second"]

    def test_a_new_writer_goes_on_after_the_last_release(self, rings):
        ends = rings()
        drain = ends.drain()
        ends.put(b"journalled")
        drain.take()
        drain.release()
        ends.put(b"taken, not journalled")
        drain.take()
        assert payloads(ends.drain().take()) == [b"taken, not journalled"]


class TestHowFull:
    def test_pending_and_held_count_what_is_not_taken_and_not_released(self, rings):
        ends = rings(2)
        drain = ends.drain()
        ends.put(b"x" * 98)
        ends.put(b"y" * 48, 1)
        assert (drain.pending(), drain.held()) == (2, 150)
        drain.take()
        assert (drain.pending(), drain.held()) == (0, 150)
        drain.release()
        assert (drain.pending(), drain.held()) == (0, 0)

    def test_the_fullest_ring_counts(self, rings):
        ends = rings(2, capacity=4 * PAGE)
        drain = ends.drain()
        ends.put(bytes(3 * PAGE - HEADER), 1)
        assert drain.fullest() == 0.75

    def test_a_full_slot_ring_counts_too(self, rings):
        ends = rings(capacity=64 * PAGE)
        for _ in range(ends.slots.capacity):
            ends.put(b"")
        assert ends.drain().fullest() == 1.0

    def test_of_many_rings_only_those_with_something_in_them_cost_time(self, rings):
        few, many = rings(10), rings(500)
        drains = [few.drain(), many.drain()]
        for ends in (few, many):
            ends.put(b"x", 3)
        assert [drain.held() for drain in drains] == [3, 3]

        def cost(drain: Drain) -> float:
            return min(timeit.repeat(lambda: (drain.held(), drain.fullest()), number=20, repeat=20))

        assert cost(drains[1]) < 10 * cost(drains[0])

    def test_a_ring_that_fills_later_counts_from_then_on(self, rings):
        ends = rings(3, capacity=4 * PAGE)
        drain = ends.drain()
        for conn in (2, 0, 1):
            ends.put(bytes(PAGE - HEADER), conn)
            assert drain.held() == PAGE
            drain.take()
            ends.put(bytes(2 * PAGE - HEADER), conn)
            assert (drain.held(), drain.fullest()) == (3 * PAGE, 0.75)
            drain.release()
            assert (drain.held(), drain.fullest()) == (2 * PAGE, 0.5)
            drain.take()
            drain.release()
            assert (drain.held(), drain.fullest()) == (0, 0.0)


class TestArrow:
    @settings(max_examples=examples(40), deadline=None)
    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.data())
    def test_round_trip_of_any_part(self, expected, data):
        ends = Rings(capacity=4 * PAGE)
        try:
            for payload in expected:
                ends.put(payload)
            whole = ends.drain().take()
        finally:
            ends.close()
        start = data.draw(st.integers(0, len(expected) - 1))
        stop = data.draw(st.integers(start + 1, len(expected)))
        sink = pa.BufferOutputStream()
        part = whole.part(start, stop).to_arrow()
        with pa.ipc.new_stream(sink, part.schema) as stream:
            stream.write_batch(part)
        read = pa.ipc.open_stream(sink.getvalue()).read_next_batch()
        read.validate(full=True)
        again = Batch.from_arrow(read, start)
        assert payloads(again) == expected[start:stop]
        assert again.slots.tolist() == whole.slots[start:stop].tolist()


class TestPayloadList:
    def test_slices_begin_where_they_say(self):
        array = pa.array([b"zero", b"", b"two and more than twelve", b"three"], pa.large_binary())
        assert [bytes(view) for view in payload_list(array[1:3])] == [b"", b"two and more than twelve"]

    def test_an_empty_column_has_no_payloads(self):
        assert payload_list(pa.array([], pa.large_binary())) == []

    def test_the_views_cannot_be_written(self):
        assert payload_list(pa.array([b"x"], pa.large_binary()))[0].readonly
