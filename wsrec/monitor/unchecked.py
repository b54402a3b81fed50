"""Gap rule coverage by channel: reports channels whose rule did not apply to all messages, at once and per file."""

from __future__ import annotations

from collections.abc import Iterable

from wsrec.monitor.check import Check, Finding, RowBatch, Setup, Signal
from wsrec.monitor.comparison import Comparison
from wsrec.ring.events import EventKind


class UncheckedCheck(Check):
    """Counts how the other checks compared rows with one another; registered after them."""

    kinds = frozenset({EventKind.UNCHECKED})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._compared = Comparison()
        # channels reported since the session began
        self._reported: set[str | None] = set()

    def rows(self, rows: RowBatch) -> Iterable[Finding]:
        """Count the links of a batch."""
        if not len(rows.links):
            return ()
        self._compared.add(rows.fields.channel, rows.links)
        return self._fresh(int(rows.stage[-1])) if self._compared.skips else ()

    def _fresh(self, time: int) -> Iterable[Finding]:
        for channel, of in self._compared.skipped().items():
            if channel not in self._reported:
                self._reported.add(channel)
                words = of.describe(self.setup.feed.sequence_rule(channel).value)
                yield Finding(kind=Signal.SKIPPING, time=time, channel=channel, detail={"words": words})

    def end_file(self, time: int) -> Iterable[Finding]:
        """Report the channels of the file, and reset."""
        counted, self._compared = self._compared, Comparison()
        for channel, of in counted.skipped().items():
            rule = self.setup.feed.sequence_rule(channel).value
            detail = {"rule": rule, "compared": of.compared, "skipped": of.skipped}
            yield Finding(kind=EventKind.UNCHECKED, time=time, channel=channel, detail=detail)
