"""Counts of a session from several sources (rows, events, metadata, manifest), which must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from wsrec.counts import Counts
from wsrec.monitor.comparison import Compared
from wsrec.ring.events import EventKind
from wsrec.verify.finding_log import FindingLog
from wsrec.verify.judgement import Judgement
from wsrec.verify.ledger import LedgerAudit
from wsrec.verify.model import Count, Kind, Stream


class Account:
    """Counts of one session by source.

    Args:
        name: the session's name in findings.
        log: takes findings.

    """

    def __init__(self, name: str, log: FindingLog) -> None:
        self._name, self._log = name, log
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, what: str, **sources: int) -> None:
        """Add to a count, by source."""
        counts = self._counts.setdefault(what, {})
        for source, value in sources.items():
            counts[source] = counts.get(source, 0) + value

    @property
    def counts(self) -> list[Count]:
        """All counts."""
        return [Count(what=what, sources=sources) for what, sources in self._counts.items()]

    def settle(self, judgement: Judgement, audit: LedgerAudit, *, whole: bool, complete: bool, unread: bool) -> None:
        """Compare the writer's counts with the files.

        Args:
            judgement: the judgement of the session's rows and events.
            audit: the audit of its files' ledgers.
            whole: whether all of its files are read.
            complete: whether no row is missing.
            unread: whether some of its files could not be read.

        """
        facts = judgement.streams.facts
        if audit.missing and not unread:
            what = f"{audit.missing:,} slots (frames, events) were handed off and are in no journal"
            known = facts.recovered or facts.lost_slots >= audit.missing
            self._log.add(Kind.INCOMPLETE if known else Kind.CONTRADICTION, self._name, what)
        if facts.ended is not None and whole:
            audit.end(self._name, facts.ended, restarted=facts.receiver_died)
        if facts.ended is not None and whole and complete and not facts.recovered:
            for counter in Counts().named("rows"):
                counted = facts.ended.get(counter)
                if isinstance(counted, int):
                    self.add(counter, session_end=counted, read=0)

    def agree(self, judgement: Judgement, *, taken_up: bool) -> None:
        """Compare the findings with the recorded events.

        Args:
            judgement: the judgement of the session's rows and events.
            taken_up: whether a resumed writer may exist that has recorded nothing yet: the files of the dead writer are
                recovered, and its own rows are still in a journal.

        """
        agreement, facts = judgement.agreement, judgement.streams.facts
        unrecorded, unfounded = agreement.unrecorded, agreement.unfounded
        comparable, gaps_comparable = True, judgement.checks_gaps
        if facts.recovered or facts.resumed or taken_up:
            # a resumed writer knows the last file before it, and nothing earlier
            comparable = not unrecorded and all(each.kind == EventKind.GAP for each in unfounded)
            gaps_comparable &= all(each.kind != EventKind.GAP for each in unrecorded)
            if unrecorded:
                what = f"{len(unrecorded):,} findings, the first {unrecorded[0]}, lie where a recovered part begins"
                self._log.add(Kind.NOTE, self._name, f"{what}: no event reports them")
            unrecorded, unfounded = [], [each for each in unfounded if each.kind == EventKind.GAP]
        if comparable:
            self.add("findings", read=agreement.findings, events=agreement.events)
        if gaps_comparable:
            self.add("gaps", read=judgement.gaps, events=facts.gap_events)
        if unrecorded:
            self._log.add(Kind.CONTRADICTION, self._name, f"{unrecorded[0]} has no event")
        if unfounded:
            self._log.add(
                Kind.CONTRADICTION, self._name, f"an event reports {unfounded[0]}, but the rows do not show it"
            )

    def balance(self) -> None:
        """Log a finding for each count whose sources differ."""
        for what, counts in self._counts.items():
            if len(set(counts.values())) > 1:
                stated = ", ".join(f"{source} {value:,}" for source, value in counts.items())
                self._log.add(Kind.CONTRADICTION, self._name, f"the ledger does not balance: {what}: {stated}")

    def report_skipped(self, streams: Iterable[Stream]) -> None:
        """Log a finding for each channel whose rule could not be applied to all of its messages."""
        channels: dict[tuple[str | None, str], Counter[str]] = {}
        compared: Counter[tuple[str | None, str]] = Counter()
        for stream in streams:
            channels.setdefault((stream.channel, stream.rule), Counter()).update(stream.skipped)
            compared[stream.channel, stream.rule] += stream.compared
        for (channel, rule), skipped in channels.items():
            of = Compared(compared[channel, rule], dict(skipped))
            if of.missed:
                self._log.add(Kind.UNCHECKED, self._name, f"{channel or 'its messages'}: {of.describe(rule)}")
