"""Order book checksums: compares each message's checksum with the book reconstructed from the messages.

Kraken, https://docs.kraken.com/api/docs/guides/spot-ws-book-v2: CRC-32 of the best 10 levels of each side, after the
message was applied and the book cut to the depth that was subscribed to.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import codes
from wsrec.decode.columns import FieldColumns
from wsrec.decode.json_text import UNREADABLE
from wsrec.feed.paths import first, steps, values
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import Checksum, SequenceRule
from wsrec.monitor.acks import fulfils
from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, Setup
from wsrec.monitor.comparison import Link, Links
from wsrec.monitor.gaps import gap_findings
from wsrec.monitor.sequence_gap import Break, SequenceGap
from wsrec.plan.requests import RequestedTopic
from wsrec.ring.events import EventKind

_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
# decimal numbers of up to so many digits are distinct doubles (IEEE 754), so different prices stay different
_EXACT_DIGITS = 15
# Levels of all books together: some 300 MB, a thousand books of 1000 levels a side. A peer can send any number of
# symbols; beyond this, no further book is checked.
_LEVELS_MAX = 1 << 21
_BOOKS_MAX = 1 << 16

# keeps the digits: a number that is not an integer stays the text that it is in the message
_DECODER = msgspec.json.Decoder(float_hook=str)

Key = tuple[int, str, str | None]


class Verdict(StrEnum):
    """Result of comparing a message's checksum with its book."""

    OK = "ok"
    NONE = "none"
    """The message has no checksum."""
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """There is no book to compare with: no snapshot yet, none since a break, or the levels cannot be read."""


class BooksChecked(NamedTuple):
    """Result of the checksums of a batch of messages.

    Attributes:
        gaps: the messages whose checksum differs from their book's, in order.
        links: how each message was compared with its book.

    """

    gaps: list[SequenceGap]
    links: Links


class Checked(NamedTuple):
    """A message's checksum.

    Attributes:
        verdict: the result.
        expected: the checksum of the book that the messages made, for `broken`; else None.
        found: the checksum in the message, for `broken`; else None.

    """

    verdict: Verdict
    expected: int | None = None
    found: int | None = None


_OK, _NONE, _UNKNOWN = Checked(Verdict.OK), Checked(Verdict.NONE), Checked(Verdict.UNKNOWN)
_LINKS = {
    Verdict.OK: Link.COMPARED,
    Verdict.BROKEN: Link.COMPARED,
    Verdict.NONE: Link.UNLINKED,
    Verdict.UNKNOWN: Link.NO_BOOK,
}


