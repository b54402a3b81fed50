"""Gathering of payloads from the rings, back to back. The readable version of `_gather.pyx`.

This is the one copy of a payload between the socket and the files. `implementation.gather` is the one that runs.

Two files, because one source does not do: this one compiled took 454 ns a payload of 180 bytes, with typed locals in
an augmenting .pxd 323, in Python 375, `_gather.pyx` 23 (batches of 4000, best of 60, one run, busy machine). The
difference is an array of pointers and memcpy without the interpreter's lock, which Cython's pure mode can only say in
a branch that Python never runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.ring.slot_flags import CONTROL_RECORD

Slots = npt.NDArray[Any]


def gather(
    slots: Slots,
    views: Sequence[memoryview],
    ring_of: npt.NDArray[np.int32],
    payloads: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
) -> None:
    """Copy the payload of each slot behind that of the slot before.

    Args:
        slots: array of `SLOT_DTYPE`.
        views: of each byte ring, the ring twice (`ByteRing.view`); the first is that of the receiver's own words.
        ring_of: for each connection number, which of the views is its ring.
        payloads: where to copy to, at least as many bytes as the slots' lengths are together.
        ends: for each view, the count in its ring that its last slot's payload ends at; left as it is without a slot.

    """
    into = memoryview(payloads)  # type: ignore[arg-type]  # numpy 2.4 declares `__buffer__` by a newer typing
    rings = np.where(slots["flags"] & CONTROL_RECORD != 0, 0, ring_of[slots["conn"]]).tolist()
    masks = [len(view) // 2 - 1 for view in views]
    at = 0
    for ring, offset, length in zip(rings, slots["offset"].tolist(), slots["length"].tolist(), strict=True):
        start = offset & masks[ring]
        into[at : at + length] = views[ring][start : start + length]
        at += length
        ends[ring] = offset + length
