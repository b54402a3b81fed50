"""The TLS records of a flow that the kernel decrypts: where the bytes of a connection's ring lay in its stream.

The capture sees the headers of TLS records, which are in the clear, and the receiver knows how many bytes of content
came: so each record's content has its place in the ring. Under TLS 1.3 records that are no data look like data from
outside; the receiver says of each where it came (`MapKind.CONTROL`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.segments.segment_store import SegmentStore

_DATA = 23
_Uint64s = npt.NDArray[np.uint64]
_NOTHING = np.empty(0, np.uint64)


class Control(NamedTuple):
    """A record that is no data: the count in the ring where it came, and the size of its content (bytes)."""

    place: int
    size: int


class KernelRecords:
    """The records of one flow.

    Args:
        flow: its number.
        count: the count in the ring of the first record's content.
        offset: the stream offset of the first record.
        overhead: bytes of each record that are not content.
        tail: bytes of these behind the content.

    Attributes:
        flow, tail: as given.
        count, offset: of the next record.
        controls: those that came, in order.
        stop: the count in the ring where another flow begins.
        is_lost: whether records and controls contradict each other: nothing more is mapped.

    """

    def __init__(self, flow: int, count: int, offset: int, overhead: int, tail: int) -> None:
        self.flow, self.count, self.offset, self.tail = flow, count, offset, tail
        self.controls: list[Control] = []
        self.is_lost = False
        self.stop = 1 << 62
        self._overhead = overhead
        self._held: npt.NDArray[Any] | None = None

    def advance(self, store: SegmentStore, needed: int) -> tuple[_Uint64s, _Uint64s, _Uint64s]:
        """The next records with content, up to the one that has the byte before the count `needed`.

        Args:
            store: has the captured records.
            needed: up to here all controls are known.

        Returns:
            Of each: the count in the ring behind its content, the stream offset behind it, and that of its beginning.

        """
        new = store.tls.pop(self.flow, [])
        if self.is_lost:
            self._held = None
            return _NOTHING, _NOTHING, _NOTHING
        held = np.concatenate([*([] if self._held is None else [self._held]), *new]) if new else self._held
        self._held = held
        needed = min(needed, self.stop)
        if held is None or needed <= self.count:
            return _NOTHING, _NOTHING, _NOTHING
        length = held["length"].astype(np.int64)
        begins = held["offset"].astype(np.int64) - length
        chosen = begins >= self.offset
        expected = np.append(self.offset, held["offset"].astype(np.int64)[chosen][:-1])
        if not np.array_equal(begins[chosen], expected[: int(chosen.sum())]):
            # some are not there: what a writer that was replaced had released
            self.is_lost = True
            return _NOTHING, _NOTHING, _NOTHING
        content = np.where(chosen & (held["value"] == _DATA), np.maximum(length - self._overhead, 0), 0)
        ends = self.count + np.cumsum(content)
        while self.controls:
            control = self.controls[0]
            if control.place >= needed:
                break
            if not control.size:
                self.controls.pop(0)
                continue
            # the first record of data that begins where it came, and has its size
            at = np.flatnonzero((ends - content == control.place) & (content == control.size) & (content > 0))
            if not len(at):
                if len(ends) and ends[-1] > control.place:
                    self.is_lost = True
                    return _NOTHING, _NOTHING, _NOTHING
                break
            content[at[0]] = 0
            ends = self.count + np.cumsum(content)
            held["value"][at[0]] = 0
            self.controls.pop(0)
        stop = int(np.searchsorted(ends, needed)) + 1
        taken = slice(0, min(stop, len(ends)))
        with_content = content[taken] > 0
        found = ends[taken][with_content], held["offset"][taken][with_content], begins[taken][with_content]
        if len(held[taken]):
            self.count, self.offset = int(ends[taken][-1]), int(held["offset"][taken][-1])
        self._held = held[taken.stop :]
        ends_of, offsets, begins_of = (each.astype(np.uint64) for each in found)
        return ends_of, offsets, begins_of
