"""One feed's events: those of the receiver and writer, and those that report its monitor's findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsrec.counts import Counts
from wsrec.format.counting import count_event
from wsrec.format.moment import Moment
from wsrec.monitor.check import Finding
from wsrec.ring.events import EventKind
from wsrec.writer.actions import FeedActions
from wsrec.writer.file_pair import FilePair
from wsrec.writer.rows import Stamps
from wsrec.writer.uninflated import hint
from wsrec.writer.warnings import EventWarnings

# keys of a finding's detail with moments on the stage clock; its event has them in UTC too
_MONOTONIC = "monotonic_"


class FeedEvents:
    """Writes events and findings, counts them, warns about them and triggers actions.

    Args:
        pair: the current files.
        warnings: warns the operator.
        actions: acts on findings; None if no action is possible any more.

    Attributes:
        pair: the current files; replaced with each new pair.
        counts: counts since the session began.
        begun: whether the session's start has been recorded.
        not_inflated_hint: a remedy for messages that could not be inflated.

    """

    def __init__(self, pair: FilePair, warnings: EventWarnings, actions: FeedActions | None) -> None:
        self.pair, self._warnings, self._actions = pair, warnings, actions
        self.counts = Counts()
        self.begun = False
        self.not_inflated_hint = hint("")

    def at(self, findings: Sequence[Finding], moment: Moment) -> None:
        """Process findings of a moment that are not about a row of the current batch."""
        for found in findings:
            utc = moment.before(found.time) if found.utc is None else found.utc
            self._report(found, Moment(utc, found.time), moment.utc - (moment.stage or 0))
        self._pass_on(findings)

    def of_rows(self, findings: Sequence[Finding], when: Stamps, first: int) -> None:
        """Process findings about rows, the first of which has this `seq`."""
        for found in findings:
            # a deadline is converted to UTC like the next row
            behind = int(when.stage.searchsorted(found.time)) if found.row is None else found.row - first
            row = min(behind, len(when.stage) - 1)
            offset = int(when.handoff[row]) - int(when.stage[row])
            utc = found.time + offset if found.row is None else int(when.recv_time[row])
            self._report(found, Moment(utc, found.time), offset)
        self._pass_on(findings)

    def _pass_on(self, findings: Sequence[Finding]) -> None:
        if findings:
            self._warnings.found(findings)
            if self._actions is not None:
                self._actions.take(findings)

    def _report(self, found: Finding, moment: Moment, offset: int) -> None:
        """Write the event of a finding; `offset` converts the stage clock to UTC."""
        if isinstance(found.kind, EventKind):
            times = [key for key in found.detail if key.startswith(_MONOTONIC)]
            utc = {key.removeprefix(_MONOTONIC): found.detail[key] + offset for key in times}
            detail = {**found.detail, **utc, "channel": found.channel, "symbol": found.symbol}
            self.pair.begin(moment)
            self.write(moment, found.kind, found.conn, detail)

    def write(self, moment: Moment, kind: EventKind, conn: int | None, detail: dict[str, Any]) -> None:
        """Write an event and count it."""
        self._warnings.event(kind, conn, detail)
        self.counts += count_event(kind, detail)
        if kind is EventKind.SESSION_START:
            self.begun = True
        elif kind is EventKind.NOT_INFLATED:
            self.not_inflated_hint = hint(detail["message"])
        self.pair.event(moment, kind, conn, detail)
