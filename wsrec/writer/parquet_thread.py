"""The writer's second thread: reads batches back from the journal, makes rows of them and finishes files."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from wsrec import ipc
from wsrec.format.moment import Moment
from wsrec.host import privilege
from wsrec.ring import loss_evidence
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since
from wsrec.writer.batch import Batch
from wsrec.writer.disk import NotAsWrittenError, RetryingDisk
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import Span, rewritten_path
from wsrec.writer.journal_reader import JournalReader, JournalTail
from wsrec.writer.journal_recovery import DoneJournals, JournalRecovery, set_journal_aside
from wsrec.writer.ledger import RingCounts
from wsrec.writer.messages import interval
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.progress import Progress
from wsrec.writer.utc_line import StoredAnchor

# How long a batch waits for the anchor behind it; there are ten a second (s)
_ANCHOR_TIMEOUT = 1.0
# Interval of less urgent work while the thread ends (s)
_LOOK_SECONDS = 0.02


class _Batch(NamedTuple):
    """A batch in this journal, and its first anchor."""

    journal: Journal
    span: Span
    anchor: StoredAnchor | None


class _Finish(NamedTuple):
    """Finish the files of this journal, which may then be deleted."""

    journal: Journal


class _End(NamedTuple):
    """The session ends; nothing follows."""

    lost: dict[int, Since]
    rings: RingCounts


_Item = _Batch | _Finish | _End


class ParquetThread(threading.Thread):
    """Runs the pipeline behind the journal.

    Args:
        pipeline: the pipeline.
        disk: the policy for disk errors.
        out: the output folder.
        progress: knows the batch that the previous process died of.
        recovery: the journals to recover first; None in a new session.
        rings_from: the count of the first slot in the rings when this writer started.
        resumed: when this writer took over; None in a new session.
        restart: detail of the event about the restart.

    Attributes:
        failed: the exception that ended it.
        lost_from, lost_to: interval that the receiver did not report, ns since the epoch; None if there is none.

    """

    def __init__(
        self,
        pipeline: Pipeline,
        disk: RetryingDisk,
        out: Path,
        progress: Progress,
        recovery: JournalRecovery | None = None,
        rings_from: int = 0,
        resumed: Moment | None = None,
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
        # journals that are partly unreadable
        self._doubtful: set[Path] = set()
        self._done = DoneJournals(self._on_stuck)
        self._progress = progress
        self._recovery = recovery
        self._rings_from = rings_from
        self._restart = restart or {}
        # until that is recorded
        self._resumed = resumed

    def put(self, journal: Journal, span: Span, anchor: StoredAnchor | None = None) -> None:
        """Queue a journalled batch, with the first anchor in it."""
        self._queue.put(_Batch(journal, span, anchor))

    def finish(self, journal: Journal) -> None:
        """Queue the finishing of this journal's files."""
        self._queue.put(_Finish(journal))

    def end(self, lost: dict[int, Since], rings: RingCounts) -> None:
        """Queue the session's end, with the losses that a dead receiver did not report (`receiver_loss`)."""
        self._queue.put(_End(lost, rings))

    def stop(self, meanwhile: Callable[[], None]) -> None:
        """End the thread after everything queued, and wait for it; `meanwhile` is called repeatedly."""
        self._queue.put(None)
        while self.is_alive():
            meanwhile()
            self.join(_LOOK_SECONDS)
        if self.failed is None and self._journals:
            ipc.warn("the last message is incomplete; its fragments were discarded")
            self._drop_journals()
        self._done.delete()
        if self.failed is None:
            self._progress.end()

    def run(self) -> None:
        """Process the queue, until stopped."""
        try:
            self.recover()
            for item, ahead in self._items():
                self._do(item, ahead)
        except Exception as error:  # noqa: BLE001 (reported by the main thread; the journal has everything)
            self.failed = error

    def recover(self) -> None:
        """Finish the work of the previous writer.

        Raises:
            OSError: the disk failed.

        """
        if self._recovery is not None:
            actions = self._pipeline.actions
            if actions is not None:
                # the previous writer has executed most of these actions
                actions.hold()
            self._recovery.recover(
                self._pipeline, self._disk, self._rings_from, self._report_of_damage, self._done, self._progress
            )
            self._journals = self._recovery.journals
            if actions is not None:
                actions.release()

    def _report_of_damage(self, path: Path, reader: JournalReader) -> None:
        # a torn end is normal after a kill during a write: the rings still have that data
        if reader.damaged:
            self._disk.note(f"{path.name}: {reader.skipped:,} bytes are damaged; the rest was read")

    def _on_stuck(self, path: Path, error: OSError) -> None:
        self._disk.note(f"{path.name} cannot be deleted: {error}; all of it is in files; retrying later")

    def _items(self) -> Iterator[tuple[_Item, StoredAnchor | None]]:
        """The queued items in order; a batch waits until the next anchor behind it is known, and is paired with it."""
        held: deque[_Item] = deque()
        until = math.inf
        while True:
            item, anchor, ended = None, None, False
            # after this wait the receiver is dead or hangs
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
        # only after the first rows, which determine the hour of the file
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
            # its sync failed, and it may have been rewritten in time
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
                reason="the receiver died without reporting its end",
                from_evidence=since.evidence,
                to_evidence=loss_evidence.SESSION_END,
                bound=since.bound,
            )
        self._pipeline.report_uninflated()
        for feed in self._pipeline.feeds.values():
            rings = item.rings.detail(feed.conns)
            feed.event(now, EventKind.SESSION_END, **feed.counts.named("rows"), **rings)
        self._pipeline.end_warnings()

    def _finish(self, item: _Finish) -> None:
        self._pipeline.finish(item.journal.number)
        item.journal.reading.close()
        self._journals.append(item.journal.path)
        # the journal with the beginning of an incomplete message stays until the message's file is finished
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
