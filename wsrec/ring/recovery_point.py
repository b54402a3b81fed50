"""Recovery point of a dead receiver: where its published slots end in the byte rings.

A byte ring's head may be ahead of them, by a handshake, an incomplete frame or control records without a slot: nothing
refers to those bytes, and nothing ever releases them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wsrec.ring.bytering import ByteRing
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_LAST
from wsrec.ring.slotring import SlotRing


class RecoveryPoint(NamedTuple):
    """The end of the published part of a byte ring.

    Attributes:
        end: count in the byte ring of the first byte that no slot refers to.
        event: when the read of the last slot began, ns on the stage clock; 0 if the writer has released the slot.

    """

    end: int
    event: int


def of_connection(slots: SlotRing, ring: ByteRing, conn: int) -> RecoveryPoint:
    """The recovery point of the byte ring of connection `conn`."""
    return _recovery_point(slots, ring, conn)


def of_control_ring(slots: SlotRing, control_ring: ByteRing) -> RecoveryPoint:
    """The recovery point of the control ring."""
    return _recovery_point(slots, control_ring, None)


def end_read(slots: SlotRing) -> None:
    """Mark the last frame as the last of its read: the receiver may have died while handing off the read.

    The writer waits for that mark before it takes a read.
    """
    published = slots.published.read()
    if published:
        last = slots.run(published - 1, published)
        if not last["flags"][0] & CONTROL_RECORD:
            last["flags"] |= FLAG_LAST


def _recovery_point(slots: SlotRing, ring: ByteRing, conn: int | None) -> RecoveryPoint:
    # a released slot may hold data of a read that was never published
    run = slots.run(slots.released.read(), slots.published.read())
    own = run["flags"] & CONTROL_RECORD != 0
    found = np.flatnonzero(own if conn is None else ~own & (run["conn"] == conn))
    if not len(found):
        # the writer frees a byte ring up to the end of the last slot that it releases
        return RecoveryPoint(ring.tail.read(), 0)
    last = run[found[-1]]
    return RecoveryPoint(int(last["offset"]) + int(last["length"]), int(last["event"]))
