"""The writer process: rings to journal on one thread, journal to rows on another, and others for Parquet and the disk.

The first thread never waits for the others: it copies what is published, appends it to the journal and gives the rings
back to the receiver. The second reads the same batches out of the journal, makes rows of them and finishes files; how
far it is behind costs no memory, only the journal's room on the disk. A third encodes row groups (`output.Encoder`),
and a fourth has the journal on the disk (`sync`).

A writer that resumes a session drains the rings from its first moment, from where the one before gave them back, into a
journal of its own. Its second thread recovers what that one left (`journal_recovery`) before it takes the first batch.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from wsrec import ipc, shutdown
from wsrec.counts import total
from wsrec.format import claim, heartbeat
from wsrec.format.layout import period, session_folder
from wsrec.format.moment import Moment
from wsrec.host import privilege
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.writer import session_start
from wsrec.writer.batch import Batch, Drain
from wsrec.writer.disk import JOURNAL_RESERVE, NotAsWrittenError, RetryingDisk
from wsrec.writer.job import WriterJob
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import Span, journal_path, rewritten_path
from wsrec.writer.journal_reader import JournalReader, JournalTail
from wsrec.writer.journal_recovery import DoneJournals, JournalRecovery, set_journal_aside
from wsrec.writer.ledger import RingCounts, ring_counts
from wsrec.writer.orphan import Orphan, leave
from wsrec.writer.pipeline import Pipeline, interval
from wsrec.writer.progress import Progress
from wsrec.writer.receiver_loss import LastFrames, unreported_losses
from wsrec.writer.snapshots import Fetched, SnapshotRequest, SnapshotThread
from wsrec.writer.sync import SyncThread
from wsrec.writer.utc_line import StoredAnchor, first_anchor

_POLL_SECONDS = 0.002
# How often it looks after what is not urgent: looking costs more than asking whether something was published
_LOOK_SECONDS = 0.02
# How long the Parquet thread may keep the interpreter from the one that empties the rings
_SWITCH_SECONDS = 0.0005
# A ring this full is drained without waiting for the batch's time
_URGENT = 0.125
_GRACE_NS = 1_000_000_000
# UTC and CLOCK_MONOTONIC are slewed together: a difference that changed by more than it takes to read them was set, and
# by more than this it ends the file
_NOISE_NS = 1_000_000
_STEP_NS = 500_000_000
# A receiver tells of itself ten times a second, and when it is finished; it may have to read a backlog before
_SILENCE_NS = 3_000_000_000
# How long a batch waits for the anchor behind it, which comes ten times a second
_ANCHOR_TIMEOUT = 1.0
_DISK_TIMEOUT = shutdown.DISK.seconds


class _Batch(NamedTuple):
    """A batch that stands in this journal, and its first anchor."""

    journal: Journal
    span: Span
    anchor: StoredAnchor | None


class _Finish(NamedTuple):
    """Finish the files of this journal, which can go afterwards."""

    journal: Journal


class _End(NamedTuple):
    """Nothing comes after what was put before."""

    lost: dict[int, Since]
    rings: RingCounts


_Item = _Batch | _Finish | _End


class ParquetThread(threading.Thread):
    """Runs the pipeline behind the journal.

    Args:
        pipeline: what it runs.
        disk: what to do when the disk refuses.
        out: the output folder.
        progress: knows what the one before died of.
        recovery: what to bring home first; None in a new session.
        rings_from: the count of the first slot that the rings had when this writer came.
        restart: detail of the event that tells that it came in place of another.

    Attributes:
        failed: the exception that ended it.
        lost_from, lost_to: what its receiver has left unsaid, ns since the epoch; None where it has not.

    """

    def __init__(
        self,
        pipeline: Pipeline,
        disk: RetryingDisk,
        out: Path,
        progress: Progress,
        recovery: JournalRecovery | None = None,
        rings_from: int = 0,
        restart: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(name="parquet", daemon=True)
        self.failed: Exception | None = None
        self.lost_from: int | None = None
        self.lost_to: int | None = None
        self._disk = disk
        self._out = out
        self._pipeline = pipeline
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._journals: list[Path] = []
        # those of which something could not be read
        self._doubtful: set[Path] = set()
        self._done = DoneJournals(self._on_stuck)
        self._progress = progress
        self._recovery = recovery
        self._rings_from = rings_from
        self._restart = restart or {}
        # when this writer came, until that is recorded
        self._resumed: Moment | None = None

    def put(self, journal: Journal, span: Span, anchor: StoredAnchor | None = None) -> None:
        """Hand a batch over that was journalled, with the first anchor in it."""
        self._queue.put(_Batch(journal, span, anchor))

    def finish(self, journal: Journal) -> None:
        """Have the files of this journal finished after what was put before."""
        self._queue.put(_Finish(journal))

    def end(self, lost: dict[int, Since], rings: RingCounts) -> None:
        """Have the session's end recorded, and what a receiver that died has left unsaid (`receiver_loss`)."""
        self._queue.put(_End(lost, rings))

    def stop(self, meanwhile: Callable[[], None]) -> None:
        """Let the thread end after all that was put, and wait for it; `meanwhile` is called again and again."""
        self._queue.put(None)
        while self.is_alive():
            meanwhile()
            self.join(_LOOK_SECONDS)
        if self.failed is None and self._journals:
            ipc.warn("a message had begun and never ended; what had come of it was discarded")
            self._drop_journals()
        self._done.delete()
        if self.failed is None:
            self._progress.end()

    def run(self) -> None:
        """Do what is queued, until stopped."""
        try:
            self.recover()
            for item, ahead in self._items():
                self._do(item, ahead)
        except Exception as error:  # noqa: BLE001 (told to the operator by the main thread; the journal has everything)
            self.failed = error

    def recover(self) -> None:
        """Finish what the writer before this one left.

        Raises:
            OSError: the disk failed.

        """
        if self._recovery is not None:
            self._resumed = Moment.now()
            wishes = self._pipeline.wishes
            if wishes is not None:
                # who left it has acted upon most of it
                wishes.hold()
            self._recovery.recover(
                self._pipeline, self._disk, self._rings_from, self._report_of_damage, self._done, self._progress
            )
            self._journals = self._recovery.journals
            if wishes is not None:
                wishes.release()

    def _report_of_damage(self, path: Path, reader: JournalReader) -> None:
        # a torn end is what a writer leaves that is killed while it writes: the rings have that still
        if reader.damaged:
            self._disk.note(f"{path.name}: {reader.skipped:,} bytes are not what was written; the rest of it was read")

    def _on_stuck(self, path: Path, error: OSError) -> None:
        self._disk.note(f"{path.name} cannot be deleted: {error}; all of it is in files, and it is tried again later")

    def _items(self) -> Iterator[tuple[_Item, StoredAnchor | None]]:
        """What is queued, in order; a batch waits until the anchor behind it is known, which comes with it."""
        held: deque[_Item] = deque()
        until = math.inf
        while True:
            item, anchor, ended = None, None, False
            # who waits in vain has a receiver that is dead or hangs
            if (left := until - time.monotonic()) > 0:
                with contextlib.suppress(Empty):
                    item = self._queue.get(timeout=None if math.isinf(left) else left)
                    ended = item is None
            if isinstance(item, _Batch):
                anchor = item.anchor
            if item is None or anchor is not None or isinstance(item, _End):
                while held:
                    yield held.popleft(), anchor
                until = math.inf
            if ended:
                return
            if isinstance(item, _Batch) and not held:
                until = time.monotonic() + _ANCHOR_TIMEOUT
            if item is not None:
                held.append(item)
            while held and not isinstance(held[0], _Batch):
                yield held.popleft(), None

    def _do(self, item: _Item, ahead: StoredAnchor | None) -> None:
        self._record_trouble()
        if isinstance(item, _Batch):
            self._take(item, ahead)
        # not before the first rows: they say which hour's file this is
        self._record_resumption()
        if isinstance(item, _Finish):
            self._finish(item)
        elif isinstance(item, _End):
            self._record_end(item)

    def _take(self, item: _Batch, ahead: StoredAnchor | None) -> None:
        journal, span, _ = item
        try:
            batch = self._disk.retry(lambda: self._read(journal, span))
        except NotAsWrittenError as error:
            # where its sync failed, and it was written anew in time
            moved = journal.moved.get(span.start)
            if moved is None:
                self._disk.note(f"{journal.path.name}: {error}: {span.next - span.first:,} frames and events are lost")
                self._doubtful.add(journal.path)
                self._pipeline.expect(span.next)
                return
            tail = JournalTail(rewritten_path(journal.path))
            batch = tail.read(moved)
            tail.close()
        self._progress.take(self._pipeline, batch, journal.number, ahead)

    def _read(self, journal: Journal, span: Span) -> Batch:
        return journal.reading.read(span, journal.synced)

    def _record_trouble(self) -> None:
        while self._disk.over:
            ended, duration, message = self._disk.over.popleft()
            self._pipeline.event(ended, EventKind.DISK, message=message, duration_ns=duration)

    def _record_resumption(self) -> None:
        if self._resumed is not None:
            self._pipeline.begin_session(self._resumed)
            self._pipeline.event(self._resumed, EventKind.RESTART, **{"process": "writer", **self._restart})
            self._pipeline.event(self._resumed, EventKind.SCHEDULING, process="writer", **privilege.in_force())
            self._resumed = None

    def _record_end(self, item: _End) -> None:
        now = Moment.now()
        self._pipeline.report_lost(now)
        for conn, since in item.lost.items():
            self.lost_from, self.lost_to = now.before(since.time), now.utc
            self._pipeline.event(
                now,
                EventKind.LOST_INTERVAL,
                conn=conn,
                **interval(Moment(now.before(since.time), since.time), now),
                reason="the receiver ended without its last word",
                from_evidence=since.evidence,
                to_evidence=loss_evidence.SESSION_END,
                bound=since.bound,
            )
        self._pipeline.report_uninflated()
        for feed in self._pipeline.feeds.values():
            rings = item.rings.detail(feed.conns)
            feed.end_session(now, **feed.counts.named("rows"), **rings)
        self._pipeline.end_warnings()

    def _finish(self, item: _Finish) -> None:
        self._pipeline.finish(item.journal.number)
        item.journal.reading.close()
        self._journals.append(item.journal.path)
        # the journal that holds the beginning of an unfinished message stays until the message's file has landed
        if not self._pipeline.pending:
            self._drop_journals()

    def _drop_journals(self) -> None:
        for path in self._journals:
            if path in self._doubtful:
                self._disk.retry(lambda path=path: set_journal_aside(self._out, path))  # type: ignore[misc]
            else:
                self._done.add(path)
        self._journals.clear()
        self._done.delete()


