"""Message rows: the columns of the message files, except for those of the feed's field paths."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import where_set
from wsrec.format.moment import Moment
from wsrec.format.schema import FIRST_SEGMENT, MESSAGE_SCHEMA, READ_STAMP, SEGMENT_COLUMNS, SEGMENT_ORDER, UTC_NS
from wsrec.ring.slot_flags import FLAG_REST, FLAG_RSV1
from wsrec.ring.slotring import request_numbers
from wsrec.stages import STAMPED_WORDS, USER, SegmentOrder, StampSource
from wsrec.stages import STEPS as STAGE_STEPS
from wsrec.wire import frames
from wsrec.writer.batch import payload_offsets
from wsrec.writer.gather import Slots
from wsrec.writer.implementation import fill_stamps
from wsrec.writer.segment_slots import has_segments
from wsrec.writer.stamping import STEPS, TIMES

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FIRST_NOT_ASCII = 0x80

_OPCODES = {
    frames.TEXT: "text",
    frames.BINARY: "binary",
    frames.CLOSE: "close",
    frames.PING: "ping",
    frames.PONG: "pong",
}
_OPCODE_WORDS = pa.array(_OPCODES.values(), pa.string())
_OPCODE_INDEX = np.zeros(16, np.int32)
_OPCODE_INDEX[list(_OPCODES)] = range(len(_OPCODES))

_SOURCES = (*STAMPED_WORDS, USER)
_SOURCE_WORDS = pa.array(_SOURCES, pa.string())
_SOURCE_INDEX = np.full(256, _SOURCES.index(USER), np.int32)
for _source in StampSource:
    _SOURCE_INDEX[_source] = _SOURCES.index(_source.word)

_ORDER_WORDS = pa.array([order.word for order in SegmentOrder], pa.string())

_DIRECTION_WORDS = pa.array(["recv", "sent", "rest"], pa.string())


class Stamps(NamedTuple):
    """The stamps of some slots in UTC (int64 ns since the epoch), and which of them exist.

    `received` marks rows with stages 2 to 5, `stamped` those with stage 1. `recv_time` is the best arrival time: stage
    1, else stage 4; for sent and fetched rows the time of that. `stage` is the hand-off on the stage clock. `steps` has
    a row for each of `wsrec.stages.STEPS`: its durations (ns), undefined where a stage is missing.
    """

    recv_time: Int64s
    nic: Int64s
    event: Int64s
    recv_start: Int64s
    recv_end: Int64s
    parsed: Int64s
    handoff: Int64s
    stage: Int64s
    steps: Int64s
    received: Bools
    stamped: Bools

    def moment(self, row: int) -> Moment:
        """The hand-off time of a row."""
        return Moment(int(self.handoff[row]), int(self.stage[row]))

    def select(self, rows: Any) -> Stamps:
        """The stamps of some rows."""
        return Stamps(*(column.take(rows, axis=-1) for column in self))


def stamps(slots: Slots, offset: Int64s) -> Stamps:
    """The six stamps of each slot; `offset` (ns) turns each slot's monotonic stamps into UTC."""
    count = len(slots)
    times = np.empty((len(TIMES) + STEPS, count), np.int64)
    received, stamped = np.empty((2, count), np.bool_)
    fill_stamps(np.ascontiguousarray(slots), np.ascontiguousarray(offset), times, received, stamped)
    return Stamps._make([*times[: len(TIMES)], times[len(TIMES) :], received, stamped])


def columns(slots: Slots, when: Stamps, payload: pa.Array) -> dict[str, pa.Array]:
    """All columns of `MESSAGE_SCHEMA` except those from the payload's fields and the row count."""
    text, data = split_payload(slots, payload)
    # None: present in all rows
    received = None if when.received.all() else when.received
    stamped = None if when.stamped.all() else when.stamped
    if received is None:
        direction = np.zeros(len(slots), np.int32)
        read_bytes, request = pa.array(slots["read_bytes"]), pa.nulls(len(slots), pa.uint32())
    else:
        read_bytes = pa.array(np.where(received, slots["read_bytes"], np.uint32(0)))
        numbers = request_numbers(slots)
        request = pa.array(numbers, mask=numbers == 0)
        direction = np.where(received, 0, np.where(slots["flags"] & FLAG_REST, 2, 1)).astype(np.int32)
    return {
        "conn": pa.array(slots["conn"]),
        "recv_time": wrapped(when.recv_time, UTC_NS),
        "recv_source": _words(_SOURCE_INDEX[slots["source"]], _SOURCE_WORDS),
        **{
            step.key: _ns(ns, received if index else stamped)
            for index, (step, ns) in enumerate(zip(STAGE_STEPS, when.steps, strict=True))
        },
        "handoff_time": wrapped(when.handoff, UTC_NS),
        "clock_offset": _ns(when.handoff - when.stage),
        "frame_in_read": pa.array(slots["frame_in_read"]),
        "frames_in_read": pa.array(slots["frames_in_read"]),
        "read_bytes": read_bytes,
        **_segment_columns(slots),
        "direction": _words(direction, _DIRECTION_WORDS),
        "request": request,
        "opcode": _words(_OPCODE_INDEX[slots["opcode"] & 0x0F], _OPCODE_WORDS),
        "text": text,
        "data": data,
    }


