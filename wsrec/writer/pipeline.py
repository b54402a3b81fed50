"""The pipeline from batches to finished files, the same for a running writer and for the recovery of a journal."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsrec import ipc
from wsrec.arrays import large_binary
from wsrec.counts import total
from wsrec.format import manifest
from wsrec.format.moment import Moment
from wsrec.log_folding import FoldedWarnings
from wsrec.plan.request_table import REQUEST_KEYS, described_requests
from wsrec.ring import loss_evidence
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import ALL_BUT_RSV1, FLAG_EVENT, FLAG_RSV1
from wsrec.ring.status import StatusPage
from wsrec.writer.actions import Act, ActionQueue
from wsrec.writer.batch import Batch, payload_list, payload_offsets
from wsrec.writer.disk import NO_RETRY, Disk
from wsrec.writer.feed_writer import FeedWriter
from wsrec.writer.gather import Slots
from wsrec.writer.host_metadata import host_metadata
from wsrec.writer.inflate import inflate
from wsrec.writer.job import WriterJob
from wsrec.writer.ledger import Inflated, Passed, count_batch, passed
from wsrec.writer.live_counts import LiveCounts
from wsrec.writer.messages import Messages, arrived, between, changes_of, events_of, handed_off, interval, moment_of
from wsrec.writer.output import Encoder
from wsrec.writer.reassembly import Reassembler
from wsrec.writer.recorded_clock import RecordedClock
from wsrec.writer.rows import Int64s, stamps
from wsrec.writer.set_aside import keep_aside
from wsrec.writer.uninflated import InflateFailures
from wsrec.writer.utc_line import StoredAnchor

# Up to so many bytes of messages are copied to keep them together
_COPIED = 1 << 20
# Purely informational events, which do not affect the messages around them: each connection has some at its beginning,
# at its end and every few seconds, and with a thousand connections they would split a batch into as many pieces of 1 ms
_INFORMATIONAL = frozenset(
    {
        EventKind.ANCHOR,
        EventKind.CLOSE,
        EventKind.CONNECT_FAILED,
        EventKind.STALL,
        EventKind.STAMPING,
        EventKind.TCP,
        EventKind.TLS,
    }
)
# A message of this size (bytes) is written at once
_LARGE = 4 << 20
# prefix of times on the stage clock in events of the receiver; the events file has them in UTC too
_MONOTONIC = "monotonic_"


class Pipeline:
    """Turns batches into rows and rows into files.

    Args:
        job: the writer's job.
        folder: the session's folder, for unfinished files.
        status: where to count for the live view; None without one.
        disk: the policy for disk errors.
        act: takes the feeds' actions for findings; None if no actions are possible any more.

    Attributes:
        feeds: the feed writers, by name.
        active: names of the feeds being written; recovery leaves out those with finished files.
        actions: the queue of actions on their way to `act`; None without one.
        last: hand-off of the last slot taken; None before the first.
        began: start of the session's first receiver; None if unknown.
        lost_slots: number of slots missing between batches.

    """

    def __init__(
        self,
        job: WriterJob,
        folder: Path,
        status: StatusPage | None = None,
        disk: Disk = NO_RETRY,
        act: Act | None = None,
    ) -> None:
        encoder = Encoder()
        self._live = None if status is None else LiveCounts(status, job.connections)
        self.actions = None if act is None else ActionQueue(act)
        act = None if self.actions is None else self.actions.put
        self._folded = None if act is None else FoldedWarnings()
        self.feeds = {
            feed.name: FeedWriter(feed, job, folder, disk, encoder, self._live, act, self._folded) for feed in job.feeds
        }
        self.active = set(self.feeds)
        self._disk = disk
        self.last: Moment | None = None
        self.began = Moment(job.began_time, job.began) if job.began and job.began_time else None
        self.lost_slots = 0
        # the warnings of an earlier writer of this session are not repeated
        self._warned_until = 0 if status is None else int(status.writer["warned_until"])
        self._next_slot: int | None = None
        self._unreported = 0
        self._job = job
        self._status = status
        self._reassembler = Reassembler()
        self._uninflated = InflateFailures()
        self._clock = RecordedClock()
        self._scheduling: dict[str, Any] = {}
        self._connections: dict[int, dict[str, Any]] = {
            plan.conn: {"conn": plan.conn, "feed": plan.feed, "url": plan.public_url, "standby_of": plan.standby_of}
            for plan in job.connections
        }

    @property
    def pending(self) -> bool:
        """True if a message is incomplete: the journal with its beginning is still needed."""
        return self._reassembler.pending

    def continue_from(self, lines: list[manifest.ManifestLine], last: Moment | None, done: int) -> None:
        """Continue where these files of the same session end, which an earlier writer finished.

        Args:
            lines: their lines in the manifest.
            last: hand-off of the last row in them; None if it cannot be read.
            done: the last number for which no feed has anything left to write.

        """
        for feed in self.feeds.values():
            own = [line for line in lines if line.feed == feed.name]
            feed.continue_from(own, _passed(own, [line for line in lines if line.number <= done]))
        last_time = max((line.last_time for line in lines if line.last_time is not None), default=None)
        self.last = last if last is not None or last_time is None else Moment(last_time, None)
        if self._status is not None:
            self._status.writer["files"] = len(lines)

    def describe(self, about: dict[str, Any]) -> None:
        """Continue with the metadata of such a file about clock, scheduling and connections."""
        self._clock.describe(about.get("clock") or {})
        self._scheduling.update(about.get("scheduling") or {})
        for connection in about.get("connections") or ():
            known = self._connections[connection["conn"]]
            self.feeds[known["feed"]].learn_requests(connection["conn"], described_requests(connection))
            known.update({key: value for key, value in connection.items() if key not in REQUEST_KEYS})

    def skip_to(self, slot: int) -> None:
        """Skip slots before this count: they are in finished files. Anything missing behind it is lost."""
        self._next_slot = max(slot, self._next_slot or 0)

    def expect(self, slot: int) -> None:
        """The next batch begins with this count or an earlier one: slots missing before it are lost."""
        missing = 0 if self._next_slot is None else slot - self._next_slot
        if missing > 0:
            self.lost_slots += missing
            self._unreported += missing
            # whether the clock was set meanwhile is unknown
            self._clock.interrupt()
            # messages that began before the hole cannot be completed
            left, self._reassembler = self._reassembler.unfinished, Reassembler()
            for feed in self._writing():
                feed.ledger.begin(left)
                feed.ledger.joined({}, left)
        self._next_slot = max(slot, self._next_slot or 0)

    def begin_session(self, moment: Moment | None = None) -> None:
        """Record the session's start in each feed that lacks it: at `moment`, or where its files or session begin."""
        for feed in self._writing():
            begin = feed.since or self.began if moment is None else moment
            if begin is not None and not feed.begun:
                feed.event(begin, EventKind.SESSION_START, **self._job.session_start)

    def take(self, batch: Batch, number: int, ahead: StoredAnchor | None = None, *, aside: bool = False) -> None:
        """Write a batch to the files of this number.

        Slots taken before are skipped: a writer killed before it released them to the receiver has them in its journal,
            and the next writer finds them in the rings again. Missing slots become an event.

        Args:
            batch: the batch.
            number: the number of the files.
            ahead: the first anchor behind the batch; None if there is none, or none is known.
            aside: whether to set aside the message that it completes: its row then has no payload, which goes to a
                separate file.

        Raises:
            OSError: the disk is full or gone.

        """
        batch = self._unseen(batch)
        if not len(batch.slots):
            return
        if self._folded is not None:
            # a hole in front of it is news in any case
            self._folded.is_muted = batch.next <= self._warned_until and not self._unreported
        if self._live is not None:
            self._live.is_muted = batch.next <= self._warned_until
        writing = self._writing()
        if not batch.fetched:
            seen = count_batch(batch)
            for feed in writing:
                feed.ledger.take(seen, self._reassembler.unfinished)
        slots, payload = self._reassembler.join(batch)
        for feed in writing:
            feed.ledger.joined(self._reassembler.joined, self._reassembler.discarded)
        if not len(slots):
            return
        happened = events_of(slots, payload)
        offset = self._clock.offsets(slots, happened, ahead)
        if aside and not slots["flags"][0] & FLAG_EVENT:
            self._set_aside(slots, offset, payload, number)
        else:
            for piece in inflate(slots, payload, self._job.options.max_message):
                if piece.slots is not slots:
                    self._enter(changes_of(piece.before, (piece.slots, piece.payload)))
                    happened = events_of(piece.slots, piece.payload)
                part, offset = offset[: len(piece.slots)], offset[len(piece.slots) :]
                self._take_messages(Messages(piece.slots, part, piece.payload, happened, piece.refused), number)
        self._clock.extend_bound(int(slots["handoff"][-1]), ahead)
        if self.last is not None:
            for each in self.feeds.values():
                each.advance(self.last)
        if self._folded is not None:
            self._folded.is_muted = False
            self._folded.due()
        self._publish()

    def _enter(self, inflated: Inflated) -> None:
        for feed in self._writing():
            feed.ledger.inflated(inflated)

    def _set_aside(self, slots: Slots, offset: Int64s, payload: pa.Array, number: int) -> None:
        """Write a row without its payload, and the payload byte for byte to a separate file: the capture lost it."""
        (data,) = payload_list(payload)
        file, digest = self._disk.retry(lambda: keep_aside(Path(self._job.out), self._job.session, data))
        made = slots.copy()
        made["flags"] &= ALL_BUT_RSV1
        self._enter(Inflated(made["conn"], np.array([len(data)]), np.array([0])))
        conn = int(made["conn"][0])
        detail = {"file": file, "bytes": len(data), "sha256": digest, "compressed": bool(slots["flags"][0] & FLAG_RSV1)}
        self._disk.note(f"a message of {len(data):,} bytes crashed the writer repeatedly: it is set aside in {file}")
        self._take_part(Messages(made, offset, large_binary([b""]), [], []), number)
        assert self.last is not None
        self.event(self.last, EventKind.SET_ASIDE, conn=conn, **detail)
        known: dict[str, Any] = {
            "from_evidence": loss_evidence.ARRIVED,
            "to_evidence": loss_evidence.HANDED_OFF,
            "bound": loss_evidence.EXACT,
        }
        taken = interval(arrived(slots, offset, 0), self.last)
        self.event(self.last, EventKind.LOST_INTERVAL, conn=conn, **taken, reason="a message was set aside", **known)

    def _take_messages(self, messages: Messages, number: int) -> None:
        """Write complete inflated messages and the events between them: a large one in a row group of its own."""
        ends = payload_offsets(messages.payload)
        lengths = np.diff(ends) if ends[-1] - ends[0] >= _LARGE else np.empty(0, np.int64)
        large = np.flatnonzero(lengths >= _LARGE)
        if not len(large):
            self._take_part(messages, number)
            return
        bounds = np.unique([0, *large, *(large + 1), len(messages.slots)]).tolist()
        for start, stop in itertools.pairwise(bounds):
            alone = bool(lengths[start] >= _LARGE)
            if alone:
                # earlier rows are not encoded with it
                self._settle()
            self._take_part(messages.part(start, stop), number)
            if alone:
                # so that no two of them are in memory, and a crash caused by it happens while it is marked as in
                # progress
                self._settle()

    def _settle(self) -> None:
        for feed in self._writing():
            feed.settle()
        pa.default_memory_pool().release_unused()

    def _take_part(self, messages: Messages, number: int) -> None:
        slots, offset, payload, happened, refused = messages
        self.report_lost(moment_of(slots, offset, 0))
        # From event to event, as slices: taking the events out from among the messages would need a copy. For a few
        # messages a copy is cheaper than starting again behind every event that does not affect them.
        ends = payload_offsets(payload)
        few = ends[-1] - ends[0] <= _COPIED and all(feed.since is not None for feed in self._writing())
        start, left_out = 0, list[int]()
        for row, event in happened:
            if few and event.kind in _INFORMATIONAL:
                left_out.append(row)
            else:
                self._add(*between(slots, offset, payload, [*left_out, row], start), number)
                start, left_out = row + 1, []
            self._event(moment_of(slots, offset, row), int(offset[row]), event)
        self._add(*between(slots, offset, payload, [*left_out, len(slots)], start), number)
        for row, message in refused:
            conn, length = int(slots["conn"][row]), len(payload[row].as_buffer())
            moment = moment_of(slots, offset, row)
            if (reported := self._uninflated.add(conn, int(slots["handoff"][row]), message, length)) is not None:
                self.event(moment, EventKind.NOT_INFLATED, conn=conn, **reported)
        self.last = handed_off(slots, offset, -1)

    def end_warnings(self) -> None:
        """Emit the warnings that were only counted so far, at the end."""
        if self._folded is None:
            return
        self._folded.flush()
        for feed in self._writing():
            if feed.counts.not_inflated:
                stated = f"{feed.counts.not_inflated:,} of {feed.counts.messages:,} messages could not be read"
                ipc.warn(
                    f"{stated}: they are recorded as received, compressed",
                    feed.not_inflated_hint,
                    feed=feed.name,
                    kind=EventKind.NOT_INFLATED,
                )

    def report_uninflated(self) -> None:
        """Record counts of messages that do not inflate, at the end of a file or of the session."""
        if self.last is not None:
            for conn, reported in self._uninflated.flush():
                self.event(self.last, EventKind.NOT_INFLATED, conn=conn, **reported)

    def remember(self, batch: Batch) -> None:
        """Extract from a batch with finished files what later ones need: beginnings of messages, and the clock."""
        slots, payload = self._reassembler.join(self._unseen(batch))
        # recorded in its files
        self._unreported = 0
        if len(slots):
            self.last = handed_off(slots, self._clock.offsets(slots, events_of(slots, payload), None), -1)

    def follow_clock(self, anchor: StoredAnchor) -> None:
        """Map stages 2 to 6 onto UTC by this anchor until the next one, if the data before it is gone."""
        self._clock.follow(anchor)

    def report_lost(self, moment: Moment) -> None:
        """Record a lost interval that ends at this moment if there are missing slots not yet recorded."""
        if self._unreported:
            began = Moment(moment.before(self._job.began), self._job.began) if self._job.began else moment
            detail = interval(self.last or began, moment)
            reason = "a part of the journal could not be read"
            known: dict[str, Any] = {
                "from_evidence": loss_evidence.LAST_ROW if self.last else loss_evidence.WANTED,
                "to_evidence": loss_evidence.NEXT_ROW,
                "bound": loss_evidence.EXACT,
            }
            self.event(moment, EventKind.LOST_INTERVAL, **detail, slots=self._unreported, reason=reason, **known)
            self._unreported = 0

    def finish(self, number: int) -> list[manifest.ManifestLine]:
        """Finish the files of this number, and add them to the manifest.

        Raises:
            OSError: the disk is full or gone.

        """
        self.report_uninflated()
        shared = {
            "host": host_metadata(),
            "scheduling": self._scheduling,
            "connections": list(self._connections.values()),
            "clock": self._clock.finish(),
        }
        lines = []
        for feed in self._writing():
            line = feed.finish(number, shared, self._reassembler.unfinished, self._next_slot)
            if line is not None:
                self._disk.retry(lambda line=line: manifest.append(Path(self._job.out), line))  # type: ignore[misc]
                lines.append(line)
        if self._status is not None:
            self._status.writer["files"] += len(lines)
        self._publish()
        return lines

    def event(self, moment: Moment, kind: EventKind, *, conn: int | None = None, **detail: Any) -> None:
        """Write an event of the writer itself to the connection's feed, or to all feeds."""
        for feed in self._writing():
            if conn is None or conn in feed.conns:
                feed.event(moment, kind, conn=conn, **dict(detail))

    def _unseen(self, batch: Batch) -> Batch:
        """The part of a batch that was not taken before."""
        if batch.fetched:
            return batch
        if self._next_slot is not None and batch.first < self._next_slot:
            batch = batch.part(min(self._next_slot - batch.first, len(batch.slots)), len(batch.slots))
        self.expect(batch.first)
        self._next_slot = max(batch.next, self._next_slot or 0)
        return batch

    def _add(self, slots: Slots, offset: Int64s, payload: pa.Array, number: int) -> None:
        if not len(slots):
            return
        when = stamps(slots, offset)
        if len(self.feeds) == 1:
            for feed in self._writing():
                feed.add(slots, when, payload, number)
            return
        for feed in self._writing():
            rows = np.flatnonzero(np.isin(slots["conn"], feed.conns))
            if len(rows):
                feed.add(slots[rows], when.select(rows), payload.take(pa.array(rows)), number)

    def _writing(self) -> list[FeedWriter]:
        return [feed for name, feed in self.feeds.items() if name in self.active]

    def _event(self, moment: Moment, offset: int, event: Event) -> None:
        if self.actions is not None:
            self.actions.happened(event)
        detail = dict(event.detail)
        if event.kind is EventKind.ANCHOR:
            if not self._clock.take(StoredAnchor.of(event), detail):
                return
        elif event.kind is EventKind.CLOCK_STEP:
            self._clock.steps += 1
        elif event.kind is EventKind.SCHEDULING:
            self._scheduling[detail["process"]] = {key: value for key, value in detail.items() if key != "process"}
        elif event.kind is EventKind.TLS and event.conn is not None:
            about = ("mode", "fallback", "version", "cipher", "bits")
            self._connections[event.conn]["tls"] = {key: detail[key] for key in about}
        elif event.kind is EventKind.DISCONNECT and event.conn is not None:
            if (reported := self._uninflated.ended(event.conn)) is not None:
                self.event(moment, EventKind.NOT_INFLATED, conn=event.conn, **reported)
        elif event.kind is EventKind.CONNECT and event.conn is not None:
            self._connections[event.conn]["compression"] = detail.get("compression")
        for key in [key for key in detail if key.startswith(_MONOTONIC)]:
            detail[key.removeprefix(_MONOTONIC)] = self._clock.utc(detail[key], offset, moment.stage or 0)
        if event.kind is EventKind.LOST_INTERVAL and "duration_ns" not in detail:
            detail["duration_ns"] = detail["monotonic_to"] - detail["monotonic_from"]
        for feed in self._writing():
            if event.conn is None or event.conn in feed.conns:
                feed.event(moment, event.kind, conn=event.conn, **dict(detail))

    def _publish(self) -> None:
        if self._status is None:
            return
        writer = self._status.writer
        for name, count in total(feed.counts for feed in self.feeds.values()).named().items():
            # a writer that resumes the session starts with the finished files: less than was shown before
            writer[name] = max(int(writer[name]), count)
        writer["warned_until"] = max(int(writer["warned_until"]), self._next_slot or 0)


def _passed(own: list[manifest.ManifestLine], done: list[manifest.ManifestLine]) -> Passed | None:
    """Slots behind a feed's files that another feed's files show to be done: this feed had nothing in them."""
    counted = [(line.feed, line.ledger) for line in done]
    feed, last = max(counted, key=lambda each: each[1].stop_slot, default=(None, None))
    if last is None:
        return None
    near = [line.ledger for line in own]
    found = passed(near, [ledger for name, ledger in counted if name == feed])
    slots = last.stop_slot - max((ledger.stop_slot for ledger in near), default=0)
    # lines missing from the manifest make this unknown
    return found if found.slots == slots > 0 else None
