"""Rows of one session, and the proof by `seq` that none is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.format.coverage import SequenceCoverage
from wsrec.histogram import Int64s
from wsrec.report.model import Session
from wsrec.ring import loss_evidence
from wsrec.ring.events import EventKind

_RANGES = 100


class SessionTally:
    """Rows, times and numbers of one session.

    Args:
        is_part: whether rows are only those that a selection wants.

    Attributes:
        files: its message files.
        first, last: the smallest and largest receive time (ns since the epoch); None without rows.

    """

    def __init__(self, *, is_part: bool) -> None:
        self.files = self._rows = self._received = 0
        self._is_part, self._is_ended = is_part, False
        self._announced: int | None = None
        # of a part there are holes wherever other rows are
        self._seq = None if is_part else SequenceCoverage()
        self._first_seq: int | None = None
        self._last_seq: int | None = None
        self.first: int | None = None
        self.last: int | None = None

    def add(self, seq: npt.NDArray[np.uint64], recv_time: Int64s, received: int) -> None:
        """Count rows by their numbers and receive times (ns since the epoch); `received` of them were received."""
        self._rows += len(seq)
        self._received += received
        self._reach(int(seq.min()), int(seq.max()))
        if self._seq is not None:
            self._seq.add(seq)
        first, last = int(np.min(recv_time)), int(np.max(recv_time))
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def event(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Note an event if it is the session's last: its end, or that it was interrupted and recovered."""
        if kind == EventKind.SESSION_END:
            self._is_ended = True
            totals = [detail.get(name) for name in ("messages", "control")]
            if all(isinstance(total, int) for total in totals):
                self._announced = sum(total for total in totals if isinstance(total, int))
        elif kind == EventKind.LOST_INTERVAL and detail.get("reason") == loss_evidence.INTERRUPTED:
            self._is_ended = True

    def merge(self, other: SessionTally) -> None:
        """Add the rows of another."""
        self.files += other.files
        self._rows += other._rows
        self._received += other._received
        self._is_ended |= other._is_ended
        if self._announced is None:
            self._announced = other._announced
        if other._first_seq is not None and other._last_seq is not None:
            self._reach(other._first_seq, other._last_seq)
        if self._seq is not None and other._seq is not None:
            self._seq.merge(other._seq)
        if other.first is not None and other.last is not None:
            self.first = other.first if self.first is None else min(self.first, other.first)
            self.last = other.last if self.last is None else max(self.last, other.last)

    def _reach(self, first: int, last: int) -> None:
        self._first_seq = first if self._first_seq is None else min(self._first_seq, first)
        self._last_seq = last if self._last_seq is None else max(self._last_seq, last)

    def result(self, name: str) -> Session:
        """The totals as the report's struct."""
        return Session(
            session=name,
            files=self.files,
            rows=self._rows,
            first_recv_time=self.first,
            last_recv_time=self.last,
            first_seq=self._first_seq,
            last_seq=self._last_seq,
            missing=self._seq.missing if self._seq else None,
            missing_ranges=self._seq.holes(_RANGES) if self._seq else [],
            duplicates=self._seq.duplicates if self._seq else None,
            received=self._received,
            ended=None if self._is_part else self._is_ended,
            announced=None if self._is_part else self._announced,
        )


def union(spans: list[tuple[int | None, int | None]]) -> int:
    """Total length (ns) of the spans, with overlaps counted once."""
    length, until = 0, None
    for first, last in sorted((first, last) for first, last in spans if first is not None and last is not None):
        if until is None or first > until:
            length, until = length + last - first, last
        elif last > until:
            length, until = length + last - until, last
    return length