class SegmentTimes(NamedTuple):
    """What captured segments say of some slots (`wsrec.writer.segment_slots`).

    Attributes:
        first_segment: ns from the segment with the first byte to stage 1, and where it is known.
        read_stamp: ns from stage 1 to the stamp that came with the read, and where there is one.
        order: `SegmentOrder` of each, 0 without stage 1 of a segment.

    """

    first_segment: tuple[Int64s, Bools]
    read_stamp: tuple[Int64s, Bools]
    order: npt.NDArray[np.uint8]

    def counted(self) -> dict[str, int]:
        """The number of slots by `SegmentOrder.word`."""
        counts = np.bincount(self.order, minlength=len(SegmentOrder) + 1).tolist()
        return {order.word: counts[order] for order in SegmentOrder}


def segment_times(slots: Slots) -> SegmentTimes:
    """What captured segments say of slots of `SEGMENT_SLOT_DTYPE`."""
    nic, read_stamp, first = (slots[name].astype(np.int64) for name in ("nic", "read_stamp", "first_segment"))
    order = np.ascontiguousarray(slots["segment_order"])
    by_segment = order != 0
    return SegmentTimes(
        (nic - first, by_segment & (first != 0)), (read_stamp - nic, by_segment & (read_stamp != 0)), order
    )


def _segment_columns(slots: Slots) -> dict[str, pa.Array]:
    if not has_segments(slots):
        count = len(slots)
        return {name: pa.nulls(count, MESSAGE_SCHEMA.field(name).type) for name in SEGMENT_COLUMNS}
    found = segment_times(slots)
    order = pa.array(found.order.astype(np.int32) - 1, mask=found.order == 0)
    return {
        FIRST_SEGMENT: _ns(*found.first_segment),
        READ_STAMP: _ns(*found.read_stamp),
        SEGMENT_ORDER: pa.DictionaryArray.from_arrays(order, _ORDER_WORDS),
    }


def count_opcodes(slots: Slots) -> dict[str, int]:
    """The number of slots of each opcode, by its name in the column."""
    counted: dict[str, int] = {}
    counts = np.bincount(slots["opcode"])
    for opcode in where_set(counts).tolist():
        word = _OPCODES.get(opcode & 0x0F, _OPCODES[frames.TEXT])
        counted[word] = counted.get(word, 0) + int(counts[opcode])
    return counted


def split_payload(slots: Slots, payload: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The columns `text` and `data`: text messages that are valid UTF-8, and everything else, byte for byte."""
    is_text = (slots["opcode"] == frames.TEXT) & (slots["flags"] & FLAG_RSV1 == 0)
    # a cast from large_binary shares the payload bytes, and checks each payload: checking all at once is faster
    binary = payload.cast(pa.binary())
    if bool(is_text.all()):
        if _is_ascii(payload):
            return binary.view(pa.string()), pa.nulls(len(slots), pa.binary())
        try:
            return binary.cast(pa.string()), pa.nulls(len(slots), pa.binary())
        except pa.ArrowInvalid:
            pass
    is_text &= _valid_utf8(binary, is_text)
    if not is_text.any():
        return pa.nulls(len(slots), pa.string()), binary
    mask = pa.array(is_text)
    text = pc.if_else(mask, binary, pa.scalar(None, pa.binary())).cast(pa.string())
    return text, pc.if_else(mask, pa.scalar(None, pa.binary()), binary)


def _is_ascii(payload: pa.Array) -> bool:
    offsets = payload_offsets(payload)
    data = np.frombuffer(payload.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return int(np.max(data, initial=0)) < _FIRST_NOT_ASCII


def _valid_utf8(binary: pa.Array, requested: Bools) -> Bools:
    """Which of the requested payloads are valid UTF-8: checked all at once, and one by one only if that fails."""
    valid = requested.copy()
    rows = np.flatnonzero(requested).tolist()
    try:
        if len(rows) > 1:
            binary.filter(pa.array(requested)).cast(pa.string())
            return valid
    except pa.ArrowInvalid:
        pass
    for row in rows:
        try:
            # nothing is copied: they may be few and large
            binary[row : row + 1].cast(pa.string())
        except pa.ArrowInvalid:
            valid[row] = False
    return valid


def _ns(ns: Int64s, valid: Bools | None = None) -> pa.Array:
    return wrapped(ns, pa.int64()) if valid is None else pa.array(ns, mask=~valid)


def wrapped(numbers: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """Contiguous numbers as an array of a type of the same width, not copied: half the cost of `pa.array`."""
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])


def _words(index: npt.NDArray[np.int32], words: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index), words)
