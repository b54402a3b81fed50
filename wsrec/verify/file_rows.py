"""Totals of a message file's rows, and checks of their order, which depends on the rows before them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from wsrec.format.columns import Bools, times
from wsrec.histogram import Int64s
from wsrec.stages import HANDOFF, USER
from wsrec.verify.row_checks import RowChecks
from wsrec.verify.rows import Rows

# allowed difference in UTC from the anchors around a row: the clock's rate may change between them
_SLACK_NS = 1_000_000


class Anchors:
    """Anchors, which tie the stage clock to UTC; `handoff_time` is checked against them."""

    def __init__(self) -> None:
        self._stages: list[int] = []
        self._offsets: list[int] = []
        self._given_up: list[tuple[int, int]] = []
        self._clock: str | None = None

    def add(self, stage: int, realtime: int, clock: str | None = None, drift: int = 0) -> None:
        """Add an anchor (ns), in order of time; if its clock differs, the previous clock was ahead by `drift`."""
        if self._clock is not None and clock != self._clock:
            self._given_up.append((stage, max(drift, 0)))
        self._clock = clock
        if not self._stages or stage > self._stages[-1]:
            self._stages.append(stage)
            self._offsets.append(realtime - stage)

    def forget_before(self, stage: int) -> None:
        """Drop anchors that are only needed for rows before this hand-off."""
        keep = max(bisect_right(self._stages, stage) - 2, 0)
        del self._stages[:keep], self._offsets[:keep]

    def explain(self, before: int, after: int) -> bool:
        """Whether the stage clock may go back from `before` to `after`: its counter was ahead and was replaced."""
        return any(after >= stage - ahead and before <= stage + ahead for stage, ahead in self._given_up)

    def off_utc(self, stage: Int64s, utc: Int64s) -> Bools:
        """Mask of rows whose UTC differs from the anchors before and after them; False outside all anchors."""
        if len(self._stages) < 2:
            return np.zeros(len(stage), np.bool_)
        offsets = np.array(self._offsets)
        after = np.searchsorted(self._stages, stage)
        inside = (after > 0) & (after < len(offsets))
        around = offsets[np.clip(after - 1, 0, None)], offsets[np.clip(after, None, len(offsets) - 1)]
        found = utc - stage
        wrong: Bools = inside & ((found < np.minimum(*around) - _SLACK_NS) | (found > np.maximum(*around) + _SLACK_NS))
        return wrong


class FileRows(RowChecks):
    """Totals of one message file's rows.

    Args:
        anchors: the session's anchors.
        handoff: hand-off of the row before the file's first (ns on the stage clock); None without one.

    Attributes:
        rows: number of rows.
        first_seq, last_seq, first_time, last_time: of the first and the last row (`recv_time`).
        first_handoff, last_handoff: their hand-offs (ns on the stage clock).

    """

    def __init__(self, anchors: Anchors, handoff: int | None) -> None:
        super().__init__()
        self.rows = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.first_time: int | None = None
        self.last_time: int | None = None
        self.first_handoff: int | None = None
        self.last_handoff: int | None = None
        self._anchors = anchors
        self._before = handoff

    def take(self, rows: Rows, checks: RowChecks) -> None:
        """Take the file's next rows, with the checks of them alone."""
        seq, recv_time = rows.seq, times(rows.table, "recv_time")[0]
        if not self.rows:
            self.first_seq, self.first_time = int(seq[0]), int(recv_time[0])
        self.last_seq, self.last_time = int(seq[-1]), int(recv_time[-1])
        self.rows += len(seq)
        self.merge(checks)
        self._check_order(rows.stage, times(rows.table, HANDOFF.column)[0])

    def stage1(self, stated: Any) -> Any:
        """The expected `wsrec.stage1`; only the writer knows the reasons of rows without a stamp."""
        sources = {key: count for key, count in self.sources.items() if key != USER}
        none = self.sources[USER]
        pairs = stated.items() if isinstance(stated, dict) else ()
        reasons = {key: value for key, value in pairs if key.startswith("none: ")}
        fits = all(isinstance(value, int) for value in reasons.values()) and sum(reasons.values()) == none
        return {**sources, **(reasons if fits else {"none": none} if none else {})}

    def _check_order(self, order: Int64s, handoff: Int64s) -> None:
        previous = np.concatenate(([order[0] if self._before is None else self._before], order[:-1]))
        for row in np.flatnonzero(order < previous).tolist():
            if not self._anchors.explain(int(previous[row]), int(order[row])):
                self.problems["handoff_monotonic is before that of the row before"] += 1
        self.count(self._anchors.off_utc(order, handoff), "handoff_time differs from the anchors around it")
        self._before = self.last_handoff = int(order[-1])
        if self.first_handoff is None:
            self.first_handoff = int(order[0])
