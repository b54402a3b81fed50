"""Counts of each connection on the status page, by the writer: messages, bytes, the last message, latencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wsrec.format import grouped
from wsrec.histogram import COARSE_BUCKETS
from wsrec.plan.connections import ConnectionPlan, status_rows
from wsrec.ring.status import CONNECTION_WRITTEN, StatusPage
from wsrec.writer.gather import Slots
from wsrec.writer.rows import Bools, Int64s, Stamps


class LiveCounts:
    """Counts on a status page, once a batch.

    Args:
        page: the page.
        connections: all connections of the writer.

    Attributes:
        steps: int64 array (steps + total, buckets) of the page.
        is_muted: whether rows are passed over for now: an earlier writer of the session has counted them. One that was
            killed may have counted its last batch without saying so.

    """

    def __init__(self, page: StatusPage, connections: Sequence[ConnectionPlan]) -> None:
        self.steps = page.steps
        self.is_muted = False
        rows = page.connections
        words: Int64s = rows.view(np.int64).reshape(len(rows), rows.dtype.itemsize // 8)
        first = rows.dtype.fields["writer"][1] // 8 if rows.dtype.fields is not None else 0
        self._figures = words[:, first : first + len(CONNECTION_WRITTEN)]
        self._latency = words[:, -COARSE_BUCKETS:]
        self._row_of: npt.NDArray[np.uint16] = np.full(1 << 16, grouped.NO_GROUP, np.uint16)
        for conn, row in status_rows(connections).items():
            self._row_of[conn] = row

    def count(self, slots: Slots, when: Stamps, lengths: Int64s, carried: Bools) -> None:
        """Count rows.

        Args:
            slots: of each row.
            when: the stamps.
            lengths: bytes of each payload.
            carried: which rows are messages.

        """
        if self.is_muted:
            return
        start = when.nic if when.stamped.all() else np.where(when.stamped, when.nic, when.event)
        grouped.add_messages(
            self._figures,
            self._latency,
            self._row_of[slots["conn"]],
            carried.view(np.uint8),
            lengths,
            when.stage,
            start,
            when.handoff,
        )
