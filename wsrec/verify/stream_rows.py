"""The messages of each stream: how many, what lies between them, and which numbers do not follow one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from wsrec.feed.sequence_rules import SequenceScope
from wsrec.format.columns import Bools
from wsrec.histogram import Int64s
from wsrec.monitor.comparison import Link, Links
from wsrec.monitor.sequence_gap import SequenceGap
from wsrec.monitor.stream_keys import by_stream
from wsrec.verify.epochs import Epochs
from wsrec.verify.model import Loss, State
from wsrec.verify.session_facts import SessionFacts

# an exchange can name any number of symbols; beyond this many, a connection's other streams are merged
_STREAMS = 65_536
LISTED = 1_000
"""Intervals and losses kept per stream."""
_OTHERS = "(other channels)"

Key = tuple[int, str | None, str | None]
"""A stream: its connection, channel and symbol."""


class Piece(NamedTuple):
    """The time between two messages of a stream, or between several with the same state."""

    start: int
    end: int
    state: State
    reason: str


_WORST = (State.PROVED, State.UNBROKEN, State.INCOMPLETE)
_PROVED, _UNBROKEN, _INCOMPLETE = range(3)


class Span:
    """A stream's messages in one epoch: the first, the last, and the pieces between them."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.run = 0
        self.pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        if self.pieces:
            last = self.pieces[-1]
            same = last[2:] == piece[2:] and piece.state is not State.INCOMPLETE
            if same or len(self.pieces) >= LISTED:
                # too many pieces: merge, keeping the worse state
                state, reason = max(last[2:], piece[2:], key=lambda each: _WORST.index(each[0]))
                self.pieces[-1] = Piece(last.start, piece.end, state, reason)
                return
        self.pieces.append(piece)


class Messages:
    """Counts, numbers and spans of one stream's messages."""

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0
        self.links: Counter[int] = Counter()
        self.spans: dict[int, Span] = {}
        self.last = 0


class Held(NamedTuple):
    """Results of the feed's sequence rules for a range of rows.

    Attributes:
        gaps: violations, by row.
        links: how each row was compared with its predecessor.
        runs: number of the run of compared rows that each row belongs to; 0 for none.

    """

    gaps: Sequence[SequenceGap]
    links: Links
    runs: Int64s


class _SortedRows(NamedTuple):
    """Rows, each stream's together in their own order.

    Attributes:
        order: the place of each in its batch.
        moments: hand-off (ns on the stage clock).
        runs, links: as in `Held`.
        broken: the gaps that concern one stream, by the place in the batch.

    """

    order: Int64s
    moments: Int64s
    runs: Int64s
    links: Links
    broken: dict[int, list[SequenceGap]]

    def part(self, begin: int, stop: int) -> _SortedRows:
        """Some of the rows."""
        span = slice(begin, stop)
        return _SortedRows(self.order[span], self.moments[span], self.runs[span], self.links[span], self.broken)

    def gaps(self) -> dict[int, list[SequenceGap]]:
        """The gaps by the place here, in its order."""
        if not self.broken:
            return {}
        places = np.flatnonzero(np.isin(self.order, list(self.broken)))
        indices = self.order[places].tolist()
        return {place: self.broken[index] for place, index in zip(places.tolist(), indices, strict=True)}


