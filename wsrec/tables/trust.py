"""Trust: the `state` of each row of the tables, from the events of its session and the rules of its feed.

- `ok`: a rule that compares each message with the one before it (`next`, `touching`, `previous`, `checksum`) covers it.
- `unproved`: no rule can show whether a message is missing before it, and nothing speaks against it; also what
  follows a message without a number, or a restart of the numbers.
- `suspect`: messages may be missing before it. Of trades, quotes and others the first row of its stream after a break;
  of books every row from a break to the next snapshot that joins, and before the first one.
- `history`: a second copy, from a connection that overlapped with the one that it replaced; what may be one without
  being the same byte for byte is `unproved` (`wsrec.tables.second_copies`). What an exchange sends again on subscribing
  is for the caller to mark: only the message shows it.

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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, codes, known, low_bits
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.feed.table_columns import STATES, Table
from wsrec.monitor.stream_keys import NameNumbers, by_stream
from wsrec.tables.break_index import BEFORE, BreakIndex, Grouped, Last, Stream
from wsrec.tables.breaks import BreakKind, Join
from wsrec.tables.second_copies import CONTENT, SecondCopies
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


class Since(NamedTuple):
    """A place in a session, from which on its messages are needed: those that are either.

    Attributes:
        file: in the files from this number on.
        handoff: handed off at or after this moment (ns on the stage clock).

    """

    file: int
    handoff: int


class Taken(NamedTuple):
    """What is known of messages, whatever rows they make.

    Attributes:
        compared: which have a number, as has the message before, where their rules need one.
        copies, possible: which are second copies, and which others may be.

    """

    compared: Flags
    copies: Flags
    possible: Flags

    @classmethod
    def of(cls, count: int) -> Taken:
        """Of messages that were compared and are no copies."""
        return cls(np.ones(count, np.bool_), np.zeros(count, np.bool_), np.zeros(count, np.bool_))

    def among(self, rows: Places) -> Taken:
        """The same of some of the messages."""
        return Taken(*(each[rows] for each in self))

    def corrected(self, states: Codes) -> Codes:
        """States of the messages, corrected for copies."""
        states[self.possible] = np.maximum(states[self.possible], UNPROVED)
        states[self.copies] = HISTORY
        return states


class Trust:
    """Gives the messages of one session and feed their states.

    Messages are passed in order, file by file: all to `take`, then those that make rows of a table to `states` or
    `book_states`. A file can be read alone: of the earlier files `begin_file`, and `take` with their messages from
    `follow_from` on, if that is not None; then its own.

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
        self._copies = SecondCopies(events, lambda: self._numbered(compared=True))
        self._streams: dict[int, Stream] = {}
        self._runs: dict[int, dict[tuple[int, int], Join]] = {}
        # by stream: the last message that makes rows of a table in this file, the last one of the files before,
        # and that of this file
        self._last: dict[Table | None, dict[int, _Position]] = {}
        self._earlier: dict[int, _Position] = {}
        self._newest: dict[int, _Position] = {}
        self._last_unnumbered: set[int] = set()
        # of each resumption the streams that its checks know
        self._known: list[set[int]] = [set() for _ in events.resumptions]
        self._positions = bool(self._losses.breaks or self._resets.breaks or events.resumptions)
        self._snapshots: dict[int, _Position] = {}
        # `seq` of the last book message of each stream that lacks a number
        self._lacked: dict[int, int] = {}
        self._file = 0
        self._begin: _Position | None = None

    def begin_file(self, number: int) -> None:
        """The next messages are those of the file with this number in the session."""
        self._file = number
        self._earlier |= self._newest
        self._newest.clear()
        self._last.clear()
        self._snapshots.clear()
        self._lacked.clear()
        self._begin = None

    def follow_from(self, number: int, handoff: int) -> Since | None:
        """From where on the messages before a file are to be passed to `take`, where it is converted alone.

        Args:
            number: the file's number.
            handoff: `handoff_monotonic` of its first message.

        Returns:
            None if none are needed: no messages are missing before, and no connections overlap here.

        """
        events = self._events
        files = [each.file for each in events.unnumbered if each.file < number]
        files += [events.file_of(each.known_from) for each in events.resumptions if each.file <= number]
        # of the breaks that concern the same streams, the last one before
        last: dict[Any, tuple[int, int]] = {}
        for index in (self._losses, self._resets):
            for each in index.breaks:
                file = number if each.seq is None else events.file_of(each.seq)
                if each.start < handoff or file < number:
                    scope = index, each.conns, each.channels, each.symbol, each.seq is None
                    last[scope] = max(last.get(scope, (-1, -1)), (each.start, file))
        places = [start for start, _ in last.values()]
        files += [file for _, file in last.values()]
        places += [each.start for each in events.overlaps if each.start < handoff <= each.end]
        found = Since(min(files, default=number), min(places, default=handoff))
        return None if found == (number, handoff) else found

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of messages that `take` needs."""
        return (*COLUMNS, *CONTENT) if self._events.overlaps else COLUMNS

    def take(self, messages: pa.RecordBatch) -> Taken:
        """Take the next messages (`columns`), of all channels or of those that make rows; also of earlier files."""
        found = Taken.of(messages.num_rows)
        received = np.flatnonzero(~_fetched(messages))
        rows = messages if len(received) == messages.num_rows else messages.take(pa.array(received))
        channels = self._channels.of(rows.column("channel"))
        found.compared[received] = self._compared(rows, channels)
        if self._events.overlaps:
            copies = self._copies.among(rows, channels, self._symbols)
            found.copies[received], found.possible[received] = copies
        return found

    def _compared(self, rows: pa.RecordBatch, channels: Int64s) -> Flags:
        """Which messages have a number, as has the message before, where their rules need one."""
        compared = np.ones(rows.num_rows, np.bool_)
        fits = known(rows.column("exchange_seq"))
        if not fits.all():
            fits = fits | ~self._numbered(compared=False)[channels]
        if not rows.num_rows or (fits.all() and not self._last_unnumbered and not self._positions):
            return compared
        order, grouped = self._grouped(rows, channels)
        compared[order] = self._after_numbered(grouped, fits[order])
        self._newest |= _ends_of(grouped)
        for each, keys in zip(self._events.resumptions, self._known, strict=True):
            within = (grouped.seq >= each.known_from) & (grouped.seq < each.seq)
            keys |= set(grouped.keys[within].tolist())
        return compared

    def states(self, rows: pa.RecordBatch, taken: Taken | None = None, table: Table | None = None) -> Codes:
        """The state of each message's rows in a table that is not `book_changes`.

        Args:
            rows: messages that make rows of it, in order: `COLUMNS`.
            taken: what `take` says of them; None: they are all messages, and `take` has not seen them.
            table: the table.

        """
        taken = self.take(rows) if taken is None else taken
        compared = taken.compared
        channels = self._channels.of(rows.column("channel"))
        found = self._base(rows, channels, books=False)
        if self._positions or not compared.all():
            order, grouped = self._grouped(rows, channels)
            unproved = ~compared[order]
            doubted = np.zeros(len(order), np.bool_)
            if self._positions:
                before = self._before(grouped, table)
                doubted = self._losses.last(grouped).passed(before) | self._losses.within(grouped)
                # nothing was compared with what was before the numbers restarted
                unproved |= self._resets.last(grouped).passed(before)
                unproved |= self._resumed(rows, order, grouped, before)
            found[order[unproved]] = np.maximum(found[order[unproved]], UNPROVED)
            found[order[doubted]] = SUSPECT
        return taken.corrected(found)

    def book_states(self, rows: pa.RecordBatch, snapshots: Flags, taken: Taken | None = None) -> Codes:
        """The state of each message's rows in `book_changes`.

        Args:
            rows: messages that make such rows, in order: `COLUMNS`.
            snapshots: which of them are snapshots, or contain one.
            taken: as of `states`.

        """
        if not rows.num_rows:
            return np.zeros(0, np.uint8)
        taken = self.take(rows) if taken is None else taken
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
        # a new writer did not know the messages before it
        uncompared = np.zeros_like(good)
        if self._fetches:
            fetching = np.array([False, *(name in self._fetches for name in self._channel_numbers)])
            for key, span in grouped.spans():
                if fetching[grouped.channels[span.start]]:
                    stream = self._stream(key, rows, int(order[span.start]))
                    for (handoff, seq), join in self._joined_runs(key, stream).items():
                        run = (last.handoff[span] == handoff) & (last.seq[span] == seq)
                        good[span] |= run & has[span] & (numbers[span] > np.uint64(join.number))
                        for each, keys in zip(self._events.resumptions, self._known, strict=True):
                            if join.file < each.file and key not in keys:
                                uncompared[span] |= run & (grouped.seq[span] >= each.seq)
                    for row in np.flatnonzero(fetched[span]) + span.start:
                        number = int(numbers[row]) if has[row] else -1
                        good[row] = (stream.conn, stream.channel, stream.symbol, number) in self._joined
        base = self._base(rows, channels, books=True)[order]
        fits = has & (taken.compared[order] | flags)
        base[self._unnumbered_since(begun, grouped, fits)] = UNPROVED
        base[presumed | uncompared] = UNPROVED
        found = np.zeros(len(order), np.uint8)
        found[order] = np.where(good & ~self._ends.within(grouped), base, SUSPECT)
        return taken.corrected(found)

    def _base(self, rows: pa.RecordBatch, channels: Int64s, *, books: bool) -> Codes:
        """The state of messages that no break concerns."""
        found = self._of_channels(books=books)[channels]
        undecided = self._events.undecided
        if undecided is not None:
            late = rows.column("seq").to_numpy() >= undecided.seq
            found[late & np.isin(rows.column("conn").to_numpy(), list(undecided.conns))] = UNPROVED
        return found

    def _of_channels(self, *, books: bool) -> Codes:
        """The same by the numbers of channels."""
        states = np.full(len(self._channel_numbers) + 1, UNPROVED, np.uint8)
        feed, events = self._events.feed, self._events
        unnumbered = {each.channel for each in events.unnumbered if each.file == self._file}
        if events.lacks(self._file) or (feed.sequence is not None and unnumbered):
            # any message may be missing where one of the connection has no number
            return states
        unchecked = {each.channel for each in events.unchecked if each.file == self._file}
        if not books:
            unchecked |= {each.channel for each in events.unbooked if each.file == self._file}
        states[0] = OK if feed.sequence_rule(None) in _PROVING else UNPROVED
        by_name = feed.channel_by_any_name
        for name, number in self._channel_numbers.items():
            if feed.sequence_rule(name) not in _PROVING or name in unchecked:
                continue
            if name in unnumbered and name in by_name and by_name[name].sequence_scope != "symbol":
                continue
            states[number] = OK
        return states

    def _numbered(self, *, compared: bool) -> Flags:
        """By channel number, whether each message has a number; `compared`: one that is equal on each connection."""
        feed = self._events.feed
        found = np.zeros(len(self._channel_numbers) + 1, np.bool_)
        if feed.sequence is not None:
            # of a connection's numbers only the events say which are missing (`_base`)
            return found
        for name, number in self._channel_numbers.items():
            channel = feed.channel_by_any_name.get(name)
            if channel is not None and channel.sequence in _PROVING and channel.sequence is not SequenceRule.CHECKSUM:
                found[number] = channel.sequence_scope == "symbol" and not (compared and channel.repeats)
        return found

    def _grouped(self, rows: pa.RecordBatch, channels: Int64s) -> tuple[Places, Grouped]:
        conns, symbols = rows.column("conn").to_numpy().astype(np.int64), self._symbols.of(rows.column("symbol"))
        counts = len(self._channel_numbers) + 1, len(self._symbol_numbers) + 1
        order, keys = by_stream(conns, channels, symbols, *counts)
        starts = np.append(np.flatnonzero(np.diff(keys, prepend=-1)), len(keys))
        handoff, seq = rows.column("handoff_monotonic").to_numpy(), rows.column("seq").to_numpy().astype(np.int64)
        return order, Grouped(keys, starts, conns[order], channels[order], symbols[order], handoff[order], seq[order])

    def _before(self, rows: Grouped, table: Table | None) -> Grouped:
        """The positions of the message before each one in its stream: of those of this file that make rows, too."""
        last = self._last.setdefault(table, {})
        handoff, seq = (np.concatenate((of[:1], of[:-1])) for of in (rows.handoff, rows.seq))
        starts = rows.starts[:-1]
        of_keys = [last.get(key) or self._earlier.get(key, _NO_MESSAGE) for key in rows.keys[starts].tolist()]
        handoff[starts], seq[starts] = np.array(of_keys, np.int64).reshape(-1, 2).T
        last |= _ends_of(rows)
        return rows._replace(handoff=handoff, seq=seq)

    def _resumed(self, rows: pa.RecordBatch, order: Places, grouped: Grouped, before: Grouped) -> Flags:
        """Which rows are the first of their streams that a new writer checked, which did not know those before."""
        found = np.zeros(len(order), np.bool_)
        for each in self._events.resumptions:
            first = (grouped.seq >= each.seq) & (before.seq < each.known_from)
            for row in np.flatnonzero(first).tolist():
                conn = int(grouped.conns[row])
                found[row] |= not self._events.is_begun_in(conn, each.file, int(grouped.handoff[row]))
        return found

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

    def _joined_runs(self, key: int, stream: Stream) -> dict[tuple[int, int], Join]:
        """The last break before each run of a stream that a fetched snapshot joins, with the lowest such snapshot."""
        found = self._runs.get(key)
        if found is None:
            found = self._runs[key] = {}
            for join in self._events.joins:
                if join.conn == stream.conn and stream.channel in join.channels and join.symbol == stream.symbol:
                    ended = [each for each in self._ends.of(stream) if each.noticed <= join.place]
                    handoff = max((each.place for each in ended if each.seq is None), default=BEFORE)
                    run = handoff, max((each.seq for each in ended if each.seq is not None), default=BEFORE)
                    found[run] = min(join, found.get(run, join), key=lambda each: each.number)
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


def _ends_of(rows: Grouped) -> dict[int, _Position]:
    """The last message of each stream."""
    ends = rows.starts[1:] - 1
    of_streams = zip(rows.keys[ends].tolist(), rows.handoff[ends].tolist(), rows.seq[ends].tolist(), strict=True)
    return {key: _Position(handoff, seq) for key, handoff, seq in of_streams}


def _fetched(rows: pa.RecordBatch) -> Flags:
    """Which rows are snapshots that were fetched over HTTP."""
    column = rows.column("direction")
    names = [*column.dictionary.to_pylist(), None]
    found: Flags = np.array([name == "rest" for name in names])[codes(column, len(names) - 1)]
    return found
