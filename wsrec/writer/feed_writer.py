"""One feed's rows on their way into its files: fields read, sequences checked, answers matched, files finished."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import structs

from wsrec import ipc
from wsrec.arrays import codes, known, where_set
from wsrec.counts import Counts, total
from wsrec.decode.columns import FieldColumns
from wsrec.decode.implementation import FieldReader
from wsrec.decode.places import integer_in
from wsrec.decode.reader import Ids
from wsrec.feed.schema import Action, Feed, Snapshot
from wsrec.format import layout
from wsrec.format.counting import count_event, count_rows
from wsrec.format.ledger import Ledger
from wsrec.format.manifest import ManifestLine
from wsrec.format.metadata import FileMetadata
from wsrec.format.moment import Moment
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA, SCHEMA_VERSION, UTC_NS
from wsrec.histogram import Histograms
from wsrec.log_folding import FoldedWarnings
from wsrec.monitor.acks import AckOutcome, AckTracker
from wsrec.monitor.checksum import BookChecker
from wsrec.monitor.closing_notice import NoticeReader
from wsrec.monitor.comparison import Comparison
from wsrec.monitor.confirmations import Confirmations
from wsrec.monitor.cooldown import LEAST_NS, Remedies
from wsrec.monitor.division import Division, Order
from wsrec.monitor.exchange_time import TimeChecker
from wsrec.monitor.liveness import PATIENCE_NS, SilenceTracker, Stream
from wsrec.monitor.sequence import Break, Rows, SequenceChecker, SequenceGap
from wsrec.monitor.snapshot_join import JoinChecker
from wsrec.plan.connections import ConnectionPlan
from wsrec.plan.request_table import ConnectionRequests, RequestTable
from wsrec.plan.requests import PlannedTopic, SubscriptionRequest, planned_topic, subscription_requests
from wsrec.ring.events import EventKind
from wsrec.ring.slotring import Flag, request_numbers
from wsrec.stages import STEPS, TOTAL, StampSource
from wsrec.units import named
from wsrec.version import __version__
from wsrec.wire import frames
from wsrec.writer.batch import payload_offsets
from wsrec.writer.disk import NO_RETRY, Disk
from wsrec.writer.gather import Slots
from wsrec.writer.job import FeedJob, WriterJob
from wsrec.writer.ledger import FeedLedger, Passed
from wsrec.writer.output import Encoder, ParquetOutput
from wsrec.writer.reassembly import Fragments, Key
from wsrec.writer.rows import Bools, Int64s, Stamps, columns, wrapped
from wsrec.writer.snapshots import SnapshotRequest
from wsrec.writer.uninflated import hint
from wsrec.writer.warnings import EventWarnings

_COLUMNS = MESSAGE_SCHEMA.names
_RSV1 = int(Flag.RSV1)
_SENT = int(Flag.SENT)
_REST = int(Flag.REST)

Ask = Callable[[ipc.Renew | ipc.Resubscribe | ipc.Settled | SnapshotRequest], None]
"""Passes on what is to be done."""


class FeedWriter:
    """Writes one feed's message and events files, one pair after the other.

    Args:
        feed: the feed.
        job: the writer's job.
        folder: where unfinished files grow.
        disk: what to do when the disk refuses.
        encoder: encodes the row groups; one of its own where None.
        live_steps: the status page's histograms of the steps, to count there too; None where nobody looks.
        ask: passes on what the feed wants done about silence and gaps; None where nothing is to be done any more.
        folded: takes the warnings about what goes wrong; None where nobody is to be told any more.

    Attributes:
        begun: whether the session's start has been recorded.
        conns: the feed's connections.
        ledger: what came out of the rings and what became of it, for the file that is being written.
        counts: what was counted since the session began.
        not_inflated_hint: what would have the messages inflate that did not.
        first_time, last_time: `recv_time` of the first and last received row (ns since the epoch).
        files: manifest lines of the files that were finished.

    """

    def __init__(
        self,
        feed: FeedJob,
        job: WriterJob,
        folder: Path,
        disk: Disk = NO_RETRY,
        encoder: Encoder | None = None,
        live_steps: Int64s | None = None,
        ask: Ask | None = None,
        folded: FoldedWarnings | None = None,
    ) -> None:
        self.name = feed.name
        self.conns = [plan.conn for plan in job.connections if plan.feed == feed.name]
        self.ledger = FeedLedger(self.conns, alone=len(job.feeds) == 1)
        self.begun = False
        self.counts = Counts()
        self.not_inflated_hint = hint("")
        self.first_time: int | None = None
        self.last_time: int | None = None
        self.files: list[ManifestLine] = []
        self._config = feed.config
        self._snapshots = feed.snapshots
        self._job = job
        self._folder = folder
        self._disk = disk
        self._encoder = encoder
        self._live_steps = live_steps
        self._next_seq = 0
        self._model = Feed.model_validate(feed.config)
        self._fields = FieldReader(self._model)
        self._times = TimeChecker(self._model)
        pairs = [(plan.conn, plan.standby_of) for plan in self._connections(job) if plan.standby_of is not None]
        self._sequences = SequenceChecker(self._model, turns=[conn for pair in pairs for conn in pair])
        self._requests = RequestTable.of(self._connections(job))
        self._last_request = job.last_request
        topics = {conn: self._requests.topics(conn) for conn in self.conns}
        self._books = BookChecker(self._model)
        for conn, of in topics.items():
            self._books.subscribed(conn, of)
        self._acks = AckTracker(self._model)
        self._division = Division(self._names_of)
        # refusals that do not say of what, since the requests that wait were sent: the last one's words, by connection
        self._unattributed: dict[int, str] = {}
        self._notices = NoticeReader(self._model)
        self._silence = SilenceTracker(self._model, topics)
        # what the URL asks for nothing confirms
        self._by_url = {conn: self._requests.by_url(conn) for conn in self.conns}
        numbered = any(one.snapshot and one.snapshot.exchange_seq for one in self._model.channels.values())
        self._joins = JoinChecker() if numbered else None
        by_message = {conn: self._requests.by_message(conn) for conn in self.conns}
        names = {conn: [one.topic for one in of] for conn, of in topics.items()}
        standby_of = {plan.conn: plan.standby_of for plan in self._connections(job) if plan.standby_of is not None}
        self._confirmations = Confirmations(self._acks, self._silence, by_message, standby_of, names)
        self._remedies = Remedies()
        self._channels = self._model.channel_by_any_name
        # the channels whose rule cannot be applied to all messages, as far as that was said
        self._skipping: set[str | None] = set()
        self._ask = ask
        self._warnings = None if folded is None else EventWarnings(feed.name, folded)
        acts = any(channel.on_gap is not Action.NONE for channel in self._model.channels.values())
        self._helps_after_gaps = acts and ask is not None
        self._names = 0, 0
        self._begin()

    def restore(self, ids: Ids) -> None:
        """Go on with what ids stood for at the end of the file before (`wsrec.ids` of its metadata)."""
        self._fields.restore(ids)

    def learn_requests(self, conn: int, described: ConnectionRequests) -> None:
        """Go on with what the metadata of the file before say of a connection's requests."""
        self._requests.learn(conn, described)

    def _connections(self, job: WriterJob) -> list[ConnectionPlan]:
        return [plan for plan in job.connections if plan.feed == self.name]

    def _begin(self) -> None:
        self._messages: ParquetOutput | None = None
        self._events: ParquetOutput | None = None
        self._event_rows: list[dict[str, Any]] = []
        self._file_since: Moment | None = None
        self._file_times: tuple[int, int] | None = None
        self._file_first_seq = self._next_seq
        self._file_until = Moment(0, 0)
        self._compared = Comparison()
        self._counts_before = self.counts
        self._stage1: dict[str, int] = {}
        self._steps = Histograms(len(_ALL_STEPS), self._live_steps)

    @property
    def since(self) -> Moment | None:
        """When the pair of files begins that is being written, by its first row or event."""
        return self._file_since

    def go_on(self, lines: Sequence[ManifestLine], passed: Passed | None = None) -> None:
        """Go on where these files end: this session's and feed's, which a writer before this one finished.

        Args:
            lines: their lines in the manifest.
            passed: slots behind them that are in files of other feeds alone.

        """
        self.begun = bool(lines)
        self.files = list(lines)
        last = max(lines, key=lambda line: line.number, default=None)
        before = None if last is None else last.ledger
        self.ledger = FeedLedger(self.conns, alone=len(self._job.feeds) == 1, before=before, passed=passed)
        self.counts = total(lines)
        for line in lines:
            if line.last_seq is not None:
                self._next_seq = max(self._next_seq, line.last_seq + 1)
        with_rows = [line for line in lines if line.messages or line.control]
        self.first_time = min((line.first_time for line in with_rows if line.first_time is not None), default=None)
        self.last_time = max((line.last_time for line in with_rows if line.last_time is not None), default=None)
        self._begin()

    def follow(self, rows: pa.RecordBatch) -> None:
        """Hold the next messages against these, which are in a file that has landed (`SequenceChecker.seed`)."""
        if self._sequences.checks:
            self._sequences.seed(rows)

    def forget_requests(self) -> None:
        """Do not wait for answers: they may be among what was lost."""
        self._acks.forget()

    def add(self, slots: Slots, when: Stamps, payload: pa.Array, number: int) -> None:
        """Write rows to the pair of files of this number.

        Raises:
            OSError: the disk is full or gone.

        """
        count = len(slots)
        readable = when.received & (slots["opcode"] < frames.CLOSE) & (slots["flags"] & _RSV1 == 0)
        binary = slots["opcode"] == frames.BINARY
        fields = self._fields.read(payload, readable, slots["conn"], binary)
        fields = self._believed(fields, when.recv_time, payload, binary)
        table = columns(slots, when, payload)
        table["seq"] = wrapped(np.arange(self._next_seq, self._next_seq + count, dtype=np.uint64), pa.uint64())
        # a snapshot has its stream's, and is no message of the stream
        named = self._of_streams(slots, payload, fields) if (slots["flags"] & _REST).any() else fields
        table["channel"] = named.channel
        table["symbol"] = named.symbol
        table["exchange_time"] = named.exchange_time.view(UTC_NS)
        table["exchange_seq"] = named.exchange_seq
        if self._messages is None:
            self._messages = ParquetOutput(self._partial("messages", number), MESSAGE_SCHEMA, self._disk, self._encoder)
        offsets = payload_offsets(payload)
        rows = pa.table([table[name] for name in _COLUMNS], schema=MESSAGE_SCHEMA)
        self._messages.append(rows, int(offsets[-1] - offsets[0]) + self._new_names(named))

        self._next_seq += count
        self._count(slots, when, np.diff(offsets))
        if self._silence.watches:
            resumed_streams = self._silence.seen(slots["conn"], fields, when.stage)
            for stream in self._silence.begun:
                self._fetch_first(stream)
            for resumed in resumed_streams:
                conn, topic = resumed.stream
                moment = when.moment(int(np.flatnonzero(when.stage == resumed.time)[0]))
                self.event(
                    moment,
                    EventKind.STREAM_RESUMED,
                    conn=conn,
                    channel=topic.channel,
                    symbol=topic.symbol,
                    since=moment.before(resumed.since),
                    duration_ns=resumed.time - resumed.since,
                )
        self._hold_against_snapshots(slots, when, fields, named)
        self._check_sequences(slots, when, payload, fields)
        self._judge_snapshots(when.moment(-1))
        self._check_books(slots, when, payload, fields, readable)
        self._warn_of_skipped()
        self._match_acks(slots, when, payload, fields)
        self._read_notices(slots, when, payload, fields)

    def _believed(self, fields: FieldColumns, arrival: Int64s, payload: pa.Array, binary: Bools) -> FieldColumns:
        """The fields without times that lie too far from the arrival; warns of each channel that has some, once."""
        odd = self._times.odd(fields.exchange_time, arrival)
        if odd is None:
            return fields
        for found in self._times.count(odd, fields, arrival, self._next_seq, payload, binary):
            fits = f"; as {found.unit} it would fit" if found.unit else ""
            ipc.warn(
                f"{self.name}: {found.channel or 'a message of no channel'} says a time that is not within "
                f"{self._times.tolerance} s of its arrival{fits}: exchange_time is null "
                "(see fields.time_unit and fields.time_tolerance of the feed)"
            )
        return fields._replace(exchange_time=pc.if_else(pa.array(~odd), fields.exchange_time, None))

    def settle(self) -> None:
        """Have all rows encoded that there are.

        Raises:
            OSError: the disk is full or gone.

        """
        if self._messages is not None:
            self._messages.settle()

    def _of_streams(self, slots: Slots, payload: pa.Array, fields: FieldColumns) -> FieldColumns:
        """The fields with those of the snapshots among the rows: of the stream that each was fetched for."""
        channels, symbols, seqs = (
            column.to_pylist() for column in (fields.channel, fields.symbol, fields.exchange_seq)
        )
        for row in np.flatnonzero(slots["flags"] & _REST).tolist():
            topic = self._silence.streams[int(slots["offset"][row])].topic
            snapshot = self._channels[topic.channel].snapshot
            channels[row], symbols[row] = topic.channel, topic.symbol
            if snapshot is not None:
                seqs[row] = integer_in(payload[row].as_py(), snapshot.exchange_seq)
        return fields._replace(
            channel=pa.array(channels, pa.string()).dictionary_encode(),
            symbol=pa.array(symbols, pa.string()).dictionary_encode(),
            exchange_seq=pa.array(seqs, pa.uint64()),
        )

    def _new_names(self, fields: FieldColumns) -> int:
        """Bytes of the dictionaries, where they are others than the last batch had: a row group holds them all."""
        known = len(fields.channel.dictionary), len(fields.symbol.dictionary)
        if known == self._names:
            return 0
        self._names = known
        return int(fields.channel.dictionary.nbytes + fields.symbol.dictionary.nbytes)

    def event(self, moment: Moment, kind: EventKind, *, conn: int | None = None, **detail: Any) -> None:
        """Write an event; `channel` and `symbol` in the detail go into their columns.

        Args:
            moment: when it happened.
            kind: what happened.
            conn: the connection it is about.
            detail: what belongs to it.

        """
        if self._file_since is None:
            self._file_since = moment
        if self._warnings is not None:
            self._warnings.event(kind, conn, detail)
        self.counts += count_event(kind, detail)
        if kind is EventKind.SESSION_START:
            self.begun = True
        elif kind is EventKind.SESSION_END:
            for ended in self.conns:
                self._end_numbers(ended, moment)
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            if conn is not None:
                self._confirmations.failed(conn, detail["topics"])
        elif kind is EventKind.NOT_INFLATED:
            self.not_inflated_hint = hint(detail["message"])
        elif kind is EventKind.ACK:
            if conn is not None:
                self._confirmations.confirmed(conn, detail["topics"], moment.stage or 0)
                self._begun(conn, detail["topics"], moment)
        elif kind is EventKind.CONNECT and conn is not None:
            self._confirmations.connected(conn, moment.stage or 0)
        elif kind is EventKind.REPLACED and conn is not None:
            self._report_late(detail["from_conn"], conn, detail["monotonic_to"], moment)
            for gap in self._sequences.replaced(detail["from_conn"], conn):
                self._report(gap, gap.index, moment)
        elif kind is EventKind.DISCONNECT and conn is not None:
            for outcome in self._acks.expired(moment.stage or 0, conn):
                self.event(moment, EventKind(outcome.kind), conn=conn, **_reported_of(outcome))
            in_order = not detail.get("message") and detail.get("received_bytes") is not None
            left = self._confirmations.ended(conn, (moment.stage or 0) if in_order else None)
            if in_order:
                # no lost interval tells of it
                if left:
                    why = "not answered before the connection was closed"
                    self.event(moment, EventKind.UNANSWERED, conn=conn, topics=left, message=why)
                self._give_up_dividing(conn, moment, "not settled before the connection was closed")
            self._end_numbers(conn, moment)
            self._books.reset(conn)
            if self._joins is not None:
                for number, stream in enumerate(self._silence.streams):
                    if stream.conn == conn:
                        self._joins.ended(number)
            self._acks.disconnected(conn)
            self._division.disconnected(conn)
            self._unattributed.pop(conn, None)
            self._fields.disconnected(conn)
            self._silence.disconnected(conn)
        elif kind is EventKind.SUBSCRIBE and conn is not None:
            topics = detail["topics"]
            self._confirmations.asked(conn, topics, moment.stage or 0)
            if (request := detail.get("request")) is not None:
                self._requests.announced(conn, request, topics)
            self._begun(conn, [t for t in topics if t in self._by_url[conn]] if self._acks.checks else topics, moment)
        self._event_rows.append(
            {
                "time": moment.utc,
                "monotonic": moment.stage,
                "kind": kind.value,
                "conn": conn,
                "channel": detail.pop("channel", None),
                "symbol": detail.pop("symbol", None),
                "detail": msgspec.json.encode(detail).decode(),
            }
        )

    def _report_late(self, old: int, new: int, until: int, moment: Moment) -> None:
        """A connection has taken the place of another: tell what is not known to go on without a hole."""
        if left := self._confirmations.unanswered(old):
            why = "not answered before the connection ended"
            self.event(moment, EventKind.UNANSWERED, conn=old, topics=left, message=why)
        if late := self._confirmations.late(old, new, until):
            what = "confirmed" if self._acks.checks else "asked for early enough"
            why = f"not {what} here when the connection ended whose place this one took"
            self.event(moment, EventKind.LATE, conn=new, topics=late, message=why)

    def _begun(self, conn: int, topics: Sequence[str], moment: Moment) -> None:
        if moment.stage is None:
            return
        for stream in self._silence.subscribed(conn, topics, moment.stage):
            self._fetch_first(stream)

    def _fetch_first(self, stream: Stream) -> None:
        """The first sign of a stream, its confirmation or a message: what it begins with is fetched, if it is to be."""
        snapshot = self._channels[stream.topic.channel].snapshot
        if snapshot is not None and snapshot.at_start:
            self._fetch(snapshot, stream, "the subscription began")

    def expire_acks(self, moment: Moment) -> None:
        """Tell which subscriptions nobody has answered; times are held against one another on the stage clock."""
        time = moment.stage or 0
        for outcome in self._acks.expired(time):
            # who refuses and does not say what has refused what he never answers
            words = self._unattributed.get(outcome.conn)
            if words is None or not self._divide(outcome._replace(message=words), moment):
                self._division.unanswered(outcome.conn, outcome.topics)
                self.event(moment, EventKind(outcome.kind), conn=outcome.conn, **_reported_of(outcome))
        for order in self._division.due(time):
            self._ask_apart(order, "it was refused, and the exchange wanted a pause")

    def _divide(self, outcome: AckOutcome, moment: Moment) -> bool:
        """Ask for the topics of a refused request apart; whether they are, and not refused for good."""
        conn, topics = outcome.conn, outcome.topics
        if any(self._planned(conn, topic) is None for topic in topics):
            return False
        words = outcome.message or "without a reason"
        disputed = set(self._division.disputed(conn))
        order = self._division.refused(conn, topics, words, moment.stage or 0)
        if order is None:
            if disputed.issuperset(topics):
                self._ask_apart(Order(conn, topics, ()), "refused")
            return False
        about = _reported_of(outcome._replace(message=words))
        self.event(moment, EventKind.SPLIT, conn=conn, **about, parts=order.parts)
        if order.parts:
            self._ask_apart(order, f"refused together: {words[:100]}")
        if self._warnings is not None:
            self._warnings.split(topics, words, bool(order.parts))
        return True

    def _ask_apart(self, order: Order, reason: str) -> None:
        if self._ask is None:
            return
        parts: list[SubscriptionRequest] = []
        for topics in order.parts:
            planned = [one for topic in topics if (one := self._planned(order.conn, topic)) is not None]
            # above those of the plan, and above those that a writer before this one may have made
            self._last_request = max(self._last_request, self._requests.last_number)
            try:
                for request in subscription_requests(planned, first=self._last_request + 1):
                    parts.append(request)
                    self._last_request = request.number
            except ValueError as error:
                # its number has more digits than the one that it fitted with
                ipc.warn(f"{self.name}: {error}, so it is not requested again")
        self._ask(ipc.Resubscribe(order.conn, order.topics, reason, tuple(parts)))

    def _planned(self, conn: int, topic: str) -> PlannedTopic | None:
        """How a message asks for a topic; None where none does."""
        requested = self._requests.topic(conn, topic)
        if requested is None or topic in self._by_url[conn] or requested.channel not in self._model.channel_table:
            return None
        return planned_topic(self._model, requested.channel, requested.symbol or "")

    def _names_of(self, conn: int, topic: str) -> tuple[str, ...]:
        planned = self._planned(conn, topic)
        return (topic,) if planned is None else (topic, planned.requested.ack_key, planned.written)

    def end_session(self, moment: Moment, **detail: Any) -> None:
        """Record the session's end and before it what is still open: judged now or never.

        Args:
            moment: when it ended.
            detail: what belongs to the event.

        """
        for conn in self.conns:
            left = self._confirmations.waiting(conn)
            if left:
                why = "not answered before the session's end"
                self.event(moment, EventKind.UNANSWERED, conn=conn, topics=left, message=why)
            self._give_up_dividing(conn, moment, "not settled before the session's end")
        self.event(moment, EventKind.SESSION_END, **detail)

    def _give_up_dividing(self, conn: int, moment: Moment, why: str) -> None:
        """What was refused together with others, and was neither confirmed nor refused alone since, is refused."""
        waiting = self._acks.open(conn)
        by_words: dict[str, list[str]] = {}
        for topic, words in self._division.disputed(conn).items():
            if topic not in waiting:
                by_words.setdefault(words, []).append(topic)
        for words, topics in by_words.items():
            message = f"{words} (refused together with others, {why})"
            self.event(moment, EventKind.REFUSED, conn=conn, topics=topics, message=message)

    def look_for_silence(self, moment: Moment) -> None:
        """Tell which subscriptions bring no messages, and act as the feed says."""
        if not self._silence.watches:
            return
        time = moment.stage or 0
        silent = self._silence.expired(time)
        for found in silent:
            conn, topic = found.stream
            self.event(
                moment,
                EventKind.STALE,
                conn=conn,
                channel=topic.channel,
                symbol=topic.symbol,
                since=moment.before(found.since),
                idle_s=found.quiet_ns / 1e9,
                ever=found.ever,
            )
        if self._warnings is not None:
            reported = [found for found in silent if found.expected]
            if reported:
                self._warnings.silent([found.stream.topic.topic for found in reported], reported[0].quiet_ns / 1e9)
            # where the feed does not say that there should be messages, there may be none
            quiet = [found.stream.topic.topic for found in silent if not found.expected]
            if quiet:
                ipc.info(f"{self.name}: no message for {PATIENCE_NS / 1e9:g} s or longer: {named(quiet)}")
        if self._ask is None:
            return
        for stream in self._silence.to_be_helped():
            channel = self._channels[stream.topic.channel]
            least = max(LEAST_NS, round((channel.idle_timeout or 0) * 1e9))
            self._help(channel.on_stale, [stream], f"{stream.topic.topic} is silent", time, least)

    def report_settled(self) -> None:
        """Say which connections bring all that they were asked for: the one before each is needed no longer."""
        for conn, since in self._confirmations.settled():
            if self._ask is not None:
                self._ask(ipc.Settled(conn=conn, since=since))

    def _help(self, action: Action, streams: Sequence[Stream], reason: str, now: int, least: int = LEAST_NS) -> None:
        """Have done about streams of one connection what their feed says, unless it was just done."""
        if self._ask is None or not streams:
            return
        conn = streams[0].conn
        if action is Action.RENEW and self._remedies.due((action, conn), now, least):
            self._ask(ipc.Renew(conn=conn, reason=reason))
        elif action is Action.RESUBSCRIBE:
            due = [stream for stream in streams if self._remedies.due((action, stream), now, least)]
            if due:
                self._ask(ipc.Resubscribe(conn=conn, topics=tuple(s.topic.topic for s in due), reason=reason))
        elif action is Action.SNAPSHOT:
            for stream in streams:
                snapshot = self._channels[stream.topic.channel].snapshot
                if snapshot is not None and self._remedies.due((action, stream), now, least):
                    self._fetch(snapshot, stream, reason)

    def _fetch(self, snapshot: Snapshot, stream: Stream, reason: str, wait: float = 0.0) -> None:
        conn, topic = stream
        # a snapshot is of one symbol, and what such a topic stands for is not
        if self._ask is None or (topic.symbol is None and "{symbol}" in snapshot.url):
            return
        number = self._silence.streams.index(stream)
        shown, url = snapshot.filled(topic.symbol), snapshot.filled(topic.symbol, self._snapshots.get(topic.channel))
        self._ask(
            SnapshotRequest(
                self.name,
                conn,
                number,
                topic.channel,
                topic.symbol,
                url,
                snapshot.interval,
                reason,
                public_url=shown,
                wait=wait,
            )
        )

    def _hold_against_snapshots(self, slots: Slots, when: Stamps, fields: FieldColumns, named: FieldColumns) -> None:
        """Remember up to where each stream's numbers have come, and the numbers of the snapshots among the rows."""
        if self._joins is None:
            return
        if named is not fields:
            for row in np.flatnonzero(slots["flags"] & _REST).tolist():
                stream = int(slots["offset"][row])
                if self._snapshot_of(stream).exchange_seq:
                    self._joins.fetched(stream, named.exchange_seq[row].as_py(), int(when.stage[row]))
            return
        places, rows = self._silence.found
        for stream in np.unique(places).tolist():
            snapshot = self._channels[self._silence.streams[stream].topic.channel].snapshot
            if snapshot is None or not snapshot.exchange_seq:
                continue
            mine = rows[places == stream]
            mine = mine[known(fields.exchange_seq)[mine]]
            if len(mine):
                first, last = int(mine[0]), int(mine[-1])
                before, time = _number_before(fields, first), int(when.stage[last])
                self._joins.messages(stream, before, fields.exchange_seq[last].as_py(), time)

    def _break_runs(self, gap: SequenceGap, fields: FieldColumns) -> None:
        assert self._joins is not None
        for stream in self._silence.topic(gap.conn, gap.channel, gap.symbol):
            self._joins.broke(
                self._silence.streams.index(stream), _number_before(fields, gap.index if gap.index >= 0 else gap.at)
            )

    def _snapshot_of(self, stream: int) -> Snapshot:
        snapshot = self._channels[self._silence.streams[stream].topic.channel].snapshot
        assert snapshot is not None
        return snapshot

    def _judge_snapshots(self, moment: Moment) -> None:
        """Tell which snapshots join their streams, and have those fetched again that do not."""
        for found in () if self._joins is None else self._joins.judge():
            stream = self._silence.streams[found.stream]
            conn, topic = stream
            about = {"channel": topic.channel, "symbol": topic.symbol}
            numbers = {"number": found.number, "first": found.first, "last": found.last}
            if found.why is None:
                self.event(moment, EventKind.SNAPSHOT_JOINED, conn=conn, **about, **numbers)
                continue
            missed = {"why": found.why, "retry_s": found.wait}
            self.event(moment, EventKind.SNAPSHOT_MISSED, conn=conn, **about, **numbers, **missed)
            if found.wait is not None:
                self._fetch(self._snapshot_of(found.stream), stream, f"the last one missed: {found.why}", found.wait)

    def finish(
        self, number: int, shared: dict[str, Any], unfinished: Mapping[Key, Fragments], next_slot: int | None = None
    ) -> ManifestLine | None:
        """Finish the pair of files of this number; None where it would be empty.

        Args:
            number: the number in the files' names.
            shared: metadata that the whole writer knows: host, scheduling, connections, clock.
            unfinished: the parts of messages that have begun and not ended.
            next_slot: the count of the first slot that has not been taken.

        Raises:
            OSError: the disk is full or gone; nothing that was written is taken back.

        """
        if self._file_since is None:
            return None
        name = layout.place(self.name, self._file_since.utc, self._job.session, number)
        out = Path(self._job.out)
        rows = self._messages.rows if self._messages else 0
        for odd in self._times.take():
            self.event(
                Moment(odd.time, self._file_until.stage),
                EventKind.EXCHANGE_TIME_OFF,
                channel=odd.channel,
                count=odd.messages,
                unit=odd.unit,
                stated=odd.stated,
                seq=odd.row,
            )
        ledger = self.ledger.finish(unfinished)
        self._report_of_skipped()
        counts = self.counts - self._counts_before
        gaps_checked = self._sequences.checks or self._books.checks
        metadata = self._metadata(shared, rows, counts, gaps_checked, next_slot, ledger)
        size, digest, events_digest = 0, None, None
        if self._event_rows:
            events = ParquetOutput(self._partial("events", number), EVENT_SCHEMA, self._disk, self._encoder)
            # what the rows of a batch showed was found after the events of the same batch
            self._event_rows.sort(key=lambda row: Moment(row["time"], row["monotonic"]).order)
            table = pa.Table.from_pylist(self._event_rows, EVENT_SCHEMA)
            events.append(table, table.nbytes)
            _, events_digest = events.finish(out / layout.EVENTS / name, metadata)
        if self._messages is not None:
            size, digest = self._messages.finish(out / layout.MESSAGES / name, metadata)
        first_time, last_time = self._file_times or (None, None)
        line = ManifestLine(
            path=str(Path(layout.MESSAGES) / name) if rows else None,
            events_path=str(Path(layout.EVENTS) / name) if events_digest else None,
            session=self._job.session,
            feed=self.name,
            number=number,
            rows=rows,
            events=len(self._event_rows),
            bytes=size,
            sha256=digest,
            events_sha256=events_digest,
            first_seq=self._file_first_seq if rows else None,
            last_seq=self._next_seq - 1 if rows else None,
            first_time=first_time,
            last_time=last_time,
            gaps_checked=gaps_checked,
            ledger=ledger,
            **counts.named(),
        )
        self.files.append(line)
        self._begin()
        return line

    def _partial(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}-{self.name}-{number:06d}.parquet.partial"

    def _count(self, slots: Slots, when: Stamps, lengths: Int64s) -> None:
        received = when.received
        times = when.recv_time
        self._file_until = when.moment(-1)
        self.ledger.rows(slots, when, lengths)
        if self._file_since is None:
            self._file_since = Moment(int(when.handoff[0]), int(when.stage[0]))
        self._file_times = (self._file_times[0] if self._file_times else int(times[0]), int(times[-1]))
        carried = received & (slots["opcode"] < frames.CLOSE)
        self.counts += count_rows(received, carried, slots["flags"] & _SENT != 0, lengths)
        arrived = int(np.count_nonzero(received))
        if not arrived:
            return
        first, last = int(received.argmax()), len(received) - 1 - int(received[::-1].argmax())
        self.first_time = int(times[first]) if self.first_time is None else self.first_time
        self.last_time = int(times[last])
        sources = np.bincount(slots["source"] if arrived == len(slots) else slots["source"][received])
        for source in where_set(sources).tolist():
            word = _stage1_word(StampSource(source))
            self._stage1[word] = self._stage1.get(word, 0) + int(sources[source])
        for steps, durations in step_durations(when):
            self._steps.add(steps, durations)

    def _check_sequences(self, slots: Slots, when: Stamps, payload: pa.Array, fields: FieldColumns) -> None:
        if self._sequences.checks:
            where = Rows(self._next_seq - len(slots), when.stage, payload)
            checked = self._sequences.check(slots["conn"], fields, where)
            self._compared.add(fields.channel, checked.links)
            for gap in checked.gaps if self._joins is not None else ():
                if gap.from_conn is None:
                    self._break_runs(gap, fields)
            self._report_of(checked.gaps, where.first, when)

    def _end_numbers(self, conn: int, moment: Moment) -> None:
        """Tell what a connection that ends at `moment` passed over and has not brought; its next life counts anew."""
        for gap in self._sequences.reset(conn):
            self._report(gap, gap.index, moment)

    def _check_books(
        self, slots: Slots, when: Stamps, payload: pa.Array, fields: FieldColumns, readable: Bools
    ) -> None:
        if self._books.checks:
            received = readable & (slots["flags"] & _REST == 0)
            books = self._books.check_batch(slots["conn"], fields, payload, received)
            self._compared.add(fields.channel, books.links)
            self._report_of(books.gaps, self._next_seq - len(slots), when)

    def _warn_of_skipped(self) -> None:
        """Say at once which rules cannot be applied to all that comes."""
        if self._warnings is None or not self._compared.skips:
            return
        for channel, of in self._compared.skipped().items():
            if channel not in self._skipping:
                self._skipping.add(channel)
                self._warnings.unchecked(channel, of.describe(self._model.sequence_rule(channel).value))

    def _report_of_skipped(self) -> None:
        """Write down, for the file that ends, what its rules could not be applied to."""
        for channel, of in self._compared.skipped().items():
            rule = self._model.sequence_rule(channel).value
            detail: dict[str, Any] = {"rule": rule, "compared": of.compared, "skipped": of.skipped}
            self.event(self._file_until, EventKind.UNCHECKED, channel=channel, **detail)

    def _report_of(self, gaps: Sequence[SequenceGap], first: int, when: Stamps) -> None:
        """Tell of gaps in a batch of rows: the `seq` of its first one, and when each came."""
        for gap in gaps:
            self._report(gap, first + gap.index, Moment(int(when.recv_time[gap.at]), int(when.stage[gap.at])))

    def _report(self, gap: SequenceGap, seq: int, moment: Moment) -> None:
        reset = gap.what is Break.RESET
        self.event(
            moment,
            EventKind.SEQUENCE_RESET if reset else EventKind.GAP,
            conn=gap.conn,
            channel=gap.channel,
            symbol=gap.symbol,
            **({} if reset else {"what": gap.what, "missing": gap.missing}),
            scope=gap.scope,
            rule=gap.rule,
            expected=gap.expected,
            found=gap.found,
            seq=seq,
            **({} if gap.from_conn is None else {"from_conn": gap.from_conn}),
        )
        if not reset:
            self._help_after(gap, moment.stage or 0)

    def _help_after(self, gap: SequenceGap, time: int) -> None:
        if not self._helps_after_gaps:
            return
        for stream in self._silence.topic(gap.conn, gap.channel, gap.symbol):
            action = self._channels[stream.topic.channel].on_gap
            self._help(action, [stream], f"{stream.topic.topic} has a sequence gap", time)

    def _match_acks(self, slots: Slots, when: Stamps, payload: pa.Array, fields: FieldColumns) -> None:
        if not self._acks.checks:
            return
        wanted = (slots["opcode"] < frames.CLOSE) & (slots["flags"] & _REST == 0)
        if not (self._acks.reads_data and (self._acks.waiting or not when.received.all())):
            names = fields.channel.dictionary.to_pylist()
            others = np.array([not self._acks.is_data(name) for name in [*names, None]])
            wanted &= others[codes(fields.channel, len(names))]
        requests = request_numbers(slots)
        for row in where_set(wanted).tolist():
            conn, moment = int(slots["conn"][row]), when.moment(row)
            time = int(when.stage[row])
            if not when.received[row]:
                number = int(requests[row]) or None
                topics = () if number is None else self._requests.requested(conn, number)
                self._acks.sent(conn, payload[row].as_py().decode(), topics, time, number)
                continue
            if conn not in self._acks.waiting and self._acks.is_data(fields.channel[row].as_py()):
                continue
            for outcome in self._acks.received(conn, payload[row].as_py(), time):
                if outcome.kind == "ack":
                    self._division.accepted(conn, outcome.topics)
                elif not outcome.topics:
                    self._unattributed[conn] = outcome.message or ""
                elif not outcome.listed and self._divide(outcome, moment):
                    continue
                self.event(moment, EventKind(outcome.kind), conn=conn, **_reported_of(outcome))

    def _read_notices(self, slots: Slots, when: Stamps, payload: pa.Array, fields: FieldColumns) -> None:
        """Have a connection replaced that the exchange says it will close."""
        if self._ask is None or not self._notices.looks:
            return
        for row in self._notices.candidates(fields.channel).tolist():
            if not when.received[row] or slots["opcode"][row] >= frames.CLOSE:
                continue
            word = self._notices.read(payload[row].as_py())
            if word is not None:
                self._ask(ipc.Renew(int(slots["conn"][row]), f"the exchange announced its end: {word}"))

    def _metadata(
        self,
        shared: dict[str, Any],
        rows: int,
        counts: Counts,
        gaps_checked: bool,
        next_slot: int | None,
        ledger: Ledger,
    ) -> dict[str, str]:
        config = msgspec.json.encode(self._config, order="sorted")
        connections = [
            {**about, **structs.asdict(self._requests.describe(about["conn"]))}
            for about in shared["connections"]
            if about["feed"] == self.name
        ]
        return FileMetadata(
            schema_version=SCHEMA_VERSION,
            wsrec_version=__version__,
            session=self._job.session,
            feed=self.name,
            feed_config=self._config,
            feed_config_sha256=hashlib.sha256(config).hexdigest(),
            ids=self._fields.ids,
            **{**shared, "connections": connections},
            stages={
                step.key: histogram.to_json() for step, histogram in zip(_ALL_STEPS, self._steps.each, strict=True)
            },
            stage1=self._stage1,
            rows=rows,
            first_seq=self._file_first_seq if rows else None,
            last_seq=self._next_seq - 1 if rows else None,
            counts=counts,
            gaps_checked=gaps_checked,
            next_slot=next_slot,
            ledger=ledger,
        ).encode()


