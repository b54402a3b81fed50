"""Continuity of rows: `seq` increases by one from row to row and file to file; skipped numbers are missing rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wsrec.format.coverage import SequenceCoverage
from wsrec.format.folders import session_began
from wsrec.verify.finding_log import LISTED, FindingLog
from wsrec.verify.judgement import Judgement
from wsrec.verify.model import Kind
from wsrec.verify.session_clock import SessionClock


class RowContinuity:
    """Checks the row numbers of one session.

    Args:
        session: the session's id.
        whole: whether all of its files are read.
        clock: the session's clocks.
        log: takes findings.

    Attributes:
        seq: number of missing rows, and of duplicate ones.
        complete: whether no row is missing.
        seen: hand-off of the last row (ns on the stage clock); None before the first.

    """

    def __init__(self, session: str, clock: SessionClock, log: FindingLog, *, whole: bool) -> None:
        self.seq = SequenceCoverage()
        self.complete = True
        self.seen: int | None = None
        self._session, self._clock, self._log, self._whole = session, clock, log, whole
        self._next_seq = 0
        self._hole: str | None = None
        self._unread_hole = False

    def lose(self, reason: str, *, unread: bool) -> None:
        """Note that a file's rows are missing or cannot be read: the time up to the next row is unknown."""
        self.complete = False
        self._hole, self._unread_hole = reason, unread

    def follow(self, path: Path, seq: Any, order: Any, judgement: Judgement) -> None:
        """Check that `seq` increases by one, also from file to file."""
        if not self.seq.count and not self._whole and self._hole is None and seq[0]:
            # only a part of the session is read, and it begins here
            self.complete, self._next_seq = False, int(seq[0])
        self.seq.add(seq)
        expected = np.concatenate(([self._next_seq], seq[:-1].astype(np.int64) + 1))
        for row in np.flatnonzero(seq.astype(np.int64) != expected)[:LISTED].tolist():
            reason = self._hole if row == 0 else None
            if reason is None:
                reason = f"seq is {int(seq[row])}, expected {int(expected[row])}"
                self._log.add(Kind.CONTRADICTION, path, reason)
            before = int(order[row - 1]) if row else self.seen
            unread = self._unread_hole and reason == self._hole
            self._miss(judgement, before, int(order[row]), reason, unread=unread)
            self.complete = False
            judgement.lost(self.seen or 0)
        self._hole = None
        self._next_seq = int(seq[-1]) + 1
        self.seen = int(order[-1])

    def close(self, judgement: Judgement) -> None:
        """End of the session's rows."""
        end = judgement.streams.facts.end
        if self._hole is not None and end is not None:
            self._miss(judgement, self.seen, end, self._hole, unread=self._unread_hole)

    def _miss(self, judgement: Judgement, before: int | None, after: int, reason: str, *, unread: bool) -> None:
        """Mark the time between two rows as unknown; without a row before, from the session's beginning."""
        facts = judgement.streams.facts
        if before is not None:
            facts.missing(min(before, after), after, reason, unread=unread)
            return
        began, reported = session_began(self._session), facts.start
        if facts.started and reported is not None:
            # the events before the first row are there
            facts.missing(min(reported, after), after, reason, unread=unread)
        elif began is None:
            since = after if reported is None else min(reported, after)
            facts.lacks_beginning(since, after, f"{reason}; since an unknown time", unread=unread)
        else:
            since = self._clock.utc.back(began, latest=False)
            known = () if reported is None else (reported,)
            facts.lacks_beginning(min(since, after, *known), after, reason, unread=unread)
