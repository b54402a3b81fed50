"""The slot ring: one 64-byte slot a frame, from the receiver to its writer.

Single producer, single consumer. A slot is written in full before `published` counts it, once for some or all frames
of a read; the writer counts what it has taken and journalled in `released`. Counts never wrap; slot n stands at n
modulo the capacity. The slots are mapped twice (`mirror`), so any run of them is one numpy array without a seam.

Shared memory, one page of header and then the slots:

    line 0   magic, version, capacity (slots)
    line 1   published: slots written, by the producer
    line 2   released: slots journalled, by the consumer

A slot, little-endian:

    offset          u64  count in the byte ring of the payload's first byte
    nic             u64  stage 1, ns since the epoch; 0 where there is none
    event           u64  stage 2, ns on the monotonic clock; of our own words: when it was said or sent
    handoff         u64  stage 6, ns on the monotonic clock
    recv_start      u32  stage 3, ns after stage 2
    recv_end        u32  stage 4, ns after stage 3
    parsed          u32  stage 5, ns after stage 4
    length          u32  payload, bytes
    read_bytes      u32  bytes that the read took off the socket; of a frame that we sent: the number of the
                         subscription request that it is, 0 where it is none (`request_numbers`)
    frame_in_read   u16  position among the frames that the read completed
    frames_in_read  u16  how many they are: 0 in the ring, filled in by the consumer (`count_reads`)
    conn            u16  connection
    opcode          u8   RFC 6455 section 5.2; 0 continues the message before
    flags           u8   `Flag`
    source          u8   `wsrec.stages.StampSource`
    (3 bytes unused)

Three stamps are differences, so that six fit a cache line. A difference of 2**32 ns (4.3 s: the process was stopped)
or more sets `Flag.COARSE`: then all three are in units of 1,024 ns.
"""

from __future__ import annotations

from enum import IntFlag
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.ring.counter import Counter
from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words

SLOT = Struct("<QQQQIIIIIHHHBBBxxx")
SLOT_SIZE = 64
DEFAULT_SLOTS = 1 << 16
COARSE_SHIFT = 10

SLOT_DTYPE = np.dtype(
    {
        "names": [
            "offset",
            "nic",
            "event",
            "handoff",
            "recv_start",
            "recv_end",
            "parsed",
            "length",
            "read_bytes",
            "frame_in_read",
            "frames_in_read",
            "conn",
            "opcode",
            "flags",
            "source",
        ],
        "formats": ["<u8"] * 4 + ["<u4"] * 5 + ["<u2"] * 3 + ["u1"] * 3,
        "offsets": [0, 8, 16, 24, 32, 36, 40, 44, 48, 52, 54, 56, 58, 59, 60],
        "itemsize": SLOT_SIZE,
    }
)

HANDOFF_OFFSET = 24
FLAGS_OFFSET = 59

_MAGIC = int.from_bytes(b"wsrslots", "little")
_VERSION = 1


class Flag(IntFlag):
    """Bits of a slot's `flags`."""

    FIN = 0x01
    """The message ends with this slot. Without it the next data slot of the connection goes on."""
    RSV1 = 0x02
    """The frame's RSV1 bit: the message is compressed (RFC 7692)."""
    SENT = 0x04
    """We sent it. The payload lies in the receiver's own ring."""
    EVENT = 0x08
    """Not a frame: an event (`events`). The payload lies in the receiver's own ring."""
    COARSE = 0x10
    """The three differences are in units of 1,024 ns."""
    LAST = 0x20
    """The last frame that its read completed."""
    REST = 0x40
    """Never in a ring: the writer's own slot in the journal, of a snapshot fetched over HTTP. `offset` is the number
    of the stream that it is of."""


_OWN_WORDS = int(Flag.SENT | Flag.EVENT)
_SENT = int(Flag.SENT)
_LAST = int(Flag.LAST)


class SlotRing:
    """One side's view of a slot ring in shared memory.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        view: 2 * capacity * 64 writable bytes, the slots twice.
        slots: the same as a numpy array of `SLOT_DTYPE`.
        handoff: a field of it, which the producer fills in last.
        capacity: number of slots.
        mask: capacity - 1.
        published: the producer's counter.
        released: the consumer's counter.

    Raises:
        ValueError: the shared memory is no slot ring of this version.

    """

    def __init__(self, fd: int) -> None:
        words = map_words(fd, PAGE)
        if (words[0], words[1]) != (_MAGIC, _VERSION):
            raise ValueError("the shared memory is no slot ring of this version of wsrec")
        self.capacity = words[2]
        self.mask = self.capacity - 1
        self.view = map_mirrored(fd, PAGE, self.capacity * SLOT_SIZE)
        self.slots: npt.NDArray[Any] = np.frombuffer(self.view, SLOT_DTYPE)
        self.handoff: npt.NDArray[np.uint64] = self.slots["handoff"]
        self.published = Counter(words, 1)
        self.released = Counter(words, 2)

    @staticmethod
    def create(name: str, capacity: int = DEFAULT_SLOTS) -> int:
        """Make the shared memory of an empty ring of `capacity` slots and return its descriptor.

        Raises:
            ValueError: the capacity is not a power of two, or less than a page of slots.

        """
        if capacity * SLOT_SIZE < PAGE or capacity & (capacity - 1):
            raise ValueError(f"a slot ring takes a power of two of at least {PAGE // SLOT_SIZE} slots, not {capacity}")
        fd = create_shared(name, PAGE + capacity * SLOT_SIZE)
        words = map_words(fd, PAGE)
        words[0], words[1], words[2] = _MAGIC, _VERSION, capacity
        return fd

    def free(self, published: int) -> int:
        """Slots that a producer which has written `published` can still write."""
        return int(self.capacity - (published - self.released.read()))

    def run(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The slots of the counts from `start` to `stop` (at most `capacity` of them), as they stand in the ring."""
        first = start & self.mask
        return self.slots[first : first + (stop - start)]


def request_numbers(slots: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """The number of the subscription request that each slot is of; 0 where it is of none.

    Args:
        slots: array of `SLOT_DTYPE`.

    """
    return np.where(slots["flags"] & _SENT != 0, slots["read_bytes"], np.uint32(0))


def count_reads(slots: npt.NDArray[Any], *, final: bool = False) -> int:
    """Fill in `frames_in_read` of consecutive slots.

    Args:
        slots: array of `SLOT_DTYPE`, a copy of what stands in the ring.
        final: whether nothing follows: then the frames that are there are all of the last read.

    Returns:
        How many slots belong to whole reads. Those after them are of a read that is still being handed off.

    """
    flags = slots["flags"]
    frames = flags & _OWN_WORDS == 0
    ends = np.flatnonzero((flags & _LAST != 0) | ~frames)
    whole = int(ends[-1]) + 1 if len(ends) else 0
    if final and whole < len(slots):
        ends = np.append(ends, len(slots) - 1)
        whole = len(slots)
    counts = np.where(frames[ends], slots["frame_in_read"][ends] + 1, 0)
    slots["frames_in_read"][:whole] = np.repeat(counts, np.diff(ends, prepend=-1))
    return whole
