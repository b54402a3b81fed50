"""The journal: the durable truth of what was received, until its Parquet has landed.

One Arrow IPC stream a file, one record batch (`batch.JOURNAL_SCHEMA`) for each batch taken from the rings: the slots as
they were, frames and events alike. Everything in the Parquet files is made from it, by the same code when the writer
runs and when a journal that was left behind is recovered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from wsrec.store.batch import JOURNAL_SCHEMA, Batch

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
        self._file = path.open("xb")
        self._stream = pa.ipc.new_stream(self._file, JOURNAL_SCHEMA.with_metadata({JOB_KEY: job}))
        self._synced = time.monotonic()
        self._dirty = True

    def append(self, batch: Batch) -> int:
        """Write a batch and return how many bytes it took.

        Raises:
            OSError: the disk is full or gone.

        """
        before = self._file.tell()
        self._stream.write_batch(batch.to_arrow())
        self._file.flush()
        self._dirty = True
        self.sync_if_due()
        return self._file.tell() - before

    def sync_if_due(self) -> None:
        """Have the kernel write to the disk what it holds of the journal, if the last time was long enough ago."""
        if self._dirty and time.monotonic() - self._synced >= self._fsync_seconds:
            os.fdatasync(self._file.fileno())
            self._synced = time.monotonic()
            self._dirty = False

    def close(self) -> None:
        """End the stream and the file, durably."""
        self._stream.close()
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._file.close()


def journal_path(folder: Path, number: int) -> Path:
    """Where the journal of this number stands."""
    return folder / f"journal-{number:06d}.arrows"


def read_journal(path: Path) -> tuple[bytes, Iterator[Batch]]:
    """Open a journal: the job that it was written for, and its batches up to its end or to where it is torn.

    Raises:
        OSError: the file cannot be read.
        pa.ArrowInvalid: not even the beginning is whole.

    """
    stream = pa.ipc.open_stream(pa.memory_map(str(path)))
    return stream.schema.metadata[JOB_KEY], _batches(stream)


def _batches(stream: pa.RecordBatchStreamReader) -> Iterator[Batch]:
    while True:
        try:
            batch = stream.read_next_batch()
        except (StopIteration, pa.ArrowInvalid, OSError):
            return
        if batch.num_rows:
            yield Batch.from_arrow(batch)
