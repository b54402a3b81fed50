"""The messages of each stream: how many, what lies between them, and which numbers do not follow one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from wsrec.arrays import distinct
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
        groups = {}
        for begin, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            rows = order[begin:stop]
            first = int(rows[0])
            key = (int(conns[first]), channels[1][int(channels[0][first])], symbols[1][int(symbols[0][first])])
            groups[key] = rows
        broken: dict[Key, list[SequenceGap]] = {}
        for gap in held.gaps:
            if gap.from_conn is not None:
                continue
            if gap.scope is SequenceScope.SYMBOL:
                broken.setdefault((gap.conn, gap.channel, gap.symbol), []).append(gap)
            else:
                self._share(gap, handoff, np.flatnonzero(carried & (conns == gap.conn)))
        for key, rows in groups.items():
            self._add(key, handoff, rows, held, broken.get(key, ()))
        for gap in held.gaps:
            if gap.from_conn is not None:
                self.take_unjoined(gap)
        for conn in distinct(conns[carried]):
            self._last_row[conn] = self._epochs.current(conn).last_row = int(
                handoff[np.flatnonzero(carried & (conns == conn))[-1]]
            )

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

    def _add(self, key: Key, handoff: Int64s, rows: Int64s, held: Held, gaps: Sequence[SequenceGap]) -> None:
        if key not in self.streams and len(self.streams) >= _STREAMS:
            key = (key[0], _OTHERS, None)
        stream = self.streams.setdefault(key, Messages())
        current, number = self._epochs.current(key[0]), len(self._epochs.of(key[0])) - 1
        moments, runs = handoff[rows], held.runs[rows]
        first = int(moments[0])
        if current.opened is None:
            # a part of the session is read and the connection was open before it, or its `connect` is in this batch
            current.opened = first
        span = stream.spans.get(number)
        new = span is None
        if span is None:
            span = stream.spans[number] = Span(first)
        proved = runs == np.concatenate(([0 if new else span.run], runs[:-1]))
        proved &= runs > 0
        states = np.where(proved, 0, 1)
        reported: dict[int, SequenceGap] = {int(np.searchsorted(rows, gap.index)): gap for gap in gaps}
        states[list(reported)] = 2
        before = np.concatenate(([span.last], moments[:-1]))
        # a piece for each run of one state, and one for each gap
        opens = np.flatnonzero((np.diff(states, prepend=-1) != 0) | (states == 2))
        for begin, stop in zip(opens.tolist(), [*opens[1:].tolist(), len(rows)], strict=True):
            if new and begin == 0:
                # the first message of an epoch has no predecessor
                begin += 1
                if begin == stop:
                    continue
            state, reason = _WORST[int(states[begin])], ""
            if state is State.INCOMPLETE:
                reason = _describe(reported[begin])
            elif state is State.UNBROKEN and (held.links[rows[begin:stop]] != Link.NONE).any():
                reason = "not compared"
            span.add(Piece(int(before[begin]), int(moments[stop - 1]), state, reason))
        stream.gaps += len(gaps)
        stream.links.update(dict(enumerate(np.bincount(held.links[rows]).tolist())))
        span.run = int(runs[-1])
        span.last = stream.last = int(moments[-1])
        stream.count += len(rows)


def _describe(gap: SequenceGap) -> str:
    missing = "" if gap.missing is None else f", {gap.missing:,} missing"
    return f"sequence gap ({gap.rule.value}): expected {gap.expected}, found {gap.found}{missing}"
