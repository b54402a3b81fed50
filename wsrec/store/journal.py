"""The journal: the durable truth of what was received, until its Parquet has landed.

One Arrow IPC stream a file, one record batch (`batch.JOURNAL_SCHEMA`) for each batch taken from the rings: the slots as
they were, frames and events alike. Everything in the Parquet files is made from it, by the same code when the writer
runs, which reads its own journal behind its end, and when a journal that was left behind is recovered.

Each record batch has in its custom metadata

    wsrec.first   the slot ring's count of its first slot, decimal: where counts do not join, slots are lost
    wsrec.xxh3    `Batch.checksum`, hexadecimal: what a disk gives back wrong is not believed

A batch whose checksum fails is left out and those behind it are read, as long as Arrow's framing of messages is intact
(https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format).
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.ring.slotring import SLOT_DTYPE
from wsrec.store.batch import JOURNAL_SCHEMA, Batch, payload_offsets
from wsrec.store.disk import NewFile
from wsrec.store.output import sync_folder

JOURNAL_VERSION = b"3"

_DROP_BYTES = 64 << 20
# From this size on a batch is mapped
_MAP_BYTES = 1 << 20
_JOB_KEY = b"wsrec.job"
_VERSION_KEY = b"wsrec.journal_version"
_FIRST_KEY = b"wsrec.first"
_CHECKSUM_KEY = b"wsrec.xxh3"
# Of a message in a stream: how it begins, and the one that ends the stream
_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + bytes(4)


class Span(NamedTuple):
    """Where a batch stands in its journal: from byte `start` to byte `stop`; and the count of its `first` slot."""

    start: int
    stop: int
    first: int


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

    Raises:
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, number: int, job: bytes) -> None:
        self.path = path
        self.number = number
        self._file = NewFile(path)
        metadata = {_JOB_KEY: job, _VERSION_KEY: JOURNAL_VERSION}
        self._stream = pa.ipc.new_stream(self._file, JOURNAL_SCHEMA.with_metadata(metadata))
        try:
            # the schema is written with the first batch, and must not be cut off with one that the disk refuses
            self._stream.write_batch(pa.RecordBatch.from_pylist([], schema=JOURNAL_SCHEMA))
            # what is synced to a file without a durable name would be lost with it
            sync_folder(path.parent)
        except OSError:
            self._file.close()
            path.unlink()
            raise
        self._dirty = threading.Event()
        self._dirty.set()

    def append(self, batch: Batch) -> Span:
        """Write a batch and return where it stands; after an error nothing of it is left in the file.

        Raises:
            OSError: the disk is full or gone.

        """
        start = self._file.tell()
        try:
            about = {_FIRST_KEY: b"%d" % batch.first, _CHECKSUM_KEY: b"%016x" % batch.checksum()}
            self._stream.write_batch(batch.to_arrow(), custom_metadata=about)
        except OSError:
            self._file.cut(start)
            raise
        self._dirty.set()
        return Span(start, self._file.tell(), batch.first)

    def check_name(self) -> None:
        """Make sure that nobody deleted the journal.

        Raises:
            FileNotFoundError: it has no name; what is written now would vanish with it.

        """
        self._file.check_name()

    def sync(self) -> None:
        """Have what was appended on the disk.

        Raises:
            OSError: the disk failed.

        """
        if self._dirty.is_set():
            self._dirty.clear()
            try:
                self._file.sync()
            except OSError:
                self._dirty.set()
                raise

    def close(self) -> None:
        """End the stream and the file, durably.

        Raises:
            OSError: the disk is full or failed.

        """
        self._stream.close()
        self._file.sync()
        self._file.close()


def journal_path(folder: Path, number: int) -> Path:
    """Where the journal of this number stands."""
    return folder / f"journal-{number:06d}.arrows"


class JournalTail:
    """A journal that is being written, read behind its writer batch by batch.

    Large batches are mapped, not copied: what was just written is in the kernel's cache of the file. Small ones are
    read: a mapping takes a descriptor for as long as its rows wait for their row group, on a slow feed for an hour.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened.

    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._dropped = 0

    def read(self, span: Span) -> Batch:
        """The batch that stands there.

        What lies before it is not read again: now and then the kernel is asked to write it to the disk and forget it.
        Else the journal would fill the machine's memory, and a page that is new costs more than what is written there.

        Raises:
            OSError: it cannot be mapped.

        """
        if span.start - self._dropped >= _DROP_BYTES and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, span.start, os.POSIX_FADV_DONTNEED)
            self._dropped = span.start
        if span.stop - span.start < _MAP_BYTES:
            data = pa.py_buffer(os.pread(self._fd, span.stop - span.start, span.start))
        else:
            page = span.start - span.start % mmap.ALLOCATIONGRANULARITY
            area = mmap.mmap(self._fd, span.stop - page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            data = pa.py_buffer(area).slice(span.start - page)
        return Batch.from_arrow(pa.ipc.read_record_batch(pa.ipc.read_message(data), JOURNAL_SCHEMA), span.first)

    def close(self) -> None:
        """Close it; batches that were read stay."""
        os.close(self._fd)


class JournalReader:
    """A journal as it was left: its whole batches, in order, up to its end or to where its framing is torn.

    It is read, not mapped: a page that the disk does not give back is an error then, and not the end of the process.

    Args:
        path: the file.

    Attributes:
        job: JSON of the writer's job that it was written for.
        torn: after reading: whether it ended in the middle of a batch.
        damaged: after reading: how many batches were left out, because they are not what was written.

    Raises:
        OSError: the file cannot be read, or another version of wsrec wrote it.
        pa.ArrowInvalid: not even its beginning is whole.

    """

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        if not self._size:
            raise pa.ArrowInvalid(f"{path} is empty")
        self._file = pa.OSFile(str(path))
        self._stream = pa.ipc.open_stream(self._file)
        metadata = self._stream.schema.metadata or {}
        if _JOB_KEY not in metadata:
            raise pa.ArrowInvalid(f"{path} is no journal of wsrec")
        version = metadata.get(_VERSION_KEY, b"1")
        if version != JOURNAL_VERSION:
            raise OSError(f"{path} is of version {version.decode()}: recover it with the wsrec that wrote it")
        if not self._stream.schema.equals(JOURNAL_SCHEMA):
            raise pa.ArrowInvalid(f"{path} has other columns than a journal of this wsrec")
        self.job: bytes = metadata[_JOB_KEY]
        self.torn = False
        self.damaged = 0

    def __iter__(self) -> Iterator[Batch]:
        start = self._file.tell()
        while start < self._size:
            try:
                batch, about = self._stream.read_next_batch_with_custom_metadata()
                # views of a damaged batch may point anywhere
                batch.validate(full=True)
                believed = _believed(batch, about or {})
            except StopIteration:
                # a message of no bytes ends a stream; anywhere else it is what a power cut left for one
                self.torn = self._at(start, len(_END) + 1) != _END
                return
            except (pa.ArrowException, OSError, ValueError, MemoryError):
                believed = None
            start = self._file.tell()
            if believed is None:
                if self._at(start, len(_CONTINUATION)) != _CONTINUATION:
                    self.torn = True
                    return
                self.damaged += 1
            elif len(believed.slots):
                yield believed

    def _at(self, start: int, size: int) -> bytes:
        """The bytes there, as many as there are; the stream reads on where it was."""
        before = self._file.tell()
        self._file.seek(start)
        found: bytes = self._file.read(size)
        self._file.seek(before)
        return found


def _believed(found: pa.RecordBatch, about: dict[bytes, bytes]) -> Batch | None:
    """The batch, if it is what was written; the one without rows that follows the schema has no checksum."""
    if not found.num_rows and not about:
        return Batch(np.empty(0, SLOT_DTYPE), found.column("payload"), 0)
    if _FIRST_KEY not in about or _CHECKSUM_KEY not in about or any(column.null_count for column in found.columns):
        return None
    batch = Batch.from_arrow(found, int(about[_FIRST_KEY]))
    if not np.array_equal(np.diff(payload_offsets(batch.payload)), batch.slots["length"]):
        return None
    return batch if b"%016x" % batch.checksum() == about[_CHECKSUM_KEY] else None
