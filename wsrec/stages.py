"""The six stages of a message and the steps between them: the one place that names them.

Stage 1 is on the NIC's or the kernel's clock, 2 to 6 on one monotonic clock. Everything that prints, stores or
measures a stage takes its name, its column and its meaning from here (docs/stages.md is checked against it).
"""

from __future__ import annotations

import itertools
from enum import IntEnum
from typing import NamedTuple


class Stage(NamedTuple):
    """One point in time on a frame's way, with the Parquet column that keeps it."""

    number: int
    name: str
    column: str
    meaning: str


NIC = Stage(1, "NIC", "nic_time", "the NIC's hardware stamp, else the kernel's software stamp")
EVENT = Stage(
    2,
    "EVENT",
    "event_time",
    "first line of the readiness callback; with `--busy-poll`, of the poll that found something",
)
RECV_START = Stage(3, "RECV_START", "recv_start_time", "just before the read")
RECV_END = Stage(4, "RECV_END", "recv_end_time", "just after the read that brought the frame's last byte, decrypted")
PARSED = Stage(5, "PARSED", "parsed_time", "the frame's header parsed and its payload complete")
HANDOFF = Stage(6, "HANDOFF", "handoff_time", "just before the frame's slot is published")

STAGES = (NIC, EVENT, RECV_START, RECV_END, PARSED, HANDOFF)


class Step(NamedTuple):
    """The way from one stage to another; `key` names it in JSON and in file metadata."""

    key: str
    start: Stage
    end: Stage

    @property
    def name(self) -> str:
        """The step as people read it: ``EVENT->RECV_START``."""
        return f"{self.start.name}->{self.end.name}"


STEPS = tuple(Step(f"{start.name}_to_{end.name}".lower(), start, end) for start, end in itertools.pairwise(STAGES))
TOTAL = Step("total", NIC, HANDOFF)


class StampSource(IntEnum):
    """Where a slot's stage 1 comes from, or why it has none. Never one silently in place of the other."""

    NIC = 1
    KERNEL = 2
    NONE_OPENSSL = 3
    NONE_UNSUPPORTED = 4
    NONE_ABSENT = 5
    NONE_SENT = 6
    NONE_KTLS = 7

    @property
    def reason(self) -> str | None:
        """Why stage 1 is null, or None where there is a stamp."""
        return _REASONS.get(self)


_REASONS = {
    StampSource.NONE_OPENSSL: "openssl: SSLSocket reads without ancillary data",
    StampSource.NONE_KTLS: "ktls: the kernel gives no stamp with what it decrypted",
    StampSource.NONE_UNSUPPORTED: "this system has no SO_TIMESTAMPING",
    StampSource.NONE_ABSENT: "the kernel gave no stamp with this read",
    StampSource.NONE_SENT: "sent by wsrec, not received",
}
