"""The status page: counters of receiver and writer for the supervisor, in shared memory.

Each side writes its own half and never waits; the supervisor reads at any time. One page-aligned memfd per pair:

    header        one word: the number of planned connections
    receiver      `RECEIVER_FIELDS`, 64-bit words
    writer        `WRITER_FIELDS`, 64-bit words
    steps         a latency histogram (`wsrec.histogram`) for each of `wsrec.stages.STEPS` and the total, by the writer
    connections   a row for each planned connection (`wsrec.plan.connections.status_rows`), which its standby shares:
                  `CONNECTION_RECEIVED` by the receiver, `CONNECTION_WRITTEN` and a histogram of the total by the writer

The histograms of connections are coarser (`wsrec.histogram.COARSE_BUCKETS`), so that a thousand take 5 MB.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.counts import COUNTERS
from wsrec.histogram import BUCKETS, COARSE_BUCKETS
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
CONNECTION_RECEIVED = (
    # whether a WebSocket is open
    "connected",
    # the number (`conn`) that its rows have now: its own, or its standby's
    "active",
    # moments on the stage clock (ns), 0 before the first: the last opening, and the last read with data
    "opened",
    "last_read",
    "frames",
    "bytes",
    "stalls",
    "reconnects",
)
CONNECTION_WRITTEN = (
    "messages",
    "payload_bytes",
    # hand-off of the last message (ns on the stage clock)
    "last_message",
)

# words in a cache line; each side has its own lines
_LINE = 8
_HEAD = _LINE
_DTYPE = np.dtype(
    [
        ("head", "<u8", (_HEAD,)),
        ("receiver", [(name, "<u8") for name in RECEIVER_FIELDS], ()),
        ("pad", "<u8", (-len(RECEIVER_FIELDS) % _LINE,)),
        ("writer", [(name, "<u8") for name in WRITER_FIELDS], ()),
        ("pad2", "<u8", (-len(WRITER_FIELDS) % _LINE,)),
        ("steps", "<i8", (len(STEPS) + 1, BUCKETS)),
    ]
)
_ROW = np.dtype(
    [
        ("receiver", [(name, "<u8") for name in CONNECTION_RECEIVED], ()),
        ("writer", [(name, "<u8") for name in CONNECTION_WRITTEN], ()),
        ("pad", "<u8", (-len(CONNECTION_WRITTEN) % _LINE,)),
        ("latency", "<i8", (COARSE_BUCKETS,)),
    ]
)
_RECEIVED = struct.Struct(f"<{len(CONNECTION_RECEIVED)}Q")


class StatusPage:
    """One process's view of a status page.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        receiver: a numpy record of `RECEIVER_FIELDS`, written by the receiver only.
        writer: a numpy record of `WRITER_FIELDS`, written by the writer only.
        steps: int64 array (steps + total, buckets), written by the writer only.
        connections: record array of a row for each planned connection: `receiver`, `writer` and `latency`.

    """

    def __init__(self, fd: int) -> None:
        count = map_words(fd, PAGE)[0]
        self._words = map_words(fd, _size(count))
        page: npt.NDArray[Any] = np.frombuffer(self._words, _DTYPE, count=1)
        self.receiver: Any = page["receiver"][0]
        self.writer: Any = page["writer"][0]
        self.steps: npt.NDArray[np.int64] = page["steps"][0]
        self.connections: npt.NDArray[Any] = np.frombuffer(self._words, _ROW, count, _DTYPE.itemsize)
        self._bytes = self._words.cast("B")

    @staticmethod
    def create(name: str, connections: int) -> int:
        """Create the shared memory of a page of zeros for so many connections and return its descriptor."""
        fd = create_shared(name, _size(connections))
        map_words(fd, PAGE)[0] = connections
        return fd

    def put_received(self, row: int, *values: int) -> None:
        """Write the values of `CONNECTION_RECEIVED` of a connection's row, all of them: numpy takes as long for one."""
        _RECEIVED.pack_into(self._bytes, _DTYPE.itemsize + row * _ROW.itemsize, *values)


def _size(connections: int) -> int:
    return -(-(_DTYPE.itemsize + connections * _ROW.itemsize) // PAGE) * PAGE
