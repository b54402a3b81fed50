"""`wsrec verify` as a function: paths in, verification out. Nothing on disk is changed.

A file's bytes are held against the manifest's SHA-256 before anything in it is believed: what fails is never parsed.
Then each session is read once, file by file in order of their numbers and row by row in order of time, so that memory
does not grow with the capture: what is kept is a state a stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from wsrec.counts import Counts
from wsrec.decode.columns import FieldColumns
from wsrec.decode.compiled_reader import CompiledFieldReader
from wsrec.decode.implementation import FieldReader
from wsrec.decode.reader import PythonFieldReader
from wsrec.feed.schema import Feed
from wsrec.format.columns import Bools, batches, first_line, times, words
from wsrec.format.counting import count_event
from wsrec.format.coverage import SequenceCoverage
from wsrec.format.folders import cannot_read, session_began
from wsrec.format.layout import KINDS, hour
from wsrec.format.manifest import ManifestLine
from wsrec.format.schema import UTC_NS
from wsrec.monitor.checksum import BookChecker
from wsrec.monitor.comparison import Compared, Link
from wsrec.monitor.exchange_time import TimeChecker
from wsrec.monitor.sequence import Break, Rows, SequenceChecker, SequenceGap
from wsrec.plan.request_table import RequestTable, described_requests
from wsrec.ring.events import EventKind
from wsrec.units import named
from wsrec.verify.files import UNREADABLE, about_events, about_messages, check_figures, sound
from wsrec.verify.inventory import Inventory, Pair, roots, take
from wsrec.verify.ledger import LedgerAudit, cross_check, read_ledger
from wsrec.verify.model import Capture, Count, Finding, Interval, Kind, Loss, Session, Stream, Verification, worst
from wsrec.verify.rows import COLUMNS, Anchors, FileRows
from wsrec.verify.streams import Held, Streams, topics_of
from wsrec.verify.utc import Utc

Progress = Callable[[int, int], None]
_Span = TypeVar("_Span", Interval, Loss)

_KINDS = frozenset(kind.value for kind in EventKind)
# findings of one kind that are listed of one session; the rest are counted
_FINDINGS = 100
_LOSSES = 1_000
_GRAVEST = list(Kind)
# their details have two moments
_INTERVALS = (EventKind.LOST_INTERVAL, EventKind.REPLACED)
_AFTERWARDS = int(np.iinfo(np.int64).max)


def verify(paths: Iterable[Path], progress: Progress | None = None) -> Verification:
    """Read captures back and say what of them holds.

    Args:
        paths: output folders, folders that hold some, or files and folders within one.
        progress: called now and then with the bytes read and the bytes of all files.

    Raises:
        OSError: a folder cannot be read.

    """
    inventories = [_take(root, only) for root, only in sorted(roots(paths).items())]
    meter = _Meter(sum(_size(each) for each in inventories if isinstance(each, Inventory)), progress)
    captures = [_capture(each, meter) if isinstance(each, Inventory) else each for each in inventories]
    return Verification(status=worst(captures), captures=captures)


def _take(root: Path, only: list[Path] | None) -> Inventory | Capture:
    """What lies in an output folder; a capture of which nothing is known where that cannot be read."""
    try:
        return take(root, only)
    except OSError as error:
        where = str(error.filename or root)
        finding = Finding(kind=Kind.UNREADABLE, where=where, what=cannot_read(error))
        return Capture(path=str(root), whole=only is None, sessions=[], findings=[finding])


class _Meter:
    """How far the reading is."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._done = 0
        self._progress = progress

    def add(self, done: float) -> None:
        self._done += int(done)
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def _size(inventory: Inventory) -> int:
    return sum(_bytes(pair.messages) + _bytes(pair.events) for pairs in inventory.pairs.values() for pair in pairs)


def _bytes(path: Path | None) -> int:
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0


def _capture(inventory: Inventory, meter: _Meter) -> Capture:
    sessions, findings = [], list(inventory.findings)
    lines = [pair.line for pairs in inventory.pairs.values() for pair in pairs if pair.line is not None]
    both = [each for line in lines for each in ((line.sha256, line.path), (line.events_sha256, line.events_path))]
    listed = {digest: name for digest, name in both if digest is not None and name is not None}
    ended: dict[str, list[LedgerAudit]] = {}
    for (feed, session), pairs in sorted(inventory.pairs.items(), key=lambda item: item[0][::-1]):
        reading = _SessionReading(inventory, feed, session, meter, listed)
        sessions.append(reading.read(pairs))
        findings += reading.findings
        ended.setdefault(session, []).append(reading.books)
    for session, books in ended.items():
        findings += cross_check(session, books)
    findings.sort(key=lambda finding: _GRAVEST.index(finding.kind))
    return Capture(path=str(inventory.root), whole=inventory.whole, sessions=sessions, findings=findings)


