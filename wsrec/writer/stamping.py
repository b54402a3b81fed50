"""Stamps of slots in UTC, and the steps between them. The readable version of `_stamping.pyx`.

`implementation.fill_stamps` is the version in use. numpy reads the slots once for each field, 64 bytes apart, and makes
an array for each operation; the compiled one reads and writes everything once: 60 ns a slot and 10.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsrec.ring.slot_flags import FLAG_COARSE, NOT_RECEIVED
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.writer.gather import Slots

TIMES = ("recv_time", "nic", "event", "recv_start", "recv_end", "parsed", "handoff", "stage")
"""The first rows that `fill_stamps` fills; the five steps follow."""
STEPS = 5


def fill_stamps(
    slots: Slots,
    offset: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
    received: npt.NDArray[np.bool_],
    stamped: npt.NDArray[np.bool_],
) -> None:
    """Compute the stamps of slots (`wsrec.writer.rows.Stamps`), in ns.

    Args:
        slots: array of `SLOT_DTYPE`, or of one that begins so.
        offset: turns the monotonic stamps of each into UTC.
        out: a row for each of `TIMES`, and for each of the five steps.
        received, stamped: which slots have stages 2 to 5, and which have stage 1.

    """
    flags = slots["flags"].copy()
    waited, took, parse = (slots[name].astype(np.int64) for name in ("recv_start", "recv_end", "parsed"))
    coarse = flags & FLAG_COARSE != 0
    if coarse.any():
        for difference in (waited, took, parse):
            difference[coarse] <<= COARSE_SHIFT
    nic, stage, monotonic = (slots[name].astype(np.int64) for name in ("nic", "handoff", "event"))
    received[:], stamped[:] = flags & NOT_RECEIVED == 0, nic != 0
    handoff, event = stage + offset, monotonic + offset
    recv_start = event + waited
    recv_end = recv_start + took
    parsed = recv_end + parse
    # fetched data has no time but its hand-off
    own = np.where(monotonic != 0, event, handoff)
    arrived = np.where(stamped, nic, np.where(received, recv_end, own))
    times = (arrived, nic, event, recv_start, recv_end, parsed, handoff, stage)
    for row, values in zip(out, (*times, event - nic, waited, took, parse, handoff - parsed), strict=True):
        row[:] = values
