"""Confirmation check: subscriptions that were not confirmed when their connection ended, or took over from another.

There is no `lost_interval` for a connection that is closed properly or replaced by another one. Still, messages may be
missing of topics that it had neither confirmed nor brought by then, and of topics that the new connection had not
confirmed when the old one ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from wsrec.monitor.check import Check, Finding, MonitorEvent, Setup, Signal
from wsrec.ring.events import EventKind

TAKES_NS = 1_000_000_000
"""How long (ns) a subscription may take to begin where neither a confirmation nor a message shows that it has."""


class _Standby:
    """A connection that will replace another one.

    Attributes:
        opened: when it was opened (ns on the stage clock).
        not_heard_of: its topics without a message so far; None once that was reported as settled.

    """

    def __init__(self, opened: int, topics: list[str]) -> None:
        self.opened = opened
        self.not_heard_of: list[str] | None = topics or None


class ConfirmationCheck(Check):
    """Reports topics that have not begun when their connection ends, or takes over.

    Registered before the checks that forget a connection when it ends.
    """

    kinds = frozenset({EventKind.UNANSWERED, EventKind.LATE})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._acks, self._table = setup.acks, setup.streams
        self._partners = {**setup.standby_of, **{of: conn for conn, of in setup.standby_of.items()}}
        # open connections, and those of them that stand by while their partner is open
        self._open: set[int] = set()
        self._standing_by: dict[int, _Standby] = {}
        self._confirmed: dict[int, dict[str, int]] = {}
        # when each topic was requested first
        self._requested_at: dict[int, dict[str, int]] = {}
        self._failed: dict[int, set[str]] = {}
        self._closed: dict[int, int] = {}
        self._left: dict[int, list[str]] = {}

    def advance(self, time: int) -> Iterator[Finding]:
        """Report standby connections of which every topic has brought a message or failed, each once."""
        for conn, standby in self._standing_by.items():
            left = standby.not_heard_of
            if left is None:
                continue
            failed = self._failed.get(conn, ())
            while left and (self._table.heard(conn, left[-1]) or left[-1] in failed):
                left.pop()
            if not left:
                standby.not_heard_of = None
                yield Finding(kind=Signal.SETTLED, time=time, conn=conn, detail={"since": standby.opened})

    def found(self, finding: Finding) -> Iterable[Finding]:
        """Take confirmations and failures of topics."""
        if finding.conn is None:
            return ()
        if finding.kind is EventKind.ACK:
            confirmed = dict.fromkeys(finding.detail["topics"], finding.time)
            self._confirmed.setdefault(finding.conn, {}).update(confirmed)
        elif finding.kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            self._failed.setdefault(finding.conn, set()).update(finding.detail["topics"])
        return ()

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """Connections begin, subscribe, end and replace one another."""
        conn = event.conn
        if event.kind is EventKind.SESSION_END:
            why = "not answered before the session's end"
            return [_unanswered(one, event.time, left, why) for one in self.setup.conns if (left := self._waiting(one))]
        if conn is None:
            return ()
        if event.kind is EventKind.CONNECT:
            self._connected(conn, event.time)
        elif event.kind is EventKind.SUBSCRIBE:
            requested_at = self._requested_at.setdefault(conn, {})
            for topic in event.topics:
                requested_at.setdefault(topic, event.time)
        elif event.kind is EventKind.DISCONNECT:
            left = self._ended(conn, event.time if event.in_order else None)
            if left and event.in_order:
                return [_unanswered(conn, event.time, left, "not answered before the connection was closed")]
        elif event.kind is EventKind.REPLACED:
            old, until = event.detail.get("from_conn"), event.detail.get("monotonic_to")
            if isinstance(old, int) and isinstance(until, int):
                return self._replaced(old, conn, until, event.time)
        return ()

    def _waiting(self, conn: int) -> list[str]:
        """Topics without an answer and without a message; none on a standby connection, whose partner brings them."""
        if conn in self._standing_by:
            return []
        return [topic for topic in self._acks.open(conn) if not self._table.heard(conn, topic)]

    def _connected(self, conn: int, time: int) -> None:
        for of in (self._confirmed, self._closed, self._left, self._requested_at, self._failed):
            of.pop(conn, None)
        self._open.add(conn)
        if self._partners.get(conn) in self._open:
            self._standing_by[conn] = _Standby(time, [one.topic for one in self.setup.requests.topics(conn)])

    def _ended(self, conn: int, closed: int | None) -> list[str]:
        """A connection has ended, properly at `closed` or by itself; returns the topics that waited."""
        self._confirmed.pop(conn, None)
        self._left[conn] = self._waiting(conn)
        self._open.discard(conn)
        for each in (conn, self._partners.get(conn, conn)):
            self._standing_by.pop(each, None)
        if closed is not None:
            self._closed[conn] = closed
        return self._left[conn]

    def _replaced(self, old: int, new: int, until: int, time: int) -> Iterator[Finding]:
        """A connection has replaced another, whose last data arrived at `until`."""
        left = self._left.pop(old, []) if old not in self._closed else []
        if left:
            yield _unanswered(old, time, left, "not answered before the connection ended")
        if late := self._late(old, new, until):
            what = "confirmed" if self._acks.checks else "requested early enough"
            why = f"not {what} on this connection when the one that it replaced ended"
            yield Finding(kind=EventKind.LATE, time=time, conn=new, detail={"topics": late, "message": why})

    def _late(self, old: int, new: int, until: int) -> list[str]:
        """Topics that are not known to have begun on a connection when the one that it replaces ended."""
        if new not in self._open:
            # it was opened before this monitor began, so it is unknown what has begun on it
            return []
        end = self._closed.get(old, until)
        # where requests are confirmed, topics in a URL are not
        requests = self.setup.requests
        topics = requests.by_message(new) if self._acks.checks else [one.topic for one in requests.topics(new)]
        failed = self._failed.get(new, ())
        return [topic for topic in topics if topic not in failed and self._is_late(new, topic, end)]

    def _is_late(self, conn: int, topic: str, end: int) -> bool:
        first = self._table.first(conn, topic)
        if first is not None and first <= end:
            return False
        if self._acks.checks:
            confirmed = self._confirmed.get(conn, {}).get(topic)
            return confirmed is None or confirmed > end
        requested = self._requested_at.get(conn, {}).get(topic)
        return requested is None or requested + TAKES_NS > end


def _unanswered(conn: int, time: int, topics: Sequence[str], why: str) -> Finding:
    return Finding(kind=EventKind.UNANSWERED, time=time, conn=conn, detail={"topics": topics, "message": why})
