"""Index of a session's breaks: for rows, the last break before each that concerns its stream.

A break's position is a hand-off time, or the `seq` of the row after it where a rule found it. Both are kept apart: of a
break with one the other is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from wsrec.arrays import Flags, Int64s
from wsrec.monitor.stream_keys import stream_keys
from wsrec.tables.breaks import Break

BEFORE = -1
"""Position of a break that does not exist: before all rows."""


class Stream(NamedTuple):
    """A stream.

    Attributes:
        conn: its connection.
        channel: its channel, as messages name it.
        symbol: its symbol.

    """

    conn: int
    channel: str | None
    symbol: str | None


class Grouped(NamedTuple):
    """Rows grouped by stream, each stream's in their own order.

    Attributes:
        keys: of each row (`stream_keys`).
        starts: where each stream's rows begin, and the number of rows behind them.
        conns, channels, symbols: their numbers.
        handoff: hand-off of each (ns on the stage clock).
        seq: `seq` of each.

    """

    keys: Int64s
    starts: Int64s
    conns: Int64s
    channels: Int64s
    symbols: Int64s
    handoff: Int64s
    seq: Int64s

    def spans(self) -> Iterator[tuple[int, slice]]:
        """Each stream's key and rows."""
        for key, (begin, end) in zip(self.keys[self.starts[:-1]].tolist(), pairwise(self.starts.tolist()), strict=True):
            yield key, slice(begin, end)


class Last(NamedTuple):
    """The last break before each row: the larger a position, the later; `BEFORE`: none.

    Attributes:
        handoff: of the breaks with a hand-off time.
        seq: of the breaks with a `seq`.

    """

    handoff: Int64s
    seq: Int64s

    def passed(self, before: Grouped) -> Flags:
        """Which rows are the first of their streams after a break; `before`: the message before each."""
        found: Flags = (self.handoff > before.handoff) | (self.seq > before.seq)
        return found


class _Places(NamedTuple):
    handoffs: Int64s
    seqs: Int64s


class BreakIndex:
    """Finds the last break before each row.

    Args:
        breaks: the breaks that count.
        channel_number, symbol_number: the numbers of names in keys.

    """

    def __init__(
        self, breaks: Iterable[Break], channel_number: Callable[[str], int], symbol_number: Callable[[str], int]
    ) -> None:
        self.breaks = list(breaks)
        scopes: dict[tuple[frozenset[int] | None, frozenset[int] | None, int | None], list[Break]] = {}
        for each in self.breaks:
            channels = None if each.channels is None else frozenset(map(channel_number, each.channels))
            symbol = None if each.symbol is None else symbol_number(each.symbol)
            scopes.setdefault((each.conns, channels, symbol), []).append(each)
        # breaks of single streams, by key; and those of connections and channels
        self._exact: dict[int, _Places] = {}
        self._wide: list[tuple[frozenset[int] | None, frozenset[int] | None, int | None, _Places]] = []
        exact: dict[int, list[Break]] = {}
        for (conns, channels, symbol), of in scopes.items():
            if conns is None or channels is None or symbol is None:
                self._wide.append((conns, channels, symbol, _places(of)))
                continue
            for conn in conns:
                for channel in channels:
                    exact.setdefault(int(stream_keys(conn, channel, symbol)), []).extend(of)
        self._exact = {key: _places(of) for key, of in exact.items()}
        self._intervals = [each for each in self.breaks if each.seq is None and each.start < each.place]
        self._late = [each for each in self.breaks if each.is_late and each.seq is not None]

    def last(self, rows: Grouped) -> Last:
        """The last break before each row."""
        found = Last(np.full(len(rows.keys), BEFORE, np.int64), np.full(len(rows.keys), BEFORE, np.int64))
        if self._exact:
            for key, span in rows.spans():
                places = self._exact.get(key)
                if places is not None:
                    _raise(found, places, rows, span)
        for conns, channels, symbol, places in self._wide:
            chosen = np.ones(len(rows.keys), np.bool_)
            for numbers, column in ((conns, rows.conns), (channels, rows.channels)):
                if numbers is not None:
                    chosen &= _among(column, numbers)
            if symbol is not None:
                chosen &= rows.symbols == symbol
            if chosen.any():
                _raise(found, places, rows, np.flatnonzero(chosen))
        return found

    def within(self, rows: Grouped) -> Flags:
        """Which rows were handed off in an interval in which messages are missing."""
        found = np.zeros(len(rows.keys), np.bool_)
        if not len(found) or not (self._intervals or self._late):
            return found
        low, high = int(rows.handoff.min()), int(rows.handoff.max())
        for each in self._intervals:
            if each.start < high and each.place > low:
                inside = (rows.handoff > each.start) & (rows.handoff < each.place)
                found |= inside if each.conns is None else inside & _among(rows.conns, each.conns)
        for each in self._late:
            if each.seq is not None and each.noticed >= low:
                inside = (rows.seq >= each.seq) & (rows.handoff <= each.noticed)
                found |= inside if each.conns is None else inside & _among(rows.conns, each.conns)
        return found

    def of(self, stream: Stream) -> Iterator[Break]:
        """The breaks that concern a stream."""
        for each in self.breaks:
            if (
                (each.conns is None or stream.conn in each.conns)
                and (each.channels is None or stream.channel in each.channels)
                and each.symbol in (None, stream.symbol)
            ):
                yield each


def _among(column: Int64s, numbers: frozenset[int]) -> Flags:
    found: Flags = np.zeros(len(column), np.bool_)
    for number in numbers:
        found |= column == number
    return found


def _places(breaks: Iterable[Break]) -> _Places:
    handoffs, seqs = set[int](), set[int]()
    for each in breaks:
        if each.seq is not None:
            seqs.add(each.seq)
            handoffs |= {each.noticed + 1} if each.is_late else set()
        else:
            handoffs |= {each.start, each.place}
    return _Places(np.array(sorted(handoffs), np.int64), np.array(sorted(seqs), np.int64))


def _raise(found: Last, places: _Places, rows: Grouped, chosen: slice | Int64s) -> None:
    for last, of, own in ((found.handoff, places.handoffs, rows.handoff), (found.seq, places.seqs, rows.seq)):
        if len(of):
            at = np.searchsorted(of, own[chosen], side="right") - 1
            last[chosen] = np.maximum(last[chosen], np.where(at >= 0, of[np.maximum(at, 0)], BEFORE))