class _EventRow(NamedTuple):
    time: int
    # its place among the rows; what recovery found comes after all of them
    order: int
    kind: str
    conn: int | None
    detail: dict[str, Any]
    channel: str | None = None


class _SessionReading:
    """One session of one feed, read from its first file to its last."""

    def __init__(self, inventory: Inventory, feed: str, session: str, meter: _Meter, listed: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self._reported: Counter[Kind] = Counter()
        self._inventory = inventory
        self._feed, self._session = feed, session
        self._name = f"{feed}, session {session}"
        self._meter = meter
        # the names of the manifest's files by their SHA-256
        self._listed = listed
        self._seq = SequenceCoverage()
        self._anchors = Anchors()
        # rows, events and intervals are ordered and measured on the stage clock, and told on UTC
        self._utc = Utc()
        self._handoff: int | None = None
        self._seen: int | None = None
        self._next_seq = 0
        self._config: Any = None
        self._described: Any = None
        self._requests = RequestTable()
        self._reader: CompiledFieldReader | PythonFieldReader | None = None
        self._learns = False
        self._checker: SequenceChecker | None = None
        self._times: TimeChecker | None = None
        self._order_books: BookChecker | None = None
        self._streams: Streams | None = None
        self._gap_seqs: set[int] = set()
        self._conns: set[int] = set()
        self._hole: str | None = None
        self._unread_hole = False
        self._unread = 0
        self._ledger: dict[str, dict[str, int]] = {}
        self.books = LedgerAudit(self._report, whole=inventory.whole)
        self._files = self._bytes = self._rows = 0
        self._file_counts = Counts()
        self._complete = True

    def read(self, pairs: list[Pair]) -> Session:
        """Read all files of the session."""
        left = self._session in self._inventory.journals
        unlisted = [pair for pair in pairs if pair.line is None and self._inventory.listed]
        for pair in pairs:
            where = str(pair.messages or pair.events)
            if pair in unlisted and left:
                self._meter.add(_bytes(pair.messages) + _bytes(pair.events))
                self._interrupt(f"the files of number {pair.number} are not listed in the manifest")
                self._unread += (pair.messages is not None) + (pair.events is not None)
                what = "has no line in the manifest yet: its session was not finished, its rows are in the journal too"
                self._report(Kind.INCOMPLETE, where, what)
                continue
            if pair in unlisted:
                what = "is there and not listed in the manifest: it is read, and no checksum vouches for it"
                self._report(Kind.CONTRADICTION, where, what)
            self._pair(pair)
        return self._result(pairs, left)

    def _report(self, kind: Kind, where: Path | str, what: str) -> None:
        self._reported[kind] += 1
        if self._reported[kind] <= _FINDINGS:
            self.findings.append(Finding(kind=kind, where=str(where), what=what))

    def _pair(self, pair: Pair) -> None:
        """Read a message file and the events file beside it."""
        size = _bytes(pair.messages) + _bytes(pair.events)
        self._files += (pair.messages is not None) + (pair.events is not None) + len(pair.unreadable)
        self._bytes += size
        line = pair.line
        messages, events = pair.messages, pair.events
        about: dict[str, Any] | None = None
        beside: dict[str, Any] | None = None
        if line is not None:
            self._check_line(pair, line)
        refused = set(KINDS) & pair.unreadable
        if messages is not None:
            before = self._reported[Kind.UNREADABLE]
            digest, length = (line.sha256, line.bytes) if line else (None, None)
            if sound(messages, digest, length, self._report, self._listed):
                about = about_messages(messages, pair, self._report)
            refused |= {"messages"} if self._reported[Kind.UNREADABLE] > before else set()
        if events is not None:
            before = self._reported[Kind.UNREADABLE]
            if sound(events, line.events_sha256 if line else None, None, self._report, self._listed):
                beside = about_events(events, pair, self._report)
            refused |= {"events"} if self._reported[Kind.UNREADABLE] > before else set()
        self._meter.add(size / 2)
        self._open(about or beside)
        assert self._streams is not None
        self._streams.begin_file()
        expects_rows = messages is not None or (line is not None and line.path is not None)
        expects_events = events is not None or (line is not None and line.events_path is not None)
        ledger = line.ledger if line is not None else read_ledger(about) or read_ledger(beside)
        if ledger is not None and self.books.stop_slot not in (None, ledger.first_slot):
            self._interrupt(f"what was recorded before number {pair.number} is not there")
        why = "cannot be read" if "events" in refused else "is damaged or gone"
        unread_events = f"the events file of number {pair.number} {why}"
        if expects_events and beside is None:
            self._interrupt(unread_events)
        self._file_counts = Counts()
        self._event_hours: set[int] = set()
        unvouched = f"nothing vouches for the files of number {pair.number}: the manifest does not list them"
        vouched = line is not None or not self._inventory.listed
        if not vouched:
            self._interrupt(unvouched)
        rows = None
        if about is not None and messages is not None:
            rows = self._read_rows(messages, about, events if beside is not None else None)
        elif beside is not None and events is not None:
            for event in self._events_of(events):
                self._learn_anchor(event)
                self._apply(event)
        self._unread += (expects_rows and rows is None) + (expects_events and beside is None)
        if expects_rows and rows is None:
            self._unread_hole = "messages" in refused
            why = "cannot be read" if self._unread_hole else "is damaged or gone"
            self._lose(f"the message file of number {pair.number} {why}", line if beside is None else None)
        elif expects_events and beside is None and rows is not None:
            self._doubt(rows, f"{unread_events}: what happened is not known", unread="events" in refused)
            self._complete = False
            self._interrupt(unread_events)
        if not vouched:
            if rows is not None:
                self._doubt(rows, unvouched, unread=True)
            self._interrupt(unvouched)
        if rows is not None and about is not None and messages is not None:
            self._check_file(messages, about, pair, rows, known=beside is not None or not expects_events)
        elif line is not None:
            self._sum("rows", manifest=line.rows)
        self._book(pair, about, beside, rows, empty=not expects_rows)
        if (rows is not None or not expects_rows) and (beside is not None or not expects_events):
            hours = self._event_hours | (set() if rows is None else rows.hours)
            if not pair.hours <= hours:
                self._report(Kind.CONTRADICTION, messages or events or pair.where, "is in the folder of another hour")
        if line is not None and (beside is not None or not expects_events):
            for counter, found in self._file_counts.named("events").items():
                if (stated := getattr(line, counter)) != found:
                    what = f"the manifest counts {stated:,} {counter}, its events {found:,}"
                    self._report(Kind.CONTRADICTION, pair.where, what)
            self._sum("lost_intervals", manifest=line.lost_intervals, events=self._file_counts.lost_intervals)
            self._sum("events", manifest=line.events)
        self._meter.add(size / 2)

    def _doubt(self, rows: FileRows, reason: str, *, unread: bool) -> None:
        """Nothing is known for certain of the time of a file's rows."""
        if self._streams is not None and rows.first_handoff is not None and rows.last_handoff is not None:
            self._streams.missing(rows.first_handoff, rows.last_handoff, reason, unread=unread)

    def _interrupt(self, reason: str) -> None:
        """What is told of connections and numbers does not go on from what was told before."""
        if self._streams is not None:
            self._streams.interrupt(reason)
            self._forget_numbers()

    def _book(
        self,
        pair: Pair,
        about: dict[str, Any] | None,
        beside: dict[str, Any] | None,
        rows: FileRows | None,
        *,
        empty: bool,
    ) -> None:
        """Enter a pair's ledger, which both files and the manifest have."""
        stated = {where: read_ledger(each) for where, each in ((pair.messages, about), (pair.events, beside)) if each}
        if pair.line is not None:
            stated[Path(pair.where)] = pair.line.ledger
        known = [ledger for ledger in stated.values() if ledger is not None]
        where = pair.messages or pair.events or pair.where
        if any(ledger != next(iter(known), None) for ledger in stated.values()):
            self._report(Kind.CONTRADICTION, where, "its files and the manifest do not agree on wsrec.ledger")
        if not known:
            return
        nothing = FileRows(self._conns, self._anchors, None)
        self.books.file(where, known[0], nothing if empty else rows)

    def _check_line(self, pair: Pair, line: ManifestLine) -> None:
        """Both files of a pair are in its line, or neither is there."""
        listed = (line.path, line.sha256), (line.events_path, line.events_sha256)
        for file, (path, digest) in zip((pair.messages, pair.events), listed, strict=True):
            if file is not None and path is None:
                self._report(Kind.CONTRADICTION, file, "is there and not listed in the manifest")
            elif (path is None) != (digest is None):
                self._report(Kind.CONTRADICTION, pair.where, f"has no SHA-256 of {path}")
        if line.path is None and any(line.named("rows").values()):
            self._report(Kind.CONTRADICTION, pair.where, "counts messages and names no file of them")

    def _open(self, about: dict[str, Any] | None) -> None:
        """Take what the whole session shares from the first file that has it."""
        if about is None:
            self._streams = self._streams or Streams(None)
            return
        config = about.get("feed_config")
        described = about.get("connections")
        self._learn_requests(described)
        if self._config is None:
            self._config = config
            try:
                feed = Feed.model_validate(config)
            except ValidationError as error:
                what = f"wsrec.feed_config is no feed that this wsrec knows: {first_line(error)}"
                self._report(Kind.CONTRADICTION, self._session, what)
                feed = None
            self._streams = Streams(feed, self._requests, whole=self._inventory.whole)
            for each in described if isinstance(described, list) else ():
                if (
                    isinstance(each, dict)
                    and isinstance(each.get("conn"), int)
                    and isinstance(each.get("standby_of"), int)
                ):
                    self._streams.standby_of[each["conn"]] = each["standby_of"]
            self._reader = FieldReader(feed) if feed else None
            self._learns = feed is not None and feed.fields is not None and feed.fields.ids is not None
            turns = [conn for pair in self._streams.standby_of.items() for conn in pair]
            self._checker = SequenceChecker(feed, runs=True, turns=turns) if feed else None
            self._times = TimeChecker(feed) if feed else None
            self._order_books = BookChecker(feed) if feed else None
            for conn in self._conns:
                if self._order_books is not None:
                    self._order_books.subscribed(conn, self._requests.topics(conn))
        elif config != self._config:
            self._report(Kind.CONTRADICTION, self._session, "its files do not agree on wsrec.feed_config")

    def _learn_requests(self, described: Any) -> None:
        """Take what each connection asks for from a file's `wsrec.connections`; the writer knew it from the start."""
        if described == self._described:
            return
        self._described = described
        for each in described if isinstance(described, list) else ():
            if not isinstance(each, dict) or not isinstance(each.get("conn"), int):
                continue
            conn = each["conn"]
            self._conns.add(conn)
            try:
                self._requests.learn(conn, described_requests(each))
            except msgspec.ValidationError as error:
                what = f"wsrec.connections does not say what connection {conn} asks for: {error}"
                self._report(Kind.CONTRADICTION, self._session, what)

    def _lose(self, reason: str, line: ManifestLine | None) -> None:
        """Rows of a file cannot be read: what came from the row before to the row after is not known.

        Args:
            reason: why.
            line: the file's, where nothing else says when it ended.

        """
        self._complete = False
        self._hole = reason
        if line is not None and line.last_time is not None and self._streams is not None:
            self._streams.end = max(self._streams.end or 0, self._utc.back(line.last_time))

    def _read_rows(self, path: Path, about: dict[str, Any], events: Path | None) -> FileRows | None:
        """Go through rows and events in order of time; None where the file cannot be read to its end."""
        assert self._streams is not None
        rows = FileRows(self._conns, self._anchors, self._handoff)
        waiting = self._events_of(events) if events is not None else iter(())
        upcoming = next(waiting, None)
        try:
            for batch in batches(path, COLUMNS):
                if not batch.num_rows:
                    continue
                order = batch.column("handoff_monotonic").to_numpy()
                ahead, anchors = [], []
                # every event up to this batch's last row; the anchors among them explain its order
                while upcoming is not None and upcoming.order <= order[-1]:
                    ahead.append(upcoming)
                    anchors += self._note_anchor(upcoming)
                    upcoming = next(waiting, None)
                known = np.array(anchors, np.int64).reshape(-1, 2).T
                self._utc.learn(*np.concatenate(([order, times(batch, "handoff_time")[0]], known), axis=1))
                self._batch(path, batch, order, rows, ahead)
        except UNREADABLE as error:
            self._report(Kind.DAMAGED, path, f"cannot be read after {rows.rows:,} rows: {first_line(error)}")
            return None
        for event in [upcoming, *waiting] if upcoming is not None else ():
            self._learn_anchor(event)
            self._apply(event)
        if rows.last_handoff is not None:
            self._handoff = rows.last_handoff
            self._anchors.forget_before(rows.last_handoff)
        return rows

    def _batch(self, path: Path, batch: Any, order: Any, rows: FileRows, events: list[_EventRow]) -> None:
        assert self._streams is not None
        seq = batch.column("seq").to_numpy(zero_copy_only=False)
        self._follow(path, seq, order)
        direction, opcode = (words(batch, name) for name in ("direction", "opcode"))
        carried = _among(direction, {"recv"}) & _among(opcode, {"text", "binary"})
        payload = pc.coalesce(batch.column("text").cast(pa.binary()), batch.column("data")).cast(pa.large_binary())
        rows.add(batch, payload, carried, _among(direction, {"recv"}))
        conns = batch.column("conn").to_numpy(zero_copy_only=False)
        ends = [event for event in events if event.kind == EventKind.DISCONNECT and event.conn is not None]
        columns = self._fields(payload, carried, conns, _among(opcode, {"binary"}), order, ends)
        if columns is not None:
            # what a snapshot is of is not in its payload
            own = pa.array(~_among(direction, {"rest"}))
            self._compare(batch.filter(own), FieldColumns._make(column.filter(own) for column in columns), rows)
        channels, symbols = words(batch, "channel"), words(batch, "symbol")
        start = 0
        for event in [*events, None]:
            # what is lost is told of with the moment of the first row that is there behind it
            side: Literal["left", "right"] = "left" if event is not None and _loses_slots(event) else "right"
            stop = len(seq) if event is None else int(np.searchsorted(order, event.order, side=side))
            cuts = event is None or _loses_slots(event) or event.kind == EventKind.DISCONNECT
            if cuts and stop > start:
                held = self._hold(conns, columns, payload, carried, seq, order, start, stop)
                span = slice(start, stop)
                own = ((channels[0][span], channels[1]), (symbols[0][span], symbols[1]))
                self._streams.rows(order[span], conns[span], *own, carried[span], held)
                start = stop
            if event is not None:
                self._apply(event)

    def _fields(
        self, payload: pa.Array, carried: Any, conns: Any, binary: Any, order: Any, ends: list[_EventRow]
    ) -> FieldColumns | None:
        """What the payloads say; what was learned on a connection (`fields.ids`) is forgotten where it `ends`."""
        if self._reader is None:
            return None
        if not self._learns:
            return self._reader.read(payload, carried, conns, binary)
        parts = []
        start = 0
        for event in [*ends, None]:
            stop = len(carried) if event is None else int(np.searchsorted(order, event.order, side="right"))
            if stop > start:
                span = slice(start, stop)
                parts.append(self._reader.read(payload[span], carried[span], conns[span], binary[span]))
                start = stop
            if event is not None and event.conn is not None:
                self._reader.disconnected(event.conn)
        return FieldColumns._make(
            pa.chunked_array(each).unify_dictionaries().combine_chunks() for each in zip(*parts, strict=True)
        )

    def _follow(self, path: Path, seq: Any, order: Any) -> None:
        """Hold `seq` against what came before: it goes on by one, from file to file."""
        assert self._streams is not None
        if not self._seq.count and not self._inventory.whole and self._hole is None and seq[0]:
            # only a part of the session was asked for, and this is where it begins
            self._complete, self._next_seq = False, int(seq[0])
        self._seq.add(seq)
        expected = np.concatenate(([self._next_seq], seq[:-1].astype(np.int64) + 1))
        for row in np.flatnonzero(seq.astype(np.int64) != expected)[:_FINDINGS].tolist():
            reason = self._hole if row == 0 else None
            if reason is None:
                reason = f"seq {int(seq[row])} stands where {int(expected[row])} should"
                self._report(Kind.CONTRADICTION, path, reason)
            before = int(order[row - 1]) if row else self._seen
            after = int(order[row])
            self._miss(before, after, reason, unread=self._unread_hole and reason == self._hole)
            self._complete = False
            self._forget_numbers()
        self._hole = None
        self._next_seq = int(seq[-1]) + 1
        self._seen = int(order[-1])

    def _miss(self, before: int | None, after: int, reason: str, *, unread: bool) -> None:
        """What was between two rows is not there or cannot be read; without one before, since the session began."""
        assert self._streams is not None
        if before is not None:
            self._streams.missing(min(before, after), after, reason, unread=unread)
            return
        began, reported = session_began(self._session), self._streams.start
        if self._streams.started and reported is not None:
            # all that happened before the first row is told
            self._streams.missing(min(reported, after), after, reason, unread=unread)
        elif began is None:
            since = after if reported is None else min(reported, after)
            self._streams.headless(since, after, f"{reason}; since when is not known", unread=unread)
        else:
            since = self._utc.back(began, latest=False)
            self._streams.headless(
                min(since, after, *(() if reported is None else (reported,))), after, reason, unread=unread
            )

    def _forget_numbers(self) -> None:
        if self._checker is not None and self._streams is not None:
            for conn in sorted(self._conns):
                for gap in self._checker.reset(conn):
                    # whether it came is in rows that are not there
                    self._streams.passed_over(gap, self._seen or 0)
            self._checker.forget_ends()
        if self._order_books is not None:
            for conn in self._conns:
                self._order_books.reset(conn)

    @property
    def _checks_gaps(self) -> bool:
        """Whether the feed declares any rule."""
        checkers = (self._checker, self._order_books)
        return any(checker is not None and checker.checks for checker in checkers)

    def _hold(
        self,
        conns: Any,
        columns: FieldColumns | None,
        payload: pa.Array,
        carried: Bools,
        seq: Any,
        order: Any,
        start: int,
        stop: int,
    ) -> Held:
        """Hold rows against the feed's rules."""
        links, runs = np.zeros(stop - start, np.uint8), np.zeros(stop - start, np.int64)
        if self._checker is None or self._order_books is None or columns is None or not self._checks_gaps:
            return Held([], links, runs)
        span = slice(start, stop)
        within = FieldColumns._make(column[span] for column in columns)
        gaps: list[SequenceGap] = []
        first = int(seq[start])
        if self._checker.checks:
            checked = self._checker.check(conns[span], within, Rows(first, order[span], payload[span]))
            gaps += [gap for gap in checked.gaps if gap.what is not Break.RESET]
            links, runs = checked.links, checked.runs
        if self._order_books.checks:
            books = self._order_books.check_batch(conns[span], within, payload[span], carried[span])
            gaps += books.gaps
            links = np.where(books.links == Link.NONE, links, books.links)
        self._gap_seqs |= {first + gap.index for gap in gaps}
        return Held(gaps, links, runs)

    def _end_numbers(self, conn: int, time: int) -> None:
        """A connection ended: what it passed over and has not brought is missing."""
        assert self._streams is not None
        for gap in self._checker.reset(conn) if self._checker is not None else ():
            self._gap_seqs.add(gap.index)
            self._streams.passed_over(gap, time)

    def _compare(self, batch: Any, columns: FieldColumns, rows: FileRows) -> None:
        """Hold the columns that came from the payload against the payload."""
        for name, kind in (("channel", pa.string()), ("symbol", pa.string()), ("exchange_seq", pa.uint64())):
            self._same(name, batch.column(name).cast(kind), getattr(columns, name).cast(kind), rows)
        stored = batch.column("exchange_time").cast(UTC_NS).cast(pa.int64())
        read = columns.exchange_time
        odd = self._times.odd(read, times(batch, "recv_time")[0]) if self._times is not None else None
        if odd is not None:
            read = pc.if_else(pa.array(~odd), read, None)
        self._same("exchange_time", stored, read, rows)

    def _same(self, name: str, stored: pa.Array, read: pa.Array, rows: FileRows) -> None:
        if stored.equals(read):
            return
        if self._learns and not self._complete:
            # what ids stand for may have been said in rows that are not there
            stored = pc.if_else(read.is_valid(), stored, read)
            if stored.equals(read):
                return
        differing = pc.or_(pc.xor(stored.is_null(), read.is_null()), pc.fill_null(pc.not_equal(stored, read), False))
        rows.problems[f"{name} is not what the payload says"] += pc.sum(differing).as_py()

    def _events_of(self, path: Path) -> Iterator[_EventRow]:
        """The events of a file, in the order of their happening."""
        before = 0
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    moments, _ = times(batch, "time")
                    orders = batch.column("monotonic").fill_null(_AFTERWARDS).to_pylist()
                    rows = batch.select(["kind", "conn", "detail", "channel"]).to_pylist()
                    for time, order, row in zip(moments.tolist(), orders, rows, strict=True):
                        detail = msgspec.json.decode("null" if row["detail"] is None else row["detail"])
                        if order < before or row["kind"] not in _KINDS or not isinstance(detail, dict):
                            self._report(
                                Kind.CONTRADICTION, path, f"holds an event that wsrec did not write, at {time}"
                            )
                        before = order
                        self._sum("events", read=1)
                        self._event_hours.add(hour(time))
                        detail = detail if isinstance(detail, dict) else {}
                        yield _EventRow(time, order, row["kind"], row["conn"], detail, row["channel"])
        except UNREADABLE as error:
            self._report(Kind.DAMAGED, path, f"its events cannot be read: {first_line(error)}")

    def _learn_anchor(self, event: _EventRow) -> None:
        if event.kind == EventKind.SESSION_START and event.order != _AFTERWARDS:
            # a session without a row or an anchor has no other moment that is known on both clocks
            self._utc.begin(event.order, event.time)
        for monotonic, realtime in self._note_anchor(event):
            self._utc.learn(np.array([monotonic]), np.array([realtime]))

    def _note_anchor(self, event: _EventRow) -> list[tuple[int, int]]:
        """Hold rows against an anchor from now on; its moment on both clocks, if the event is one."""
        monotonic, realtime = event.detail.get("monotonic"), event.detail.get("realtime")
        if event.kind != EventKind.ANCHOR or not isinstance(monotonic, int) or not isinstance(realtime, int):
            return []
        clock, drift = event.detail.get("clock"), event.detail.get("drift_ns")
        self._anchors.add(monotonic, realtime, clock, drift if isinstance(drift, int) else 0)
        return [(monotonic, realtime)] if abs(realtime) < _AFTERWARDS > abs(monotonic) else []

    def _apply(self, event: _EventRow) -> None:
        assert self._streams is not None
        moment = event.order if event.order != _AFTERWARDS else self._utc.back(event.time)
        detail = self._on_stage_clock(event.detail) if event.kind in _INTERVALS else event.detail
        self._streams.event(moment, event.kind, event.conn, detail)
        self._file_counts += count_event(event.kind, event.detail)
        name = self._name if event.conn is None else f"{self._name}, connection {event.conn}"
        if event.kind == EventKind.LOST_INTERVAL:
            self._report(Kind.INCOMPLETE, name, f"lost interval: {event.detail.get('reason')}")
        elif event.kind == EventKind.LATE:
            topics = named(topics_of(event.detail))
            self._report(Kind.INCOMPLETE, name, f"it took over too early for {topics}: {event.detail.get('message')}")
        elif event.kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            self._report(
                Kind.INCOMPLETE, name, f"subscription {event.kind}: {event.detail.get('message', 'no answer')}"
            )
        elif event.kind == EventKind.EXCHANGE_TIME_OFF:
            count, unit = event.detail.get("count"), event.detail.get("unit")
            fits = f"; the first would fit as {unit}" if unit else ""
            what = f"{count} messages of {event.channel or 'no channel'} say a time too far from their arrival"
            self._report(Kind.NOTE, self._name, f"{what}: their exchange_time is null{fits}")
        elif event.kind == EventKind.SESSION_END:
            for conn in sorted(self._conns):
                self._end_numbers(conn, moment)
        elif event.kind == EventKind.REPLACED and self._checker is not None and event.conn is not None:
            old = event.detail.get("from_conn")
            for gap in self._checker.replaced(old, event.conn) if isinstance(old, int) else ():
                self._gap_seqs.add(gap.index)
                self._streams.unjoined(gap)
        elif event.kind == EventKind.DISCONNECT and event.conn is not None:
            self._end_numbers(event.conn, moment)
            if self._order_books is not None:
                self._order_books.reset(event.conn)

    def _on_stage_clock(self, detail: dict[str, Any]) -> dict[str, Any]:
        """The detail of an interval with its ends on the clock that nobody sets."""
        start, end, length = (detail.get(key) for key in ("from", "to", "duration_ns"))
        if not isinstance(start, int) or not isinstance(end, int):
            return detail
        known = detail.get("monotonic_from"), detail.get("monotonic_to")
        start = known[0] if isinstance(known[0], int) else self._utc.back(start, latest=False)
        if isinstance(known[1], int):
            end = known[1]
        else:
            end = max(start + length if isinstance(length, int) else start, self._utc.back(end))
        return {**detail, "from": start, "to": end}

    def _check_file(self, path: Path, about: dict[str, Any], pair: Pair, rows: FileRows, *, known: bool) -> None:
        """Hold metadata and manifest against the rows of a file."""
        read: dict[str, Any] = {
            "rows": rows.rows,
            "first_seq": rows.first_seq,
            "last_seq": rows.last_seq,
            "first_time": rows.first_time,
            "last_time": rows.last_time,
            "bytes": _bytes(path),
            **rows.counts.named("rows"),
            "gaps_checked": self._checks_gaps,
            "stage1": rows.stage1(about.get("stage1")),
            "stages": {key: steps.to_json() for key, steps in rows.steps.items()},
        }
        if known:
            read["counts"] = (rows.counts + self._file_counts).named()
        check_figures(path, about, pair.line, self._report, **read)
        for what, count in rows.problems.items():
            self._report(Kind.CONTRADICTION, path, f"{count:,} row{'' if count == 1 else 's'}: {what}")
        self._rows += rows.rows
        stated = {"metadata": about.get("rows"), "manifest": pair.line.rows if pair.line else None}
        self._sum("rows", read=rows.rows, **{key: value for key, value in stated.items() if isinstance(value, int)})
        for counter, count in rows.counts.named("rows").items():
            self._sum(counter, read=count)

    def _sum(self, what: str, **sources: int) -> None:
        counts = self._ledger.setdefault(what, {})
        for source, value in sources.items():
            counts[source] = counts.get(source, 0) + value

    def _result(self, pairs: list[Pair], left: bool) -> Session:
        streams = self._streams or Streams(None)
        name = self._name
        if self._hole is not None and streams.end is not None:
            self._miss(self._seen, streams.end, self._hole, unread=self._unread_hole)
        whole = self._inventory.whole
        state = "ended" if streams.ended is not None else "interrupted"
        if (not whole or self._unread) and state != "ended":
            state = "part"
        if left and streams.ended is None:
            state = "recording" if self._inventory.held else "unrecovered"
        if state == "interrupted" and pairs:
            recovered = "what was journalled was recovered" if streams.recovered else "its end is not in the files"
            self._report(Kind.INCOMPLETE, name, f"was interrupted: no session_end; {recovered}")
        if streams.ended is None and self._checker is not None:
            # what was passed over has not come in what was read
            for gap in [gap for conn in sorted(self._conns) for gap in self._checker.reset(conn)]:
                streams.passed_over(gap, streams.end or 0)
        self._settle(streams, name, taken_up=state in ("recording", "unrecovered"))
        found = streams.result() if streams.end is not None else []
        self._report_of_skipped(found, name)
        for conn, count in sorted(streams.not_inflated.items()):
            what = f"{count:,} messages do not inflate and could not be read: they are as they came, compressed"
            of = "they may be of any of its streams, and no number in them is compared"
            self._report(Kind.NOTE, f"{name}, connection {conn}", f"{what}; {of}")
        for kind, count in self._reported.items():
            if count > _FINDINGS:
                what = f"{count:,} findings of the kind {kind} in this session, the first {_FINDINGS} are listed"
                self.findings.append(Finding(kind=Kind.NOTE, where=name, what=what))
        return Session(
            session=self._session,
            feed=self._feed,
            state=state,
            files=self._files,
            unread=self._unread,
            bytes=self._bytes,
            start=None if streams.start is None else self._utc.of(streams.start),
            end=None if streams.end is None else self._utc.of(streams.end),
            duration=None if streams.start is None or streams.end is None else streams.end - streams.start,
            rows=self._rows,
            missing=self._seq.missing,
            duplicates=self._seq.duplicates,
            balance=None if self._unread else self.books.result(),
            ledger=[Count(what=what, sources=sources) for what, sources in self._ledger.items()],
            losses=[self._on_utc(loss) for loss in sorted(streams.losses, key=lambda loss: loss.start)[:_LOSSES]],
            stalls=streams.stalls,
            stalled=streams.stalled,
            unattributed=streams.unattributed,
            streams=[
                msgspec.structs.replace(stream, intervals=list(self._cut_where_set(stream.intervals)))
                for stream in found
            ],
        )

    def _on_utc(self, span: _Span) -> _Span:
        utc = {"start": self._utc.of(span.start), "end": self._utc.of(span.end)}
        return msgspec.structs.replace(span, **utc, monotonic_from=span.start, monotonic_to=span.end)

    def _cut_where_set(self, intervals: list[Interval]) -> Iterator[Interval]:
        """Intervals of the stage clock on UTC: in as many parts as the clock was set into, each as long as its UTC."""
        for each in intervals:
            start = each.start
            for at, before in self._utc.steps(each.start, each.end):
                part = msgspec.structs.replace(each, start=start, end=at)
                yield msgspec.structs.replace(self._on_utc(part), end=at + before)
                start = at
            if start < each.end or start == each.start:
                yield self._on_utc(msgspec.structs.replace(each, start=start))

    def _report_of_skipped(self, streams: list[Stream], name: str) -> None:
        """Tell of each channel whose rule could be applied to less than it should."""
        channels: dict[tuple[str | None, str], Counter[str]] = {}
        compared: Counter[tuple[str | None, str]] = Counter()
        for stream in streams:
            channels.setdefault((stream.channel, stream.rule), Counter()).update(stream.skipped)
            compared[stream.channel, stream.rule] += stream.compared
        for (channel, rule), skipped in channels.items():
            of = Compared(compared[channel, rule], dict(skipped))
            if of.missed:
                self._report(Kind.UNCHECKED, name, f"{channel or 'its messages'}: {of.describe(rule)}")

    def _settle(self, streams: Streams, name: str, *, taken_up: bool) -> None:
        """Close the ledger: what the writer counted against what was read.

        Args:
            streams: the session's.
            name: what it is called.
            taken_up: whether a writer may have taken the session up that has not told so: what it brought home of the
                one before it is in files, and what it wrote itself still in a journal.

        """
        whole = self._complete and self._inventory.whole
        if self.books.missing and not self._unread:
            what = f"{self.books.missing:,} slots (frames, events) were handed off and are in no journal"
            known = streams.recovered or streams.lost_slots >= self.books.missing
            self._report(Kind.INCOMPLETE if known else Kind.CONTRADICTION, name, what)
        if streams.ended is not None and self._inventory.whole:
            self.books.end(name, streams.ended, restarted=streams.receiver_died)
        if streams.ended is not None and whole and not streams.recovered:
            for what in Counts().named("rows"):
                counted = streams.ended.get(what)
                if isinstance(counted, int):
                    self._sum(what, session_end=counted, read=0)
        if whole and self._checks_gaps:
            self._sum("gaps", read=len(self._gap_seqs), events=streams.gap_events)
            unrecorded = self._gap_seqs - streams.gap_rows
            unfounded = streams.gap_rows - self._gap_seqs
            if unrecorded and (streams.recovered or streams.resumed or taken_up):
                # whoever goes on has seen the numbers of the file before, and not those of earlier ones
                self._ledger.pop("gaps")
                what = f"{len(unrecorded):,} sequence gaps lie where a recovered part begins: no event tells of them"
                self._report(Kind.NOTE, name, what)
            elif unrecorded:
                self._report(Kind.CONTRADICTION, name, f"a sequence gap at seq {min(unrecorded)} has no event")
            if unfounded:
                what = f"an event tells of a sequence gap at seq {min(unfounded)}, the rows do not"
                self._report(Kind.CONTRADICTION, name, what)
        for what, counts in self._ledger.items():
            if len(set(counts.values())) > 1 and self._complete:
                stated = ", ".join(f"{source} {value:,}" for source, value in counts.items())
                self._report(Kind.CONTRADICTION, name, f"the ledger does not balance: {what}: {stated}")


def _loses_slots(event: _EventRow) -> bool:
    """Whether what happened to connections before an event is among what is lost: none goes on behind it."""
    return event.kind == EventKind.LOST_INTERVAL and "slots" in event.detail


def _among(codes: tuple[Any, list[str | None]], known: set[str]) -> Bools:
    """Where a column of words has one of `known`."""
    found: Bools = np.array([word in known for word in codes[1]])[codes[0]]
    return found