class BookChecker:
    """Keeps the books of the channels that declare a `checksum`, by connection, channel and symbol.

    Where messages of several channels carry the same name, the subscribed topics decide how deep a book is. After a
    violation a book is invalid until its next snapshot, so each violation is reported once.

    Args:
        feed: the feed whose channels declare checksums.

    """

    def __init__(self, feed: Feed) -> None:
        self._rules: dict[str, Checksum] = {
            name: channel.checksum for name, channel in feed.channel_table.items() if channel.checksum is not None
        }
        # full names of the channels whose messages carry a name
        self._carriers: dict[str, set[str]] = {name: {name} for name in self._rules}
        for name, channel in feed.channels.items():
            for alias in channel.aliases if channel.checksum is not None and name in self._rules else ():
                self._carriers.setdefault(alias, set()).add(name)
        self._requested: dict[tuple[int, str | None], set[str]] = {}
        self._books: dict[Key, _Book] = {}
        self._levels = 0

    @property
    def checks(self) -> bool:
        """Whether the feed declares any checksum."""
        return bool(self._rules)

    def subscribed(self, conn: int, topics: Iterable[RequestedTopic]) -> None:
        """Take topics that a connection requests."""
        for topic in topics:
            if topic.channel not in self._rules:
                continue
            requested = self._requested.setdefault((conn, topic.symbol), set())
            if topic.channel not in requested:
                requested.add(topic.channel)
                # a book that is there may have another depth
                self._forget(conn, topic.symbol)

    def reset(self, conn: int) -> None:
        """Forget a connection's books: it reconnected, or messages of it are known to be missing."""
        self._forget(conn)

    def check_batch(
        self, conns: npt.NDArray[np.uint16], columns: FieldColumns, payload: pa.Array, received: npt.NDArray[np.bool_]
    ) -> BooksChecked:
        """Apply the messages of a batch to their books, and compare their checksums.

        Args:
            conns: the connection of each message.
            columns: the fields of the same messages, from `FieldReader`.
            payload: the messages.
            received: which of them are messages that were received.

        """
        links = np.zeros(len(conns), np.uint8)
        if not self.checks:
            return BooksChecked([], links)
        names = columns.channel.dictionary.to_pylist()
        ours = np.array([name in self._carriers for name in [*names, None]])
        channels = codes(columns.channel, len(names))
        found = []
        for row in np.flatnonzero(ours[channels] & received).tolist():
            conn, channel, symbol = int(conns[row]), names[channels[row]], columns.symbol[row].as_py()
            key = (conn, channel, symbol)
            before = self._books.get(key)
            checked = self.check(*key, payload[row].as_buffer())
            # a snapshot's checksum proves nothing about the messages before it
            begins = checked.verdict is Verdict.OK and self._books.get(key) is not before
            links[row] = Link.FIRST if begins else _LINKS[checked.verdict]
            if checked.expected is not None and checked.found is not None:
                rule, what = SequenceRule.CHECKSUM, Break.MISSING
                gap = SequenceGap(row, conn, channel, symbol, rule, checked.expected, checked.found, None, what)
                found.append(gap)
        return BooksChecked(found, links)

    def check(self, conn: int, channel: str, symbol: str | None, payload: Any) -> Checked:
        """Apply a message to its book, and compare its checksum.

        Args:
            conn: its connection.
            channel: its channel, by the name in the message.
            symbol: its symbol.
            payload: the message (JSON, bytes).

        """
        key = (conn, channel, symbol)
        book = self._books.get(key)
        rule = self._rule(key) if book is None else book.rule
        if rule is None:
            return _UNKNOWN
        try:
            message = _DECODER.decode(payload)
        except UNREADABLE:
            self._drop(key)
            return _UNKNOWN
        if begins := fulfils(message, rule.snapshot):
            self._drop(key)
            if len(self._books) >= _BOOKS_MAX or self._levels >= _LEVELS_MAX:
                return _UNKNOWN
            book = self._books[key] = _Book(rule)
        elif book is None:
            return _UNKNOWN
        before = len(book)
        readable = book.apply(message)
        self._levels += len(book) - before
        stated = first(message, rule.value)
        if not readable:
            self._drop(key)
            return _UNKNOWN
        if stated is None:
            return _OK if begins else _NONE
        found = _checksum(stated)
        expected = book.checksum()
        if found == expected:
            return _OK
        self._drop(key)
        return _UNKNOWN if found is None else Checked(Verdict.BROKEN, expected, found)

    def _forget(self, conn: int, symbol: str | None = None) -> None:
        for key in [key for key in self._books if key[0] == conn and symbol in (None, key[2])]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        book = self._books.pop(key, None)
        if book is not None:
            self._levels -= len(book)

    def _rule(self, key: Key) -> Checksum | None:
        """How a stream's book is read; None if its messages may be of several channels that differ in this."""
        conn, channel, symbol = key
        carriers = self._carriers.get(channel, set())
        requested = {name for of in (symbol, None) for name in self._requested.get((conn, of), ())} & carriers
        if not requested and channel in self._rules:
            return self._rules[channel]
        rules = {self._rules[name] for name in requested or carriers}
        return rules.pop() if len(rules) == 1 else None


