"""Crash recovery: replays a dead writer's journals of one session into Parquet.

Used both by a writer that resumes the session, whose rings still exist, and by recovery from the disk alone. It may be
interrupted anywhere and repeated: a journal is deleted only after its files are finished, anything in the way of a file
is set aside under `.wsrec/aside`, and slots that are in two journals become rows once (`Pipeline.take`).
"""

from __future__ import annotations

import errno
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec
import pyarrow as pa

from wsrec.decode.reader import Ids
from wsrec.format import manifest
from wsrec.format.folders import matching, parquet_files
from wsrec.format.layout import KINDS, aside_folder
from wsrec.format.stored_json import decode_stored
from wsrec.format.unfinished import RECORD
from wsrec.ring.events import EventKind
from wsrec.writer import session_start
from wsrec.writer.batch import Batch
from wsrec.writer.disk import NO_RETRY, Disk
from wsrec.writer.finished_files import (
    about,
    announces_end,
    follow_landed,
    last_about,
    last_anchor,
    last_row,
    records_restart,
)
from wsrec.writer.job import WriterJob
from wsrec.writer.journal_format import delete, files_of, journals
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.progress import Progress
from wsrec.writer.utc_line import StoredAnchor, first_anchor


class RecoveryStoppedError(Exception):
    """A recovery was asked to stop; another one completes it."""


