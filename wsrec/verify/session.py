"""Verification of one session of one feed: its files in order, its counts and its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from wsrec.counts import Counts
from wsrec.feed.schema import Feed
from wsrec.format.columns import times
from wsrec.format.counting import count_event
from wsrec.format.errors import first_line
from wsrec.format.layout import hour
from wsrec.plan.request_table import RequestTable, described_requests
from wsrec.units import plural
from wsrec.verify.account import Account
from wsrec.verify.ahead import Ahead
from wsrec.verify.continuity import RowContinuity
from wsrec.verify.events import EventRow, finding_of, read_events
from wsrec.verify.file_rows import FileRows
from wsrec.verify.files import UNREADABLE, check_figures
from wsrec.verify.finding_log import FindingLog
from wsrec.verify.inventory import Pair, SessionTask
from wsrec.verify.judgement import Judgement
from wsrec.verify.ledger import LedgerAudit, read_ledger
from wsrec.verify.meter import Meter, size_of
from wsrec.verify.model import Kind, Loss, Session
from wsrec.verify.pair_files import PairFiles, open_pair
from wsrec.verify.prepared import Preparation
from wsrec.verify.result import SessionResult
from wsrec.verify.session_clock import SessionClock

_LOSSES = 1_000


class SessionReading:
    """Reads one session of one feed from its first file to its last.

    Args:
        task: the session.
        meter: takes what was read of it.
        ahead: the threads that prepare rows, while this one judges them.

    Attributes:
        task, meter, ahead: as above.
        feed: the session's feed, and `config` the description that it was made of; None before the first file.
        sound: whether the manifest's checksums vouch for all files read so far, and their rows could be read.

    """

    def __init__(self, task: SessionTask, meter: Meter, ahead: Ahead) -> None:
        self.ahead = ahead
        self.sound = True
        self._log = FindingLog()
        self.task, self.meter = task, meter
        self.feed: Feed | None = None
        self.config: Any = None
        self._session = task.session
        self._name = f"{task.feed}, session {task.session}"
        self._clock = SessionClock()
        self._handoff: int | None = None
        self._described: Any = None
        self._requests = RequestTable()
        self._judgement: Judgement | None = None
        self._prepared = Preparation(None)
        self._conns: set[int] = set()
        self._unread = 0
        self._account = Account(self._name, self._log)
        self._rows_follow = RowContinuity(task.session, self._clock, self._log, whole=task.whole)
        self._books = LedgerAudit(self._log.add, whole=task.whole)
        self._files = self._bytes = self._rows = 0
        self._file_counts = Counts()
        self._event_hours: set[int] = set()
        # whether the state of connections and numbers has continued without interruption
        self._unbroken = True

    def read(self, pair: Pair) -> None:
        """Read the session's next pair of files."""
        where = str(pair.messages or pair.events)
        unlisted = pair.line is None and self.task.listed
        if unlisted and self.task.left:
            self.meter.add(size_of(pair.messages) + size_of(pair.events))
            self._interrupt(f"the files of number {pair.number} are not listed in the manifest")
            self._unread += (pair.messages is not None) + (pair.events is not None)
            what = "has no line in the manifest yet: its session was not finished, its rows are in the journal too"
            self._log.add(Kind.INCOMPLETE, where, what)
            self.sound = False
            return
        if unlisted:
            what = "is there and not listed in the manifest: it is read, and no checksum vouches for it"
            self._log.add(Kind.CONTRADICTION, where, what)
        self._pair(pair)

    def _pair(self, pair: Pair) -> None:
        """Read a message file and the events file beside it."""
        size = size_of(pair.messages) + size_of(pair.events)
        self._files += (pair.messages is not None) + (pair.events is not None) + len(pair.unreadable)
        self._bytes += size
        files = open_pair(pair, self.task.root, self._log)
        self.meter.add(size / 2)
        self._open(files.about or files.beside)
        self._judged.streams.begin_file()
        self._file_counts = Counts()
        self._event_hours = set()
        vouched = pair.line is not None or not self.task.listed
        unvouched = f"no checksum covers the files of number {pair.number}: the manifest does not list them"
        self._go_on_from_before(files)
        if not vouched:
            self._interrupt(unvouched)
        rows = self._read_pair(files)
        self._unread += (files.expects_rows and rows is None) + files.lacks_events
        self._doubt_what_is_lost(files, rows)
        if not vouched:
            if rows is not None:
                self._doubt(rows, unvouched, unread=True)
            self._interrupt(unvouched)
        self._check_pair(files, rows)
        self.sound &= files.proved and (rows is not None or not files.expects_rows)
        self.meter.add(size / 2)

    def _go_on_from_before(self, files: PairFiles) -> None:
        """Interrupt the session's state if earlier files are missing, or the events of this pair."""
        pair = files.pair
        ledger = pair.line.ledger if pair.line is not None else read_ledger(files.about) or read_ledger(files.beside)
        if ledger is not None and self._books.stop_slot not in (None, ledger.first_slot):
            self._interrupt(f"the files before number {pair.number} are missing")
        if files.lacks_events:
            self._interrupt(files.lost_events)

    def _read_pair(self, files: PairFiles) -> FileRows | None:
        """Process a pair's rows and events; None if it has no rows or they cannot be read."""
        pair = files.pair
        events = pair.events if files.beside is not None else None
        if files.about is not None and pair.messages is not None:
            return self._read_rows(pair.messages, events)
        for event in read_events(events, self._log.add) if events is not None else ():
            self._clock.learn_event(event)
            self._judged.event(event)
            self._apply(event)
        return None

    def _doubt_what_is_lost(self, files: PairFiles, rows: FileRows | None) -> None:
        """Mark the time of a pair as unknown if its rows or events are missing."""
        line = files.pair.line
        if files.expects_rows and rows is None:
            self._rows_follow.lose(files.lost_rows, unread="messages" in files.refused)
            if files.beside is None and line is not None and line.last_time is not None:
                # nothing else shows when it ended
                facts = self._judged.streams.facts
                facts.end = max(facts.end or 0, self._clock.utc.back(line.last_time))
        elif files.lacks_events and rows is not None:
            why = f"{files.lost_events}: events are unknown"
            self._doubt(rows, why, unread="events" in files.refused)
            self._rows_follow.complete = False
            self._interrupt(files.lost_events)

    def _check_pair(self, files: PairFiles, rows: FileRows | None) -> None:
        """Compare a pair's metadata, ledger, hours and manifest line with its rows and events."""
        pair, line = files.pair, files.pair.line
        if rows is not None and files.about is not None and pair.messages is not None:
            self._check_file(pair.messages, files.about, pair, rows, known=not files.lacks_events)
        elif line is not None:
            self._account.add("rows", manifest=line.rows)
        self._book(files, rows)
        if (rows is not None or not files.expects_rows) and not files.lacks_events:
            hours = self._event_hours | (set() if rows is None else rows.hours)
            if not pair.hours <= hours:
                self._log.add(Kind.CONTRADICTION, files.where, "is in the folder of another hour")
        if line is not None and not files.lacks_events:
            for counter, found in self._file_counts.named("events").items():
                if (stated := getattr(line, counter)) != found:
                    what = f"the manifest counts {stated:,} {counter}, its events {found:,}"
                    self._log.add(Kind.CONTRADICTION, pair.where, what)
            self._account.add("lost_intervals", manifest=line.lost_intervals, events=self._file_counts.lost_intervals)
            self._account.add("events", manifest=line.events)

    def _doubt(self, rows: FileRows, reason: str, *, unread: bool) -> None:
        """Mark the time of a file's rows as unknown."""
        if rows.first_handoff is not None and rows.last_handoff is not None:
            self._judged.streams.facts.missing(rows.first_handoff, rows.last_handoff, reason, unread=unread)

    def _interrupt(self, reason: str) -> None:
        """Note that the state of connections and numbers does not continue from here on."""
        self._unbroken = False
        if self._judgement is not None:
            self._judgement.streams.interrupt(reason)
            self._judgement.lost(self._rows_follow.seen or 0)

    def _book(self, files: PairFiles, rows: FileRows | None) -> None:
        """Add a pair's ledger to the audit; both files and the manifest contain it."""
        pair = files.pair
        both = (pair.messages, files.about), (pair.events, files.beside)
        stated = {where: read_ledger(each) for where, each in both if each}
        if pair.line is not None:
            stated[Path(pair.where)] = pair.line.ledger
        known = [ledger for ledger in stated.values() if ledger is not None]
        if any(ledger != next(iter(known), None) for ledger in stated.values()):
            self._log.add(Kind.CONTRADICTION, files.where, "its files and the manifest do not agree on wsrec.ledger")
        if known:
            nothing = FileRows(self._clock.anchors, None)
            self._books.file(files.where, known[0], rows if files.expects_rows else nothing)

    @property
    def _judged(self) -> Judgement:
        """The judgement; created without a feed if no file has named one."""
        if self._judgement is None:
            return self._judge(None, {})
        return self._judgement

    def _judge(self, feed: Feed | None, standby_of: dict[int, int]) -> Judgement:
        whole = self.task.whole
        self._prepared = Preparation(feed)
        self._judgement = Judgement(feed, self._requests, standby_of, self._clock, whole=whole)
        return self._judgement

    def _open(self, about: dict[str, Any] | None) -> None:
        """Take the facts that all files of the session share from the first file that has them."""
        if about is None or "feed_config" not in about:
            return
        config = about.get("feed_config")
        described = about.get("connections")
        self._learn_requests(described)
        if self.config is None:
            self.config = config
            try:
                feed = Feed.model_validate(config)
            except ValidationError as error:
                what = f"wsrec.feed_config is not a valid feed: {first_line(error)}"
                self._log.add(Kind.CONTRADICTION, self._session, what)
                feed = None
            self.feed = feed
            self._judge(feed, _standby_of(described))
        elif config != self.config:
            self._log.add(Kind.CONTRADICTION, self._session, "its files do not agree on wsrec.feed_config")

    def _learn_requests(self, described: Any) -> None:
        """Take the connections' requests from a file's `wsrec.connections`; the writer knew them from the start."""
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
                what = f"wsrec.connections has no readable requests of connection {conn}: {error}"
                self._log.add(Kind.CONTRADICTION, self._session, what)

    def _read_rows(self, path: Path, events: Path | None) -> FileRows | None:
        """Process rows and events in order of time; None if the file cannot be read to its end."""
        about = FileRows(self._clock.anchors, self._handoff)
        waiting = read_events(events, self._log.add) if events is not None else iter(())
        upcoming = next(waiting, None)
        try:
            for batch in self._prepared.file(path, self._conns, self.ahead):
                rows = batch.rows
                ahead, anchors = [], []
                # all events up to this batch's last row; the anchors among them explain its order
                while upcoming is not None and upcoming.order <= rows.stage[-1]:
                    ahead.append(upcoming)
                    anchors += self._clock.note_anchor(upcoming)
                    upcoming = next(waiting, None)
                self._clock.learn_rows(rows.stage, times(rows.table, "handoff_time")[0], anchors)
                self._rows_follow.follow(path, rows.seq, rows.stage, self._judged)
                about.take(rows, batch.checks)
                for event in self._judged.rows(batch, ahead, about, complete=self._rows_follow.complete):
                    self._apply(event)
        except UNREADABLE as error:
            self._log.add(Kind.DAMAGED, path, f"cannot be read after {plural(about.rows, 'row')}: {first_line(error)}")
            return None
        for event in [upcoming, *waiting] if upcoming is not None else ():
            self._clock.learn_event(event)
            self._judged.event(event)
            self._apply(event)
        if about.last_handoff is not None:
            self._handoff = about.last_handoff
            self._clock.anchors.forget_before(about.last_handoff)
        self._judged.end_file(about.last_handoff)
        return about

    def _apply(self, event: EventRow) -> None:
        """Count an event, and log a finding if it reports a problem."""
        self._account.add("events", read=1)
        self._event_hours.add(hour(event.time))
        self._file_counts += count_event(event.kind, event.detail)
        name = self._name if event.conn is None else f"{self._name}, connection {event.conn}"
        if (found := finding_of(event)) is not None:
            self._log.add(found[0], name, found[1])

    def _check_file(self, path: Path, about: dict[str, Any], pair: Pair, rows: FileRows, *, known: bool) -> None:
        """Compare metadata and manifest with the rows of a file."""
        read: dict[str, Any] = {
            "rows": rows.rows,
            "first_seq": rows.first_seq,
            "last_seq": rows.last_seq,
            "first_time": rows.first_time,
            "last_time": rows.last_time,
            "bytes": size_of(path),
            **rows.counts.named("rows"),
            "gaps_checked": self._judged.checks_gaps,
            "stage1": rows.stage1(about.get("stage1")),
            "stages": rows.steps.to_json(),
            "segments": rows.segments.to_json(),
        }
        if known:
            read["counts"] = (rows.counts + self._file_counts).named()
        check_figures(path, about, pair.line, self._log.add, **read)
        for what, count in rows.problems.items():
            self._log.add(Kind.CONTRADICTION, path, f"{plural(count, 'row')}: {what}")
        self._rows += rows.rows
        stated = {"metadata": about.get("rows"), "manifest": pair.line.rows if pair.line else None}
        self._account.add(
            "rows", read=rows.rows, **{key: value for key, value in stated.items() if isinstance(value, int)}
        )
        for counter, count in rows.counts.named("rows").items():
            self._account.add(counter, read=count)

    def result(self) -> SessionResult:
        """End the session, all of whose files were read."""
        session = self._summary()
        return SessionResult(session=session, findings=self._log.findings, books=self._books.books)

    def _summary(self) -> Session:
        judged, name, whole = self._judged, self._name, self.task.whole
        streams, facts = judged.streams, judged.streams.facts
        self._rows_follow.close(judged)
        state = self._state()
        if state == "interrupted" and self.task.pairs:
            recovered = "its journals were recovered" if facts.recovered else "its end is not in the files"
            self._log.add(Kind.INCOMPLETE, name, f"was interrupted: no session_end; {recovered}")
        if facts.ended is None:
            # numbers that were passed over have not arrived in any row
            judged.lost(facts.end or 0)
        complete = self._rows_follow.complete
        self._account.settle(judged, self._books, whole=whole, complete=complete, unread=bool(self._unread))
        if whole and complete and self._unbroken:
            self._account.agree(judged, taken_up=state in ("recording", "unrecovered"))
        if complete:
            self._account.balance()
        found = streams.result() if facts.end is not None else []
        self._account.report_skipped(found)
        for conn, count in sorted(facts.not_inflated.items()):
            what = f"{plural(count, 'message')} could not be inflated: stored compressed, as received"
            of = "they may belong to any of its streams, and their numbers are not compared"
            self._log.add(Kind.NOTE, f"{name}, connection {conn}", f"{what}; {of}")
        self._log.close(name)
        utc = self._clock.utc
        return Session(
            session=self._session,
            feed=self.task.feed,
            state=state,
            files=self._files,
            unread=self._unread,
            bytes=self._bytes,
            start=None if facts.start is None else utc.of(facts.start),
            end=None if facts.end is None else utc.of(facts.end),
            duration=None if facts.start is None or facts.end is None else facts.end - facts.start,
            rows=self._rows,
            missing=self._rows_follow.seq.missing,
            duplicates=self._rows_follow.seq.duplicates,
            balance=None if self._unread else self._books.result(),
            ledger=self._account.counts,
            losses=[self._clock.on_utc(loss) for loss in sorted(facts.losses, key=_start)[:_LOSSES]],
            stalls=facts.stalls,
            stalled=facts.stalled,
            unattributed=streams.rows.unattributed,
            streams=[
                msgspec.structs.replace(stream, intervals=list(self._clock.cut_where_set(stream.intervals)))
                for stream in found
            ],
        )

    @property
    def ended(self) -> bool:
        """Whether its end was read: no more files will come."""
        return self._judged.streams.facts.ended is not None

    def _state(self) -> str:
        if self.task.left and not self.ended:
            return "recording" if self.task.held else "unrecovered"
        if self.ended:
            return "ended"
        return "part" if not self.task.whole or self._unread else "interrupted"


def _start(loss: Loss) -> int:
    return loss.start


def _standby_of(described: Any) -> dict[int, int]:
    """Map each standby connection to the one that it alternates with, from `wsrec.connections`."""
    entries = [each for each in described if isinstance(each, dict)] if isinstance(described, list) else []
    pairs = [(each.get("conn"), each.get("standby_of")) for each in entries]
    return {conn: of for conn, of in pairs if isinstance(conn, int) and isinstance(of, int)}
