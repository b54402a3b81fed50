"""Losses that a dead receiver did not report: since when each of its connections is lost.

Once receiver and supervisor are gone only the writer can report it, so it always does. A receiver that ends in order
sets `finished` in the status page when all its records are in the rings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from wsrec.plan.connections import ConnectionPlan
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.loss_evidence import Since, since_death
from wsrec.ring.slot_flags import CONTROL_RECORD
from wsrec.writer.gather import Slots


class LastFrameTimes:
    """Time of the read of each connection's last frame (ns on the stage clock; 0 for none)."""

    def __init__(self) -> None:
        self._events: npt.NDArray[np.uint64] = np.zeros(1 << 16, np.uint64)

    def take(self, slots: Slots) -> None:
        """Process the next slots, in order."""
        conns, events = slots["conn"], slots["event"]
        received = slots["flags"] & CONTROL_RECORD == 0
        if not received.all():
            conns, events = conns[received], events[received]
        self._events[conns] = events

    def __getitem__(self, conn: int) -> int:
        return int(self._events[conn])


def unreported_losses(
    plans: Sequence[ConnectionPlan], rings: Mapping[int, ByteRing], frames: LastFrameTimes, began: int
) -> dict[int, Since]:
    """By connection, since when it is lost; connections that had ended are left out.

    Args:
        plans: the receiver's connections.
        rings: their byte rings.
        frames: the times of all frames that it handed off.
        began: start of the first receiver, ns on the monotonic clock.

    """
    # of two connections that take turns, only the active one has a mark
    marked = {
        plan.standby_of for plan in plans if plan.standby_of is not None and rings[plan.conn].complete_until.read()
    }
    lost = {}
    for plan in plans:
        complete_until = rings[plan.conn].complete_until.read()
        idle = plan.standby_of is not None and not complete_until
        if complete_until != ENDED and not idle and plan.conn not in marked:
            lost[plan.conn] = since_death(complete_until, frames[plan.conn], began)
    return lost