def _reported_of(outcome: AckOutcome) -> dict[str, Any]:
    """The detail of the event of an outcome."""
    detail: dict[str, Any] = {"topics": outcome.topics}
    if outcome.request is not None:
        detail["request"] = outcome.request
    if outcome.message is not None:
        detail["message"] = outcome.message
    return detail


def _number_before(fields: FieldColumns, row: int) -> int:
    """The number that a message follows: as it says itself, else the one before its first."""
    previous, first = fields.seq_previous[row].as_py(), fields.seq_first[row].as_py()
    if previous is not None:
        return int(previous)
    return int(fields.exchange_seq[row].as_py() if first is None else first) - 1


_ALL_STEPS = (*STEPS, TOTAL)
# of them, what begins with stage 1, and the rest
_FROM_NIC, _FROM_EVENT = slice(0, len(_ALL_STEPS), len(STEPS)), slice(1, len(STEPS))


def step_durations(when: Stamps) -> list[tuple[slice, Int64s]]:
    """The durations (ns), a row a step: of the steps of received rows, and of those that begin with stage 1."""
    received = when if when.received.all() else when.select(when.received)
    stages = received.event, received.recv_start, received.recv_end, received.parsed, received.handoff
    own = np.array([end - start for start, end in itertools.pairwise(stages)])
    stamped = received if received.stamped.all() else received.select(received.stamped)
    from_nic = np.array([stamped.event - stamped.nic, stamped.handoff - stamped.nic])
    return [(_FROM_EVENT, own), (_FROM_NIC, from_nic)]


def _stage1_word(source: StampSource) -> str:
    return {StampSource.NIC: "nic", StampSource.KERNEL: "kernel"}.get(source) or f"none: {source.reason}"
