"""The writer process: rings to journal on one thread, journal to rows on another, Parquet and disk on further ones.

The first thread never waits for the others: it copies the published slots, appends them to the journal and releases the
rings to the receiver. The second reads the same batches from the journal, makes rows of them and finishes files; its
lag costs no memory, only space for the journal on the disk. A third encodes row groups (`output.Encoder`), and a fourth
syncs the journal (`sync`).

A writer that resumes a session drains the rings from the start, from where the previous one released them, into a
journal of its own. Its second thread recovers the earlier journals (`journal_recovery`) before it takes the first
batch.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from wsrec import ipc, shutdown
from wsrec.counts import total
from wsrec.format import claim, heartbeat
from wsrec.format.layout import period, session_folder
from wsrec.format.moment import Moment
from wsrec.host import privilege
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.segments.segment_ring import SegmentRing
from wsrec.segments.stream_map import StreamMap
from wsrec.units import system_error
from wsrec.writer import session_start
from wsrec.writer.allocation import keep_memory
from wsrec.writer.batch import Batch, Drain
from wsrec.writer.disk import JOURNAL_RESERVE, NotAsWrittenError, RetryingDisk
from wsrec.writer.instrument_requests import InstrumentRequests
from wsrec.writer.job import WriterJob
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import Span, journal_path
from wsrec.writer.journal_recovery import JournalRecovery
from wsrec.writer.ledger import ring_counts
from wsrec.writer.orphan import OrphanNote, leave
from wsrec.writer.parquet_thread import ParquetThread
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.progress import Progress
from wsrec.writer.receiver_loss import LastFrameTimes, unreported_losses
from wsrec.writer.segment_join import SegmentJoin
from wsrec.writer.snapshots import Fetched, SnapshotRequest, SnapshotThread
from wsrec.writer.sync import SyncThread
from wsrec.writer.utc_line import first_anchor

_POLL_SECONDS = 0.002
# Interval of less urgent work: it costs more than checking for published slots
_LOOK_SECONDS = 0.02
# How long the Parquet thread may hold the interpreter before the thread that empties the rings gets it
_SWITCH_SECONDS = 0.0005
# Fill level at which a ring is drained without waiting for the batch interval
_URGENT = 0.125
# and one from which a batch no longer waits for its segments
_PRESSED = 0.5
_GRACE_NS = 1_000_000_000
# UTC and CLOCK_MONOTONIC are slewed together: a change of their difference beyond the time of reading them is a step of
# UTC, and a larger step than the second limit ends the file
_NOISE_NS = 1_000_000
_STEP_NS = 500_000_000
# A receiver's heartbeat comes ten times a second, and it reports its end; before that it may have to read a backlog
_HEARTBEAT_TIMEOUT_NS = 3_000_000_000
_DISK_TIMEOUT = shutdown.DISK.seconds


class Writer:
    """The work of one writer process."""

    def __init__(self, job: WriterJob) -> None:
        if job.resume:
            job = msgspec.structs.replace(job, resumed=Moment.now())
        self._job = job
        self._folder = session_folder(Path(job.out), job.session)
        if not job.resume and any(path.name not in session_start.FILES for path in self._folder.glob("*")):
            raise FileExistsError(f"{self._folder} belongs to another session: names are never reused")
        self._status = StatusPage(job.status)
        self._waiting_since: float | None = None
        self._disk = RetryingDisk(self._on_disk_trouble, self._folder, job.options.reserve or 0)
        # held for the lifetime of this process
        self._claim = self._disk.retry(lambda: claim.hold(self._folder))
        # in case the disk refused it to the supervisor
        self._disk.retry(lambda: session_start.write(self._folder, job))
        self._disk.retry(lambda: heartbeat.begin(self._folder))
        rings = {
            plan.conn: ByteRing(fd, populate=job.populate and plan.standby_of is None)
            for plan, fd in zip(job.connections, job.rings, strict=True)
        }
        self._slots, self._rings = SlotRing(job.slots), rings
        self._drain = Drain(self._slots, rings, ByteRing(job.control_ring))
        self._segments: SegmentJoin | None = None
        if job.segments is not None and job.stream_map is not None:
            ring, stream_map = SegmentRing(job.segments), StreamMap(job.stream_map)
            self._segments = SegmentJoin(ring, stream_map, self._slots.capacity)
        self._orphaned = False
        self._began = job.began or time.monotonic_ns()
        self._frames = LastFrameTimes()
        # hand-off (ns on the stage clock) of the last journalled slot
        self._written_until = 0
        self._snapshots = SnapshotThread(job.options.ca_file, {feed.name: feed.proxies for feed in job.feeds})
        self._instruments = InstrumentRequests(job)
        self._pipeline = Pipeline(job, self._folder, self._status, disk=self._disk, act=self._act)
        recovery = self._disk.retry(lambda: JournalRecovery(Path(job.out), self._folder)) if job.resume else None
        self._parquet = ParquetThread(
            self._pipeline,
            self._disk,
            Path(job.out),
            self._disk.retry(lambda: Progress(self._folder, self._disk)),
            recovery,
            self._drain.next,
            job.resumed,
            job.restart,
        )
        self._number = 0 if recovery is None else recovery.next_number - 1
        self._journal = self._disk.retry(self._begin_journal)
        self._sync = SyncThread(self._journal, self._job.options.fsync, self._disk)
        self._period: int | None = None
        # offset of the stage clock to the time by which files end
        self._ahead = time.time_ns() - time.monotonic_ns()
        self._journal_bytes = 0
        self._look_next = 0.0
        self._stopping = False
        self._on_disk_trouble(False)

    @property
    def output_deleted(self) -> bool:
        """True if the journalled data is gone: somebody deleted it, and it could not be restored."""
        return self._journal.deleted or (self.moved_to is None and not _may_exist(self._folder))

    @property
    def moved_to(self) -> str | None:
        """The new path of the session's folder if it or a parent was moved; None if not."""
        held = os.fstat(self._claim)
        try:
            moved = not os.path.samestat(self._folder.stat(), held)
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        except OSError:
            return None
        return claim.place(self._claim) if moved and held.st_nlink else None

    def waiting(self) -> int:
        """Number of frames and events in the rings that are in no journal."""
        return self._slots.published.read() - self._slots.released.read()

    def run(self) -> ipc.SummaryLine:
        """Write until asked to stop, then write the rest and finish all files.

        Raises:
            OSError: the output is permanently gone, or Parquet could not be written; the journal is left for recovery.

        """
        if not self._job.resume:
            self._pipeline.begin_session(Moment.now())
            self._pipeline.event(Moment.now(), EventKind.SCHEDULING, process="writer", **privilege.in_force())
        threading.Thread(target=self._watch_stdin, daemon=True).start()
        self._parquet.start()
        self._sync.start()
        self._snapshots.start()
        while True:
            stopping = self._stopping
            now = time.monotonic()
            if now >= self._look_next:
                self._look(now)
            pending = self._drain.pending()
            if pending and self._waiting_since is None:
                self._waiting_since = now
            if pending and (stopping or self._is_due(now)):
                batch = self._drain.take(final=stopping)
                if batch is None:
                    # a read that is still being handed off, or whose receiver was killed meanwhile
                    time.sleep(_POLL_SECONDS)
                else:
                    if self._segments is not None:
                        batch = self._segments.join(batch, self._is_pressed)
                    self._write_in_order(batch)
                    self._drain.release()
                    if self._segments is not None:
                        self._segments.release()
                self._waiting_since = None
            elif stopping:
                break
            else:
                time.sleep(_POLL_SECONDS)
            self._check_threads()
        return self._finish()

    def _is_due(self, now: float) -> bool:
        """True if the pending slots must be journalled now."""
        due = self._waiting_since is not None and now - self._waiting_since >= self._job.options.batch
        return due or self._drain.held() >= self._job.options.batch_size or self._drain.fullest() >= _URGENT

    def _is_pressed(self) -> bool:
        """True if the rings are too full for waiting."""
        return self._drain.fullest() >= _PRESSED

    def _write_in_order(self, batch: Batch) -> None:
        """Journal a batch, with fetched snapshots inserted by time."""
        fetched, start = self._snapshots.done, 0
        while fetched and fetched[0].time <= int(batch.slots["handoff"][-1]):
            stop = int(np.searchsorted(batch.slots["handoff"], fetched[0].time))
            if stop > start:
                self._write(batch.part(start, stop))
                start = stop
            self._write_fetched(fetched.popleft(), batch.first + start)
        self._write(batch.part(start, len(batch.slots)))
        self._frames.take(batch.slots)
        self._written_until = int(batch.slots["handoff"][-1])

    def _write_fetched(self, fetched: Fetched, following: int) -> None:
        # its time is slightly before it became visible here, but rows must be in order of time
        self._write(fetched._replace(time=max(fetched.time, self._written_until)).batch(following))

    def _write(self, batch: Batch) -> None:
        """Journal a batch, split where a file ends."""
        self._check_journal()
        for part, current in self._by_period(batch):
            full = self._journal_bytes >= self._job.options.rotate.bytes
            if self._period is not None and (current > self._period or full):
                self._rotate()
            self._period = max(current, self._period or 0)
            span = self._disk.retry(partial(self._append, part), JOURNAL_RESERVE)
            self._journal_bytes += int(part.slots["length"].sum())
            self._status.writer["journalled_bytes"] += span.stop - span.start
            self._parquet.put(self._journal, span, first_anchor(part))

    def _check_journal(self) -> None:
        """Switch to another journal if somebody deleted or truncated this one, or it cannot be appended to."""
        self._journal.look()
        if not self._journal.usable:
            self._disk.retry(self._replace_journal)

    def _append(self, batch: Batch) -> Span:
        if not self._journal.usable:
            self._replace_journal()
        return self._journal.append(batch)

    def _by_period(self, batch: Batch) -> list[tuple[Batch, int]]:
        """The batch split at the ends of files, with the period of each part."""
        self._follow_clock()
        times = batch.slots["handoff"].astype(np.int64) + self._ahead
        seconds = self._job.options.rotate.seconds
        first, last = (int(period(edge, seconds)) for edge in (np.min(times), np.max(times)))
        if first == last:
            return [(batch, first)]
        periods = period(times, seconds)
        cuts = [0, *(np.flatnonzero(np.diff(periods)) + 1).tolist(), len(batch.slots)]
        return [(batch.part(start, stop), int(periods[start])) for start, stop in itertools.pairwise(cuts)]

    def _follow_clock(self) -> None:
        """End the file at a step of UTC: what follows may have earlier times."""
        ahead = time.time_ns() - time.monotonic_ns()
        moved = abs(ahead - self._ahead)
        if moved < _NOISE_NS:
            return
        self._ahead = ahead
        if moved >= _STEP_NS and self._period is not None:
            self._rotate()
            self._period = None

    def _rotate(self) -> None:
        self._change(self._disk.retry(self._begin_journal))

    def _replace_journal(self) -> None:
        """Switch to a new journal, since data appended to this one would not be kept.

        Raises:
            OSError: none can be created.

        """
        old = self._journal
        old.restore(self._beat)
        self._change(self._begin_journal())
        if old.was_restored:
            what = "it was deleted while being written: its content was restored"
        elif old.cut and not old.broken:
            what = "it was truncated while being written: the removed part is lost unless rows were made of it"
        else:
            what = "a sync of it failed" if old.sync_failed else "a part of a batch could not be removed from its end"
        self._disk.note(f"{old.path.name}: {what}; the recording continues in a new journal, {self._journal.path.name}")

    def _change(self, journal: Journal) -> None:
        old, self._journal = self._journal, journal
        self._journal_bytes = 0
        self._sync.change(journal)
        self._parquet.finish(old)

    def _look(self, now: float) -> None:
        """Less urgent work, which must also run under constant load."""
        self._look_next = now + _LOOK_SECONDS
        self._beat()
        if self.moved_to is not None:
            raise FileNotFoundError(errno.ENOENT, "moved or renamed during the recording", str(self._folder))
        for request in self._instruments.due(now):
            self._snapshots.request(request)
        self._check_journal()
        self._follow_clock()
        current = int(period(np.int64(time.time_ns() - _GRACE_NS), self._job.options.rotate.seconds))
        if self._period is not None and current > self._period and not self._drain.pending():
            self._rotate()
            self._period = None

    def _beat(self) -> None:
        status, since = self._status.writer, self._waiting_since
        status["heartbeat"] = time.monotonic_ns()
        status["journal_lag_ns"] = 0 if since is None else int((time.monotonic() - since) * 1e9)
        ipc.flush()

    def _on_disk_trouble(self, trouble: bool) -> None:
        self._status.writer["disk_trouble"] = trouble
        self._beat()

    def _finish(self) -> ipc.SummaryLine:
        feeds = self._pipeline.feeds.values()
        self._snapshots.stop()
        while self._snapshots.done:
            self._write_fetched(self._snapshots.done.popleft(), self._drain.next)
        self._sync.stop()
        finished = bool(self._status.receiver["finished"])
        lost = {} if finished else unreported_losses(self._job.connections, self._rings, self._frames, self._began)
        self._parquet.end(lost, ring_counts(self._slots, self._rings, self._status))
        self._parquet.finish(self._journal)
        self._parquet.stop(self._beat)
        self._check_threads()
        try:
            heartbeat.end(self._folder)
            session_start.end(self._folder)
            self._folder.rmdir()
        except OSError as error:
            ipc.warn(
                f"{self._folder} cannot be deleted: {system_error(error)}",
                "it contains nothing of value; the next start tries again",
            )
        counts = total(feed.counts for feed in feeds)
        firsts = [feed.first_time for feed in feeds if feed.first_time is not None]
        lasts = [feed.last_time for feed in feeds if feed.last_time is not None]
        if self._orphaned:
            note = OrphanNote(
                session=self._job.session,
                lost_intervals=counts.lost_intervals,
                lost_from=self._parquet.lost_from,
                lost_to=self._parquet.lost_to,
                ended=max(lasts, default=None),
            )
            self._disk.retry(lambda: leave(Path(self._job.out), note))
        return ipc.SummaryLine(
            session=self._job.session,
            **counts.named(),
            files=[msgspec.to_builtins(line) for feed in feeds for line in feed.files],
            first_recv_time=min(firsts, default=None),
            last_recv_time=max(lasts, default=None),
        )

    def _act(self, action: ipc.Renew | ipc.Resubscribe | ipc.Settled | SnapshotRequest) -> None:
        if isinstance(action, SnapshotRequest):
            self._snapshots.request(action)
        else:
            ipc.emit(ipc.RequestLine(order=action))

    def _check_threads(self) -> None:
        for thread in (self._parquet, self._sync):
            if thread.failed is not None:
                raise thread.failed

    def _begin_journal(self) -> Journal:
        """Create the next journal.

        Raises:
            OSError: it cannot be created.

        """
        number = self._number + 1
        while (path := journal_path(self._folder, number)).exists():
            # left from an attempt that could neither complete nor delete it
            number += 1
        job = msgspec.json.encode(self._job.public())
        journal = Journal(path, number, job, segments=self._segments is not None)
        self._number = number
        return journal

    def _watch_stdin(self) -> None:
        reader = ipc.OrderReader()
        while (order := next((one for one in reader.read() if isinstance(one, ipc.Stop)), None)) is None:
            pass
        self._orphaned = order.orphaned
        if order.orphaned:
            self._wait_for_receiver()
        self._disk.set_deadline(_DISK_TIMEOUT)
        self._stopping = True

    def _wait_for_receiver(self) -> None:
        """Wait for the receiver's end or death; without a supervisor, no other process reports it."""
        deadline = time.monotonic() + shutdown.ORPHANED_RECEIVER.seconds
        while time.monotonic() < deadline and not self._status.receiver["finished"]:
            since = time.monotonic_ns() - int(self._status.receiver["heartbeat"])
            if since > _HEARTBEAT_TIMEOUT_NS:
                return
            time.sleep(0.05)


