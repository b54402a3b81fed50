"""The requests of each connection by their numbers: from the plan, from a file's metadata and from events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import msgspec

from wsrec.plan.connections import ConnectionPlan
from wsrec.plan.requests import RequestedTopic


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its text, which may contain secrets.

    Attributes:
        number: its number on its connection.
        topics: the requested topics.

    """

    number: int
    topics: tuple[RequestedTopic, ...]


class ConnectionRequests(msgspec.Struct, frozen=True, kw_only=True):
    """The topics that one connection requests, as in `wsrec.connections`.

    Attributes:
        requested_by_url: those requested by its URL.
        requests: its messages: those of the plan, and later ones that were announced.

    """

    requested_by_url: tuple[RequestedTopic, ...] = ()
    requests: tuple[Request, ...] = ()


REQUEST_KEYS = frozenset(ConnectionRequests.__struct_fields__)
"""Their keys in an entry of `wsrec.connections`."""


class _Connection:
    def __init__(self) -> None:
        self.by_url: dict[str, RequestedTopic] = {}
        self.by_message: dict[str, RequestedTopic] = {}
        self.requests: dict[int, tuple[RequestedTopic, ...]] = {}


class RequestTable:
    """The requests of some connections, and their topics.

    A plan's topics are known from the start. A refused request may be split later into requests with new numbers, which
    `announced` adds.
    """

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}

    @classmethod
    def of(cls, plans: Iterable[ConnectionPlan]) -> Self:
        """The requests of a plan."""
        table = cls()
        for plan in plans:
            requests = tuple(Request(number=one.number, topics=one.topics) for one in plan.requests)
            table.learn(plan.conn, ConnectionRequests(requested_by_url=plan.requested_by_url, requests=requests))
        return table

    def learn(self, conn: int, described: ConnectionRequests) -> None:
        """Add requests of a connection."""
        known = self._connections.setdefault(conn, _Connection())
        known.by_url.update({one.topic: one for one in described.requested_by_url})
        for request in described.requests:
            known.requests[request.number] = request.topics
            known.by_message.update({one.topic: one for one in request.topics})

    def describe(self, conn: int) -> ConnectionRequests:
        """The known requests of a connection, for metadata."""
        known = self._connections.get(conn) or _Connection()
        requests = tuple(Request(number=number, topics=topics) for number, topics in sorted(known.requests.items()))
        return ConnectionRequests(requested_by_url=tuple(known.by_url.values()), requests=requests)

    def announced(self, conn: int, number: int, topics: Sequence[str]) -> None:
        """Add a request that is about to be sent; topics that are in no plan are left out.

        A new request replaces earlier ones without other topics, which are no longer sent.
        """
        known = self._connections.setdefault(conn, _Connection())
        before = known.requests.get(number)
        if before is not None and [one.topic for one in before] == [*topics]:
            return
        requested = {name: known.by_message[name] for name in topics if name in known.by_message}
        for other, of in list(known.requests.items()):
            if before is None and other < number and of and all(one.topic in requested for one in of):
                del known.requests[other]
        known.requests[number] = tuple(requested.values())

    def requested(self, conn: int, number: int) -> tuple[RequestedTopic, ...]:
        """The topics of a request; empty if it is unknown or has none."""
        known = self._connections.get(conn)
        return () if known is None else known.requests.get(number, ())

    def topic(self, conn: int, name: str) -> RequestedTopic | None:
        """A connection's topic by its name."""
        known = self._connections.get(conn)
        return None if known is None else known.by_message.get(name) or known.by_url.get(name)

    def topics(self, conn: int) -> tuple[RequestedTopic, ...]:
        """All topics of a connection."""
        known = self._connections.get(conn) or _Connection()
        return tuple({**known.by_url, **known.by_message}.values())

    def by_message(self, conn: int) -> tuple[str, ...]:
        """The names of the topics that messages request."""
        known = self._connections.get(conn)
        return () if known is None else tuple(known.by_message)

    def by_url(self, conn: int) -> frozenset[str]:
        """The names of the topics that the URL requests, which are never acknowledged."""
        known = self._connections.get(conn)
        return frozenset() if known is None else frozenset(known.by_url)

    @property
    def conns(self) -> list[int]:
        """The connections."""
        return sorted(self._connections)

    @property
    def last_number(self) -> int:
        """The highest known request number; 0 without any."""
        return max((max(one.requests, default=0) for one in self._connections.values()), default=0)


def described_requests(connection: Any) -> ConnectionRequests:
    """The requests in an entry of `wsrec.connections`.

    Raises:
        msgspec.ValidationError: they are not valid.

    """
    return msgspec.convert(connection, ConnectionRequests)
