"""Segment ring: when the bytes of each captured TCP connection arrived, from the receiver's capture to its writer.

A record of 32 bytes a segment, single producer (the capture's thread), single consumer (the writer). Counts never wrap;
record n is at n modulo the capacity. The records are mapped twice (`ring.mirror`), so any run of them is one contiguous
array. Unlike the slot ring it may lose: the capture never waits for the writer, and what found no room is counted and
announced by a `LOSS` once there is room again.

A *flow* is one TCP connection: a number that no other connection of the session has, from 1 on, also after a restart
of the receiver. A *stream offset* is the number of bytes of payload before a byte in its flow: the first byte behind
the SYN has 0. It is 64 bits wide and does not wrap where TCP's sequence numbers do.

Shared memory, one page of header and then the ring:

    line 0   magic, version, capacity (records)
    line 1   published: records written, by the producer
    line 2   released: records used, by the consumer
    line 3   covered_until: by the producer, see `SegmentRing`
    line 4   state: by the producer, `CaptureState`
    line 5   flows: by the producer, the last flow's number
    line 6   dropped: by the producer, packets that the kernel's ring or this one had no room for
    line 7   former: by the producer, see `SegmentRing`
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wsrec.ring.counter import Counter
from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words

DEFAULT_SEGMENTS = 1 << 18
"""8 MiB: more than two seconds of 100,000 segments/s while no writer runs. A page takes memory on its first use."""
SEGMENT_SIZE: Final = 32

_MAGIC = int.from_bytes(b"wsrsegms", "little")
_VERSION = 1

SEGMENT_DTYPE: Final = np.dtype(
    [
        # see `SegmentKind`
        ("offset", "<u8"),
        ("stamp", "<u8"),
        ("length", "<u4"),
        ("flow", "<u4"),
        ("conn", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("value", "<u4"),
    ]
)
assert SEGMENT_DTYPE.itemsize == SEGMENT_SIZE


class SegmentKind(IntEnum):
    """What a record tells."""

    OPEN = 1
    """The flow's SYN-ACK arrived, at `stamp`: stream offsets of this flow are known from here on. A flow without this
    record has no other, because its start was not seen."""
    SEGMENT = 2
    """The `length` bytes from `offset` arrived at `stamp`, ns since the epoch. Without `SegmentFlag.REPEATED` no other
    such record of the flow has any of them."""
    TLS_RECORD = 3
    """A TLS record ends at stream offset `offset` (exclusive); `length` bytes long with its header, of outer content
    type `value`. Only of flows whose payload is captured (`ktls`), in order and without a gap from where the parser
    began."""
    LOSS = 4
    """`value` packets were dropped, between `offset` and `stamp` (both ns since the epoch). No flow."""
    BROKEN = 5
    """The flow is not captured from `offset` on, for a reason: `value` is a `BrokenReason`."""


class SegmentFlag(IntFlag):
    """Bits of a record's `flags`."""

    NIC = 0x01
    """`stamp` is the NIC's, else the kernel's."""
    REPEATED = 0x02
    """These bytes had arrived before, or are of a hole that was given up: see `evidence`."""
    FILLED = 0x04
    """These bytes filled a hole: later ones had arrived before them (lost, or overtaken on the way)."""
    AHEAD = 0x08
    """There was a hole before these bytes: TCP held them back until it was filled."""


class BrokenReason(IntEnum):
    """Why a flow is not captured any more, or its TLS records are not."""

    URGENT = 1
    """TCP urgent data, which is taken out of the stream."""
    RECORDS = 2
    """The headers of TLS records were not all captured: there are no more `TLS_RECORD`s; segments go on."""
    CONTRADICTED = 3
    """A second SYN-ACK with another sequence number: one of them is not the peer's."""


class CaptureState(IntEnum):
    """State of the capture."""

    NONE = 0
    """Not started yet."""
    RUNNING = 1
    REFUSED = 2
    """It could not start: nothing is captured, rows have the stamps of their reads."""
    ENDED = 3
    """The receiver has ended in order: everything that was captured is in the ring."""


class SegmentRing:
    """One side's view of a segment ring in shared memory.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        view: 2 * capacity * 32 writable bytes, the records twice.
        records: the same as a numpy array of `SEGMENT_DTYPE`.
        capacity: number of records.
        mask: capacity - 1.
        published: the producer's counter.
        released: the consumer's counter.
        covered_until: CLOCK_MONOTONIC, ns (the clock that the stage clock is mapped onto): all that arrived before is
            published or lost. A running capture moves it on every few ms, about 50 ms behind the clock; one that is a
            second old is of a capture that does not run.
        state: a `CaptureState`.
        flows: number of the last flow.
        dropped: packets that were dropped.
        former: number of the last flow of captures before the one that runs: what `covered_until` says is not of these,
            whose last packets went with a receiver that was killed. Written before `covered_until` moves on.

    Raises:
        ValueError: the shared memory is not a segment ring of this version.

    """

    def __init__(self, fd: int) -> None:
        words = map_words(fd, PAGE)
        if (words[0], words[1]) != (_MAGIC, _VERSION):
            raise ValueError("the shared memory is not a segment ring of this version of wsrec")
        self.capacity = words[2]
        self.mask = self.capacity - 1
        self.view = map_mirrored(fd, PAGE, self.capacity * SEGMENT_SIZE, populate=False)
        self.records: npt.NDArray[Any] = np.frombuffer(self.view, SEGMENT_DTYPE)
        self.published = Counter(words, 1)
        self.released = Counter(words, 2)
        self.covered_until = Counter(words, 3)
        self.state = Counter(words, 4)
        self.flows = Counter(words, 5)
        self.dropped = Counter(words, 6)
        self.former = Counter(words, 7)

    @staticmethod
    def create(name: str, capacity: int = DEFAULT_SEGMENTS) -> int:
        """Create the shared memory of an empty ring of `capacity` records and return its descriptor.

        Raises:
            ValueError: the capacity is not a power of two, or less than a page of records.

        """
        if capacity * SEGMENT_SIZE < PAGE or capacity & (capacity - 1):
            least = PAGE // SEGMENT_SIZE
            raise ValueError(f"a segment ring takes a power of two of at least {least} records, not {capacity}")
        fd = create_shared(name, PAGE + capacity * SEGMENT_SIZE)
        words = map_words(fd, PAGE)
        words[0], words[1], words[2] = _MAGIC, _VERSION, capacity
        return fd

    def run(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The records from count `start` to `stop` (at most `capacity`), as a view of the ring."""
        first = start & self.mask
        return self.records[first : first + (stop - start)]