def _may_exist(folder: Path) -> bool:
    """True if a folder exists, or if that cannot be determined."""
    try:
        return folder.is_dir()
    except OSError:
        return True


def main() -> int:
    """Run one writer; the job is read from standard input."""
    ipc.report_to_parent()
    try:
        job = ipc.read_job(WriterJob)
    except msgspec.DecodeError as error:
        ipc.emit(ipc.FailedLine(message=f"the writer's job cannot be read: {error}"))
        return 1
    privilege.prefer_oom_kill()
    keep_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # keep Arrow's threads off the receiver's processor
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if job.cpu is not None and (refusal := privilege.pin(job.cpu)) is not None:
        ipc.warn(f"{refusal.what} was refused: {refusal.reason}", refusal.hint, kind=EventKind.PRIVILEGE)
    writer: Writer | None = None
    try:
        writer = Writer(job)
        summary = writer.run()
    except MemoryError as error:
        # Arrow's too
        what = str(error) or "the system grants no more"
        hint = "give the recorder more memory, or record fewer feeds; journalled data is kept"
        ipc.emit(ipc.FailedLine(message=f"the writer ran out of memory: {what}", hint=hint, again=True))
        return 1
    except NotAsWrittenError as error:
        hint = "check the disk: it lost data that it had accepted"
        ipc.emit(ipc.FailedLine(message=f"the writer failed: {error}", hint=hint, again=True))
        return 1
    except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        folder = session_folder(Path(job.out), job.session)
        output_deleted = writer.output_deleted if writer is not None else not _may_exist(folder)
        moved = writer.moved_to if writer is not None else None
        kept = f"journalled data is kept in {moved or folder}, and recovered by the next start"
        if moved is not None:
            kept += " in the folder that it belongs to, or by `wsrec recover`"
        hint = "record into a folder that is not deleted meanwhile" if output_deleted else kept
        left = writer.waiting() if writer is not None else 0
        lost = f"; {left:,} frames and events in the rings are lost" if left else ""
        lost += "; journalled data that is not yet in files is lost too" if output_deleted else ""
        ipc.emit(ipc.FailedLine(message=f"the writer failed: {error}{lost}", hint=hint))
        return 1
    ipc.emit(summary)
    return 0
