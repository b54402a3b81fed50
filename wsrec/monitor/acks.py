"""Matching of acknowledgements to requests, by their id or their topics.

Pure logic, without a clock: the caller passes what was sent and received, with the times (ns, any monotonic clock).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from wsrec.decode.places import counts, extract_of, holds
from wsrec.feed.fields import Condition, Extract
from wsrec.feed.packed import unpacked
from wsrec.feed.paths import Every, Step, first, scalar_text, steps, values
from wsrec.feed.schema import Feed
from wsrec.plan.requests import RequestedTopic

MESSAGE_MAX = 1000
"""Longest text (characters) that is kept of a refusal."""
# the most topics that are read of one message, which can name as many as it has bytes
_KEYS_MAX = 10_000


class AckOutcome(NamedTuple):
    """Outcome of a request.

    Attributes:
        kind: the word in the events files (`wsrec.ring.events.EventKind`).
        conn: the connection.
        topics: the topics of the request; empty for a refusal that names neither a request nor a topic.
        message: the exchange's words, of a refusal.
        listed: whether these topics were refused because an answer lists the others.
        request: the request's number; None if it has none, or if several were answered together.

    """

    kind: Literal["ack", "refused", "unanswered"]
    conn: int
    topics: tuple[str, ...]
    message: str | None = None
    listed: bool = False
    request: int | None = None


class _Request(NamedTuple):
    number: int | None
    id: str | None
    topics: dict[str, str]
    """The topics that wait, with the keys that their answers have."""
    deadline_ns: int


class AckTracker:
    """Requests that wait for their answers.

    Args:
        feed: the feed; without `ack` no request is tracked.

    """

    def __init__(self, feed: Feed) -> None:
        self._ack = feed.ack
        self._keys = tuple(map(extract_of, feed.ack.key)) if feed.ack else ()
        self._channels = frozenset(feed.channel_by_any_name)
        self._packed = feed.fields is not None and feed.fields.binary == "gzip"
        self._waiting: dict[int, list[_Request]] = {}

    @property
    def checks(self) -> bool:
        """Whether the feed describes how subscriptions are answered."""
        return self._ack is not None

    @property
    def reads_data(self) -> bool:
        """Whether messages of a channel may be answers."""
        return self._ack is not None and self._ack.data

    @property
    def waiting(self) -> Collection[int]:
        """Connections with requests that wait for an answer."""
        return self._waiting.keys()

    def is_data(self, channel: str | None) -> bool:
        """Whether messages of this channel (None: of no channel) are data, not answers."""
        return channel in self._channels

    def sent(
        self, conn: int, text: str, topics: Sequence[RequestedTopic], now_ns: int, number: int | None = None
    ) -> None:
        """Take a message that was sent. One without an id and without topics is not tracked.

        Args:
            conn: its connection.
            text: the message, which has the id that the answer repeats.
            topics: the topics that it requests.
            now_ns: when it was sent.
            number: the number of the subscription request; None if it is none.

        """
        if self._ack is None:
            return
        key = None if self._ack.id is None else scalar_text(first(_decode(text.encode()), self._ack.id))
        if key is not None or (self._ack.key and topics):
            deadline = now_ns + round(self._ack.timeout * 1e9)
            named = {one.topic: one.ack_key for one in topics}
            # an id that is used again belongs to the later request
            waiting = self._waiting.setdefault(conn, [])
            waiting[:] = [request for request in waiting if key is None or request.id != key]
            waiting.append(_Request(number, key, named, deadline))

    def is_answer(self, payload: bytes) -> bool:
        """Whether a message looks like an answer to any request."""
        message = self._message(payload)
        if self._ack is None or not isinstance(message, dict | list):
            return False
        if self._refusal(message) is not None:
            return True
        if not holds(message, self._ack.where):
            return False
        # of old recordings, as Gate's of 2021, some name neither a request nor a topic; conditions are enough to tell
        # them, except where an answer looks like data
        if self._ack.where and not self._ack.data:
            return True
        return self._id_of(message) is not None or any(True for place in self._keys for _ in _keys(message, place))

    def _message(self, payload: bytes | memoryview) -> Any:
        return _decode(unpacked(payload) if self._packed else payload)

    def _id_of(self, message: Any) -> str | None:
        return None if self._ack is None or self._ack.id is None else scalar_text(first(message, self._ack.id))

    def received(self, conn: int, payload: bytes | memoryview, now_ns: int) -> list[AckOutcome]:
        """Take a message that was received: the outcomes of the requests that it answers.

        `now_ns` is not compared with the deadline: a late answer is an answer.
        """
        ack = self._ack
        if ack is None:
            return []
        message = self._message(payload)
        if not isinstance(message, dict | list):
            return []
        refusal = self._refusal(message)
        if refusal is None and not holds(message, ack.where):
            return []
        key = self._id_of(message)
        waiting = self._waiting.get(conn, [])
        request = next((one for one in waiting if key is not None and one.id == key), None)
        named = {text for place in self._keys for text in _keys(message, place)}
        if refusal is None and request is not None and ack.accepted is not None:
            accepted = {scalar_text(value) for value in values(message, steps(ack.accepted))}
            taken = tuple(t for t, name in request.topics.items() if name in accepted)
            left_out = tuple(t for t, name in request.topics.items() if name not in accepted)
            why = "the answer does not list it"
            outcomes = [
                AckOutcome("ack", conn, taken, request=request.number),
                AckOutcome("refused", conn, left_out, why, listed=True, request=request.number),
            ]
            self._forget(conn, tuple(request.topics), request)
            return [outcome for outcome in outcomes if outcome.topics]
        answered = [one for one in waiting if any(name in named for name in one.topics.values())]
        # a request that was sent again before its answer waits twice
        topics = tuple(dict.fromkeys(t for one in answered for t, name in one.topics.items() if name in named))
        if not topics and request is not None:
            topics = tuple(request.topics)
        elif not topics and refusal is None:
            return []
        numbers = {one.number for one in answered or ([] if request is None else [request])}
        number = numbers.pop() if len(numbers) == 1 else None
        self._forget(conn, topics, request)
        kind: Literal["ack", "refused"] = "ack" if refusal is None else "refused"
        return [AckOutcome(kind, conn, topics, refusal, request=number)]

    def expired(self, now_ns: int, only: int | None = None) -> list[AckOutcome]:
        """Requests whose deadline is over, each returned once; `only` selects one connection."""
        late = []
        for conn, requests in list(self._waiting.items()):
            if only not in (None, conn):
                continue
            for request in [request for request in requests if request.deadline_ns <= now_ns]:
                late.append(AckOutcome("unanswered", conn, tuple(request.topics), request=request.number))
                requests.remove(request)
            if not requests:
                del self._waiting[conn]
        return late

    @property
    def next_deadline(self) -> int | None:
        """The earliest deadline of a request; None if none waits."""
        return min((each.deadline_ns for waiting in self._waiting.values() for each in waiting), default=None)

    def open(self, conn: int) -> tuple[str, ...]:
        """The topics of a connection that wait for an answer."""
        return tuple(dict.fromkeys(topic for one in self._waiting.get(conn, ()) for topic in one.topics))

    def disconnected(self, conn: int) -> None:
        """Forget the requests of a connection, which ended."""
        self._waiting.pop(conn, None)

    def forget(self) -> None:
        """Forget all requests: their answers may be among lost rows."""
        self._waiting.clear()

    def _forget(self, conn: int, topics: Sequence[str], answered: _Request | None = None) -> None:
        """Forget answered topics in every request, then each request that this empties; also `answered` if empty."""
        waiting = self._waiting.get(conn, [])
        for request in list(waiting):
            known = [topic for topic in topics if topic in request.topics]
            for topic in known:
                del request.topics[topic]
            if not request.topics and (known or request is answered):
                waiting.remove(request)
        if not waiting:
            self._waiting.pop(conn, None)

    def _refusal(self, message: Any) -> str | None:
        """The exchange's words if the message is a refusal, else None."""
        assert self._ack is not None
        codes = [code for path in self._ack.error_code if (code := first(message, path)) is not None]
        if not (any(fulfils(message, test) for test in self._ack.errors) if self._ack.errors else codes):
            return None
        texts = (first(message, path) for path in self._ack.error_message)
        found = [text for text in texts if text is not None]
        # the first text at any of the paths; else the first value
        words = next((text for text in found if isinstance(text, str)), found[0] if found else "without a reason")
        stated = _as_sent(words)
        return (f"{_as_sent(codes[0])}: {stated}" if codes else stated)[:MESSAGE_MAX]


