"""The journal: the durable truth of what was received, until its Parquet has landed.

One Arrow IPC stream a file, one record batch (`batch.JOURNAL_SCHEMA`) for each batch taken from the rings: the slots as
they were, frames and events alike. Everything in the Parquet files is made from it, by the same code when the writer
runs and when a journal that was left behind is recovered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from wsrec.store.batch import JOURNAL_SCHEMA, Batch
from wsrec.store.disk import NewFile
from wsrec.store.output import sync_folder

JOB_KEY = b"wsrec.job"


class Journal:
    """One journal file, being written.

    Args:
        path: a file that does not exist yet.
        job: JSON of the writer's job, so that the journal can be recovered without its session.
        fsync_seconds: time between two fdatasync.

    Attributes:
        path: the file.
        number: its number in the session, which its Parquet files share.

    Raises:
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, number: int, job: bytes, fsync_seconds: float) -> None:
        self.path = path
        self.number = number
        self._fsync_seconds = fsync_seconds
        self._file = NewFile(path)
        self._stream = pa.ipc.new_stream(self._file, JOURNAL_SCHEMA.with_metadata({JOB_KEY: job}))
        try:
            # the schema is written with the first batch, and must not be cut off with one that the disk refuses
            self._stream.write_batch(pa.RecordBatch.from_pylist([], schema=JOURNAL_SCHEMA))
            # what is synced to a file without a durable name would be lost with it
            sync_folder(path.parent)
        except OSError:
            self._file.close()
            path.unlink()
            raise
        self._synced = time.monotonic()
        self._dirty = True

    def append(self, batch: Batch) -> int:
        """Write a batch and return how many bytes it took; after an error nothing of it is left in the file.

        Raises:
            OSError: the disk is full or gone.

        """
        before = self._file.tell()
        try:
            self._stream.write_batch(batch.to_arrow())
            self._dirty = True
            self.sync_if_due()
        except OSError:
            self._file.cut(before)
            raise
        return self._file.tell() - before

    def sync_if_due(self) -> None:
        """Have the kernel write to the disk what it holds of the journal, if the last time was long enough ago.

        Raises:
            FileNotFoundError: somebody deleted the journal; what is written now would vanish with it.
            OSError: the disk failed.

        """
        self._file.check_name()
        if self._dirty and time.monotonic() - self._synced >= self._fsync_seconds:
            self._file.sync()
            self._synced = time.monotonic()
            self._dirty = False

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


class JournalReader:
    """A journal as it was left: its whole batches, in order, up to its end or to where it is torn.

    Args:
        path: the file.

    Attributes:
        job: JSON of the writer's job that it was written for.
        torn: after reading: whether it ended in the middle of a batch.

    Raises:
        OSError: the file cannot be read.
        pa.ArrowInvalid: not even its beginning is whole.

    """

    def __init__(self, path: Path) -> None:
        if not path.stat().st_size:
            raise pa.ArrowInvalid(f"{path} is empty")
        self._stream = pa.ipc.open_stream(pa.memory_map(str(path)))
        metadata = self._stream.schema.metadata or {}
        if JOB_KEY not in metadata:
            raise pa.ArrowInvalid(f"{path} is no journal of wsrec")
        if not self._stream.schema.equals(JOURNAL_SCHEMA):
            raise pa.ArrowInvalid(f"{path} has other columns than a journal of this wsrec")
        self.job: bytes = metadata[JOB_KEY]
        self.torn = False

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                batch = self._stream.read_next_batch()
                # views of a damaged batch may point anywhere
                batch.validate(full=True)
            except StopIteration:
                return
            except (pa.ArrowInvalid, OSError):
                self.torn = True
                return
            if batch.num_rows:
                yield Batch.from_arrow(batch)
