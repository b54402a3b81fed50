"""Facts about a session from its events: its end, losses, restarts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wsrec.ring import loss_evidence as evidence
from wsrec.ring.events import EventKind
from wsrec.verify.model import Loss


class SessionFacts:
    """Facts about one session.

    Args:
        whole: whether all of its files are read.

    Attributes:
        losses: lost intervals, by time.
        unread: intervals in files that the system refuses to read.
        headless: the loss that begins with the session; None without one.
        torn: whether some events or rows are missing or unreadable.
        lost_slots: number of lost frames and events, according to events.
        gap_events: number of sequence gaps, according to events.
        start, end: first and last moment of any row or event.
        started: whether the `session_start` event is there.
        stalls, stalled: number of full rings, and for how long (ns).
        ended: the detail of the `session_end` event; None without one.
        receiver_died: whether a receiver was restarted.
        recovered: whether a part of it was recovered from journals.
        resumed: whether its writer died and another one continued.
        not_inflated: messages that could not be inflated, by connection: they may belong to any of its streams.

    """

    def __init__(self, *, whole: bool) -> None:
        self.losses: list[Loss] = []
        self.unread: list[Loss] = []
        self.headless: Loss | None = None
        self.torn = not whole
        self.lost_slots = 0
        self.gap_events = 0
        self.start: int | None = None
        self.end: int | None = None
        self.started = False
        self.stalls = self.stalled = 0
        self.ended: dict[str, Any] | None = None
        self.recovered = False
        self.resumed = False
        self.receiver_died = False
        self.not_inflated: Counter[int] = Counter()

    def note(self, first: int, last: int) -> None:
        """Extend the session's time to two moments."""
        self.start = first if self.start is None else min(self.start, first)
        self.end = last if self.end is None else max(self.end, last)

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """Process an event (ns on the stage clock)."""
        if kind not in (EventKind.LOST_INTERVAL, EventKind.RECOVERED):
            # these two may be written long after the session
            self.note(time, time)
        if kind == EventKind.SESSION_START:
            self.started = True
        elif kind == EventKind.SESSION_END:
            self.ended = detail
        elif kind == EventKind.RECOVERED:
            self.recovered = True
        elif kind == EventKind.RESTART:
            self.resumed = self.resumed or detail.get("process") == "writer"
            self.receiver_died = self.receiver_died or detail.get("process") == "receiver"
        elif kind == EventKind.GAP:
            self.gap_events += 1
        elif kind == EventKind.STALL:
            self.stalls += 1
            self.stalled += integer(detail.get("duration_ns"))
        elif kind == EventKind.LOST_INTERVAL:
            start, end = integer(detail.get("from"), time), integer(detail.get("to"), time)
            reason, known_start, known_end, bound = (
                str(detail.get(key) or "") for key in ("reason", "from_evidence", "to_evidence", "bound")
            )
            self.losses.append(
                Loss(
                    conn=conn,
                    start=start,
                    end=end,
                    reason=reason,
                    start_evidence=known_start,
                    end_evidence=known_end,
                    bound=bound,
                )
            )
            if slots := integer(detail.get("slots")):
                self.lost_slots += slots
        elif kind == EventKind.NOT_INFLATED and conn is not None:
            self.not_inflated[conn] += integer(detail.get("count"))

    def missing(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """Note a time with missing rows or events, or with unreadable ones (`unread`)."""
        self.torn = True
        of = self.unread if unread else self.losses
        of.append(Loss(conn=None, start=start, end=end, reason=reason))

    def lacks_beginning(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """Note the same from the session's beginning to the first row: every stream lacks it."""
        self.torn = True
        known: dict[str, Any] = {}
        if start < end:
            known = {"start_evidence": evidence.NAMED, "end_evidence": evidence.NEXT_ROW, "bound": evidence.UPPER}
        self.headless = Loss(conn=None, start=start, end=end, reason=reason, **known)
        (self.unread if unread else self.losses).append(self.headless)


def integer(value: Any, default: int = 0) -> int:
    """An integer of an event's detail, which may hold anything."""
    return value if isinstance(value, int) else default
