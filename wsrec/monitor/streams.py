"""Requested streams: one per topic and connection, found by a message's channel and symbol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.arrays import Int64s, known, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.feed.schema import Feed
from wsrec.monitor.stream_keys import NameNumbers, stream_keys
from wsrec.plan.requests import RequestedTopic
from wsrec.plan.topics import Topic, stream_of

NEVER = 0
"""Stands for the time of something that has not happened."""


DEFAULT_IDLE_NS = 60_000_000_000
"""Time (ns) after which a stream without `idle_timeout` and without any message is reported, once."""


class Stream(NamedTuple):
    """A subscription: a topic on a connection."""

    conn: int
    topic: Topic


class Names(NamedTuple):
    """Channel and symbol of messages, as in `FieldColumns`, without their other fields."""

    channel: Any
    symbol: Any


class StreamTable:
    """The streams of a feed, with the times of their confirmations and messages (ns on the stage clock, or `NEVER`).

    Args:
        feed: the feed; without `fields` the channel of a message is unknown, and there are no streams.
        topics: the topics of each connection.

    Attributes:
        streams: the streams; their places in the list are their numbers.
        conns: the connection of each.
        idle_timeouts: the feed's `idle_timeout` of each (ns); 0 for none.
        idle_limits: the time without a message (ns) after which each is reported.
        confirmed_at: when each was confirmed, or requested where the exchange does not confirm.
        first_at, last_at: first and last message of each.
        last_before: last message of each before the latest call of `take`.
        numbers, rows: for the messages of the latest `take`: the streams that they belong to, and their places.
        begun: the streams that began with these messages, without a confirmation before.

    """

    def __init__(self, feed: Feed, topics: Mapping[int, Iterable[RequestedTopic]]) -> None:
        requested = [(conn, stream_of(feed, topic)) for conn, of in topics.items() for topic in of]
        streams = [Stream(conn, topic) for conn, topic in requested if topic is not None] if feed.fields else []
        channels = {name: number for number, name in enumerate(feed.channel_table, 1)}
        symbols = {symbol: 1 for _, topic in streams if (symbol := _folded(topic.symbol)) is not None}
        symbols = {symbol: number for number, symbol in enumerate(symbols, 1)}
        names = {name: channels[topic.channel] for _, topic in streams for name in topic.channels}
        self._channel_numbers, self._symbol_numbers = names, symbols
        self._channels, self._symbols = NameNumbers(self._channel), NameNumbers(self._symbol)
        keyed = sorted(
            (int(stream_keys(s.conn, channels[s.topic.channel], symbols.get(_folded(s.topic.symbol) or "", 0))), n)
            for n, s in enumerate(streams)
        )
        self.streams = [streams[n] for _, n in keyed]
        # the last one is above all keys, so that a search always finds a place
        self._keys = np.array([*(key for key, _ in keyed), np.iinfo(np.int64).max])
        timeouts = [feed.channel_table[stream.topic.channel].idle_timeout for stream in self.streams]
        self.idle_timeouts = np.array([round((timeout or 0) * 1e9) for timeout in timeouts], np.int64)
        self.idle_limits = np.where(self.idle_timeouts > 0, self.idle_timeouts, DEFAULT_IDLE_NS)
        # Of the messages that may be of any symbol, only the first and last in each span of this length are used. It is
        # at most half of every limit, so no stream seems idle between two of them that is not.
        self._span = max(int(self.idle_limits.min(initial=DEFAULT_IDLE_NS)) // 2, 1)
        self.conns = np.array([stream.conn for stream in self.streams], np.int64)
        self._any_symbol = any(stream.topic.symbol is None for stream in self.streams)
        self._by_topic = {(stream.conn, stream.topic.topic): n for n, stream in enumerate(self.streams)}
        self._by_name = {(s.conn, s.topic.channel, s.topic.symbol): n for n, s in enumerate(self.streams)}
        self.confirmed_at, self.first_at, self.last_at = np.full((3, len(self.streams)), NEVER, np.int64)
        self.last_before = self.last_at
        self._begun = np.zeros(len(self.streams), np.bool_)
        self.begun: list[int] = []
        nothing = np.empty(0, np.int64)
        self.numbers: Any = nothing
        self.rows: Int64s = nothing

    @property
    def quiet_since(self) -> Int64s:
        """The time of each one's last message; of its confirmation where it had none."""
        return np.where(self.last_at != NEVER, self.last_at, self.confirmed_at)

    def take(self, conns: npt.NDArray[np.uint16], columns: FieldColumns | Names, time: Int64s) -> None:
        """Take messages, in order of their time."""
        channels = self._channels.of(columns.channel)
        rows = where_set(channels)
        self.begun, self.numbers, self.rows, self.last_before = [], rows[:0], rows[:0], self.last_at
        if not rows.size:
            return
        of_conn, channels, symbols = conns[rows].astype(np.int64), channels[rows], self._symbols.of(columns.symbol)
        numbers, at = self._find(of_conn, channels, symbols[rows], rows)
        if self._any_symbol:
            numbers, at = _joined((numbers, at), self._find(of_conn, channels, np.zeros_like(channels), rows))
        if columns.symbol.null_count:
            # a message without a symbol may be of any
            unnamed = ~known(columns.symbol.indices)[rows]
            more = self._find_all(of_conn[unnamed], channels[unnamed], rows[unnamed], time[rows[unnamed]])
            numbers, at = _joined((numbers, at), more)
        when = time[at]
        self.numbers, self.rows = numbers, at
        begun = ~self._begun[numbers]
        if begun.any():
            self.begun = np.unique(numbers[begun]).tolist()
            self._begun[self.begun] = True
        self.last_before = self.last_at.copy()
        fresh = self.last_at[numbers] == NEVER
        if fresh.any():
            # reversed: of several messages of a stream the first is written last, and stays
            self.first_at[numbers[fresh][::-1]] = when[fresh][::-1]
        self.last_at[numbers] = when

    def follow(self, conns: npt.NDArray[np.uint16], columns: Names, time: Int64s) -> None:
        """Continue after messages that another table took: no stream begins with them here."""
        begun = self._begun.copy()
        self.take(conns, columns, time)
        self._begun, self.begun = begun, []
        self.numbers, self.rows, self.last_before = self.numbers[:0], self.rows[:0], self.last_at

    def follow_confirmation(self, conn: int, topics: Iterable[str], time: int) -> None:
        """Continue after a confirmation that another table took."""
        begun = self._begun.copy()
        self.confirm(conn, topics, time)
        self._begun = begun

    def confirm(self, conn: int, topics: Iterable[str], time: int) -> list[int]:
        """Topics were confirmed, or requested where the exchange does not confirm; returns the streams that begin."""
        numbers = [n for topic in topics if (n := self._by_topic.get((conn, topic))) is not None]
        fresh = [n for n in numbers if self.confirmed_at[n] == NEVER]
        self.confirmed_at[fresh] = time
        begun = [n for n in fresh if not self._begun[n]]
        self._begun[begun] = True
        return begun

    def end(self, conn: int) -> None:
        """A connection ended: forget the confirmations and messages of its streams."""
        of = self.conns == conn
        self.confirmed_at[of] = self.first_at[of] = self.last_at[of] = NEVER
        self._begun[of] = False

    def heard(self, conn: int, topic: str) -> bool:
        """Whether a topic is known to have had a message since the connection began."""
        number = self._by_topic.get((conn, topic))
        return number is not None and bool(self.last_at[number] != NEVER)

    def first(self, conn: int, topic: str) -> int | None:
        """When a topic had its first message since the connection began; None if none is known."""
        number = self._by_topic.get((conn, topic))
        return None if number is None or self.first_at[number] == NEVER else int(self.first_at[number])

    def number(self, conn: int, channel: str | None, symbol: str | None) -> int | None:
        """The number of the stream of a channel (its full name) and symbol."""
        return None if channel is None else self._by_name.get((conn, channel, symbol))

    def of(self, conn: int, channel: str | None, symbol: str | None) -> list[int]:
        """The streams on a connection that messages of a channel and symbol may belong to; None stands for any."""
        return [
            number
            for number, stream in enumerate(self.streams)
            if stream.conn == conn
            and (channel is None or channel in stream.topic.channels)
            and (symbol is None or stream.topic.symbol is None or _folded(stream.topic.symbol) == _folded(symbol))
        ]

    def _channel(self, name: str) -> int:
        return self._channel_numbers.get(name, 0)

    def _symbol(self, name: str) -> int:
        return self._symbol_numbers.get(name.upper(), 0)

    def _find(self, conns: Int64s, channels: Int64s, symbols: Int64s, rows: Int64s) -> tuple[Any, Int64s]:
        """The stream of each message, and its row; messages of no stream are left out."""
        keys = stream_keys(conns, channels, symbols)
        places = np.searchsorted(self._keys, keys)
        hits = self._keys[places] == keys
        return places[hits], rows[hits]

    def _find_all(self, conns: Int64s, channels: Int64s, rows: Int64s, time: Int64s) -> tuple[Any, Int64s]:
        """All streams of the messages' channels, each with only the first and last message in every span."""
        first: dict[tuple[int, int, int], int] = {}
        last: dict[tuple[int, int, int], int] = {}
        spans = time // self._span
        for *of, row in zip(conns.tolist(), channels.tolist(), spans.tolist(), rows.tolist(), strict=True):
            key = (of[0], of[1], of[2])
            first.setdefault(key, row)
            last[key] = row
        numbers: list[int] = []
        at: list[int] = []
        for conn, channel, span in first:
            edges = np.searchsorted(self._keys, stream_keys(conn, np.array([channel, channel + 1]), 0)).tolist()
            for row in sorted({first[conn, channel, span], last[conn, channel, span]}):
                numbers += range(*edges)
                at += [row] * (edges[1] - edges[0])
        return np.array(numbers, np.int64), np.array(at, np.int64)


def _joined(one: tuple[Any, Int64s], other: tuple[Any, Int64s]) -> tuple[Any, Int64s]:
    """Both results of a search, in order of the messages."""
    numbers, at = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    order = np.argsort(at, kind="stable")
    return numbers[order], at[order]


def _folded(symbol: str | None) -> str | None:
    """A symbol in upper case, for comparison: exchanges write it in either case."""
    return None if symbol is None else symbol.upper()
