"""Journal writing: append, sync, and rewrite after a failed sync (`journal_format`)."""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from wsrec.format.folders import sync_folder
from wsrec.format.unfinished import JOB_KEY, VERSION_KEY
from wsrec.format.version import FORMAT_VERSION
from wsrec.writer.batch import JOURNAL_SCHEMA, SEGMENT_JOURNAL_SCHEMA, Batch
from wsrec.writer.disk import NewFile, NotAsWrittenError
from wsrec.writer.journal_format import (
    CHECKSUM_KEY,
    FIRST_KEY,
    FROM_KEY,
    MARKER_KEY,
    Span,
    rewritten_path,
)
from wsrec.writer.journal_reader import JournalTail
from wsrec.writer.output import place


class _Stream:
    """An Arrow stream of batches written to a new file.

    Raises:
        OSError: it cannot be created; the file is removed as far as the disk permits.

    """

    def __init__(self, path: Path, schema: pa.Schema, metadata: dict[bytes, bytes]) -> None:
        self.file = NewFile(path)
        self._has_segments = schema is SEGMENT_JOURNAL_SCHEMA
        self._key = secrets.token_hex(16).encode()
        self._stream = pa.ipc.new_stream(self.file, schema.with_metadata({**metadata, MARKER_KEY: self._key}))
        try:
            # the schema is written with the first batch, and must not be truncated together with a batch that the disk
            # refuses
            self._stream.write_batch(pa.RecordBatch.from_pylist([], schema=schema), {MARKER_KEY: self._key})
            # data synced to a file without a durable name would be lost with it
            sync_folder(path.parent)
        except OSError:
            self.file.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    def append(self, batch: Batch) -> Span:
        if self._has_segments:
            batch = batch.with_segments()
        start, checksum = self.file.tell(), batch.checksum()
        about = {FIRST_KEY: b"%d" % batch.first, CHECKSUM_KEY: b"%016x" % checksum, MARKER_KEY: self._key}
        self._stream.write_batch(batch.to_arrow(), custom_metadata=about)
        return Span(start, self.file.tell(), batch.first, batch.next, checksum)


class Journal:
    """A journal file being written.

    One thread appends; another may call `sync` meanwhile.

    Args:
        path: a file that does not exist yet.
        number: its number in the session.
        job: JSON of the writer's job, so that the journal can be recovered without its session.
        segments: whether its slots have what captured segments say of them (`wsrec.writer.segment_slots`).

    Attributes:
        path: the file.
        number: its number in the session, shared by its Parquet files.
        synced: number of bytes certainly on the disk.
        broken: whether it ends with a part of a batch that could not be removed.
        doubtful: whether a sync failed: data appended since the previous one may never reach the disk.
        deleted: whether somebody deleted it while it was written; `restored`: it has its name again.
        cut: whether somebody truncated it: appended data is misplaced.
        reading: reads it behind the end; its user builds rows from it and closes it.
        moved: after a rewrite: the span of a batch in the new file, by its start in this one.

    Raises:
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, number: int, job: bytes, *, segments: bool = False) -> None:
        self.path = path
        self.number = number
        self.synced = 0
        self.broken = False
        self.sync_failed = False
        self.deleted = self.was_restored = False
        self.cut = False
        self.moved: dict[int, Span] = {}
        self._metadata = {JOB_KEY: job, VERSION_KEY: b"%d" % FORMAT_VERSION}
        self._schema = SEGMENT_JOURNAL_SCHEMA if segments else JOURNAL_SCHEMA
        self._stream = _Stream(path, self._schema, self._metadata)
        self._file = self._stream.file
        self._beginning = self._file.tell()
        self.reading = JournalTail(path, self._schema)
        self._unsynced: list[Span] = []
        self._dirty = threading.Event()
        self._dirty.set()

    @property
    def usable(self) -> bool:
        """False if appended data would not be kept, and another journal must be started."""
        return not (self.broken or self.sync_failed or self.deleted or self.was_restored or self.cut)

    def append(self, batch: Batch) -> Span:
        """Append a batch and return its span; after an error the file is unchanged, unless it is `broken`.

        Raises:
            OSError: the disk is full or gone.

        """
        start = self._file.tell()
        try:
            span = self._stream.append(batch)
        except OSError:
            try:
                self._file.cut(start)
            except OSError:
                self.broken = True
            raise
        self._unsynced.append(span)
        self._dirty.set()
        return span

    def look(self) -> None:
        """Check whether somebody deleted or truncated the journal."""
        self.deleted = not self.was_restored and not self._file.has_name()
        self.cut = self.cut or not self._file.is_as_long()

    def restore(self, meanwhile: Callable[[], None]) -> None:
        """Recreate a deleted journal under its name with all its content; nothing more is appended to it.

        May be called again, and does nothing after a success.

        Args:
            meanwhile: called repeatedly during the copy.

        Raises:
            FileExistsError: the name belongs to another file.
            FileNotFoundError: its folder was deleted too.
            OSError: the disk failed; may be retried.

        """
        if not self.deleted:
            return
        partial = self.path.with_name(f"{self.path.stem}-{time.time_ns()}.partial")
        try:
            copy = NewFile(partial)
        except FileNotFoundError:
            what = "deleted while being written, with its folder"
            raise FileNotFoundError(errno.ENOENT, what, str(self.path)) from None
        try:
            for data in self._file.read_back():
                copy.write(data)
                meanwhile()
            copy.sync()
            place(partial, self.path)
            self.deleted, self.was_restored = False, True
        finally:
            copy.close()
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def sync(self) -> None:
        """Flush the appended data to the disk. After an error it is `doubtful`, and must not be synced again.

        Raises:
            OSError: the disk failed.

        """
        if not self._dirty.is_set():
            return
        self._dirty.clear()
        count = len(self._unsynced)
        try:
            self._file.sync()
        except OSError:
            self.sync_failed = True
            raise
        self.synced = self._unsynced[count - 1].stop if count else max(self.synced, self._beginning)
        del self._unsynced[:count]

    def rewrite(self) -> int:
        """Write the data appended since the last successful sync to a new file beside it; nothing more is appended.

        The kernel still has that data, unless it needed the memory; the checksums show it. If the journal was deleted
        meanwhile, all of it is in finished files, and nothing is left to do.

        Returns:
            The number of batches that were damaged, and are lost unless rows were made of them.

        Raises:
            OSError: the disk failed; may be retried.

        """
        partial = self.path.with_name(f"{rewritten_path(self.path).stem}-{time.time_ns()}.partial")
        stream = _Stream(partial, self._schema, {**self._metadata, FROM_KEY: b"%d" % self.synced})
        lost = 0
        moved: dict[int, Span] = {}
        try:
            try:
                tail = JournalTail(self.path, self._schema)
            except FileNotFoundError:
                return 0
            try:
                for span in self._unsynced:
                    try:
                        moved[span.start] = stream.append(tail.read(span))
                    except NotAsWrittenError:
                        lost += 1
            finally:
                tail.close()
            stream.file.sync()
            place(partial, rewritten_path(self.path))
            if not self._file.has_name():
                rewritten_path(self.path).unlink(missing_ok=True)
        finally:
            stream.file.close()
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        self.moved = moved
        return lost

    def close(self) -> None:
        """Close the file, which is synced."""
        self._file.close()
