"""Which subscriptions count as never answered, although the time that their answers may take is not over.

A connection that is closed in order, or whose place another one takes, leaves no lost interval behind. What was asked
of it and neither confirmed nor heard of by then may have been missed all the same, and so may what the new one had not
confirmed when the old one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wsrec.monitor.acks import AckTracker
from wsrec.monitor.liveness import SilenceTracker

TAKES_NS = 1_000_000_000
"""How long a subscription may take to begin where nothing confirms it, and no message shows it."""


class _Standby:
    """A connection that is to take the place of another one.

    Attributes:
        opened: when (ns on the monotonic clock).
        unheard: its topics that are not known to have had a message; None once that was told of all.

    """

    def __init__(self, opened: int, topics: list[str]) -> None:
        self.opened = opened
        self.unheard: list[str] | None = topics or None


class Confirmations:
    """What each connection was asked for, and what of it is known to have begun.

    Args:
        acks: the requests that wait.
        silence: when each subscription had its messages.
        asked: the topics that messages ask for, by connection; what a URL asks for nothing confirms.
        standby_of: of each connection that stands by, the one that it takes turns with.
        topics: all topics of each connection, also those that a URL asks for.

    """

    def __init__(
        self,
        acks: AckTracker,
        silence: SilenceTracker,
        asked: Mapping[int, Sequence[str]],
        standby_of: Mapping[int, int],
        topics: Mapping[int, Sequence[str]],
    ) -> None:
        self._acks, self._silence, self._asked, self._topics = acks, silence, asked, topics
        self._partners = {**standby_of, **{of: conn for conn, of in standby_of.items()}}
        # those that are open, and of them those that are not yet to take the place of the other
        self._open: set[int] = set()
        self._waiting: dict[int, _Standby] = {}
        self._confirmed: dict[int, dict[str, int]] = {}
        # when each topic was asked for first
        self._asked_at: dict[int, dict[str, int]] = {}
        self._failed: dict[int, set[str]] = {}
        self._closed: dict[int, int] = {}
        self._left: dict[int, list[str]] = {}

    def waiting(self, conn: int) -> list[str]:
        """The topics that wait for an answer, and of which nothing has come; none where another one brings them."""
        if conn in self._waiting:
            return []
        return [topic for topic in self._acks.open(conn) if not self._silence.heard(conn, topic)]

    def failed(self, conn: int, topics: Sequence[str]) -> None:
        """Nothing is expected to come of these topics: they were refused, or nobody answered."""
        self._failed.setdefault(conn, set()).update(topics)

    def asked(self, conn: int, topics: Sequence[str], time: int) -> None:
        """Topics are asked for, by a message or by the URL (ns on the monotonic clock)."""
        at = self._asked_at.setdefault(conn, {})
        for topic in topics:
            at.setdefault(topic, time)

    def settled(self) -> Iterator[tuple[int, int]]:
        """The connections that are to take over of which every topic has brought a message or failed, each once.

        With the time when each was opened.
        """
        for conn, standby in self._waiting.items():
            left = standby.unheard
            if left is None:
                continue
            failed = self._failed.get(conn, ())
            while left and (self._silence.heard(conn, left[-1]) or left[-1] in failed):
                left.pop()
            if not left:
                standby.unheard = None
                yield conn, standby.opened

    def confirmed(self, conn: int, topics: Sequence[str], time: int) -> None:
        """The exchange has confirmed topics (time: ns since the epoch)."""
        self._confirmed.setdefault(conn, {}).update(dict.fromkeys(topics, time))

    def connected(self, conn: int, time: int) -> None:
        """A connection begins (ns on the monotonic clock)."""
        for of in (self._confirmed, self._closed, self._left, self._asked_at, self._failed):
            of.pop(conn, None)
        self._open.add(conn)
        if self._partners.get(conn) in self._open:
            self._waiting[conn] = _Standby(time, list(self._topics.get(conn, ())))

    def ended(self, conn: int, closed: int | None) -> list[str]:
        """A connection has ended, in order at `closed` (ns since the epoch) or by itself; the topics that waited."""
        self._confirmed.pop(conn, None)
        self._left[conn] = self.waiting(conn)
        self._open.discard(conn)
        for each in (conn, self._partners.get(conn, conn)):
            self._waiting.pop(each, None)
        if closed is not None:
            self._closed[conn] = closed
        return self._left[conn]

    def unanswered(self, old: int) -> list[str]:
        """What waited for an answer on a connection that is replaced, and did not end in order, each once."""
        return self._left.pop(old, []) if old not in self._closed else []

    def late(self, old: int, new: int, until: int) -> list[str]:
        """What was not known to have begun on a connection when the one ended whose place it has taken.

        Args:
            old, new: the connections.
            until: when the old one had its last data (ns on the monotonic clock), for where it was not closed in order.

        """
        if new not in self._open:
            # it was opened before this writer began, which does not know what has begun on it since
            return []
        end = self._closed.get(old, until)
        # where requests are confirmed, what a URL asks for is not
        topics = (self._asked if self._acks.checks else self._topics).get(new, ())
        failed = self._failed.get(new, ())
        return [topic for topic in topics if topic not in failed and self._late(new, topic, end)]

    def _late(self, conn: int, topic: str, end: int) -> bool:
        first = self._silence.first(conn, topic)
        if first is not None and first <= end:
            return False
        if self._acks.checks:
            confirmed = self._confirmed.get(conn, {}).get(topic)
            return confirmed is None or confirmed > end
        asked = self._asked_at.get(conn, {}).get(topic)
        return asked is None or asked + TAKES_NS > end
