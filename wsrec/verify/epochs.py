"""Epochs of connections, from one `connect` to the next `disconnect`: what each subscribed to, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsrec.feed.schema import Feed
from wsrec.plan.request_table import RequestTable
from wsrec.plan.topics import Topic, stream_of
from wsrec.ring.events import EventKind


class Epoch:
    """One epoch of a connection."""

    def __init__(self) -> None:
        self.opened: int | None = None
        # whether a `connect` event was read; else the first row showed it, and its subscriptions are unknown
        self.connected = False
        self.end: int | None = None
        self.reason = ""
        # whether it took over from a connection that was still open
        self.took_over = False
        # whether it had received nothing by then, so that nothing shows that it worked
        self.unproved = False
        # its last message, and whether it ended abnormally
        self.last_row = 0
        self.broke = False
        # if another connection took over: the last data of any kind
        self.last_data = 0
        self.requested_at: dict[str, int] = {}
        # topics that the writer knew were not confirmed when the replaced connection ended
        self.late: set[str] = set()
        self.acked: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        # topics that the exchange refused, in this epoch or an earlier one: they are not requested again
        self.refused: dict[str, str] = {}
        # topics still unanswered when a file began: a resumed writer does not know about them
        self.forgotten: set[str] = set()


class Epochs:
    """The epochs of one session's connections.

    Args:
        requests: the subscriptions of the connections.
        standby_of: maps each standby connection to the connection that it alternates with.

    Attributes:
        requested: the topics that each connection requested, in order.

    """

    def __init__(self, requests: RequestTable, standby_of: Mapping[int, int]) -> None:
        self._requests = requests
        self._standby_of = standby_of
        self._epochs: dict[int, list[Epoch]] = {}
        self.requested: dict[int, dict[str, None]] = {}

    def of(self, conn: int) -> list[Epoch]:
        """The epochs of a connection, in order; the last may not have begun."""
        return self._epochs.get(conn, [])

    def event(self, time: int, kind: str, conn: int, detail: dict[str, Any]) -> None:
        """Process an event of a connection (ns on the stage clock), in order of time among rows and events."""
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
            answer = "the request was not answered" + (f": {stated}" if stated else "")
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
            # after our close, messages can still arrive until the connection is closed
            epoch.end = time
            epoch.broke = bool(detail.get("message")) or detail.get("received_bytes") is None
            epoch.reason = str(detail.get("message") or epoch.reason or "the connection ended")
            self._epochs[conn].append(Epoch())
            self.current(conn).refused.update(epoch.refused)

    def replaced(self, old: int, new: int, until: int, *, proved: bool) -> None:
        """Note that connection `new` took over from `old`, which was still open and had its last data at `until`."""
        for conn in (old, new):
            opened = [epoch for epoch in self._epochs.get(conn, []) if epoch.opened is not None]
            if opened and conn == new:
                opened[-1].took_over, opened[-1].unproved = True, not proved
            elif opened and (opened[-1].end is None or opened[-1].end >= until):
                # else the events of that epoch are missing or cannot be read
                opened[-1].last_data = until

    def current(self, conn: int) -> Epoch:
        """The current epoch of a connection, or its next one."""
        epochs = self._epochs.setdefault(conn, [])
        if not epochs:
            epochs.append(Epoch())
        return epochs[-1]

    def begin_file(self) -> None:
        """Begin a file. After a writer's death it may come from a new writer, which does not know pending requests."""
        for epochs in self._epochs.values():
            epochs[-1].forgotten |= epochs[-1].requested_at.keys() - epochs[-1].acked.keys()

    def interrupt(self, reason: str) -> None:
        """Note that rows or events are missing at this point: no connection is assumed to go on across it.

        Each current epoch ends with its last message; the next one begins with its first.
        """
        for epochs in self._epochs.values():
            epoch = epochs[-1]
            if epoch.opened is not None or epoch.requested_at:
                epoch.opened = epoch.last_row if epoch.opened is None else epoch.opened
                epoch.end, epoch.broke, epoch.reason = max(epoch.last_row, epoch.opened), True, reason
                epochs.append(Epoch())

    def partners(self, conn: int) -> list[int]:
        """The connections that alternate, this one included."""
        first = self._standby_of.get(conn, conn)
        return [first, *(other for other, of in self._standby_of.items() if of == first)]

    def topics(self, feed: Feed | None) -> dict[int, list[Topic]]:
        """The subscriptions of each connection, as streams."""
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
