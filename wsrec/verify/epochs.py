"""Lives of connections, from one `connect` to the next `disconnect`: what each asked for, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsrec.feed.schema import Feed
from wsrec.plan.request_table import RequestTable
from wsrec.plan.topics import Topic, stream_of
from wsrec.ring.events import EventKind


class Epoch:
    """One life of a connection."""

    def __init__(self) -> None:
        self.opened: int | None = None
        # whether that is told of; else its first row was the first sign of it, and what it asked for is not known
        self.connected = False
        self.end: int | None = None
        self.reason = ""
        # whether it took the place of one that was still open then
        self.took_over = False
        # and whether it had brought nothing by then, and nothing shows that it was there
        self.unproved = False
        # its last message, and whether it ended in another way than in order
        self.last_row = 0
        self.broke = False
        # where another one took over: its last data of any kind
        self.alive_until = 0
        self.requested_at: dict[str, int] = {}
        # what the writer knew not to have begun when the connection ended whose place this one took
        self.late: set[str] = set()
        self.acked: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        # those of them that the exchange refused, in this life or one before: they are not requested again
        self.refused: dict[str, str] = {}
        # what waited for an answer where a file began: a writer that goes on with it does not know of that
        self.forgotten: set[str] = set()


class Epochs:
    """The lives of one session's connections.

    Args:
        requests: what the connections ask for.
        standby_of: of each connection that stands by, the one that it takes turns with.

    Attributes:
        requested: the topics that each connection asked for, in order.

    """

    def __init__(self, requests: RequestTable, standby_of: Mapping[int, int]) -> None:
        self._requests = requests
        self._standby_of = standby_of
        self._epochs: dict[int, list[Epoch]] = {}
        self.requested: dict[int, dict[str, None]] = {}

    def of(self, conn: int) -> list[Epoch]:
        """The lives of a connection, in order; the last may not have begun."""
        return self._epochs.get(conn, [])

    def event(self, time: int, kind: str, conn: int, detail: dict[str, Any]) -> None:
        """An event of a connection (ns on the stage clock), in order of time among rows and events."""
        if kind == EventKind.CONNECT:
            epoch = self.current(conn)
            epoch.opened, epoch.connected = time if epoch.opened is None else epoch.opened, True
        elif kind == EventKind.SUBSCRIBE:
            self.requested.setdefault(conn, {}).update(dict.fromkeys(topics_of(detail)))
            requested_at = self.current(conn).requested_at
            requested_at.update((topic, time) for topic in topics_of(detail) if topic not in requested_at)
            for topic in topics_of(detail):
                self.current(conn).refused.pop(topic, None)
        elif kind == EventKind.LATE:
            self.current(conn).late.update(topics_of(detail))
        elif kind == EventKind.ACK:
            self.current(conn).acked.update(dict.fromkeys(topics_of(detail), time))
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            stated = detail.get("message")
            answer = "nobody answered the request" + (f": {stated}" if stated else "")
            reason = f"the exchange refused it: {stated}" if kind == EventKind.REFUSED else answer
            self.current(conn).failed.update(dict.fromkeys(topics_of(detail), reason))
            if kind == EventKind.REFUSED:
                self.current(conn).refused.update(dict.fromkeys(topics_of(detail), reason))
        elif kind == EventKind.CLOSE:
            epoch = self.current(conn)
            if epoch.end is None:
                epoch.end, epoch.reason = time, f"closed by {detail.get('by')}"
        elif kind == EventKind.DISCONNECT:
            epoch = self.current(conn)
            # what we close goes on to bring messages until it is closed
            epoch.end = time
            epoch.broke = bool(detail.get("message")) or detail.get("received_bytes") is None
            epoch.reason = str(detail.get("message") or epoch.reason or "the connection ended")
            self._epochs[conn].append(Epoch())
            self.current(conn).refused.update(epoch.refused)

    def replaced(self, old: int, new: int, until: int, *, proved: bool) -> None:
        """A connection has taken over from one that was still open, and had its last data then."""
        for conn in (old, new):
            opened = [epoch for epoch in self._epochs.get(conn, []) if epoch.opened is not None]
            if opened and conn == new:
                opened[-1].took_over, opened[-1].unproved = True, not proved
            elif opened and (opened[-1].end is None or opened[-1].end >= until):
                # else it is of a life that is told of nowhere: its events are not there, or cannot be read
                opened[-1].alive_until = until

    def current(self, conn: int) -> Epoch:
        """The life of a connection that is, or is to come."""
        epochs = self._epochs.setdefault(conn, [])
        if not epochs:
            epochs.append(Epoch())
        return epochs[-1]

    def begin_file(self) -> None:
        """A file begins, and where a writer died, maybe what another one knows."""
        for epochs in self._epochs.values():
            epochs[-1].forgotten |= epochs[-1].requested_at.keys() - epochs[-1].acked.keys()

    def interrupt(self, reason: str) -> None:
        """What happened up to here, or from here on, is not known: no connection is taken for the one that was there.

        What it was known to have brought ends with its last message; what it brings from here on begins with the first.
        """
        for epochs in self._epochs.values():
            epoch = epochs[-1]
            if epoch.opened is not None or epoch.requested_at:
                epoch.opened = epoch.last_row if epoch.opened is None else epoch.opened
                epoch.end, epoch.broke, epoch.reason = max(epoch.last_row, epoch.opened), True, reason
                epochs.append(Epoch())

    def partners(self, conn: int) -> list[int]:
        """The connections that it takes turns with."""
        first = self._standby_of.get(conn, conn)
        return [first, *(other for other, of in self._standby_of.items() if of == first)]

    def topics(self, feed: Feed | None) -> dict[int, list[Topic]]:
        """What each connection asked for, as streams."""
        if feed is None:
            return {}
        streams: dict[int, list[Topic]] = {}
        for conn, requested_at in self.requested.items():
            requested = (self._requests.topic(conn, topic) for topic in requested_at)
            found = (stream_of(feed, topic) for topic in requested if topic is not None)
            streams[conn] = [stream for stream in found if stream is not None]
        return streams


def topics_of(detail: dict[str, Any]) -> list[str]:
    """The topics that an event names."""
    topics = detail.get("topics")
    return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []
