"""The six stages of a message and the steps between them: the only place that names them.

Stage 1 is on the NIC's or the kernel's clock, 2 to 6 on one monotonic clock. Everything that prints, stores or
measures a stage takes its name, column and meaning from here (docs/explanation/stages.md is checked against it).
"""

from __future__ import annotations

import itertools
from enum import IntEnum
from typing import NamedTuple


class Stage(NamedTuple):
    """A point in time on a frame's path, with its Parquet column."""

    number: int
    name: str
    column: str
    meaning: str


NIC = Stage(1, "NIC", "nic_time", "the NIC's hardware stamp, else the kernel's software stamp")
EVENT = Stage(
    2,
    "EVENT",
    "event_time",
    "first line of the readiness callback; while `--wait` spins, of the read that found something",
)
RECV_START = Stage(3, "RECV_START", "recv_start_time", "just before the read")
RECV_END = Stage(4, "RECV_END", "recv_end_time", "just after the read that brought the frame's last byte, decrypted")
PARSED = Stage(5, "PARSED", "parsed_time", "the frame's header parsed and its payload complete")
HANDOFF = Stage(6, "HANDOFF", "handoff_time", "just before the frame's slot is published")

STAGES = (NIC, EVENT, RECV_START, RECV_END, PARSED, HANDOFF)


class Step(NamedTuple):
    """The path from one stage to another; `key` is its name in JSON and in file metadata."""

    key: str
    start: Stage
    end: Stage

    @property
    def name(self) -> str:
        """The step in readable form: ``EVENT->RECV_START``."""
        return f"{self.start.name}->{self.end.name}"


STEPS = tuple(Step(f"{start.name}_to_{end.name}".lower(), start, end) for start, end in itertools.pairwise(STAGES))
TOTAL = Step("total", NIC, HANDOFF)
TOTAL_WITHOUT_NIC = Step("event_to_handoff", EVENT, HANDOFF)
"""The total of frames without stage 1."""


class StampSource(IntEnum):
    """The source of a slot's stage 1, or why it has none. One source never silently replaces another."""

    NIC = 1
    KERNEL = 2
    NONE_OPENSSL = 3
    NONE_UNSUPPORTED = 4
    NONE_ABSENT = 5
    NONE_SENT = 6
    NONE_KTLS = 7
    SEGMENT = 8
    SEGMENT_NIC = 9
    NONE_DROPPED = 10
    NONE_BEHIND = 11
    NONE_UNMAPPED = 12
    NONE_REFUSED = 13
    NONE_FORGOTTEN = 14
    NONE_CONTRADICTED = 15

    @property
    def word(self) -> str:
        """The clock of the best arrival time, as `recv_source` has it: `user` without stage 1."""
        return _WORDS.get(self, USER)

    @property
    def reason(self) -> str | None:
        """Why stage 1 is null; None if there is a timestamp."""
        return _REASONS.get(self)


class SegmentOrder(IntEnum):
    """How the TCP segment came that stage 1 is the arrival of; 0 without one."""

    IN_ORDER = 1
    FILLED = 2
    REPEATED = 3
    AHEAD = 4

    @property
    def word(self) -> str:
        """The word in `segment_order`."""
        return self.name.lower()


USER = "user"
"""The word for rows without stage 1."""
_WORDS = {
    StampSource.NIC: "nic",
    StampSource.KERNEL: "kernel",
    StampSource.SEGMENT: "segment",
    StampSource.SEGMENT_NIC: "segment-nic",
}
STAMPED_WORDS = tuple(_WORDS.values())
"""The words for rows with stage 1."""
SEGMENT_WORDS = (StampSource.SEGMENT.word, StampSource.SEGMENT_NIC.word)
"""Those for rows whose stage 1 is the arrival of a captured segment."""

_REASONS = {
    StampSource.NONE_OPENSSL: "openssl: SSLSocket reads without ancillary data",
    StampSource.NONE_KTLS: "ktls: the kernel provides no timestamp with decrypted data",
    StampSource.NONE_UNSUPPORTED: "this system has no SO_TIMESTAMPING",
    StampSource.NONE_ABSENT: "the kernel provided no timestamp with this read",
    StampSource.NONE_SENT: "sent by wsrec, not received",
    StampSource.NONE_DROPPED: "segments: the capture's ring was full, and the segment was dropped",
    StampSource.NONE_BEHIND: "segments: the capture did not have the segment in time",
    StampSource.NONE_UNMAPPED: "segments: the place of this frame in its TCP stream is unknown",
    StampSource.NONE_REFUSED: "segments: they cannot be captured here",
    StampSource.NONE_FORGOTTEN: "segments: asked for so late that they were forgotten",
    StampSource.NONE_CONTRADICTED: "segments: the captured ones contradict the read or one another",
}