class JournalRecovery:
    """The state of a session on the disk, and its recovery.

    Args:
        out: the output folder.
        folder: the session's folder in it; its name is the session's id.

    Attributes:
        journals: the pending journals, in order; after `recover`, those with the beginning of an incomplete message.
        lines: the session's lines in the manifest.

    Raises:
        OSError: the disk failed.
        OtherVersionError: the manifest has a line of another version of the format.
        msgspec.ValidationError: the manifest has a line that wsrec does not write.

    """

    def __init__(self, out: Path, folder: Path) -> None:
        self._out = out
        self._folder = folder
        self.journals = journals(folder)
        # restarts that are recorded, by feed and moment (ns on the stage clock)
        self._restarts: set[tuple[str, int]] = set()
        self.lines = [line for line in manifest.read(out) if line.session == folder.name]
        present = {number_of(path) for path in self.journals}
        # a journal is deleted only after every feed's files are finished
        self._done = [line for line in self.lines if line.number not in present]
        self._last = max(present | {line.number for line in self.lines}, default=0)
        # the files of a number are finished before those of the next are started
        self._landed_before = max((line.number for line in self.lines), default=0)

    @property
    def next_number(self) -> int:
        """The number of the session's next journal."""
        return self._last + 1

    def job(self) -> WriterJob | None:
        """The job of the dead writer; None if neither a journal nor the session file has it.

        Raises:
            OtherVersionError: they are of another version of the format.
            ValueError: it is damaged; the message names the file.

        """
        for path in self.journals:
            try:
                reader = JournalReader(path)
            except pa.ArrowInvalid:
                continue
            try:
                job = decode_stored(reader.job, WriterJob)
            except msgspec.DecodeError as error:
                raise ValueError(f"{path}: its job is damaged ({error})") from error
            source = path
            break
        else:
            noted = session_start.read(self._folder)
            if noted is None:
                return None
            job, source = noted, self._folder / RECORD
        misplaced = job.misplaced_in(self._folder.name)
        if misplaced is not None:
            raise ValueError(f"{source}: its job is damaged ({misplaced})")
        return msgspec.structs.replace(job, out=str(self._out))

    def unreported(self, feeds: Collection[str]) -> set[str]:
        """The feeds whose files do not record the session's end, orderly or interrupted.

        Raises:
            OSError: the manifest cannot be read.

        """
        left = set(feeds)
        if left:
            for line in sorted(manifest.read(self._out), key=lambda line: line.number, reverse=True):
                if line.session == self._folder.name and line.feed in left and announces_end(self._out, line):
                    left.remove(line.feed)
        return left

    def last_readable(self) -> Path | None:
        """The last journal with a valid beginning."""
        for path in reversed(self.journals):
            try:
                JournalReader(path)
            except pa.ArrowInvalid:
                continue
            return path
        return None

    def recover(
        self,
        pipeline: Pipeline,
        disk: Disk = NO_RETRY,
        rings_from: int | None = None,
        before_finish: Callable[[Path, JournalReader], None] = lambda _path, _reader: None,
        done: DoneJournals | None = None,
        progress: Progress | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """Run every journal through a new pipeline, which may continue afterwards, and delete them.

        A journal that is partly unreadable is set aside, unless the rings still had that part.

        Args:
            pipeline: of the session's job.
            disk: the policy for disk errors.
            rings_from: the count of the first slot still in the rings; None if they are gone.
            before_finish: called with each journal and its reader after its rows were taken.
            done: deletes the journals.
            progress: knows the batch that the previous process died of.
            is_stopped: called before each batch; True leaves the rest for another recovery.

        Returns:
            The number of rows recovered.

        Raises:
            OSError: the disk is full or failed.
            RecoveryStoppedError: `is_stopped` came true; what was not finished is as after a kill.

        """
        done = done or DoneJournals(_raise)
        progress = progress or Progress(self._folder)
        self.clear_way(disk)
        anchors = _anchors(self.journals)
        self.prepare(pipeline, anchors[0][1] if anchors else None)
        rows = 0
        whole: list[Path] = []
        partly_unreadable: list[Path] = []
        for path in self.journals:
            number = number_of(path)
            if not self.begin(pipeline, number):
                # it could not be deleted then
                whole.append(path)
                continue
            try:
                reader = JournalReader(path)
            except pa.ArrowInvalid:
                # killed or truncated before it had a beginning: nothing in it can be read
                partly_unreadable.append(path)
                continue
            for batch in reader:
                if is_stopped():
                    raise RecoveryStoppedError
                if pipeline.active:
                    progress.take(pipeline, batch, number, _behind(anchors, batch))
                else:
                    # for the beginning of a message that the next journal completes
                    pipeline.remember(batch)
            if pipeline.active:
                self.record_restart(pipeline, reader)
                pipeline.begin_session()
                before_finish(path, reader)
                rows += sum(line.rows for line in pipeline.finish(number))
            (partly_unreadable if reader.torn or reader.damaged else whole).append(path)
            if not pipeline.pending:
                done.delete(whole)
                whole.clear()
        pipeline.active = set(pipeline.feeds)
        pipeline.skip_to(self._next_slot(self.next_number))
        if rings_from is not None:
            pipeline.expect(rings_from)
        if rings_from is None or pipeline.lost_slots:
            self._set_aside(partly_unreadable, disk)
        if not pipeline.pending:
            done.delete(partly_unreadable)
            partly_unreadable.clear()
        self.journals = sorted([*whole, *partly_unreadable])
        return rows

    def begin(self, pipeline: Pipeline, number: int) -> bool:
        """Make a pipeline ready for the journal of this number; False if all of that is in finished files."""
        if self._is_finished(number):
            return False
        pipeline.skip_to(self._next_slot(number))
        pipeline.active = self._lacking(number, pipeline.feeds)
        return True

    def _lacking(self, number: int, feeds: Iterable[str]) -> set[str]:
        """The feeds without files of this number."""
        if number < self._landed_before:
            return set()
        return set(feeds) - {line.feed for line in self.lines if line.number == number}

    def _set_aside(self, journals: list[Path], disk: Disk) -> None:
        for path in journals:
            disk.retry(lambda path=path: set_journal_aside(self._out, path))  # type: ignore[misc]
        journals.clear()

    def _is_finished(self, number: int) -> bool:
        """Whether the files of a journal of this number are finished, and those of the next are begun."""
        return number < self._landed_before and (number + 1) in {line.number for line in self._done}

    def record_restart(self, pipeline: Pipeline, reader: JournalReader) -> None:
        """Record that the writer of this journal took over from another one, in each feed whose files lack that."""
        try:
            job = decode_stored(reader.job, WriterJob)
        except msgspec.DecodeError:
            return
        if job.resumed is None or job.resumed.stage is None:
            return
        for feed in pipeline.active:
            if (feed, job.resumed.stage) in self._restarts:
                continue
            self._restarts.add((feed, job.resumed.stage))
            own = [line for line in self.lines if line.feed == feed]
            if not records_restart(self._out, own, job.resumed.stage):
                pipeline.feeds[feed].event(job.resumed, EventKind.RESTART, **{"process": "writer", **job.restart})

    def prepare(self, pipeline: Pipeline, anchor: StoredAnchor | None) -> None:
        """Make the pipeline continue where the finished files end; `anchor` is the first one in the journals."""
        # behind these, each feed reads the journals of the files that it lacks
        closed = max((line.number for line in self._done), default=0)
        pipeline.continue_from(self.lines, last_row(self._out, self.lines), max(closed, self._landed_before - 1))
        for feed in pipeline.feeds:
            done = sorted((line for line in self._done if line.feed == feed), key=lambda line: line.number)
            known = last_about(self._out, done)
            if known is not None:
                pipeline.describe(known)
            own = sorted((line for line in self.lines if line.feed == feed), key=lambda line: line.number)
            # even if its journal still exists: finished rows are not read from it again
            last = last_about(self._out, own) or {}
            pipeline.feeds[feed].restore(msgspec.convert(last.get("ids") or {}, Ids, strict=False))
            follow_landed(self._out, own, pipeline.feeds[feed])
        landed = last_anchor(self._out, self._done)
        if landed is not None:
            pipeline.follow_clock(landed)
        elif anchor is not None:
            # the best available for anything before it
            pipeline.follow_clock(anchor)

    def _next_slot(self, number: int) -> int:
        """The count of the first slot not in finished files before this number whose journals were deleted."""
        done = sorted((line for line in self._done if line.number < number), key=lambda line: line.number)
        counts = (found.get("next_slot") for line in reversed(done) if (found := about(self._out, line)))
        known = next((count for count in counts if isinstance(count, int)), None)
        # if no file can be read, the manifest has it; a session's slots are counted from 0
        return max((line.ledger.stop_slot for line in done), default=0) if known is None else known

    def clear_way(self, disk: Disk = NO_RETRY) -> None:
        """Set aside what will be written again: unfinished files, and files that lack their line in the manifest."""
        known = {path for line in self.lines for path in (line.path, line.events_path)}
        in_the_way = matching(self._folder, "*.partial")
        mine = re.compile(re.escape(self._folder.name) + r"-[0-9].*\.parquet", re.DOTALL)
        for kind in KINDS:
            files = parquet_files(self._out / kind, _raise_but_if_gone)
            in_the_way += [
                path for path in files if mine.fullmatch(path.name) and str(path.relative_to(self._out)) not in known
            ]
        for path in in_the_way:
            disk.retry(lambda path=path: set_aside(self._out, path))  # type: ignore[misc]


def number_of(journal: Path) -> int:
    """The number of a journal and of its files."""
    return int(journal.stem.partition("-")[2])


class DoneJournals:
    """Journals whose content is all in finished files: deletes them, and retries later where that fails.

    Args:
        on_stuck: called once for each journal that cannot be deleted now.

    """

    def __init__(self, on_stuck: Callable[[Path, OSError], None]) -> None:
        self._on_stuck = on_stuck
        self._left: list[Path] = []
        self._reported: set[Path] = set()

    def add(self, journal: Path) -> None:
        """Delete it with the next `delete`."""
        self._left.append(journal)

    def delete(self, more: Iterable[Path] = ()) -> None:
        """Delete them, and those left from earlier failures."""
        self._left += more
        left, self._left = self._left, []
        for path in left:
            try:
                delete(path)
            except OSError as error:
                self._left.append(path)
                if path not in self._reported:
                    self._reported.add(path)
                    self._on_stuck(path, error)


def _raise_but_if_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _raise(_path: Path, error: OSError) -> None:
    raise error


def set_aside(out: Path, path: Path) -> None:
    """Move a file to `.wsrec/aside`; nothing is deleted.

    Raises:
        OSError: it cannot be moved.

    """
    folder = aside_folder(out)
    folder.mkdir(exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link: wsrec sets files aside in a folder of its own", str(folder))
    path.rename(folder / f"{path.name}.{time.time_ns()}")


def set_journal_aside(out: Path, journal: Path) -> None:
    """The same for all files of a journal."""
    for path in files_of(journal):
        set_aside(out, path)


def _anchors(journals: list[Path]) -> list[tuple[int, StoredAnchor]]:
    """The first anchor of each batch in the journals that has one, with the count of the batch's first slot."""
    found = []
    for path in journals:
        try:
            for batch in JournalReader(path):
                anchor = first_anchor(batch)
                if anchor is not None:
                    found.append((batch.first, anchor))
        except (pa.ArrowInvalid, msgspec.DecodeError, LookupError):
            # damaged: its rows are mapped by the anchors found elsewhere
            continue
    return found


def _behind(anchors: list[tuple[int, StoredAnchor]], batch: Batch) -> StoredAnchor | None:
    """The first anchor in a later batch than this one."""
    at = bisect_left(anchors, batch.next, key=lambda anchor: anchor[0])
    return anchors[at][1] if at < len(anchors) else None
