"""Agreement of findings and events: compares the monitor's findings in the files with the writer's events.

Both are made by the same checks from the same rows (`wsrec.monitor`). So a finding without an event, or an event
without a finding, means that rows or events were changed, or that the recorder was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from wsrec.monitor.check import Finding
from wsrec.monitor.feed_monitor import FOUND
from wsrec.ring.events import EventKind

_MONOTONIC = "monotonic_"


_Place = tuple[str, int | None, str | None, str | None, int]
"""Of a finding or an event: its kind, connection, channel and symbol, and when (ns on the stage clock)."""


class Reported(NamedTuple):
    """A finding, or the event that reports it: the fields that both have.

    Attributes:
        kind, conn, channel, symbol: of the finding.
        stage: when (ns on the stage clock).
        detail: JSON, without UTC times that are also given on the stage clock.

    """

    kind: str
    conn: int | None
    channel: str | None
    symbol: str | None
    stage: int
    detail: str

    def __str__(self) -> str:
        """A short description."""
        if self.kind == EventKind.GAP:
            return f"a sequence gap at seq {msgspec.json.decode(self.detail).get('seq')}"
        about = " ".join(name for name in (self.channel, self.symbol) if name)
        about = about or ("the session" if self.conn is None else f"connection {self.conn}")
        return f"`{self.kind}` of {about}"


def is_finding(kind: str, channel: str | None) -> bool:
    """Whether an event reports a finding of the monitor; a receiver's event of a stale connection has no channel."""
    return kind in FOUND and (kind != EventKind.STALE or channel is not None)


class Agreement:
    """Counts findings and events against each other; matching ones are not kept.

    Attributes:
        findings, events: number of each.

    """

    def __init__(self) -> None:
        self.findings = self.events = 0
        # above 0: findings without their events, below 0: the reverse
        self._open: Counter[Reported] = Counter()
        # those of which nothing but their own counterpart has come, by their place: 1 for a finding, -1 for an event
        self._lone: dict[_Place, tuple[int, Mapping[str, Any]]] = {}

    def found(self, findings: Iterable[Finding]) -> None:
        """Take findings of the monitor."""
        for each in findings:
            if isinstance(each.kind, EventKind):
                self.findings += 1
                self._count((each.kind.value, each.conn, each.channel, each.symbol, each.time), each.detail, 1)

    def reported(
        self, kind: str, conn: int | None, names: tuple[str | None, str | None], stage: int, detail: Any
    ) -> None:
        """Take an event that reports a finding; `names` are its channel and symbol."""
        self.events += 1
        self._count((kind, conn, *names, stage), detail, -1)

    @property
    def unrecorded(self) -> list[Reported]:
        """Findings without their events, in an order that depends on them alone: that of time first of all."""
        return self._left(1)

    @property
    def unfounded(self) -> list[Reported]:
        """Events without a finding, in the same order."""
        return self._left(-1)

    def _left(self, by: int) -> list[Reported]:
        for place in list(self._lone):
            self._compare(place, *self._lone.pop(place))
        return sorted((each for each, count in self._open.items() if count * by > 0), key=_order)

    def _count(self, place: _Place, detail: Mapping[str, Any], by: int) -> None:
        other = self._lone.pop(place, None)
        if other is None:
            self._lone[place] = by, detail
        elif by + other[0] or msgspec.json.encode(detail) != msgspec.json.encode(other[1]):
            self._compare(place, *other)
            self._compare(place, by, detail)

    def _compare(self, place: _Place, by: int, detail: Mapping[str, Any]) -> None:
        reported = _reported(*place, detail)
        self._open[reported] += by
        if not self._open[reported]:
            del self._open[reported]


def _order(each: Reported) -> tuple[Any, ...]:
    # null comes first
    places = ([] if value is None else [value] for value in (each.conn, each.channel, each.symbol))
    return (each.stage, each.kind, *places, each.detail)


def _reported(
    kind: str, conn: int | None, channel: str | None, symbol: str | None, stage: int, detail: Mapping[str, Any]
) -> Reported:
    kept = {key: value for key, value in detail.items() if _MONOTONIC + key not in detail}
    topics = kept.get("topics")
    if isinstance(topics, list | tuple) and all(isinstance(topic, str) for topic in topics):
        # topics are in the plan's order, which files do not keep
        kept["topics"] = sorted(topics)
    return Reported(str(kind), conn, channel, symbol, stage, msgspec.json.encode(kept, order="sorted").decode())
