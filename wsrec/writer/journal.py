"""A journal being written: appended, synced, and written anew where a sync failed (`journal_format`)."""

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
from wsrec.writer.batch import JOURNAL_SCHEMA, Batch
from wsrec.writer.disk import NewFile, NotAsWrittenError
from wsrec.writer.journal_format import (
    CHECKSUM_KEY,
    FIRST_KEY,
    FROM_KEY,
    JOB_KEY,
    JOURNAL_VERSION,
    KEY_KEY,
    VERSION_KEY,
    Span,
    rewritten_path,
)
from wsrec.writer.journal_reader import JournalTail
from wsrec.writer.output import place


class _Stream:
    """An Arrow stream of batches being written to a new file.

    Raises:
        OSError: it cannot be created; nothing is left of it, as far as the disk lets go of it.

    """

    def __init__(self, path: Path, metadata: dict[bytes, bytes]) -> None:
        self.file = NewFile(path)
        self._key = secrets.token_hex(16).encode()
        self._stream = pa.ipc.new_stream(self.file, JOURNAL_SCHEMA.with_metadata({**metadata, KEY_KEY: self._key}))
        try:
            # the schema is written with the first batch, and must not be cut off with one that the disk refuses
            self._stream.write_batch(pa.RecordBatch.from_pylist([], schema=JOURNAL_SCHEMA), {KEY_KEY: self._key})
            # what is synced to a file without a durable name would be lost with it
            sync_folder(path.parent)
        except OSError:
            self.file.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    def append(self, batch: Batch) -> Span:
        start, checksum = self.file.tell(), batch.checksum()
        about = {FIRST_KEY: b"%d" % batch.first, CHECKSUM_KEY: b"%016x" % checksum, KEY_KEY: self._key}
        self._stream.write_batch(batch.to_arrow(), custom_metadata=about)
        return Span(start, self.file.tell(), batch.first, batch.next, checksum)


class Journal:
    """One journal file, being written.

    One thread appends; another may call `sync` meanwhile.

    Args:
        path: a file that does not exist yet.
        number: its number in the session.
        job: JSON of the writer's job, so that the journal can be recovered without its session.

    Attributes:
        path: the file.
        number: its number in the session, which its Parquet files share.
        synced: its bytes that are on the disk for certain.
        broken: whether a part of a batch stands at its end that could not be taken back.
        doubtful: whether a sync failed: what came since the one before may never reach the disk.
        deleted: whether somebody deleted it while it was written; `restored`: it has its name again.
        cut: whether somebody cut it: what is appended does not stand where it should.
        reading: reads it behind its end, for whoever makes rows of it, who closes it.
        moved: where a batch stands in the file beside it, by its start, once it was written anew.

    Raises:
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, number: int, job: bytes) -> None:
        self.path = path
        self.number = number
        self.synced = 0
        self.broken = False
        self.doubtful = False
        self.deleted = self.restored = False
        self.cut = False
        self.moved: dict[int, Span] = {}
        self._metadata = {JOB_KEY: job, VERSION_KEY: JOURNAL_VERSION}
        self._stream = _Stream(path, self._metadata)
        self._file = self._stream.file
        self._beginning = self._file.tell()
        self.reading = JournalTail(path)
        self._unsynced: list[Span] = []
        self._dirty = threading.Event()
        self._dirty.set()

    @property
    def usable(self) -> bool:
        """Whether what is appended to it is kept; else another has to be begun."""
        return not (self.broken or self.doubtful or self.deleted or self.restored or self.cut)

    def append(self, batch: Batch) -> Span:
        """Write a batch and return where it stands; after an error nothing of it is in the file, unless it is `broken`.

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
        """Find out whether somebody deleted the journal, or cut it."""
        self.deleted = not self.restored and not self._file.has_name()
        self.cut = self.cut or not self._file.is_as_long()

    def restore(self, meanwhile: Callable[[], None]) -> None:
        """Give a journal that was deleted its name again, with all that it held; nothing is appended to it any more.

        It may be called again, and does nothing where that has succeeded.

        Args:
            meanwhile: called again and again.

        Raises:
            FileExistsError: the name is another file's.
            FileNotFoundError: its folder was deleted too.
            OSError: the disk failed; it can be tried again.

        """
        if not self.deleted:
            return
        partial = self.path.with_name(f"{self.path.stem}-{time.time_ns()}.partial")
        try:
            copy = NewFile(partial)
        except FileNotFoundError:
            what = "deleted while it was written, with its folder"
            raise FileNotFoundError(errno.ENOENT, what, str(self.path)) from None
        try:
            for data in self._file.read_back():
                copy.write(data)
                meanwhile()
            copy.sync()
            place(partial, self.path)
            self.deleted, self.restored = False, True
        finally:
            copy.close()
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def sync(self) -> None:
        """Have what was appended on the disk. After an error it is `doubtful`, and not to be synced again.

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
            self.doubtful = True
            raise
        self.synced = self._unsynced[count - 1].stop if count else max(self.synced, self._beginning)
        del self._unsynced[:count]

    def rewrite(self) -> int:
        """Write what was appended since the last sync that succeeded to a file beside it; nothing is appended any more.

        The kernel still has it, as long as it needs the memory for nothing else; the checksums tell. Where the journal
        was deleted meanwhile, all of it is in files that have landed, and nothing is left to do.

        Returns:
            How many batches were not as they had been written, and are lost if no row was made of them.

        Raises:
            OSError: the disk failed; it can be tried again.

        """
        partial = self.path.with_name(f"{rewritten_path(self.path).stem}-{time.time_ns()}.partial")
        stream = _Stream(partial, {**self._metadata, FROM_KEY: b"%d" % self.synced})
        lost = 0
        moved: dict[int, Span] = {}
        try:
            try:
                tail = JournalTail(self.path)
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
        """Close the file, which was synced."""
        self._file.close()
