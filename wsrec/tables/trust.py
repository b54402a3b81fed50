"""Trust: the `state` of each row of the tables, from the events of its session and the rules of its feed.

- `ok`: a rule that compares each message with the one before it (`next`, `touching`, `previous`, `checksum`) covers it.
- `unproved`: no rule can show whether a message is missing before it, and nothing speaks against it; also what
  follows a message without a number, or a restart of the numbers.
- `suspect`: messages may be missing before it. Of trades, quotes and others the first row of its stream after a break;
  of books every row from a break to the next snapshot that joins, and before the first one.
- `history`: a second copy, from a connection that overlapped with the one that it replaced. What an exchange sends
  again on subscribing is for the caller to mark: only the message shows it.

A fetched snapshot (`direction` rest) is `ok` or `unproved` if it joins its stream, as `wsrec.monitor.snapshot_join` has
decided, and changes with higher numbers are from then on, also those that arrived before it; else it is `suspect`.

Whether a book's snapshot came in an earlier file is not looked up there: a stream that was requested after its last
break is `unproved` from a file's begin to its next snapshot, any other one `suspect`, so that the states of a file
depend on it and on the session's events alone. To find the first row after a break, the rows of earlier files may be
needed (`Trust.follow_from`).

Cost a message, in batches of 60,000 on a busy machine: 4 to 10 ns in a session without breaks, 100 to 500 ns with them;
of books, whose messages hold many rows, 140 to 690 ns. The less of 4 streams, the more of 3,000.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, codes, known, low_bits
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.feed.table_columns import STATES
from wsrec.monitor.stream_keys import NameNumbers, by_stream
from wsrec.tables.break_index import BEFORE, BreakIndex, Grouped, Last, Stream
from wsrec.tables.breaks import BreakKind, Unchecked
from wsrec.tables.second_copies import SecondCopies
from wsrec.tables.session_events import SessionEvents, folded

OK, UNPROVED, SUSPECT, HISTORY = range(len(STATES))
"""Codes of the states, in the order of `STATES`."""

COLUMNS = ("seq", "conn", "handoff_monotonic", "direction", "channel", "symbol", "exchange_seq")
"""The columns of messages that are needed."""

Codes = npt.NDArray[np.uint8]

_PROVING = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS, SequenceRule.CHECKSUM)


class _Position(NamedTuple):
    handoff: int
    seq: int


_NO_MESSAGE = _Position(BEFORE, BEFORE)
_NO_SNAPSHOT = _Position(BEFORE - 1, BEFORE - 1)


class Trust:
    """Gives the messages of one session and feed their states.

    Messages are passed in order, file by file. A file can be read alone: `begin_file`, `follow` with the messages of
    earlier files from `follow_from` on, if it is not None, then its own.

    Args:
        events: the events of the session.
        in_band: channels whose messages include snapshots of their books, by the names in messages.

    """

    def __init__(self, events: SessionEvents, in_band: Collection[str] = ()) -> None:
        self._events, self._in_band = events, frozenset(in_band)
        feed = events.feed
        self._channel_numbers: dict[str, int] = {}
        self._symbol_numbers: dict[str, int] = {}
        self._channels, self._symbols = NameNumbers(self._channel), NameNumbers(self._symbol)
        breaks = events.breaks
        self._losses = BreakIndex((each for each in breaks if each.loses), self._channel, self._symbol)
        resets = (each for each in breaks if each.kind in (BreakKind.RESET, BreakKind.RESUMED))
        self._resets = BreakIndex(resets, self._channel, self._symbol)
        self._ends = BreakIndex((each for each in breaks if each.ends_books), self._channel, self._symbol)
        by_name = feed.channel_by_any_name
        self._fetches = {name for name, channel in by_name.items() if channel.snapshot is not None}
        self._fetches |= {name for join in events.joins for name in join.channels}
        self._joined = {(join.conn, name, join.symbol, join.number) for join in events.joins for name in join.channels}
        self._copies, self._book_copies = (
            SecondCopies(events, lambda: self._numbered(compared=True)) for _ in range(2)
        )
        self._streams: dict[int, Stream] = {}
        self._runs: dict[int, dict[tuple[int, int], int]] = {}
        # the last message of each stream
        self._last: dict[int, _Position] = {}
        self._last_unnumbered: set[int] = set()
        self._snapshots: dict[int, _Position] = {}
        # `seq` of the last book message of each stream that lacks a number
        self._lacked: dict[int, int] = {}
        self._file = 0
        self._begin: _Position | None = None

    def begin_file(self, number: int) -> None:
        """The next messages are those of the file with this number in the session."""
        self._file = number
        self._snapshots.clear()
        self._lacked.clear()
        self._begin = None

    def follow_from(self, handoff: int) -> int | None:
        """From when on the messages before a file's first one are to be passed to `follow` (ns on the stage clock).

        Args:
            handoff: `handoff_monotonic` of the file's first message.

        Returns:
            None if none are needed: no messages are missing before, and no connections overlap here.

        """
        places = [each.start for each in (*self._losses.breaks, *self._resets.breaks) if each.start < handoff]
        places += [each.start for each in self._events.overlaps if each.start < handoff <= each.end]
        return min(places, default=None)

    def follow(self, rows: pa.RecordBatch) -> None:
        """Pass messages of earlier files (`COLUMNS`), of all channels, or of those that make rows."""
        self.states(rows)

    def states(self, rows: pa.RecordBatch) -> Codes:
        """The state of each message's rows in all tables but `book_changes`.

        Args:
            rows: messages that make rows, in order: `COLUMNS`.

        """
        channels = self._channels.of(rows.column("channel"))
        found = self._base(channels)
        fits = known(rows.column("exchange_seq"))
        if not fits.all():
            fits = fits | ~self._numbered(compared=False)[channels]
        breaks = self._losses.breaks or self._resets.breaks
        if breaks or self._last_unnumbered or not fits.all():
            order, grouped = self._grouped(rows, channels)
            unproved = ~self._after_numbered(grouped, fits[order])
            doubted = np.zeros(len(order), np.bool_)
            if breaks:
                before = self._before(grouped)
                doubted = self._losses.last(grouped).passed(before) | self._losses.within(grouped)
                # nothing was compared with what was before the numbers restarted
                unproved |= self._resets.last(grouped).passed(before)
            found[order[unproved]] = np.maximum(found[order[unproved]], UNPROVED)
            found[order[doubted]] = SUSPECT
        found[self._copies.among(rows, channels, self._symbols)] = HISTORY
        return found

    def book_states(self, rows: pa.RecordBatch, snapshots: Flags) -> Codes:
        """The state of each message's rows in `book_changes`.

        Args:
            rows: messages that make such rows, in order: `COLUMNS`.
            snapshots: which of them are snapshots, or contain one.

        """
        if not rows.num_rows:
            return np.zeros(0, np.uint8)
        channels = self._channels.of(rows.column("channel"))
        order, grouped = self._grouped(rows, channels)
        if self._begin is None:
            # where the file begins; the session's first one has nothing before it
            first = int(grouped.seq.min())
            self._begin = (
                _NO_SNAPSHOT if not first or self._file <= 1 else _Position(int(grouped.handoff.min()) - 1, first - 1)
            )
        numbers, has = low_bits(rows.column("exchange_seq"))[order], known(rows.column("exchange_seq"))[order]
        fetched = _fetched(rows)[order]
        last = self._ends.last(grouped)
        flags = snapshots[order] & ~fetched
        good, begun = self._after_snapshot(rows, order, grouped, flags, last)
        # this file does not show the snapshot before them
        presumed = good & (begun == self._begin.seq) if self._begin != _NO_SNAPSHOT else np.zeros_like(good)
        if self._fetches:
            fetching = np.array([False, *(name in self._fetches for name in self._channel_numbers)])
            for key, span in grouped.spans():
                if fetching[grouped.channels[span.start]]:
                    stream = self._stream(key, rows, int(order[span.start]))
                    for (handoff, seq), number in self._joined_runs(key, stream).items():
                        run = (last.handoff[span] == handoff) & (last.seq[span] == seq)
                        good[span] |= run & has[span] & (numbers[span] > np.uint64(number))
                    for row in np.flatnonzero(fetched[span]) + span.start:
                        number = int(numbers[row]) if has[row] else -1
                        good[row] = (stream.conn, stream.channel, stream.symbol, number) in self._joined
        base = self._base(channels)[order]
        base[self._unnumbered_since(begun, grouped, has)] = UNPROVED
        base[presumed] = UNPROVED
        found = np.zeros(len(order), np.uint8)
        found[order] = np.where(good & ~self._ends.within(grouped), base, SUSPECT)
        found[self._book_copies.among(rows, channels, self._symbols)] = HISTORY
        return found

    def _base(self, channels: Int64s) -> Codes:
        """The state of messages that no break concerns, by their channels."""
        states = np.full(len(self._channel_numbers) + 1, UNPROVED, np.uint8)
        rule, unchecked = self._events.feed.sequence_rule, self._events.unchecked
        states[0] = OK if rule(None) in _PROVING else UNPROVED
        for name, number in self._channel_numbers.items():
            if rule(name) in _PROVING and Unchecked(self._file, name) not in unchecked:
                states[number] = OK
        return states[channels]

    def _numbered(self, *, compared: bool) -> Flags:
        """By channel number, whether each message has a number; `compared`: one that is equal on each connection."""
        feed = self._events.feed
        found = np.zeros(len(self._channel_numbers) + 1, np.bool_)
        found[0] = feed.sequence is not None and not compared
        for name, number in self._channel_numbers.items():
            if feed.sequence is not None:
                found[number] = not compared
                continue
            channel = feed.channel_by_any_name.get(name)
            if channel is not None and channel.sequence in _PROVING and channel.sequence is not SequenceRule.CHECKSUM:
                found[number] = not compared or (channel.sequence_scope == "symbol" and not channel.repeats)
        return found

    def _grouped(self, rows: pa.RecordBatch, channels: Int64s) -> tuple[Places, Grouped]:
        conns, symbols = rows.column("conn").to_numpy().astype(np.int64), self._symbols.of(rows.column("symbol"))
        counts = len(self._channel_numbers) + 1, len(self._symbol_numbers) + 1
        order, keys = by_stream(conns, channels, symbols, *counts)
        starts = np.append(np.flatnonzero(np.diff(keys, prepend=-1)), len(keys))
        handoff, seq = rows.column("handoff_monotonic").to_numpy(), rows.column("seq").to_numpy().astype(np.int64)
        return order, Grouped(keys, starts, conns[order], channels[order], symbols[order], handoff[order], seq[order])

    def _before(self, rows: Grouped) -> Grouped:
        """The positions of the message before each one in its stream."""
        handoff, seq = (np.concatenate((of[:1], of[:-1])) for of in (rows.handoff, rows.seq))
        starts, ends = rows.starts[:-1], rows.starts[1:] - 1
        keys = rows.keys[starts].tolist()
        first = np.array([self._last.get(key, _NO_MESSAGE) for key in keys], np.int64).reshape(-1, 2)
        handoff[starts], seq[starts] = first.T
        ended = zip(keys, rows.handoff[ends].tolist(), rows.seq[ends].tolist(), strict=True)
        self._last.update((key, _Position(*position)) for key, *position in ended)
        return rows._replace(handoff=handoff, seq=seq)

    def _after_numbered(self, rows: Grouped, fits: Flags) -> Flags:
        """Which messages have a number, as has the one before, where their rules need one."""
        if fits.all() and not self._last_unnumbered:
            return fits
        before = np.concatenate((fits[:1], fits[:-1]))
        for key, span in rows.spans():
            before[span.start] = key not in self._last_unnumbered
            (self._last_unnumbered.discard if fits[span.stop - 1] else self._last_unnumbered.add)(key)
        return fits & before

    def _after_snapshot(
        self, rows: pa.RecordBatch, order: Places, grouped: Grouped, flags: Flags, last: Last
    ) -> tuple[Flags, Int64s]:
        """Which rows have a snapshot in their stream since the last break, and `seq` of the last one before each."""
        starts, counts = grouped.starts[:-1], np.diff(grouped.starts)
        carried_in = []
        for key, span in grouped.spans():
            position = self._snapshots.get(key)
            if position is None:
                position = self._presumed(self._stream(key, rows, int(order[span.start])))
            carried_in.append(position)
        before = np.array(carried_in, np.int64)
        at = np.maximum.accumulate(np.where(flags, np.arange(len(flags)), -1))
        some = at >= np.repeat(starts, counts)
        handoffs = np.where(some, grouped.handoff[at], np.repeat(before[:, 0], counts))
        seqs = np.where(some, grouped.seq[at], np.repeat(before[:, 1], counts))
        ends = grouped.starts[1:] - 1
        carried = zip(grouped.keys[ends].tolist(), handoffs[ends].tolist(), seqs[ends].tolist(), strict=True)
        self._snapshots.update((key, _Position(handoff, seq)) for key, handoff, seq in carried)
        found: Flags = (handoffs >= last.handoff) & (seqs >= last.seq) & (handoffs > BEFORE)
        return found, seqs

    def _unnumbered_since(self, begun: Int64s, rows: Grouped, numbered: Flags) -> Flags:
        """Which rows follow one without the number that its rule needs, in the same stream since its last snapshot."""
        lacks = np.zeros(len(numbered), np.bool_)
        if not numbered.all():
            lacks = ~numbered & self._numbered(compared=False)[rows.channels]
        earlier = {each.channel for each in self._events.unnumbered if each.file < self._file}
        if not lacks.any() and not self._lacked and not earlier:
            return lacks
        starts, counts = rows.starts[:-1], np.diff(rows.starts)
        keys = rows.keys[starts].tolist()
        # which messages of earlier files they were is not known here
        of_channel = np.full(len(self._channel_numbers) + 1, BEFORE - 1, np.int64)
        if self._begin is not None:
            of_channel[[number for name, number in self._channel_numbers.items() if name in earlier]] = self._begin.seq
        known_before = zip(keys, of_channel[rows.channels[starts]].tolist(), strict=True)
        before = np.array([self._lacked.get(key, default) for key, default in known_before], np.int64)
        at = np.maximum.accumulate(np.where(lacks, np.arange(len(lacks)), -1))
        seqs = np.where(at >= np.repeat(starts, counts), rows.seq[at], np.repeat(before, counts))
        lacked = zip(keys, seqs[rows.starts[1:] - 1].tolist(), strict=True)
        self._lacked.update((key, seq) for key, seq in lacked if seq >= 0)
        found: Flags = seqs >= begun
        return found

    def _presumed(self, stream: Stream) -> _Position:
        """Whether a stream's book had its snapshot before this file, and where it counts as having it."""
        begin = self._begin
        if begin is None or begin.handoff <= BEFORE or stream.channel not in self._in_band:
            return _NO_SNAPSHOT
        wanted = {(stream.channel, folded(symbol)) for symbol in (stream.symbol, None)}
        requested = max(
            (
                each.place
                for each in self._events.begins
                if each.conn == stream.conn
                and each.place <= begin.handoff
                and each.streams is not None
                and any((name, folded(symbol)) in wanted for name, symbol in each.streams)
            ),
            default=BEFORE,
        )
        # a snapshot in the stream may be what restarted the numbers
        breaks = (each for each in self._ends.of(stream) if each.kind is not BreakKind.RESET)
        ended = max((each.noticed for each in breaks if each.noticed <= begin.handoff), default=BEFORE)
        return begin if requested > ended else _NO_SNAPSHOT

    def _joined_runs(self, key: int, stream: Stream) -> dict[tuple[int, int], int]:
        """The last break before each run of a stream that a fetched snapshot joins, with the snapshot's number."""
        found = self._runs.get(key)
        if found is None:
            found = self._runs[key] = {}
            for join in self._events.joins:
                if join.conn == stream.conn and stream.channel in join.channels and join.symbol == stream.symbol:
                    ended = [each for each in self._ends.of(stream) if each.noticed <= join.place]
                    handoff = max((each.place for each in ended if each.seq is None), default=BEFORE)
                    run = handoff, max((each.seq for each in ended if each.seq is not None), default=BEFORE)
                    found[run] = min(join.number, found.get(run, join.number))
        return found

    def _stream(self, key: int, rows: pa.RecordBatch, row: int) -> Stream:
        stream = self._streams.get(key)
        if stream is None:
            conn, channel, symbol = (rows.column(name)[row].as_py() for name in ("conn", "channel", "symbol"))
            stream = self._streams[key] = Stream(conn, channel, symbol)
        return stream

    def _channel(self, name: str) -> int:
        return self._channel_numbers.setdefault(name, len(self._channel_numbers) + 1)

    def _symbol(self, name: str) -> int:
        return self._symbol_numbers.setdefault(name, len(self._symbol_numbers) + 1)


def _fetched(rows: pa.RecordBatch) -> Flags:
    """Which rows are snapshots that were fetched over HTTP."""
    column = rows.column("direction")
    names = [*column.dictionary.to_pylist(), None]
    found: Flags = np.array([name == "rest" for name in names])[codes(column, len(names) - 1)]
    return found
