"""Which subscriptions count as never answered, although the time that their answers may take is not over.

A connection that is closed in order, or whose place another one takes, leaves no lost interval behind. What was asked
of it and neither confirmed nor heard of by then may have been missed all the same, and so may what the new one had not
confirmed when the old one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wsrec.feed.acks import AckTracker
from wsrec.feed.silence import SilenceTracker


class _Standby:
    """A connection that is to take the place of another one.

    Attributes:
        opened: when (ns on the monotonic clock).
        unheard: its topics that are not known to have had a message; None once that was told of all.
        failed: those of which nothing is expected.

    """

    def __init__(self, opened: int, topics: list[str]) -> None:
        self.opened = opened
        self.unheard: list[str] | None = topics or None
        self.failed: set[str] = set()


class Confirmations:
    """What each connection was asked for, and what of it is known to have begun.

    Args:
        acks: the requests that wait.
        silence: when each subscription had its messages.
        asked: the topics that messages ask for, by connection; what a URL asks for nothing confirms.
        stands_for: of each connection that stands by, the one that it takes turns with.
        topics: all topics of each connection, also those that a URL asks for.

    """

    def __init__(
        self,
        acks: AckTracker,
        silence: SilenceTracker,
        asked: Mapping[int, Sequence[str]],
        stands_for: Mapping[int, int],
        topics: Mapping[int, Sequence[str]],
    ) -> None:
        self._acks, self._silence, self._asked, self._topics = acks, silence, asked, topics
        self._partners = {**stands_for, **{of: conn for conn, of in stands_for.items()}}
        # those that are open, and of them those that are not yet to take the place of the other
        self._open: set[int] = set()
        self._waiting: dict[int, _Standby] = {}
        self._confirmed: dict[int, dict[str, int]] = {}
        self._closed: dict[int, int] = {}
        self._left: dict[int, list[str]] = {}

    def waiting(self, conn: int) -> list[str]:
        """The topics that wait for an answer, and of which nothing has come; none where another one brings them."""
        if conn in self._waiting:
            return []
        return [topic for topic in self._acks.open(conn) if not self._silence.heard(conn, topic)]

    def failed(self, conn: int, topics: Sequence[str]) -> None:
        """Nothing is expected to come of these topics: they were refused, or nobody answered."""
        if conn in self._waiting:
            self._waiting[conn].failed.update(topics)

    def settled(self) -> Iterator[tuple[int, int]]:
        """The connections that are to take over of which every topic has brought a message or failed, each once.

        With the time when each was opened.
        """
        for conn, standby in self._waiting.items():
            left = standby.unheard
            if left is None:
                continue
            while left and (self._silence.heard(conn, left[-1]) or left[-1] in standby.failed):
                left.pop()
            if not left:
                standby.unheard = None
                yield conn, standby.opened

    def confirmed(self, conn: int, topics: Sequence[str], time: int) -> None:
        """The exchange has confirmed topics (time: ns since the epoch)."""
        self._confirmed.setdefault(conn, {}).update(dict.fromkeys(topics, time))

    def connected(self, conn: int, time: int) -> None:
        """A connection begins (ns on the monotonic clock)."""
        for of in (self._confirmed, self._closed, self._left):
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

    def replaced(self, old: int, new: int, until: int) -> Iterator[tuple[int, list[str], str]]:
        """Another connection has taken the place of one that was open until then: what is not known to go on.

        Args:
            old, new: the connections.
            until: when the old one had its last data (ns since the epoch), for where it was not closed in order.

        """
        if not self._acks.checks:
            return
        if old not in self._closed and (left := self._left.pop(old, None)):
            yield old, left, "not answered before the connection ended"
        end = self._closed.get(old, until)
        late = [topic for topic in self._asked.get(new, ()) if self._late(new, topic, end)]
        if late:
            yield new, late, "not confirmed when the connection before it ended"

    def _late(self, conn: int, topic: str, end: int) -> bool:
        confirmed = self._confirmed.get(conn, {}).get(topic)
        if confirmed is None:
            return not self._silence.heard(conn, topic)
        since = self._silence.since(conn, topic)
        return min(confirmed, confirmed if since is None else since) > end
