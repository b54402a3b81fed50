"""Findings of one session: a limited number of each kind, and the count of the rest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from wsrec.verify.model import Finding, Kind

LISTED = 100
"""Findings of one kind that are listed per session; the rest are counted."""


class FindingLog:
    """The findings of one session.

    Attributes:
        findings: the listed findings.
        counts: number of findings by kind.

    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.counts: Counter[Kind] = Counter()

    def add(self, kind: Kind, where: Path | str, what: str) -> None:
        """Add a finding."""
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.findings.append(Finding(kind=kind, where=str(where), what=what))

    def close(self, name: str) -> None:
        """Add a note for each kind with more findings than are listed."""
        for kind, count in self.counts.items():
            if count > LISTED:
                what = f"{count:,} findings of the kind {kind} in this session, the first {LISTED} are listed"
                self.findings.append(Finding(kind=Kind.NOTE, where=name, what=what))
