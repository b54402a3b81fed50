"""Slot ring: one 64-byte slot per frame, from the receiver to its writer.

Single producer, single consumer. A slot is written in full before `published` counts it, once for some or all frames of
a read; the writer counts journalled slots in `released`. Counts never wrap; slot n is at n modulo the capacity. The
slots are mapped twice (`mirror`), so any run of them is one contiguous numpy array.

Shared memory, one page of header and then the slots:

    line 0   magic, version, capacity (slots)
    line 1   published: slots written, by the producer
    line 2   released: slots journalled, by the consumer

The fields of a slot are listed in `slot_layout`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.ring.counter import Counter
from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_LAST, FLAG_SENT
from wsrec.ring.slot_layout import SLOT_DTYPE, SLOT_SIZE

DEFAULT_SLOTS = 1 << 16

_MAGIC = int.from_bytes(b"wsrslots", "little")
_VERSION = 1


class SlotRing:
    """One side's view of a slot ring in shared memory.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        view: 2 * capacity * 64 writable bytes, the slots twice.
        slots: the same as a numpy array of `SLOT_DTYPE`.
        handoff: the field that the producer fills in last.
        capacity: number of slots.
        mask: capacity - 1.
        published: the producer's counter.
        released: the consumer's counter.

    Raises:
        ValueError: the shared memory is not a slot ring of this version.

    """

    def __init__(self, fd: int) -> None:
        words = map_words(fd, PAGE)
        if (words[0], words[1]) != (_MAGIC, _VERSION):
            raise ValueError("the shared memory is not a slot ring of this version of wsrec")
        self.capacity = words[2]
        self.mask = self.capacity - 1
        self.view = map_mirrored(fd, PAGE, self.capacity * SLOT_SIZE)
        self.slots: npt.NDArray[Any] = np.frombuffer(self.view, SLOT_DTYPE)
        self.handoff: npt.NDArray[np.uint64] = self.slots["handoff"]
        self.published = Counter(words, 1)
        self.released = Counter(words, 2)

    @staticmethod
    def create(name: str, capacity: int = DEFAULT_SLOTS) -> int:
        """Create the shared memory of an empty ring of `capacity` slots and return its descriptor.

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
        """The number of slots that a producer at `published` can still write."""
        return int(self.capacity - (published - self.released.read()))

    def run(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The slots from count `start` to `stop` (at most `capacity`), as a view of the ring."""
        first = start & self.mask
        return self.slots[first : first + (stop - start)]


def request_numbers(slots: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """The number of each slot's subscription request; 0 for other slots.

    Args:
        slots: array of `SLOT_DTYPE`.

    """
    return np.where(slots["flags"] & FLAG_SENT != 0, slots["read_bytes"], np.uint32(0))


def count_reads(slots: npt.NDArray[Any], *, final: bool = False) -> int:
    """Fill in `frames_in_read` of consecutive slots.

    Args:
        slots: array of `SLOT_DTYPE`, copied from the ring.
        final: whether no slot follows, so that the last read is complete.

    Returns:
        The number of slots of complete reads; those after them belong to a read that is still being handed off.

    """
    flags = slots["flags"]
    frames = flags & CONTROL_RECORD == 0
    ends = np.flatnonzero((flags & FLAG_LAST != 0) | ~frames)
    whole = int(ends[-1]) + 1 if len(ends) else 0
    if final and whole < len(slots):
        ends = np.append(ends, len(slots) - 1)
        whole = len(slots)
    counts = np.where(frames[ends], slots["frame_in_read"][ends] + 1, 0)
    slots["frames_in_read"][:whole] = np.repeat(counts, np.diff(ends, prepend=-1))
    return whole
