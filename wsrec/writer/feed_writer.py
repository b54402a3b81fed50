"""Feed writer: writes one feed's rows to its files and runs its monitor over them.

The monitor's findings (`wsrec.monitor`) are written as events, acted on (`wsrec.writer.actions`) and
reported to the operator (`wsrec.writer.warnings`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import structs

from wsrec.counts import Counts, total
from wsrec.decode.columns import FieldColumns
from wsrec.decode.reader import Ids
from wsrec.feed.schema import Feed
from wsrec.format import layout
from wsrec.format.counting import count_rows
from wsrec.format.ledger import Ledger
from wsrec.format.manifest import ManifestLine
from wsrec.format.metadata import FileMetadata
from wsrec.format.moment import Moment
from wsrec.format.schema import MESSAGE_SCHEMA, UTC_NS
from wsrec.format.version import FORMAT_VERSION
from wsrec.log_folding import FoldedWarnings
from wsrec.monitor.check import MonitorEvent
from wsrec.monitor.feed_monitor import FeedMonitor, is_shown
from wsrec.plan.request_table import ConnectionRequests, RequestTable
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import FLAG_SENT
from wsrec.version import full_version
from wsrec.wire import frames
from wsrec.writer.actions import Act, FeedActions
from wsrec.writer.batch import payload_offsets
from wsrec.writer.disk import NO_RETRY, Disk
from wsrec.writer.feed_events import FeedEvents
from wsrec.writer.file_pair import FilePair
from wsrec.writer.gather import Slots
from wsrec.writer.job import FeedJob, WriterJob
from wsrec.writer.ledger import FeedLedger, Passed
from wsrec.writer.live_counts import LiveCounts
from wsrec.writer.monitor_columns import SlotColumns, named_fields
from wsrec.writer.output import Encoder
from wsrec.writer.reassembly import Fragments, Key
from wsrec.writer.rows import Int64s, Stamps, columns, wrapped
from wsrec.writer.warnings import EventWarnings

_COLUMNS = MESSAGE_SCHEMA.names
# keys of a finding's detail with moments on the stage clock; its event has them in UTC too
_MONOTONIC = "monotonic_"


class FeedWriter:
    """Writes one feed's message and events files, one pair after the other.

    Args:
        feed: the feed.
        job: the writer's job.
        folder: the folder for unfinished files.
        disk: the policy for disk errors.
        encoder: encodes the row groups; None for a private one.
        live: counts on the status page too; None if nothing is shown.
        act: called with each action; None if no action is possible any more.
        folded: takes the warnings; None if the operator is no longer to be warned.

    Attributes:
        conns: the feed's connections.
        ledger: the ledger of the current file.
        first_time, last_time: `recv_time` of the first and last received row (ns since the epoch).
        files: manifest lines of the finished files.

    """

    def __init__(
        self,
        feed: FeedJob,
        job: WriterJob,
        folder: Path,
        disk: Disk = NO_RETRY,
        encoder: Encoder | None = None,
        live: LiveCounts | None = None,
        act: Act | None = None,
        folded: FoldedWarnings | None = None,
    ) -> None:
        plans = [plan for plan in job.connections if plan.feed == feed.name]
        self.name = feed.name
        self.conns = [plan.conn for plan in plans]
        self.ledger = FeedLedger(self.conns, alone=len(job.feeds) == 1)
        self.first_time: int | None = None
        self.last_time: int | None = None
        self.files: list[ManifestLine] = []
        self._config = feed.config
        # of the code that runs: a checkout may change before a file ends
        self._version = full_version()
        self._job = job
        self._live = live
        self._new_pair = partial(FilePair, folder, feed.name, disk, encoder, None if live is None else live.steps)
        self._next_seq = 0
        # the number of the first file that the checks know
        self._checked_from = 0
        self._requests = RequestTable.of(plans)
        model = Feed.model_validate(feed.config)
        standby_of = {plan.conn: plan.standby_of for plan in plans if plan.standby_of is not None}
        self._monitor = FeedMonitor(model, self._requests, standby_of)
        self._columns = SlotColumns(model, self._monitor.setup.streams)
        self._actions: FeedActions | None = None
        if act is not None:
            self._actions = FeedActions(model, self._monitor.setup, act, feed.snapshots, job.last_request)
        self._pair = self._new_pair()
        self._events = FeedEvents(self._pair, EventWarnings(model, folded), self._actions)
        self._names = 0, 0
        self._begin()

    def restore(self, ids: Ids) -> None:
        """Continue with the ids known at the end of the previous file (`wsrec.ids` in its metadata)."""
        self._monitor.restore(ids)

    def learn_requests(self, conn: int, described: ConnectionRequests) -> None:
        """Continue with a connection's requests from the previous file's metadata."""
        self._requests.learn(conn, described)

    def check_from(self, number: int) -> None:
        """The checks continue from the file of this number (`follow`), and know nothing of those before it."""
        self._checked_from = number

    def follow(self, rows: pa.RecordBatch) -> None:
        """Continue the sequence checks from rows of a finished file (`SequenceChecker.seed`)."""
        self._monitor.follow(rows)

    def follow_event(self, event: MonitorEvent) -> None:
        """Continue from an event of such a file, after its rows."""
        self._monitor.follow_event(event)

    def _begin(self) -> None:
        self._events.pair = self._pair = self._new_pair()
        self._file_first_seq = self._next_seq
        self._counts_before = self.counts

    @property
    def begun(self) -> bool:
        """Whether the session's start has been recorded."""
        return self._events.begun

    @property
    def counts(self) -> Counts:
        """The counts since the session began."""
        return self._events.counts

    @property
    def not_inflated_hint(self) -> str | None:
        """A remedy for messages that could not be inflated."""
        return self._events.not_inflated_hint

    @property
    def since(self) -> Moment | None:
        """The time of the first row or event of the current pair of files."""
        return self._pair.since

    def continue_from(self, lines: Sequence[ManifestLine], passed: Passed | None = None) -> None:
        """Continue where these files of the same session and feed end, which an earlier writer finished.

        Args:
            lines: their lines in the manifest.
            passed: slots after them that are only in files of other feeds.

        """
        self._events.begun = bool(lines)
        self.files = list(lines)
        last = max(lines, key=lambda line: line.number, default=None)
        before = None if last is None else last.ledger
        self.ledger = FeedLedger(self.conns, alone=len(self._job.feeds) == 1, before=before, passed=passed)
        self._events.counts = total(lines)
        for line in lines:
            if line.last_seq is not None:
                self._next_seq = max(self._next_seq, line.last_seq + 1)
        with_rows = [line for line in lines if line.messages or line.control]
        self.first_time = min((line.first_time for line in with_rows if line.first_time is not None), default=None)
        self.last_time = max((line.last_time for line in with_rows if line.last_time is not None), default=None)
        self._begin()

    def add(self, slots: Slots, when: Stamps, payload: pa.Array, number: int) -> None:
        """Write rows to the pair of files of this number, and run the monitor over them.

        Raises:
            OSError: the disk is full or gone.

        """
        batch = self._monitor.read(self._columns.read(self._next_seq, slots, when, payload))
        fields = named_fields(batch)
        table = columns(slots, when, payload)
        table["seq"] = wrapped(np.arange(batch.first, batch.first + len(slots), dtype=np.uint64), pa.uint64())
        table["channel"] = fields.channel
        table["symbol"] = fields.symbol
        table["exchange_time"] = fields.exchange_time.view(UTC_NS)
        table["exchange_seq"] = fields.exchange_seq
        offsets = payload_offsets(payload)
        rows = pa.table([table[name] for name in _COLUMNS], schema=MESSAGE_SCHEMA)
        self._pair.add(rows, int(offsets[-1] - offsets[0]) + self._new_names(fields), number)
        self._next_seq += len(slots)
        self._count(slots, when, np.diff(offsets))
        self._events.of_rows(self._monitor.rows(batch), when, batch.first)

    def _new_names(self, fields: FieldColumns) -> int:
        """Bytes of the dictionaries if they differ from the last batch's: a row group holds all of them."""
        known = len(fields.channel.dictionary), len(fields.symbol.dictionary)
        if known == self._names:
            return 0
        self._names = known
        return int(fields.channel.dictionary.nbytes + fields.symbol.dictionary.nbytes)

    def settle(self) -> None:
        """Encode all rows added so far.

        Raises:
            OSError: the disk is full or gone.

        """
        self._pair.settle()

    def event(self, moment: Moment, kind: EventKind, *, conn: int | None = None, **detail: Any) -> None:
        """Write an event, and show it to the monitor; `channel` and `symbol` in the detail go into their columns.

        Args:
            moment: when it happened.
            kind: its kind.
            conn: the connection concerned.
            detail: its detail.

        """
        self._pair.begin(moment)
        if is_shown(kind, detail):
            self._events.at(self._monitor.event(MonitorEvent(kind, moment.stage or 0, conn, detail)), moment)
        if kind is EventKind.DISCONNECT and conn is not None and self._actions is not None:
            self._actions.disconnected(conn)
        self._events.write(moment, kind, conn, detail)

    def advance(self, moment: Moment) -> None:
        """Check deadlines up to this moment, before which everything was written, and act on persistent findings."""
        time = moment.stage or 0
        self._events.at(self._monitor.advance(time), moment)
        if self._actions is not None:
            self._actions.tick(time)

    def finish(
        self, number: int, shared: dict[str, Any], unfinished: Mapping[Key, Fragments], next_slot: int | None = None
    ) -> ManifestLine | None:
        """Finish the pair of files of this number; None if it would be empty.

        Args:
            number: the number in the files' names.
            shared: metadata that all feeds of the writer share: host, scheduling, connections, clock.
            unfinished: the fragments of incomplete messages.
            next_slot: the count of the first slot that has not been taken.

        Raises:
            OSError: the disk is full or gone; files already written stay.

        """
        pair = self._pair
        if pair.since is None:
            return None
        name = layout.place(self.name, pair.since.utc, self._job.session, number)
        self._events.at(self._monitor.end_file(pair.until.stage or 0), pair.until)
        ledger = self.ledger.finish(unfinished)
        counts = self.counts - self._counts_before
        metadata = self._metadata(shared, counts, next_slot, ledger)
        landed = pair.finish(Path(self._job.out), name, number, metadata, first=not self.files)
        first_time, last_time = pair.times or (None, None)
        line = ManifestLine(
            path=str(Path(layout.MESSAGES) / name) if pair.rows else None,
            events_path=str(Path(layout.EVENTS) / name) if landed.events_sha256 else None,
            session=self._job.session,
            feed=self.name,
            number=number,
            rows=pair.rows,
            events=pair.events,
            bytes=landed.bytes,
            sha256=landed.sha256,
            events_sha256=landed.events_sha256,
            first_seq=self._file_first_seq if pair.rows else None,
            last_seq=self._next_seq - 1 if pair.rows else None,
            first_time=first_time,
            last_time=last_time,
            gaps_checked=self._monitor.checks_numbers,
            ledger=ledger,
            format_version=FORMAT_VERSION,
            replaces=None,
            removed=None,
            **counts.named(),
        )
        self.files.append(line)
        self._begin()
        return line

    def _count(self, slots: Slots, when: Stamps, lengths: Int64s) -> None:
        received = when.received
        self.ledger.rows(slots, when, lengths)
        self._pair.count(slots, when)
        carried = received & (slots["opcode"] < frames.CLOSE)
        self._events.counts += count_rows(received, carried, slots["flags"] & FLAG_SENT != 0, lengths)
        if self._live is not None:
            self._live.count(slots, when, lengths, carried)
        if received.any():
            first, last = int(np.argmax(received)), len(received) - 1 - int(np.argmax(received[::-1]))
            self.first_time = int(when.recv_time[first]) if self.first_time is None else self.first_time
            self.last_time = int(when.recv_time[last])

    def _metadata(self, shared: dict[str, Any], counts: Counts, next_slot: int | None, ledger: Ledger) -> FileMetadata:
        config = msgspec.json.encode(self._config, order="sorted")
        rows = self._pair.rows
        connections = [
            {**about, **structs.asdict(self._requests.describe(about["conn"]))}
            for about in shared["connections"]
            if about["feed"] == self.name
        ]
        return FileMetadata(
            format_version=FORMAT_VERSION,
            wsrec_version=self._version,
            session=self._job.session,
            feed=self.name,
            feed_config=self._config,
            feed_config_sha256=hashlib.sha256(config).hexdigest(),
            ids=self._monitor.ids,
            **{**shared, "connections": connections},
            **self._pair.about(),
            rows=rows,
            events=self._pair.events,
            first_seq=self._file_first_seq if rows else None,
            last_seq=self._next_seq - 1 if rows else None,
            counts=counts,
            gaps_checked=self._monitor.checks_numbers,
            checked_from=self._checked_from,
            next_slot=next_slot,
            ledger=ledger,
        )
