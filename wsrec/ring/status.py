"""The status page: counters of receiver and writer for the supervisor, in shared memory.

Each side writes its own half and never waits; the supervisor reads at any time. One page-aligned memfd per pair:

    receiver   `RECEIVER_FIELDS`, 64-bit words
    writer     `WRITER_FIELDS`, 64-bit words
    steps      a latency histogram (`wsrec.histogram`) for each of `wsrec.stages.STEPS` and the total, by the writer
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.counts import COUNTERS
from wsrec.histogram import BUCKETS
from wsrec.ring.mirror import PAGE, create_shared, map_words
from wsrec.stages import STEPS

RECEIVER_FIELDS = (
    "heartbeat",
    "connections",
    "connected",
    "reads",
    "frames",
    "bytes",
    "discarded_bytes",
    "stalls",
    "reconnects",
    "finished",
    # all of its connections have ended or were refused permanently
    "exhausted",
)
WRITER_FIELDS = (
    "heartbeat",
    *COUNTERS,
    "journalled_bytes",
    "journal_lag_ns",
    "files",
    "disk_trouble",
    # the first slot (its count) whose warnings may not have been shown yet: a writer that resumes warns from there on
    "warned_until",
)

# words in a cache line; each side has its own lines
_LINE = 8
_DTYPE = np.dtype(
    [
        ("receiver", [(name, "<u8") for name in RECEIVER_FIELDS], ()),
        ("pad", "<u8", (-len(RECEIVER_FIELDS) % _LINE,)),
        ("writer", [(name, "<u8") for name in WRITER_FIELDS], ()),
        ("pad2", "<u8", (-len(WRITER_FIELDS) % _LINE,)),
        ("steps", "<i8", (len(STEPS) + 1, BUCKETS)),
    ]
)
_SIZE = -(-_DTYPE.itemsize // PAGE) * PAGE


class StatusPage:
    """One process's view of a status page.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        receiver: a numpy record of `RECEIVER_FIELDS`, written by the receiver only.
        writer: a numpy record of `WRITER_FIELDS`, written by the writer only.
        steps: int64 array (steps + total, buckets), written by the writer only.

    """

    def __init__(self, fd: int) -> None:
        page: npt.NDArray[Any] = np.frombuffer(map_words(fd, _SIZE), _DTYPE, count=1)
        self.receiver: Any = page["receiver"][0]
        self.writer: Any = page["writer"][0]
        self.steps: npt.NDArray[np.int64] = page["steps"][0]

    @staticmethod
    def create(name: str) -> int:
        """Create the shared memory of a page of zeros and return its descriptor."""
        return create_shared(name, _SIZE)