class Writer:
    """One writer process's work."""

    def __init__(self, job: WriterJob) -> None:
        self._job = job
        self._folder = session_folder(Path(job.out), job.session)
        if not job.resume and any(path.name not in session_start.FILES for path in self._folder.glob("*")):
            raise FileExistsError(f"{self._folder} is of another session: a name is never used again")
        self._status = StatusPage(job.status)
        self._waiting_since: float | None = None
        self._disk = RetryingDisk(self._on_disk_trouble, self._folder, job.reserve)
        # for as long as this process lives
        self._claim = self._disk.retry(lambda: claim.hold(self._folder))
        # where the disk refused it to the supervisor
        self._disk.retry(lambda: session_start.write(self._folder, job))
        self._disk.retry(lambda: heartbeat.begin(self._folder))
        rings = {
            plan.conn: ByteRing(fd, populate=job.populate and plan.standby_of is None)
            for plan, fd in zip(job.connections, job.rings, strict=True)
        }
        self._slots, self._rings = SlotRing(job.slots), rings
        self._drain = Drain(self._slots, rings, ByteRing(job.control_ring))
        self._orphaned = False
        self._began = job.began or time.monotonic_ns()
        self._frames = LastFrames()
        # hand-off (ns on the stage clock) of the last slot that was journalled
        self._written_until = 0
        self._snapshots = SnapshotThread(job.ca_file, {feed.name: feed.proxies for feed in job.feeds})
        self._pipeline = Pipeline(job, self._folder, self._status, disk=self._disk, ask=self._ask)
        recovery = self._disk.retry(lambda: JournalRecovery(Path(job.out), self._folder)) if job.resume else None
        self._parquet = ParquetThread(
            self._pipeline,
            self._disk,
            Path(job.out),
            self._disk.retry(lambda: Progress(self._folder, self._disk)),
            recovery,
            self._drain.next,
            job.restart,
        )
        self._number = 0 if recovery is None else recovery.next_number - 1
        self._journal = self._disk.retry(self._begin_journal)
        self._sync = SyncThread(self._journal, self._job.fsync_seconds, self._disk)
        self._period: int | None = None
        # what turns the stage clock into the time by which files end
        self._ahead = time.time_ns() - time.monotonic_ns()
        self._journal_bytes = 0
        self._look_next = 0.0
        self._stopping = False
        self._on_disk_trouble(False)

    @property
    def bereft(self) -> bool:
        """Whether what was journalled is gone: somebody deleted it, and it could not be written anew."""
        return self._journal.deleted or (self.moved_to is None and not _may_be_there(self._folder))

    @property
    def moved_to(self) -> str | None:
        """Where the session's folder is now that somebody moved it or one above it; None where nobody did."""
        held = os.fstat(self._claim)
        try:
            moved = not os.path.samestat(self._folder.stat(), held)
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        except OSError:
            return None
        return claim.place(self._claim) if moved and held.st_nlink else None

    def waiting(self) -> int:
        """Frames and events in the rings that are in no journal."""
        return self._slots.published.read() - self._slots.released.read()

    def run(self) -> ipc.SummaryLine:
        """Write until told to stop, then everything that is left, and finish all files.

        Raises:
            OSError: the output is gone for good, or Parquet could not be written; the journal is left for recovery.

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
                    self._write_in_order(batch)
                    self._drain.release()
                self._waiting_since = None
            elif stopping:
                break
            else:
                time.sleep(_POLL_SECONDS)
            self._check_threads()
        return self._finish()

    def _is_due(self, now: float) -> bool:
        """Whether what is pending is to be journalled now."""
        due = self._waiting_since is not None and now - self._waiting_since >= self._job.batch_seconds
        return due or self._drain.held() >= self._job.batch_bytes or self._drain.fullest() >= _URGENT

    def _write_in_order(self, batch: Batch) -> None:
        """Journal a batch, and what was fetched meanwhile where it belongs by its time."""
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
        # it has its time a moment before it can be seen here, and rows come in order of time
        self._write(fetched._replace(time=max(fetched.time, self._written_until)).batch(following))

    def _write(self, batch: Batch) -> None:
        """Journal a batch, cut where a file ends."""
        self._check_journal()
        for part, current in self._by_period(batch):
            full = self._journal_bytes >= self._job.rotate_bytes
            if self._period is not None and (current > self._period or full):
                self._rotate()
            self._period = max(current, self._period or 0)
            span = self._disk.retry(partial(self._append, part), JOURNAL_RESERVE)
            self._journal_bytes += int(part.slots["length"].sum())
            self._status.writer["journalled_bytes"] += span.stop - span.start
            self._parquet.put(self._journal, span, first_anchor(part))

    def _check_journal(self) -> None:
        """Go on in another journal where somebody deleted or cut this one, or what is appended is not kept."""
        self._journal.look()
        if not self._journal.usable:
            self._disk.retry(self._go_on_anew)

    def _append(self, batch: Batch) -> Span:
        if not self._journal.usable:
            self._go_on_anew()
        return self._journal.append(batch)

    def _by_period(self, batch: Batch) -> list[tuple[Batch, int]]:
        """The batch cut where a file ends by the time, and the file's period of each part."""
        self._follow_clock()
        times = batch.slots["handoff"].astype(np.int64) + self._ahead
        seconds = self._job.rotate_seconds
        first, last = (int(period(edge, seconds)) for edge in (times.min(), times.max()))
        if first == last:
            return [(batch, first)]
        periods = period(times, seconds)
        cuts = [0, *(np.flatnonzero(np.diff(periods)) + 1).tolist(), len(batch.slots)]
        return [(batch.part(start, stop), int(periods[start])) for start, stop in itertools.pairwise(cuts)]

    def _follow_clock(self) -> None:
        """End the file where the clock was set: what follows is of another time, be it an earlier one."""
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

    def _go_on_anew(self) -> None:
        """Go on in another journal, where what is appended to this one would not be kept.

        Raises:
            OSError: none can be begun.

        """
        old = self._journal
        old.restore(self._beat)
        self._change(self._begin_journal())
        if old.restored:
            what = "it was deleted while it was written: what it held is written anew"
        elif old.cut and not old.broken:
            what = "it was cut while it was written: what was cut off is lost where no row was made of it yet"
        else:
            what = "a sync of it failed" if old.doubtful else "a part of a batch could not be taken back from its end"
        self._disk.note(f"{old.path.name}: {what}; the recording goes on in a new journal, {self._journal.path.name}")

    def _change(self, journal: Journal) -> None:
        old, self._journal = self._journal, journal
        self._journal_bytes = 0
        self._sync.change(journal)
        self._parquet.finish(old)

    def _look(self, now: float) -> None:
        """Look after what is not urgent, also where there is always something to write."""
        self._look_next = now + _LOOK_SECONDS
        self._beat()
        if self.moved_to is not None:
            raise FileNotFoundError(errno.ENOENT, "moved or renamed while it was recorded into", str(self._folder))
        self._check_journal()
        self._follow_clock()
        current = int(period(np.int64(time.time_ns() - _GRACE_NS), self._job.rotate_seconds))
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
                f"{self._folder} cannot be deleted: {error}", "nothing in it is missed; the next start tries again"
            )
        counts = total(feed.counts for feed in feeds)
        if self._orphaned and counts.lost_intervals:
            note = Orphan(
                session=self._job.session,
                lost_intervals=counts.lost_intervals,
                lost_from=self._parquet.lost_from,
                lost_to=self._parquet.lost_to,
            )
            self._disk.retry(lambda: leave(Path(self._job.out), note))
        firsts = [feed.first_time for feed in feeds if feed.first_time is not None]
        lasts = [feed.last_time for feed in feeds if feed.last_time is not None]
        return ipc.SummaryLine(
            session=self._job.session,
            **counts.named(),
            files=[msgspec.to_builtins(line) for feed in feeds for line in feed.files],
            first_recv_time=min(firsts, default=None),
            last_recv_time=max(lasts, default=None),
        )

    def _ask(self, wish: ipc.Renew | ipc.Resubscribe | ipc.Settled | SnapshotRequest) -> None:
        if isinstance(wish, SnapshotRequest):
            self._snapshots.ask(wish)
        else:
            ipc.emit(ipc.RequestLine(order=wish))

    def _check_threads(self) -> None:
        for thread in (self._parquet, self._sync):
            if thread.failed is not None:
                raise thread.failed

    def _begin_journal(self) -> Journal:
        """The next journal.

        Raises:
            OSError: it cannot be created.

        """
        number = self._number + 1
        while (path := journal_path(self._folder, number)).exists():
            # one that could not be begun, nor deleted
            number += 1
        journal = Journal(path, number, msgspec.json.encode(self._job.public()))
        self._number = number
        return journal

    def _watch_stdin(self) -> None:
        reader = ipc.OrderReader()
        while (order := next((one for one in reader.read() if isinstance(one, ipc.Stop)), None)) is None:
            pass
        self._orphaned = order.orphaned
        if order.orphaned:
            self._outlast_receiver()
        self._disk.set_deadline(_DISK_TIMEOUT)
        self._stopping = True

    def _outlast_receiver(self) -> None:
        """Without a supervisor that would tell us once the receiver has ended: wait for its last word, or its death."""
        deadline = time.monotonic() + shutdown.ORPHANED_RECEIVER.seconds
        while time.monotonic() < deadline and not self._status.receiver["finished"]:
            silence = time.monotonic_ns() - int(self._status.receiver["heartbeat"])
            if silence > _SILENCE_NS:
                return
            time.sleep(0.05)


