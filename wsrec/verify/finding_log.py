"""Findings of one session: a limited number of each kind, and the count of the rest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from wsrec.verify.model import Finding, Kind

LISTED = 100
"""Findings of one kind that are listed of one session; the rest are counted."""


class FindingLog:
    """The findings of one session.

    Attributes:
        findings: those that are listed.
        counts: how many there are of each kind.

    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.counts: Counter[Kind] = Counter()

    def add(self, kind: Kind, where: Path | str, what: str) -> None:
        """Add one."""
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.findings.append(Finding(kind=kind, where=str(where), what=what))

    def close(self, name: str) -> None:
        """Say of which kinds there are more than are listed."""
        for kind, count in self.counts.items():
            if count > LISTED:
                what = f"{count:,} findings of the kind {kind} in this session, the first {LISTED} are listed"
                self.findings.append(Finding(kind=Kind.NOTE, where=name, what=what))