class StreamRows:
    """The messages of one session, by stream.

    Args:
        epochs: the epochs of the session's connections.
        facts: facts about the session.
        has_fields: whether messages name their channel.

    Attributes:
        streams: messages by stream.
        shared_gaps: gaps of numbers shared by a channel, or a connection (None): any of its streams may miss messages.
        unjoined: losses of a stream between two alternating connections whose numbers do not join.
        unattributed: received messages that name no channel.

    """

    def __init__(self, epochs: Epochs, facts: SessionFacts, *, has_fields: bool) -> None:
        self._epochs, self._facts, self._has_fields = epochs, facts, has_fields
        self.streams: dict[Key, Messages] = {}
        self.shared_gaps: dict[tuple[int, str | None], list[Loss]] = {}
        self.unjoined: dict[Key, list[Loss]] = {}
        self.unattributed = 0
        self._last_row: dict[int, int] = {}

    def add(
        self,
        handoff: Int64s,
        conns: npt.NDArray[np.uint16],
        channels: tuple[npt.NDArray[np.integer], list[str | None]],
        symbols: tuple[npt.NDArray[np.integer], list[str | None]],
        carried: Bools,
        held: Held,
    ) -> None:
        """Add rows between two disconnects; `channels` and `symbols` are codes and words, `held` is by row."""
        if not len(handoff):
            return
        self._facts.note(int(handoff[0]), int(handoff[-1]))
        counted = carried
        if self._has_fields:
            counted = carried & (channels[0] != len(channels[1]) - 1)
            self.unattributed += int(np.count_nonzero(carried) - np.count_nonzero(counted))
        place = np.flatnonzero(counted)
        of_channel, of_symbol = (of[0][place].astype(np.int64) for of in (channels, symbols))
        order, keys = by_stream(conns[place], of_channel, of_symbol, len(channels[1]), len(symbols[1]))
        order = place[order]
        bounds = np.flatnonzero(np.diff(keys, prepend=-1, append=-1))
        firsts = order[bounds[:-1]]
        named = zip(conns[firsts].tolist(), channels[0][firsts].tolist(), symbols[0][firsts].tolist(), strict=True)
        of_conn: dict[int, Int64s] = {}
        broken: dict[int, list[SequenceGap]] = {}
        for gap in held.gaps:
            if gap.from_conn is not None:
                continue
            if gap.scope is SequenceScope.SYMBOL:
                broken.setdefault(gap.index, []).append(gap)
                continue
            if gap.conn not in of_conn:
                of_conn[gap.conn] = np.flatnonzero(carried & (conns == gap.conn))
            self._share(gap, handoff, of_conn[gap.conn])
        groups = [(conn, channels[1][channel], symbols[1][symbol]) for conn, channel, symbol in named]
        sorted_rows = _SortedRows(order, handoff[order], held.runs[order], held.links[order], broken)
        if len(self.streams) + len(groups) <= _STREAMS:
            self._add(groups, bounds, sorted_rows)
        else:
            # several may be merged into one
            for number, key in enumerate(groups):
                begin, stop = bounds[number : number + 2].tolist()
                self._add([key], np.array([0, stop - begin]), sorted_rows.part(begin, stop))
        for gap in held.gaps:
            if gap.from_conn is not None:
                self.take_unjoined(gap)
        rows = np.flatnonzero(carried)
        last = np.full(int(conns.max()) + 1, -1, np.int64)
        # of several rows of a connection, the last one stays
        last[conns[rows]] = rows
        for conn in np.flatnonzero(last >= 0).tolist():
            self._last_row[conn] = self._epochs.current(conn).last_row = int(handoff[last[conn]])

    def take_unjoined(self, gap: SequenceGap) -> None:
        """Take a gap between the last number on the old connection and the first on the one that replaced it."""
        old, new = ((conn, gap.channel, gap.symbol) for conn in (gap.from_conn or 0, gap.conn))
        messages, before = self.streams.get(new), self.streams.get(old)
        epochs = self._epochs.of(old[0])
        ended = [number for number in before.spans if epochs[number].end is not None] if before is not None else []
        if messages is None or before is None or not ended:
            return
        epoch = self._epochs.current(gap.conn)
        messages.gaps += 1
        # the old connection may have been reconnected since
        first, last = messages.spans[max(messages.spans)].first, before.spans[max(ended)].last
        until = max(epochs[max(ended)].end or 0, last)
        reason = f"{_describe(gap)}, from connection {gap.from_conn} to {gap.conn}"
        # both were open then: nothing shows which of them missed messages
        since = last if last < first else min(first, epoch.opened or first)
        for key, start, end in ((old, last, until), (new, since, first)):
            lost = self.unjoined.setdefault(key, [])
            if len(lost) < LISTED:
                lost.append(Loss(conn=key[0], start=start, end=end, reason=reason))

    def _share(self, gap: SequenceGap, handoff: Int64s, rows: Int64s) -> None:
        """Take a gap that concerns several streams; `rows` are the rows of its connection."""
        after = int(handoff[gap.at])
        at = int(np.searchsorted(rows, gap.at))
        before = int(handoff[rows[at - 1]]) if at else self._last_row.get(gap.conn, after)
        self._share_between(gap, self._since(gap, before), after)

    def passed_over(self, gap: SequenceGap, end: int) -> None:
        """Take numbers that had not arrived when their connection ended (ns since the epoch)."""
        self._share_between(gap, self._since(gap, end), end)

    def _since(self, gap: SequenceGap, before: int) -> int:
        """Since when the messages of a gap may be missing; `before` if messages cannot arrive late."""
        if gap.since is None:
            return before
        # everything before it may have been late
        opened = [each.opened for each in self._epochs.of(gap.conn) if each.connected and each.opened is not None]
        return gap.since or max(opened, default=self._facts.start or 0)

    def _share_between(self, gap: SequenceGap, before: int, after: int) -> None:
        shared = self.shared_gaps.setdefault((gap.conn, gap.channel), [])
        if len(shared) < LISTED:
            shared.append(Loss(conn=gap.conn, start=before, end=after, reason=_describe(gap)))
        else:
            shared[-1] = msgspec.structs.replace(shared[-1], end=after)

    def _add(self, keys: Sequence[Key], bounds: Int64s, rows: _SortedRows) -> None:
        """Add rows of streams, each of which occurs once: those of the first lie from `bounds[0]` to `bounds[1]`."""
        if not keys:
            return
        begins, ends = bounds[:-1], bounds[1:]
        streams, spans, is_new = self._spans(keys, rows.moments[begins].tolist())
        lasts = rows.moments[ends - 1].tolist()
        before = np.concatenate((rows.moments[:1], rows.moments[:-1]))
        before[begins] = [span.last for span in spans]
        gaps = rows.gaps()
        starts, stops, states = self._pieces(begins, np.array(is_new), [span.run for span in spans], rows, list(gaps))
        compared = np.concatenate(([0], np.cumsum(rows.links != Link.NONE)))
        untested = (states == _UNBROKEN) & (compared[stops] > compared[starts])
        of = np.searchsorted(begins, starts, side="right") - 1
        found = (each.tolist() for each in (starts, of, before[starts], rows.moments[stops - 1], states, untested))
        for start, number, since, until, state, is_untested in zip(*found, strict=True):
            reason = _describe(gaps[start][-1]) if state == _INCOMPLETE else "not compared" if is_untested else ""
            spans[number].add(Piece(since, until, _WORST[state], reason))
        counts, runs = (ends - begins).tolist(), rows.runs[ends - 1].tolist()
        for stream, span, last, run, count in zip(streams, spans, lasts, runs, counts, strict=True):
            span.run, span.last, stream.last = run, last, last
            stream.count += count
        of_gaps = np.searchsorted(begins, list(gaps), side="right") - 1
        for number, found_here in zip(of_gaps.tolist(), gaps.values(), strict=True):
            streams[number].gaps += len(found_here)
        links = np.repeat(np.arange(len(keys)) * len(Link), ends - begins) + rows.links
        linked = np.bincount(links, minlength=len(keys) * len(Link)).reshape(-1, len(Link))
        for number, link in zip(*(each.tolist() for each in linked.nonzero()), strict=True):
            streams[number].links[link] += int(linked[number, link])

    def _spans(self, keys: Sequence[Key], firsts: Sequence[int]) -> tuple[list[Messages], list[Span], list[bool]]:
        """The streams, each with its span of the current epoch, and whether the first of these messages begins it."""
        streams, spans, is_new = [], [], []
        for named, first in zip(keys, firsts, strict=True):
            conn = named[0]
            key = named if named in self.streams or len(self.streams) < _STREAMS else (conn, _OTHERS, None)
            stream = self.streams.get(key)
            if stream is None:
                stream = self.streams[key] = Messages()
            current, number = self._epochs.current(conn), len(self._epochs.of(conn)) - 1
            if current.opened is None:
                # a part of the session is read and the connection was open before it, or its `connect` is in this batch
                current.opened = first
            span = stream.spans.get(number)
            is_new.append(span is None)
            if span is None:
                span = stream.spans[number] = Span(first)
            streams.append(stream)
            spans.append(span)
        return streams, spans, is_new

    @staticmethod
    def _pieces(
        begins: Int64s, is_new: Bools, runs: Sequence[int], rows: _SortedRows, gaps: Sequence[int]
    ) -> tuple[Int64s, Int64s, Int64s]:
        """The pieces of all streams, from one place to another, each of one state: one for each run, and for each gap.

        Args:
            begins: where each stream begins.
            is_new: whether its first message begins an epoch.
            runs: the run of the message before that.
            rows: the rows.
            gaps: the places of those that show a gap.

        """
        previous = np.concatenate((rows.runs[:1], rows.runs[:-1]))
        previous[begins] = np.where(is_new, 0, runs)
        states = np.where((rows.runs == previous) & (rows.runs > 0), _PROVED, _UNBROKEN)
        states[gaps] = _INCOMPLETE
        opens = (np.diff(states, prepend=-1) != 0) | (states == _INCOMPLETE)
        opens[begins] = True
        starts = np.flatnonzero(opens)
        stops = np.append(starts[1:], len(states))
        # the first message of an epoch has no predecessor
        first = np.zeros(len(states), np.bool_)
        first[begins[is_new]] = True
        starts = starts + first[starts]
        kept = starts < stops
        starts, stops = starts[kept], stops[kept]
        return starts, stops, states[starts]


def _describe(gap: SequenceGap) -> str:
    missing = "" if gap.missing is None else f", {gap.missing:,} missing"
    return f"sequence gap ({gap.rule.value}): expected {gap.expected}, found {gap.found}{missing}"
