"""Slots with what the captured segments say of them (`--segments`), in the writer and in its journal.

The 64 bytes of the ring's slot as they are, with `segment_order` in a byte that is unused there, and two times behind
them. Where nothing is captured, slots stay as they are in the ring.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from wsrec.ring.slot_layout import OFFSETS, SLOT_FIELDS, SLOT_SIZE
from wsrec.writer.gather import Slots

SEGMENT_FIELDS: Final = (
    # (name, numpy's format, at), bytes
    ("segment_order", "<u1", sum(field.size for field in SLOT_FIELDS)),
    ("read_stamp", "<u8", SLOT_SIZE),
    ("first_segment", "<u8", SLOT_SIZE + 8),
)
"""`segment_order`: `wsrec.stages.SegmentOrder`, or 0; `read_stamp`: the stamp that came with the read, and
`first_segment`: the arrival of the message's first byte, both in ns since the epoch, 0 without one."""

SEGMENT_SLOT_SIZE: Final = SLOT_SIZE + 16
SEGMENT_SLOT_DTYPE: Final = np.dtype(
    {
        "names": [*OFFSETS, *(name for name, _, _ in SEGMENT_FIELDS)],
        "formats": [*(f"<u{field.size}" for field in SLOT_FIELDS), *(kind for _, kind, _ in SEGMENT_FIELDS)],
        "offsets": [*OFFSETS.values(), *(at for _, _, at in SEGMENT_FIELDS)],
        "itemsize": SEGMENT_SLOT_SIZE,
    }
)


def has_segments(slots: Slots) -> bool:
    """Whether slots have these fields."""
    return slots.dtype.itemsize == SEGMENT_SLOT_SIZE


def with_segments(slots: Slots, into: Slots | None = None) -> Slots:
    """A copy of slots of the ring with these fields, all 0.

    Args:
        slots: array of `SLOT_DTYPE`; one that has the fields already is returned as it is.
        into: array of `SEGMENT_SLOT_DTYPE`, as long, to copy into.

    """
    if has_segments(slots):
        return slots
    made = np.empty(len(slots), SEGMENT_SLOT_DTYPE) if into is None else into
    words = made.view(np.uint8).reshape(-1, SEGMENT_SLOT_SIZE)
    words[:, :SLOT_SIZE] = np.ascontiguousarray(slots).view(np.uint8).reshape(-1, SLOT_SIZE)
    words[:, SLOT_SIZE:] = 0
    made["segment_order"] = 0
    return made