class _Book:
    """The levels of a book, and the checksum of the best of them."""

    def __init__(self, rule: Checksum) -> None:
        self.rule = rule
        self._asks = _Side(rule, rule.asks, 1.0)
        self._bids = _Side(rule, rule.bids, -1.0)

    def __len__(self) -> int:
        return len(self._asks.order) + len(self._bids.order)

    def apply(self, message: Any) -> bool:
        """Apply a message's levels; returns whether they could be read."""
        readable = self._asks.apply(message) and self._bids.apply(message)
        self._asks.cut()
        self._bids.cut()
        return readable

    def checksum(self) -> int:
        """CRC-32 of the best levels: asks from the lowest up, then bids from the highest down."""
        return zlib.crc32((self._asks.best() + self._bids.best()).encode())


class _Side:
    """One side of a book.

    Args:
        rule: how the book is read.
        paths: where messages have this side's levels.
        sign: 1 if the lowest price is the best, -1 if the highest is.

    Attributes:
        order: the prices times the sign, the best one first.

    """

    def __init__(self, rule: Checksum, paths: tuple[str, ...], sign: float) -> None:
        self.order: list[float] = []
        self._digits: dict[float, str] = {}
        self._ways = [steps(path) for path in paths]
        (self._price,), (self._size,) = steps(rule.price), steps(rule.size)
        self._sign = sign
        self._depth = rule.depth
        self._best = rule.levels
        # a side of a snapshot has `depth` levels; no exchange sends more than this
        self._most = max(1000, 4 * rule.depth)

    def apply(self, message: Any) -> bool:
        """Apply this side's levels; returns whether they could be read."""
        for way in self._ways:
            for levels in values(message, way):
                if not isinstance(levels, list) or len(levels) > self._most:
                    return False
                for level in levels:
                    try:
                        price, size = str(level[self._price]), str(level[self._size])
                    except (KeyError, IndexError, TypeError):
                        return False
                    if not (_NUMBER.fullmatch(price) and _NUMBER.fullmatch(size)):
                        return False
                    self._put(price, size)
                    if len(_plain(price).rstrip("0")) > _EXACT_DIGITS:
                        return False
        return True

    def cut(self) -> None:
        """Drop levels below the subscribed depth: the exchange does not update them any more."""
        for key in self.order[self._depth :]:
            del self._digits[key]
        del self.order[self._depth :]

    def best(self) -> str:
        """The digits of the best levels."""
        return "".join([self._digits[key] for key in self.order[: self._best]])

    def _put(self, price: str, size: str) -> None:
        key = float(price) * self._sign
        digits = _plain(size)
        if digits:
            if key not in self._digits:
                insort(self.order, key)
            self._digits[key] = _plain(price) + digits
        elif self._digits.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]


def _plain(number: str) -> str:
    """A number's digits without the decimal point and without leading zeros."""
    return number.replace(".", "").lstrip("0")


def _checksum(stated: Any) -> int | None:
    text = str(stated)
    return int(text) if len(text) <= 10 and text.isascii() and text.isdigit() else None


class ChecksumCheck(Check):
    """Reports messages whose checksum differs from their book's; registered after the gap rules.

    Attributes:
        checks: whether the feed declares any checksum.

    """

    kinds = frozenset({EventKind.GAP})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._books = BookChecker(setup.feed)
        self.checks = self._books.checks
        for conn in setup.conns:
            self._books.subscribed(conn, setup.requests.topics(conn))

    def rows(self, rows: RowBatch) -> Iterable[Finding]:
        """Compare messages with the books that they make."""
        if not self.checks:
            return ()
        books = self._books.check_batch(rows.conns, rows.fields, rows.payload, rows.readable)
        rows.links = np.where(books.links == Link.NONE, rows.links, books.links) if len(rows.links) else books.links
        return gap_findings(books.gaps, rows) if books.gaps else ()

    def lost(self, _time: int) -> Iterable[Finding]:
        """Forget all books."""
        for conn in self.setup.conns:
            self._books.reset(conn)
        return ()

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """The books of a connection end with it."""
        if event.kind is EventKind.DISCONNECT and event.conn is not None:
            self._books.reset(event.conn)
        return ()
