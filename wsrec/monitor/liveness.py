"""Which subscriptions are silent: asked for, and no message of theirs for too long.

Pure logic, without a clock: the caller says what came and when (ns since the epoch).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.arrays import known, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.feed.schema import Action, Feed
from wsrec.monitor.sequence import Int64s, Numbers, stream_keys
from wsrec.plan.requests import RequestedTopic
from wsrec.plan.topics import Topic, stream_of

PATIENCE_NS = 60_000_000_000
"""After this, a subscription without `idle_timeout` that never brought a message is told of, once."""

# Silence is looked for this often (ns): it is not worth more, and `idle_timeout` is no shorter
_LOOK_NS = 100_000_000
_NEVER = 0


class Stream(NamedTuple):
    """A subscription: a topic on a connection."""

    conn: int
    topic: Topic


class Silence(NamedTuple):
    """A stream that fell silent.

    Attributes:
        stream: which.
        since: its last message, or its subscription where there was none (ns since the epoch).
        quiet_ns: how long it has been silent at least.
        ever: whether there was a message since the subscription.
        expected: whether the feed says how long it may be silent (`idle_timeout`).

    """

    stream: Stream
    since: int
    quiet_ns: int
    ever: bool
    expected: bool


class Resumed(NamedTuple):
    """A silent stream whose messages go on.

    Attributes:
        stream: which.
        time: the message (ns since the epoch).
        since: as in its `Silence`.

    """

    stream: Stream
    time: int
    since: int


class SilenceTracker:
    """When each subscription had its last message.

    Args:
        feed: the feed; without `fields` messages do not tell their channel, and nothing is watched.
        topics: what each connection asks for.

    Attributes:
        streams: the subscriptions.
        begun: those that began with the messages that were `seen` last, before anything had confirmed them.
        found: the numbers of the streams of these messages, and which of the messages they are.

    """

    def __init__(self, feed: Feed, topics: Mapping[int, Iterable[RequestedTopic]]) -> None:
        requested = [(conn, stream_of(feed, topic)) for conn, of in topics.items() for topic in of]
        streams = [Stream(conn, topic) for conn, topic in requested if topic is not None] if feed.fields else []
        channels = {name: number for number, name in enumerate(feed.channel_table, 1)}
        symbols = {symbol: 1 for _, topic in streams if (symbol := _folded(topic.symbol)) is not None}
        symbols = {symbol: number for number, symbol in enumerate(symbols, 1)}
        names = {name: channels[topic.channel] for _, topic in streams for name in topic.channels}
        self._channels = Numbers(lambda name: names.get(name, 0))
        self._symbols = Numbers(lambda name: symbols.get(name.upper(), 0))
        keyed = sorted(
            (int(stream_keys(s.conn, channels[s.topic.channel], symbols.get(_folded(s.topic.symbol) or "", 0))), n)
            for n, s in enumerate(streams)
        )
        self.streams = [streams[n] for _, n in keyed]
        # the last one is above all keys, so that a search always ends at one
        self._keys = np.array([*(key for key, _ in keyed), np.iinfo(np.int64).max])
        about = [feed.channel_table[stream.topic.channel] for stream in self.streams]
        self._quiet = np.array([round((channel.idle_timeout or 0) * 1e9) for channel in about], np.int64)
        self._acts = np.array([channel.on_stale is not Action.NONE for channel in about], np.bool_)
        self._conns = np.array([stream.conn for stream in self.streams], np.int64)
        self._whole = any(stream.topic.symbol is None for stream in self.streams)
        self._places = {(stream.conn, stream.topic.topic): n for n, stream in enumerate(self.streams)}
        self._since = np.full(len(self.streams), _NEVER, np.int64)
        self._last = np.full(len(self.streams), _NEVER, np.int64)
        self._first = np.full(len(self.streams), _NEVER, np.int64)
        self._silent = np.zeros(len(self.streams), np.bool_)
        self._look = 0
        self.begun: list[Stream] = []
        self.found: tuple[Any, Int64s] = (np.empty(0, np.int64), np.empty(0, np.int64))

    @property
    def watches(self) -> bool:
        """Whether there is a subscription to watch."""
        return bool(self.streams)

    def subscribed(self, conn: int, topics: Iterable[str], time: int) -> list[Stream]:
        """Topics were confirmed, or asked for where nothing confirms; those that begin with it are returned."""
        places = [self._places.get((conn, topic)) for topic in topics]
        begun = [place for place in places if place is not None and self._since[place] == _NEVER]
        self._since[begun] = time
        return [self.streams[place] for place in begun]

    def heard(self, conn: int, topic: str) -> bool:
        """Whether a topic has brought a message since the connection began; False where that cannot be told."""
        place = self._places.get((conn, topic))
        return place is not None and bool(self._last[place] != _NEVER)

    def first(self, conn: int, topic: str) -> int | None:
        """When a topic had its first message since the connection began; None where that is not known of any."""
        place = self._places.get((conn, topic))
        return None if place is None or self._first[place] == _NEVER else int(self._first[place])

    def disconnected(self, conn: int) -> None:
        """The connection ended, which is an event of its own."""
        of = self._conns == conn
        self._since[of] = self._last[of] = self._first[of] = _NEVER
        self._silent[of] = False

    def seen(self, conns: npt.NDArray[np.uint16], columns: FieldColumns, time: Int64s) -> list[Resumed]:
        """Messages came, in order of their time; the streams whose silence they end are returned."""
        channels = self._channels.of(columns.channel)
        rows = where_set(channels)
        self.begun, self.found = [], (rows[:0], rows[:0])
        if not rows.size:
            return []
        of_conn, channels, symbols = conns[rows].astype(np.int64), channels[rows], self._symbols.of(columns.symbol)
        places, at = self._find(of_conn, channels, symbols[rows], rows)
        if self._whole:
            places, at = _joined((places, at), self._find(of_conn, channels, np.zeros_like(channels), rows))
        if columns.symbol.null_count:
            # a message without a symbol may be of any
            unnamed = ~known(columns.symbol.indices)[rows]
            places, at = _joined((places, at), self._find_all(of_conn[unnamed], channels[unnamed], rows[unnamed]))
        when = time[at]
        self.found = places, at
        begun = self._since[places] == _NEVER
        if begun.any():
            self.begun = [self.streams[n] for n in np.unique(places[begun]).tolist()]
        # the first message where several are given: what is written last stays
        self._since[places[begun][::-1]] = when[begun][::-1]
        fresh = self._last[places] == _NEVER
        if fresh.any():
            self._first[places[fresh][::-1]] = when[fresh][::-1]
        resumed = self._resumed(places, when) if self._silent.any() else []
        self._last[places] = when
        return resumed

    def expired(self, now: int) -> list[Silence]:
        """The streams that have become silent, each once."""
        if now < self._look:
            return []
        self._look = now + _LOOK_NS
        before = np.maximum(self._last, self._since)
        expected = self._quiet > 0
        patience = np.where(expected, self._quiet, PATIENCE_NS)
        due = (self._since != _NEVER) & ~self._silent & (now - before >= patience)
        due &= expected | (self._last == _NEVER)
        self._silent |= due
        return [
            Silence(
                self.streams[n],
                int(before[n]),
                int(patience[n]),
                bool(self._last[n] != _NEVER),
                bool(expected[n]),
            )
            for n in where_set(due).tolist()
        ]

    def to_be_helped(self) -> list[Stream]:
        """The streams that are silent now and whose feed says what to do about it."""
        return [self.streams[n] for n in where_set(self._silent & self._acts & (self._quiet > 0)).tolist()]

    def topic(self, conn: int, channel: str | None, symbol: str | None) -> list[Stream]:
        """The streams on a connection that messages of a channel and symbol may be of; None: of any."""
        return [
            stream
            for stream in self.streams
            if stream.conn == conn
            and (channel is None or channel in stream.topic.channels)
            and (symbol is None or stream.topic.symbol is None or _folded(stream.topic.symbol) == _folded(symbol))
        ]

    def _find(self, conns: Int64s, channels: Int64s, symbols: Int64s, rows: Int64s) -> tuple[Any, Int64s]:
        """The streams of messages, and which of the messages they are; those of no stream are left out."""
        keys = stream_keys(conns, channels, symbols)
        places = np.searchsorted(self._keys, keys)
        hits = self._keys[places] == keys
        return places[hits], rows[hits]

    def _find_all(self, conns: Int64s, channels: Int64s, rows: Int64s) -> tuple[Any, Int64s]:
        """All streams of the messages' channels, with the last message of each channel."""
        last = dict(zip(zip(conns.tolist(), channels.tolist(), strict=True), rows.tolist(), strict=True))
        places: list[int] = []
        at: list[int] = []
        for (conn, channel), row in last.items():
            edges = np.searchsorted(self._keys, stream_keys(conn, np.array([channel, channel + 1]), 0))
            places += range(*edges.tolist())
            at += [row] * int(edges[1] - edges[0])
        return np.array(places, np.int64), np.array(at, np.int64)

    def _resumed(self, places: Any, when: Int64s) -> list[Resumed]:
        silent = self._silent[places]
        back, first = np.unique(places[silent], return_index=True)
        since = np.maximum(self._last, self._since)
        self._silent[back] = False
        times = when[silent][first]
        return [
            Resumed(self.streams[n], int(time), int(since[n]))
            for n, time in zip(back.tolist(), times.tolist(), strict=True)
        ]


def _joined(one: tuple[Any, Int64s], other: tuple[Any, Int64s]) -> tuple[Any, Int64s]:
    """Both, in order of the messages."""
    places, at = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order = np.argsort(at, kind="stable")
    return places[order], at[order]


def _folded(symbol: str | None) -> str | None:
    """A symbol as it is compared: exchanges write it in either case."""
    return None if symbol is None else symbol.upper()
