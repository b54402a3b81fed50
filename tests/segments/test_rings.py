"""wsrec.segments.segment_ring and stream_map: what capture, receiver and writer share."""

from __future__ import annotations

import pytest

from wsrec.ring.mirror import PAGE
from wsrec.segments.segment_ring import SEGMENT_SIZE, SegmentRing
from wsrec.segments.stream_map import MAP_SIZE, MapFlag, MapKind, StreamMap, StreamMapWriter


@pytest.mark.parametrize("kind", [SegmentRing, StreamMap])
class TestRings:
    def test_a_run_across_the_seam_is_one_array_of_the_ring(self, kind, owned):
        ring = kind(owned(kind.create("t", 128)))
        for count in range(100, 228):
            ring.records[count & ring.mask]["offset"] = count
        run = ring.run(100, 228)
        assert run["offset"].tolist() == list(range(100, 228))
        run["flow"] = 7
        assert set(ring.records["flow"][:128]) == {7}

    def test_both_sides_see_one_memory(self, kind, owned):
        fd = owned(kind.create("t", 128))
        producer, consumer = kind(fd), kind(fd)
        producer.records[5]["offset"] = 2**63 + 1
        producer.published.publish(6)
        assert (consumer.published.read(), consumer.released.read()) == (6, 0)
        assert consumer.run(5, 6)["offset"].tolist() == [2**63 + 1]

    @pytest.mark.parametrize("capacity", [-128, 0, 1, 64, 100, 129, 3 << 10])
    def test_a_capacity_that_cannot_be_mapped_is_refused(self, kind, capacity):
        assert PAGE // SEGMENT_SIZE == PAGE // MAP_SIZE == 128
        with pytest.raises(ValueError, match="takes a power of two of at least 128 records"):
            kind.create("t", capacity)

    def test_other_memory_is_refused(self, kind, owned):
        other = {SegmentRing: StreamMap, StreamMap: SegmentRing}[kind]
        with pytest.raises(ValueError, match="is not a "):
            kind(owned(other.create("t", 128)))


class TestStreamMapWriter:
    @pytest.fixture
    def stream_map(self, owned) -> StreamMap:
        return StreamMap(owned(StreamMap.create("t", 128)))

    def test_every_field_is_where_the_reader_looks(self, stream_map):
        writer = StreamMapWriter(stream_map)
        writer.append(MapKind.KERNEL, 0xFFFE, 2**32 - 2, 2**63 + 1, 2**62 + 3, tail=17, overhead=29, size=2**31)
        (record,) = stream_map.run(0, stream_map.published.read())
        assert {name: int(record[name]) for name in stream_map.records.dtype.names} == {
            "count": 2**63 + 1,
            "offset": 2**62 + 3,
            "flow": 2**32 - 2,
            "conn": 0xFFFE,
            "kind": MapKind.KERNEL,
            "flags": 0,
            "tail": 17,
            "overhead": 29,
            "size": 2**31,
        }

    def test_a_full_map_loses_and_says_so_on_the_next_record_of_the_connection(self, stream_map):
        writer = StreamMapWriter(stream_map)
        for number in range(128):
            writer.append(MapKind.RECORD, 1, 1, number, number)
        writer.append(MapKind.RECORD, 1, 1, 500, 500)
        writer.append(MapKind.RECORD, 1, 1, 501, 501)
        assert (writer.lost, stream_map.published.read()) == (2, 128)
        stream_map.released.publish(100)
        for conn in (2, 1, 1):
            writer.append(MapKind.RECORD, conn, conn, 600, 600)
        assert stream_map.run(127, 131)["flags"].tolist() == [0, 0, MapFlag.AFTER_LOSS, 0]

    def test_a_later_receiver_goes_on_behind_the_earlier_one(self, stream_map):
        StreamMapWriter(stream_map).append(MapKind.PLAIN, 1, 1, 10, 0)
        StreamMapWriter(stream_map).append(MapKind.PLAIN, 1, 2, 20, 0)
        assert stream_map.run(0, stream_map.published.read())["flow"].tolist() == [1, 2]
