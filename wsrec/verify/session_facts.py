"""What the events of a session say of the session itself: its ends, its losses, its writers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wsrec.ring import loss_evidence as evidence
from wsrec.ring.events import EventKind
from wsrec.verify.model import Loss


class SessionFacts:
    """What is known of one session.

    Args:
        whole: whether all of its files are looked at.

    Attributes:
        losses: what could not be received, by time.
        unread: what stands in files that the system does not let be read.
        headless: of them the one that lasts from the session's beginning; None without one.
        torn: whether some of what happened is not there, or cannot be read.
        lost_slots: how many frames and events events say are lost.
        gap_events: sequence gaps that events tell of.
        start, end: first and last moment of anything.
        started: whether the event of the session's start is there.
        stalls, stalled: full rings, and for how long (ns).
        ended: the detail of the `session_end` event, None without one.
        receiver_died: whether a receiver was restarted.
        recovered: whether a part of it was recovered from a journal.
        resumed: whether its writer died and another went on.
        not_inflated: messages that do not inflate, by connection: they may be of any of its streams.

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
        """Something happened between two moments."""
        self.start = first if self.start is None else min(self.start, first)
        self.end = last if self.end is None else max(self.end, last)

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """An event (ns on the stage clock)."""
        if kind not in (EventKind.LOST_INTERVAL, EventKind.RECOVERED):
            # these two can be written long after the session
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
            known = ("reason", "from_evidence", "to_evidence", "bound")
            stated: dict[str, Any] = {key: str(detail.get(key) or "") for key in known}
            self.losses.append(Loss(conn=conn, start=start, end=end, **stated))
            if slots := integer(detail.get("slots")):
                self.lost_slots += slots
        elif kind == EventKind.NOT_INFLATED and conn is not None:
            self.not_inflated[conn] += integer(detail.get("count"))

    def missing(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """What happened between two moments is not known: rows or events are missing, or (`unread`) cannot be read."""
        self.torn = True
        of = self.unread if unread else self.losses
        of.append(Loss(conn=None, start=start, end=end, reason=reason))

    def lacks_beginning(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """The same of all from the session's beginning to the first row that is there: each stream lacks it."""
        self.torn = True
        known: dict[str, Any] = {}
        if start < end:
            known = {"from_evidence": evidence.NAMED, "to_evidence": evidence.NEXT_ROW, "bound": evidence.UPPER}
        self.headless = Loss(conn=None, start=start, end=end, reason=reason, **known)
        (self.unread if unread else self.losses).append(self.headless)


def integer(value: Any, default: int = 0) -> int:
    """A number of an event's detail, which may be anybody's."""
    return value if isinstance(value, int) else default
