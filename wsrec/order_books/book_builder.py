"""The book of one stream on one connection, rebuilt from rows of `book_changes`, and what is doubtful about it.

The rows' states say which of them apply (`wsrec.tables.trust`): a snapshot that is not suspect begins a book, changes
that are not suspect continue it, and a suspect one ends it: it is then unknown until the next snapshot. Where snapshots
are fetched over HTTP, the changes that arrived before the snapshot and have higher numbers are applied on top of it.

A book is unknown also while its connection is closed, and doubtful while it is crossed (the best bid at or above the
best ask): neither is smoothed over. Where the exchange's numbers say that nothing lies between, a later snapshot must
equal the book before it; that is counted, and a difference is a doubt.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Self

import msgspec
import numpy as np
import pyarrow as pa

from wsrec.arrays import Int64s, Places
from wsrec.feed.table_columns import STATES
from wsrec.format.columns import times
from wsrec.order_books.book import LEVELS_MAX, Levels
from wsrec.order_books.book_implementation import Book
from wsrec.order_books.level_changes import CLEAR, Int8s, LevelChanges
from wsrec.tables.trust import HISTORY, SUSPECT, UNPROVED

NO_ID = int(np.iinfo(np.int64).min)
"""Stands for no update id."""
NO_SNAPSHOT = "no snapshot of it has arrived yet"
PARTIAL = "without a snapshot: only levels that changed since then are in it"

PENDING_MAX = 1 << 20
"""Rows of changes that are kept for a fetched snapshot, at least."""
_DOUBTFUL_CHANGE, _CHANGE, _DOUBTFUL_SNAPSHOT, _SNAPSHOT = range(4)


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """An interval in which a book is unknown or doubtful.

    Attributes:
        symbol, channel: of the book.
        conn: the connection.
        start, end: the interval (ns since the epoch); `end` None: to the end of what was read.
        unknown: whether there is no book; False: there is one, with this doubt.
        reason: why.

    """

    symbol: str
    channel: str
    conn: int
    start: int | None
    end: int | None
    unknown: bool
    reason: str


class BookRows(NamedTuple):
    """Rows of a batch of `book_changes`: all of them, or those of one stream on one connection.

    Attributes:
        changes: the changes.
        kinds: which of them begin, continue or end a book.
        cuts: the places where another kind or another snapshot begins, and the number of rows; of all rows: empty.
        seqs: of their messages.
        times: their arrival (ns since the epoch); of a stream never decreasing.
        updates, previous: `update_id` and `prev_update_id`, or `NO_ID`.
        states: codes of the states.
        batch, places: the batch that they are of, and their places in it.

    """

    changes: LevelChanges
    kinds: Int8s
    cuts: list[int]
    seqs: Int64s
    times: Int64s
    updates: Int64s
    previous: Int64s
    states: Int64s
    batch: pa.RecordBatch
    places: Int64s

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """All rows of a batch."""
        states = _state_codes(batch)
        is_snapshot = batch.column("is_snapshot").to_numpy(zero_copy_only=False)
        moments, _ = times(batch, "recv_time")
        return cls(
            changes=LevelChanges.of(batch),
            kinds=(states != SUSPECT) + 2 * is_snapshot.astype(np.int8),
            cuts=[],
            seqs=batch.column("seq").to_numpy().astype(np.int64),
            times=moments,
            updates=_ids(batch.column("update_id")),
            previous=_ids(batch.column("prev_update_id")),
            states=states,
            batch=batch,
            places=np.arange(batch.num_rows),
        )

    def stream(self, places: Places) -> Self:
        """The rows at some places, which are those of one stream on one connection."""
        changes, kinds = self.changes, self.kinds
        if len(places) < len(kinds):
            changes, kinds = changes.take(places), kinds[places]
        begins = changes.actions == CLEAR
        begins[1:] |= kinds[1:] != kinds[:-1]
        return self._replace(
            changes=changes,
            kinds=kinds,
            cuts=[*np.flatnonzero(begins).tolist(), len(kinds)],
            seqs=self.seqs[places],
            times=np.maximum.accumulate(self.times[places]),
            updates=self.updates[places],
            previous=self.previous[places],
            states=self.states[places],
            places=places,
        )


def _state_codes(batch: pa.RecordBatch) -> Int64s:
    column = batch.column("state")
    table = np.array([STATES.index(word) for word in column.dictionary.to_pylist()], np.int64)
    found: Int64s = table[column.indices.to_numpy(zero_copy_only=False)]
    return found


def _ids(column: pa.Array) -> Int64s:
    found: Int64s = column.fill_null(NO_ID).to_numpy(zero_copy_only=False)
    return found


class LastMessage(NamedTuple):
    """The last message that a book holds, or that came for it: a row of it."""

    batch: pa.RecordBatch
    place: int
    seq: int
    time: int


class BookBuilder:
    """Builds one book.

    Args:
        symbol, channel, conn: whose it is.
        depth: levels of each side that the subscription covers; 0: all.
        fetched: whether its snapshots are fetched over HTTP.
        partial: whether to begin without a snapshot.
        unknown: why it is unknown at first.
        reasons: why the rows with these `seq` are suspect.
        breaks: `seq` of the messages before which others are missing.

    Attributes:
        symbol: its symbol.
        book: the levels.
        why: why it is unknown; None if it is known.
        doubts: the intervals in which it was unknown or doubtful.
        compared, different: how many later snapshots were compared with the book before them, and differed.
        last: the last message that came for it.

    """

    def __init__(
        self,
        symbol: str,
        channel: str,
        conn: int,
        *,
        depth: int = 0,
        fetched: bool = False,
        partial: bool = False,
        unknown: str = NO_SNAPSHOT,
        reasons: dict[int, str] | None = None,
        breaks: frozenset[int] = frozenset(),
    ) -> None:
        self.symbol, self._channel, self._conn = symbol, channel, conn
        self._depth, self._fetched, self._partial, self._reasons = depth, fetched, partial, reasons or {}
        # a snapshot fetched later may prove the rows after a break, so that no row's state shows it
        self._breaks = np.array(sorted(breaks) if fetched else [], np.int64)
        self.book = Book(depth)
        self.why: str | None = unknown
        self.doubts: list[Doubt] = []
        self.compared = self.different = 0
        self.last: LastMessage | None = None
        self._since: int | None = None
        self._crossed_since: int | None = None
        self._base = UNPROVED
        self._update = NO_ID
        self._number = NO_ID
        self._pending: list[tuple[BookRows, int, int]] = []
        self._pending_rows = 0
        # the last number of the changes that were too many to keep
        self._dropped = NO_ID
        self._partial_since: int | None = None

    @property
    def doubt(self) -> str | None:
        """Why it is unknown or doubtful now; None if it is neither."""
        if self.why is not None:
            return PARTIAL if self.is_partial else self.why
        if self.book.overfull:
            return f"it had more than {LEVELS_MAX:,} levels on a side"
        return "crossed: the best bid is at or above the best ask" if self.book.crossed else None

    @property
    def is_partial(self) -> bool:
        """Whether it has levels though it began without a snapshot."""
        return self.why is not None and self._partial_since is not None

    @property
    def state(self) -> int:
        """Code of its state."""
        return SUSPECT if self.doubt is not None else self._base

    def levels(self, count: int) -> tuple[Levels, Levels] | None:
        """Its best levels; None if it is unknown."""
        return None if self.why is not None and not self.is_partial else self.book.levels(count)

    def apply(self, rows: BookRows, start: int, stop: int) -> None:
        """Apply whole messages."""
        if start < stop:
            cut = bisect_right(rows.cuts, start)
            while start < stop:
                end = min(rows.cuts[cut], stop)
                self._apply_alike(rows, start, end)
                start, cut = end, cut + 1
            self.last = LastMessage(
                rows.batch, int(rows.places[stop - 1]), int(rows.seqs[stop - 1]), self._time(rows, stop - 1)
            )

    def end(self, time: int, reason: str) -> None:
        """The book ends: messages are missing, or its connection ended."""
        self._forget_pending()
        self._end_crossing(time)
        self._partial_since = None
        self._update = self._number = NO_ID
        if self.why is None:
            self.why, self._since = reason, time
            self.book.clear()

    def finish(self) -> None:
        """All rows were passed: complete `doubts`."""
        if self.why is not None:
            self._doubt(self._since, None, self.why, unknown=True)
        elif self._crossed_since is not None:
            self._doubt(self._crossed_since, None, "crossed", unknown=False)

    def breaks_at(self, rows: BookRows, place: int) -> str | None:
        """Why the book is already doubtful before a row: messages may be missing between the row before it and it."""
        if self.why is not None or place >= len(rows.kinds):
            return None
        if self._break_in(rows, place, place + 1) is not None:
            return self._reason(rows, place)
        if rows.kinds[place] != _DOUBTFUL_CHANGE:
            return None
        return None if self._is_stale(rows, place, place + 1) else self._reason(rows, place)

    def _apply_alike(self, rows: BookRows, start: int, end: int) -> None:
        kind = rows.kinds[start]
        if kind == _CHANGE:
            self._change(rows, start, end)
        elif kind == _SNAPSHOT:
            self._begin(rows, start, end)
        elif kind == _DOUBTFUL_CHANGE and not self._is_stale(rows, start, end):
            if self.why is None:
                since = self.last.time if self.last is not None else self._time(rows, start)
                self.end(since, self._reason(rows, start))
            self._forget_pending()
            self._apply_partially(rows, start, end)

    def _break_in(self, rows: BookRows, start: int, end: int) -> int | None:
        """The place of the first change that comes after a break; None if there is none."""
        if not len(self._breaks) or rows.kinds[start] != _CHANGE:
            return None
        after = np.flatnonzero(np.isin(rows.seqs[start:end], self._breaks))
        return start + int(after[0]) if len(after) else None

    def _change(self, rows: BookRows, start: int, end: int) -> None:
        place = self._break_in(rows, start, end) if self.why is None else None
        if place is not None:
            if place > start:
                self._change(rows, start, place)
                since = self._time(rows, place - 1)
            else:
                since = self.last.time if self.last is not None else self._time(rows, place)
            self.end(since, self._reason(rows, place))
            start = place
        if self.why is None:
            self._apply_now(rows, start, end)
            state = int(rows.states[end - 1])
            self._base = state if state != HISTORY else self._base
        elif self._fetched:
            self._pending.append((rows, start, end))
            self._pending_rows += end - start
            while self._pending_rows > PENDING_MAX and len(self._pending) > 1:
                part, first, stop = self._pending.pop(0)
                self._pending_rows -= stop - first
                self._dropped = int(part.updates[stop - 1])
        else:
            self._apply_partially(rows, start, end)

    def _begin(self, rows: BookRows, start: int, end: int) -> None:
        """A snapshot: compare it with the book before it, and begin anew."""
        time = self._time(rows, start)
        if self.why is None:
            self._compare(rows, start, end, time)
            if self._fetched:
                # the stream goes on from the book that it made
                return
            self._end_crossing(time)
        elif self._fetched and self._dropped != NO_ID and self._dropped > int(rows.updates[start]):
            # the changes between the snapshot and those that are kept are gone
            return
        else:
            self._doubt(self._since, time, self.why, unknown=True)
        self.why, self._partial_since = None, None
        self.book.clear()
        self._apply_now(rows, start, end)
        self._base = int(rows.states[start]) if rows.states[start] != HISTORY else self._base
        self._number = self._update if self._fetched else NO_ID
        pending = self._pending
        self._forget_pending()
        for part, first, stop in pending:
            above = np.flatnonzero(part.updates[first:stop] > self._number)
            if len(above):
                # numbers rise within a run
                self._apply_now(part, first + int(above[0]), stop, time)

    def _apply_now(self, rows: BookRows, start: int, end: int, time: int | None = None) -> None:
        for turn in self.book.apply(rows.changes, start, end):
            at = self._time(rows, turn) if time is None else time
            if self._crossed_since is None:
                self._crossed_since = at
            else:
                self._end_crossing(at)
        if rows.updates[end - 1] != NO_ID:
            self._update = int(rows.updates[end - 1])

    def _apply_partially(self, rows: BookRows, start: int, end: int) -> None:
        if self._partial:
            if self._partial_since is None:
                self._partial_since = self._time(rows, start)
                self.book.clear()
            self.book.apply(rows.changes, start, end)

    def _forget_pending(self) -> None:
        self._pending, self._pending_rows, self._dropped = [], 0, NO_ID

    def _is_stale(self, rows: BookRows, start: int, end: int) -> bool:
        """Whether the fetched snapshot has these changes already."""
        updates = rows.updates[start:end]
        return (
            self.why is None
            and self._number != NO_ID
            and bool((updates != NO_ID).all())
            and updates.max() <= self._number
        )

    def _compare(self, rows: BookRows, start: int, end: int, time: int) -> None:
        """Compare a snapshot with the book, if the numbers say that nothing lies between them."""
        update, before = int(rows.updates[start]), int(rows.previous[start])
        if self._update == NO_ID or self._update not in (update, before):
            return
        snapshot = Book(self._depth)
        snapshot.apply(rows.changes, start, end)
        self.compared += 1
        for own, theirs in zip(self.book.levels(), snapshot.levels(), strict=True):
            count = min(len(own.prices), len(theirs.prices))
            if (not count and theirs.prices) or any(
                a[:count] != b[:count] for a, b in zip(own[:2], theirs[:2], strict=True)
            ):
                self.different += 1
                self._doubt(self._since, time, "it differs from the exchange's later snapshot", unknown=False)
                return

    def _reason(self, rows: BookRows, place: int) -> str:
        seq = int(rows.seqs[place])
        return self._reasons.get(seq) or f"messages may be missing before message {seq}"

    def _end_crossing(self, time: int) -> None:
        if self._crossed_since is not None:
            self._doubt(self._crossed_since, time, "crossed", unknown=False)
            self._crossed_since = None

    def _doubt(self, start: int | None, end: int | None, reason: str, *, unknown: bool) -> None:
        doubt = Doubt(
            symbol=self.symbol,
            channel=self._channel,
            conn=self._conn,
            start=start,
            end=end,
            unknown=unknown,
            reason=reason,
        )
        self.doubts.append(doubt)

    def _time(self, rows: BookRows, row: int) -> int:
        return int(rows.times[row])
