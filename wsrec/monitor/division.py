"""Splitting of refused requests: repeated without the topics that the refusal names, else in halves.

Many exchanges refuse a request of fifty topics because of one of them. So topics that were refused together are
requested in parts, until a single topic is refused: the culprit. After a refusal for another reason (too many requests,
trouble at the exchange) that would end with every topic requested alone. So there is a pause, each one longer than the
last, after a few refusals in a row without a confirmation between them, and after a refusal whose words mean a rate
limit.

Pure logic, without a clock: the caller passes what was received and when (ns, any clock).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wsrec.feed.rate_limited import is_limited

_PAUSE_NS = 60_000_000_000
_PAUSE_MAX_NS = 3_600_000_000_000
# Refusals in a row that are allowed beyond those needed to find one culprit (two each time a request is halved)
_IN_A_ROW = 4


class Order(NamedTuple):
    """Requests to send in place of one that was refused.

    Attributes:
        conn: the connection.
        topics: the topics of the refused request.
        parts: requests to send now, each given by its topics; empty if it is too early for any.

    """

    conn: int
    topics: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]


class _Later(NamedTuple):
    due: int
    order: Order


class _Connection:
    """The disputed topics of one connection, and its pauses."""

    def __init__(self) -> None:
        # topics with the words of the last refusal
        self.disputed: dict[str, str] = {}
        # topics that a refusal named: when these are refused again, it does not count towards a pause
        self.named: set[str] = set()
        self.later: list[_Later] = []
        self.paused_until = 0
        self.pause = _PAUSE_NS
        self.in_a_row = 0
        self.allowed = 0


class Division:
    """The requests of one feed that are being divided.

    Args:
        names: returns the names by which an exchange may call a topic of a connection, the most specific one first.

    """

    def __init__(self, names: Callable[[int, str], Sequence[str]]) -> None:
        self._names = names
        self._connections: dict[int, _Connection] = {}

    @property
    def waits(self) -> bool:
        """Whether a request is deferred."""
        return any(state.later for state in self._connections.values())

    def refused(self, conn: int, topics: tuple[str, ...], words: str, now: int) -> Order | None:
        """A request was refused, in the exchange's words: what to send instead; None if its topics are culprits.

        A topic that is refused alone, and was not refused with others before, is a culprit whatever the words are.
        """
        known = self._connections.get(conn)
        disputed = known is not None and all(topic in known.disputed for topic in topics)
        if len(topics) < 2 and not disputed:
            return None
        state = self._connections.setdefault(conn, _Connection())
        limited = is_limited(words)
        if not limited and len(topics) == 1:
            self._count(state, topics, now)
            self._settle(state, topics)
            return None
        state.disputed.update(dict.fromkeys(topics, words))
        state.allowed = max(state.allowed, 2 * len(topics).bit_length() + _IN_A_ROW)
        if limited:
            self._wait(state, now)
            parts: tuple[tuple[str, ...], ...] = (topics,)
        else:
            named = self._named(conn, topics, words)
            if named:
                state.named.update(named)
                rest = tuple(topic for topic in topics if topic not in named)
                parts = (rest, named)
            else:
                half = len(topics) // 2
                parts = (topics[:half], topics[half:])
                self._count(state, topics, now)
        order = Order(conn, topics, parts)
        if state.paused_until > now:
            state.later.append(_Later(state.paused_until, order))
            return order._replace(parts=())
        return order

    def accepted(self, conn: int, topics: Sequence[str]) -> None:
        """Topics were confirmed: refusals in a row and the length of the pause start over."""
        state = self._connections.get(conn)
        if state is not None and any(topic in state.disputed for topic in topics):
            state.in_a_row, state.pause = 0, _PAUSE_NS
            self._settle(state, topics)

    def unanswered(self, conn: int, topics: Sequence[str]) -> None:
        """Topics were neither confirmed nor refused in time: they are not disputed any more."""
        state = self._connections.get(conn)
        if state is not None:
            self._settle(state, topics)

    def due(self, now: int) -> list[Order]:
        """The deferred requests that are due, each returned once."""
        found = []
        for state in self._connections.values():
            found += [later.order for later in state.later if later.due <= now]
            state.later = [later for later in state.later if later.due > now]
        return found

    def disputed(self, conn: int) -> dict[str, str]:
        """Topics that were refused together with others and not settled since, with the words of the last refusal."""
        state = self._connections.get(conn)
        return {} if state is None else dict(state.disputed)

    def disconnected(self, conn: int) -> None:
        """The connection ended: the next one requests everything again."""
        self._connections.pop(conn, None)

    def _count(self, state: _Connection, topics: tuple[str, ...], now: int) -> None:
        if state.named.issuperset(topics):
            return
        state.in_a_row += 1
        if state.in_a_row >= state.allowed:
            self._wait(state, now)

    def _wait(self, state: _Connection, now: int) -> None:
        if state.paused_until <= now:
            state.paused_until = now + state.pause
            state.pause = min(2 * state.pause, _PAUSE_MAX_NS)
        state.in_a_row = 0

    def _settle(self, state: _Connection, topics: Sequence[str]) -> None:
        for topic in topics:
            state.disputed.pop(topic, None)
            state.named.discard(topic)

    def _named(self, conn: int, topics: tuple[str, ...], words: str) -> tuple[str, ...]:
        """The topics that the words name, by the most specific kind of name in them; none if they name all topics."""
        names = {topic: self._names(conn, topic) for topic in topics}
        for kind in range(max(map(len, names.values()))):
            found = tuple(t for t in topics if kind < len(names[t]) and _is_word(names[t][kind], words))
            if found:
                return found if len(found) < len(topics) else ()
        return ()


def _is_word(name: str, words: str) -> bool:
    """Whether the words contain a name, and not as a part of a longer one."""
    if not name:
        return False
    around = r"(?<![A-Za-z0-9])(?<![A-Za-z0-9][-_/]){}(?![A-Za-z0-9])(?![-_./:@][A-Za-z0-9])"
    return re.search(around.format(re.escape(name)), words) is not None