def _as_sent(value: Any) -> str:
    """A value as the exchange wrote it: text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def fulfils(message: Any, test: Condition) -> bool:
    """Whether a decoded message meets a condition."""
    found = first(message, test.path)
    if found is None:
        return False
    text = scalar_text(found)
    if test.equals is not None:
        return text in test.equals
    if test.differs is not None:
        return text not in test.differs
    if test.at_least is not None:
        return type(found) is int and found >= test.at_least
    return True


def _keys(message: Any, place: Extract) -> Iterator[str]:
    """The texts at a place of a message: one per element where its paths have `[]`."""
    if not counts(message, place):
        return
    found: Iterator[str | None]
    if place.join is not None:
        together = itertools.islice(_together(message, [steps(path) for path in place.parts]), _KEYS_MAX)
        texts = ([scalar_text(part) for part in parts] for parts in together)
        found = (place.joined([t for t in parts if t is not None]) for parts in texts if None not in parts)
    elif place.path is not None:
        found = (scalar_text(value) for value in itertools.islice(values(message, steps(place.path)), _KEYS_MAX))
    else:
        found = iter([place.value])
    yield from filter(None, (place.take(text) for text in found if text is not None))


def _together(message: Any, ways: Sequence[tuple[Step, ...]]) -> Iterator[tuple[Any, ...]]:
    """Combine the values at several paths: per element as far as the paths are equal, then in every combination."""
    same = list(itertools.takewhile(lambda each: len(set(each)) == 1, zip(*ways, strict=False)))
    shared = len(same) - next((n for n, each in enumerate(reversed(same)) if each[0] is Every.ELEMENT), len(same))
    if not shared:
        yield from itertools.product(*(values(message, way) for way in ways))
        return
    for element in values(message, ways[0][:shared]):
        yield from _together(element, [way[shared:] for way in ways])


def _decode(data: bytes | memoryview | None) -> Any:
    try:
        return msgspec.json.decode(data or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
