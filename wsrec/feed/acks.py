"""Whether the exchange confirmed what was asked of it: requests and answers, joined by their id.

Pure logic, without a clock: the caller says what was sent, what came and when (ns, any monotonic clock).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from wsrec.feed.message import walk
from wsrec.feed.schema import Feed

MESSAGE_MAX = 1000
"""Longest text (characters) that is kept of a refusal."""


class AckOutcome(NamedTuple):
    """What became of a request.

    Attributes:
        kind: the word in the events files (`wsrec.ring.events.EventKind`).
        conn: the connection.
        topics: what the request asked for; empty for a refusal that does not say of what.
        message: the exchange's words, for a refusal.

    """

    kind: Literal["ack", "refused", "unanswered"]
    conn: int
    topics: tuple[str, ...]
    message: str | None = None


class _Request(NamedTuple):
    topics: tuple[str, ...]
    deadline_ns: int


class AckTracker:
    """Requests that wait for their answers.

    Args:
        feed: the feed; without `ack` nothing is tracked.

    """

    def __init__(self, feed: Feed) -> None:
        self._ack = feed.ack
        self._waiting: dict[int, dict[str, _Request]] = {}

    @property
    def checks(self) -> bool:
        """Whether the feed says how subscriptions are answered."""
        return self._ack is not None

    def sent(self, conn: int, text: str, topics: Sequence[str], now_ns: int) -> None:
        """A subscription went out on `conn`. Text without an id is not tracked."""
        if self._ack is None:
            return
        key = _id(walk(_decode(text.encode()), self._ack.id))
        if key is not None:
            deadline = now_ns + round(self._ack.timeout * 1e9)
            self._waiting.setdefault(conn, {})[key] = _Request(tuple(topics), deadline)

    def received(self, conn: int, payload: bytes | memoryview, now_ns: int) -> list[AckOutcome]:
        """What a message that carries no channel says about requests; empty where it says nothing.

        `now_ns` is not compared with the deadline: an answer that came is an answer.
        """
        if self._ack is None:
            return []
        message = _decode(payload)
        if not isinstance(message, dict):
            return []
        key = _id(walk(message, self._ack.id))
        request = self._waiting.get(conn, {}).pop(key, None) if key is not None else None
        codes = [code for path in self._ack.error_code if (code := walk(message, path)) is not None]
        if codes:
            texts = (walk(message, path) for path in self._ack.error_message)
            said = next((text for text in texts if isinstance(text, str)), "without a reason")
            reason = f"{codes[0]}: {said}"[:MESSAGE_MAX]
            return [AckOutcome("refused", conn, request.topics if request else (), reason)]
        return [AckOutcome("ack", conn, request.topics)] if request else []

    def expired(self, now_ns: int) -> list[AckOutcome]:
        """Requests whose time is over, each reported once."""
        late = []
        for conn, requests in self._waiting.items():
            for key in [key for key, request in requests.items() if request.deadline_ns <= now_ns]:
                late.append(AckOutcome("unanswered", conn, requests.pop(key).topics))
        return late

    def disconnected(self, conn: int) -> None:
        """Forget what was asked on `conn`: its end is an event of its own."""
        self._waiting.pop(conn, None)


def _decode(data: bytes | memoryview) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _id(value: Any) -> str | None:
    """An id as a key: exchanges may answer the number 1 with the text "1"."""
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
