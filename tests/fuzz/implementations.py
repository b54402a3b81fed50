"""What fuzzers hold the implementations of the hot path and of the field reader to, given any input.

Hot path: bytes of any kind, cut anywhere, lie in slots or end the connection with a `ProtocolError`; nothing else is
ever raised; slots lie in order within what came; the compiled one publishes the same slots as the readable one.
Field reader: the compiled one and the one in Python say the same of any batch of messages. Table reader: the same rows,
and the same left out for the same reasons.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tests.decode.table_readers import SCHEMAS, assert_alike, read
from wsrec.decode.compiled_reader import CompiledFieldReader, Scanner
from wsrec.decode.compiled_table_reader import RowScanner
from wsrec.decode.reader import PythonFieldReader
from wsrec.decode.table_blocks import PythonTableReader
from wsrec.feed.load import find_feed
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import CompiledHotPath
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import MIN_RING, ByteRing
from wsrec.ring.slotring import SlotRing
from wsrec.stages import StampSource
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import MessageRules, parse_header

MAX_MESSAGE = 60_000


class _Chunks:
    """A transport that brings a chunk a read, or two of them as the records of one."""

    stamp, source, read_bytes = 0, int(StampSource.NONE_ABSENT), 0

    def __init__(self, chunks: list[bytes], *, by_record: bool) -> None:
        self.chunks = chunks
        self.by_record = by_record
        self._second = False

    def read(self, into: memoryview) -> int:
        self._second = False
        return self._take(into)

    def more(self, into: memoryview) -> int | None:
        if self._second or not self.chunks:
            return None
        self._second = True
        return self._take(into)

    def _take(self, into: memoryview) -> int:
        chunk = self.chunks.pop(0)
        into[: len(chunk)] = chunk
        self.read_bytes = len(chunk)
        return len(chunk)


class _Bench:
    """Rings that one implementation of the hot path writes to, again and again."""

    def __init__(self, implementation: type[HotPath]) -> None:
        self._implementation = implementation
        self._ring = self._byte_ring(MIN_RING)
        fd = SlotRing.create("fuzz", 1 << 15)
        self._slots = SlotRing(fd)
        os.close(fd)
        self._producer = Producer(self._slots, self._byte_ring(1 << 16))

    @staticmethod
    def _byte_ring(size: int) -> ByteRing:
        fd = ByteRing.create("fuzz", size)
        try:
            return ByteRing(fd)
        finally:
            os.close(fd)

    def run(
        self, chunks: list[bytes], *, validate_text: bool, by_record: bool
    ) -> tuple[list[object], list[object], list[str]]:
        """Feed chunks; the slots, the control frames and how it ended."""
        base, count = self._ring.head.read(), self._producer.count
        slots: list[object] = []
        controls: list[object] = []
        ends: list[Exception | None] = []
        transport = _Chunks(list(chunks), by_record=by_record)
        hot = self._implementation(
            0,
            self._ring,
            self._producer,
            transport,  # type: ignore[arg-type]
            MessageRules(MAX_MESSAGE, validate_text=validate_text),
            on_opening=lambda data: 0,
            on_control=lambda opcode, payload: controls.append((opcode, payload)),
            on_end=ends.append,
            on_full=lambda: None,
        )
        hot.open = True
        data = b"".join(chunks)
        position = 0
        while transport.chunks and not ends:
            hot.on_readable()
            for slot in self._slots.run(count, self._producer.count):
                start = int(slot["offset"]) - base
                end = start + int(slot["length"])
                assert position <= start <= end <= len(data)
                assert bytes(self._ring.slice(start + base, end - start)) == data[start:end]
                position = end
                slots.append((start, end, int(slot["opcode"]), int(slot["flags"]), int(slot["frame_in_read"])))
                self._ring.tail.publish(base + end)
            count = self._producer.count
            self._slots.released.publish(count)
        for error in ends:
            assert isinstance(error, ProtocolError)
        hot.discard()
        self._ring.tail.publish(self._ring.head.read())
        return slots, controls, [str(error) for error in ends]


def _headers(data: bytes) -> None:
    """The parser and the rules by themselves."""
    view, at, rules = memoryview(data), 0, MessageRules(MAX_MESSAGE)
    try:
        while (found := parse_header(view, at, len(data) - at)) is not None:
            first, length, header = found
            assert 2 <= header <= 10
            assert length >= 0
            rules.check(first, length)
            rules.advance(first, length)
            at += header
    except ProtocolError:
        return


def frames(wire: bytes, cuts: Sequence[int], *, validate_text: bool) -> None:
    """What an exchange sends, in the reads that `cuts` make of it, and in the records of reads."""
    _headers(wire)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    chunks = [wire[a:b] for a, b in itertools.pairwise(edges) if a < b]
    chunks = [chunk[at : at + 16_384] for chunk in chunks for at in range(0, len(chunk), 16_384)]
    for by_record in (False, True):
        seen = [bench.run(chunks, validate_text=validate_text, by_record=by_record) for bench in _benches()]
        assert all(each == seen[0] for each in seen), seen


def messages(feed: str, payloads: Sequence[bytes]) -> None:
    """What a batch of messages says, whose memory ends where the last one does: a sanitizer sees a byte more read."""
    offsets = np.cumsum([0, *map(len, payloads)], dtype=np.int64)
    data = np.frombuffer(b"".join(payloads), np.uint8).copy()
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    batch = pa.Array.from_buffers(pa.large_binary(), len(payloads), buffers)
    conns = np.zeros(len(payloads), np.uint16)
    wanted = np.ones(len(payloads), np.bool_)
    seen = [[column.to_pylist() for column in reader.read(batch, wanted, conns)] for reader in _readers(feed)]
    assert all(each == seen[0] for each in seen), (feed, payloads, seen)


def rows(feed: str, channel: str, payloads: list[bytes], *, is_rest: bool = False) -> None:
    """The rows of a batch of a channel's messages."""
    found = _feed(feed)
    if RowScanner is not None:
        assert_alike(found, payloads, channel, is_rest=is_rest)
    else:
        read(PythonTableReader(found, SCHEMAS), payloads, channel, is_rest=is_rest)


_feed = functools.cache(find_feed)


@functools.cache
def _benches() -> list[_Bench]:
    return [_Bench(each) for each in (HotPath, CompiledHotPath) if each is not None]


@functools.cache
def _readers(feed: str) -> list[PythonFieldReader | CompiledFieldReader]:
    found = [PythonFieldReader, *([] if Scanner is None else [CompiledFieldReader])]
    return [each(_feed(feed)) for each in found]