def _may_be_there(folder: Path) -> bool:
    """Whether a folder is there, also where nobody may look."""
    try:
        return folder.is_dir()
    except OSError:
        return True


def main() -> int:
    """Run one writer; the job comes on standard input."""
    ipc.never_wait()
    try:
        job = ipc.read_job(WriterJob)
    except msgspec.DecodeError as error:
        ipc.emit(ipc.FailedLine(message=f"the writer got no job: {error}"))
        return 1
    privilege.prefer_oom_kill()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # the receiver's processor is not for Arrow's threads
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if job.cpu is not None and (refusal := privilege.pin(job.cpu)) is not None:
        ipc.warn(f"{refusal.what} was refused: {refusal.reason}", refusal.hint)
    writer: Writer | None = None
    try:
        writer = Writer(job)
        summary = writer.run()
    except MemoryError as error:
        # also Arrow's
        what = str(error) or "no more is to be had"
        hint = "give the recorder more memory, or record fewer feeds; what was journalled is kept"
        ipc.emit(ipc.FailedLine(message=f"the writer ran out of memory: {what}", hint=hint, again=True))
        return 1
    except NotAsWrittenError as error:
        hint = "see to the disk: it lost what it had taken"
        ipc.emit(ipc.FailedLine(message=f"the writer failed: {error}", hint=hint, again=True))
        return 1
    except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
        folder = session_folder(Path(job.out), job.session)
        bereft = writer.bereft if writer is not None else not _may_be_there(folder)
        moved = writer.moved_to if writer is not None else None
        kept = f"what was journalled is kept in {moved or folder}, and recovered by the next start"
        if moved is not None:
            kept += " into the folder that it belongs to, or by `wsrec recover`"
        hint = "record into a folder that nobody deletes meanwhile" if bereft else kept
        left = writer.waiting() if writer is not None else 0
        lost = f"; {left:,} frames and events that waited in the rings are lost" if left else ""
        lost += "; what was journalled and is in no file yet is lost too" if bereft else ""
        ipc.emit(ipc.FailedLine(message=f"the writer failed: {error}{lost}", hint=hint))
        return 1
    ipc.emit(summary)
    return 0
