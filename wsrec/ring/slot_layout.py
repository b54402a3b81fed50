"""Layout of a slot: one table that generates the struct, the numpy dtype, the offsets and docs/reference/rings.md.

`slot_layout.pxd` has the C struct; compiled modules compare it with this table on import (`check_compiled`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from struct import Struct
from typing import Final, NamedTuple

import numpy as np

from wsrec.ring import slot_flags


class SlotField(NamedTuple):
    """A field of a slot: an unsigned integer, little-endian."""

    name: str
    size: int
    """Bytes."""
    meaning: str


SLOT_FIELDS: Final = (
    SlotField("offset", 8, "count in the byte ring of the payload's first byte"),
    SlotField("nic", 8, "stage 1, ns since the epoch; 0 without a stamp"),
    SlotField("event", 8, "stage 2, ns on the monotonic clock; of a control record: when it was created or sent"),
    SlotField("handoff", 8, "stage 6, ns on the monotonic clock"),
    SlotField("recv_start", 4, "stage 3, ns after stage 2"),
    SlotField("recv_end", 4, "stage 4, ns after stage 3"),
    SlotField("parsed", 4, "stage 5, ns after stage 4"),
    SlotField("length", 4, "payload, bytes"),
    SlotField(
        "read_bytes",
        4,
        "bytes that the read took from the socket; of a sent frame: the number of its subscription request, 0 if it is "
        "not one (`request_numbers`)",
    ),
    SlotField("frame_in_read", 2, "position among the frames that the read completed, from 0"),
    SlotField("frames_in_read", 2, "number of these frames: 0 in the ring, filled in by the consumer (`count_reads`)"),
    SlotField("conn", 2, "connection"),
    SlotField("opcode", 1, "RFC 6455 section 5.2; 0 continues the previous message"),
    SlotField("flags", 1, "`wsrec.ring.slot_flags.Flag`"),
    SlotField("source", 1, "`wsrec.stages.StampSource`"),
)
"""Three stamps are differences, so that six fit in a cache line. A difference of 2**32 ns (4.3 s: a stopped process)
or more sets `Flag.COARSE`: then all three are in units of 1,024 ns."""

SLOT_SIZE: Final = 64
"""A cache line; the rest after the fields is unused."""
COARSE_SHIFT: Final = 10

OFFSETS: Final = dict(
    zip(
        (field.name for field in SLOT_FIELDS),
        itertools.accumulate((field.size for field in SLOT_FIELDS), initial=0),
        strict=False,
    )
)
"""Offset of each field in bytes."""
HANDOFF_OFFSET: Final = OFFSETS["handoff"]
FLAGS_OFFSET: Final = OFFSETS["flags"]
_USED = sum(field.size for field in SLOT_FIELDS)

_CODES = "".join({1: "B", 2: "H", 4: "I", 8: "Q"}[field.size] for field in SLOT_FIELDS)
SLOT: Final = Struct(f"<{_CODES}{SLOT_SIZE - _USED}x")
SLOT_DTYPE: Final = np.dtype(
    {
        "names": list(OFFSETS),
        "formats": [f"<u{field.size}" for field in SLOT_FIELDS],
        "offsets": list(OFFSETS.values()),
        "itemsize": SLOT_SIZE,
    }
)


def check_compiled(size: int, fields: Mapping[str, tuple[int, int]], flags: Mapping[str, int]) -> None:
    """Compare the layout in compiled code with this one.

    Args:
        size: size of its struct in bytes.
        fields: offset and size of each field.
        flags: its values of `wsrec.ring.slot_flags`.

    Raises:
        RuntimeError: they differ: the code was compiled from an older `slot_layout.pxd`, or that file was not changed.

    """
    wanted = {field.name: (OFFSETS[field.name], field.size) for field in SLOT_FIELDS}
    differs = [name for name in {*wanted, *fields} if wanted.get(name) != fields.get(name)]
    differs += [name for name, number in flags.items() if getattr(slot_flags, name) != number]
    if size != SLOT_SIZE or differs:
        raise RuntimeError(
            f"compiled code has another slot layout ({', '.join(sorted(differs)) or f'{size} bytes'}): compile wsrec "
            "again; if that does not help, bring slot_layout.pxd in line with slot_layout.py"
        )


def layout_table() -> str:
    """The table in Markdown for the docs."""
    rows = [f"| `{name}` | {OFFSETS[name]} | {size} | {meaning} |\n" for name, size, meaning in SLOT_FIELDS]
    rest = f"| (unused) | {_USED} | {SLOT_SIZE - _USED} | |\n"
    return "| field of a slot | at | bytes | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows) + rest
