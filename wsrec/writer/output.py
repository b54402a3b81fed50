"""One file on its way: written beside the journal under a name that no reader looks for, and moved into place whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.folders import sync_folder
from wsrec.writer.disk import NO_RETRY, Disk, NewFile, NotAsWrittenError

# A row group ends at either; both bound what the writer holds in memory
ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 32 << 20

# What is handed to Python at once: every time costs the interpreter's lock
_WRITE_BYTES = 1 << 20
# Columns of whole payloads
PAYLOADS = ("text", "data", "detail")
# A page's payloads are compressed together
_PAGE_BYTES = 2 << 20
# Rows that are encoded at once; Parquet's own 1024 make much of little
_ENCODE_ROWS = 1 << 13


class Encoder:
    """Encodes row groups behind the thread that collects them, one at a time: at most one more is held in memory.

    pyarrow encodes and compresses without the interpreter's lock. Several files may share an encoder, from one thread.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin this work as soon as what was begun before is done.

        Raises:
            OSError: what was begun before failed.

        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="encoder", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Have everything done that was begun.

        Raises:
            OSError: the disk is full or gone.

        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (raised by `wait`)
            self._error = error


class ParquetOutput:
    """A Parquet file being written.

    Args:
        partial: where it grows.
        schema: `MESSAGE_SCHEMA` or `EVENT_SCHEMA`.
        disk: what to do when the disk refuses.
        encoder: encodes its row groups; one of its own where None.

    Attributes:
        rows: rows so far.

    Raises:
        OSError: it cannot be created.

    """

    def __init__(self, partial: Path, schema: pa.Schema, disk: Disk = NO_RETRY, encoder: Encoder | None = None) -> None:
        self.rows = 0
        self._disk = disk
        self._partial = partial
        self._schema = schema
        self._encoder = encoder or Encoder()
        self._file = _HashingFile(partial, disk)
        self._buffered = pa.BufferedOutputStream(pa.PythonFile(self._file, "w"), _WRITE_BYTES)
        dictionaries = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        self._writer = pq.ParquetWriter(
            self._buffered,
            schema,
            compression="zstd",
            data_page_size=_PAGE_BYTES,
            write_batch_size=_ENCODE_ROWS,
            use_dictionary=dictionaries,
            # nobody looks for a payload by its order, and the least and the greatest would be held four times
            write_statistics=[field.name for field in schema if field.name not in PAYLOADS],
            column_encoding={field.name: _encoding(field) for field in schema if field.name not in dictionaries},
        )
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._held_bytes = 0

    def append(self, table: pa.Table, size: int) -> None:
        """Add rows; they are written when they make a row group.

        Args:
            table: the rows, in the file's schema.
            size: bytes of their payloads. Asking the table for its size takes longer than making it.

        Raises:
            OSError: the disk is full or gone, found now or with the row group before.

        """
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += size
        self.rows += table.num_rows
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def settle(self) -> None:
        """Write what there is as a row group, and wait for it.

        Raises:
            OSError: the disk is full or gone.

        """
        self._write_row_group()
        self._encoder.wait()

    def finish(self, final: Path, metadata: dict[str, str]) -> tuple[int, str]:
        """Write the rest and the metadata, make it durable and move it to its name.

        Returns:
            The file's size (bytes) and SHA-256.

        Raises:
            FileExistsError: a file has that name already; nothing is overwritten.
            NotAsWrittenError: the disk lost what was written; the file is to be made anew from the journal.
            OSError: the disk is full or gone.

        """
        self._write_row_group()
        self._encoder.wait()
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        self._buffered.flush()
        size, digest = self._file.tell(), self._file.digest()
        try:
            self._file.sync()
        except OSError as error:
            self._disk.note(f"{self._partial.name} could not be synced ({error}): it is written anew")
            self._disk.retry(lambda: self._copy(digest))
        self._file.close()
        self._disk.retry(lambda: make_folder(final.parent))
        self._disk.retry(lambda: place(self._partial, final))
        self._remove_partial()
        return size, digest

    def _copy(self, digest: str) -> None:
        """Write the file anew, from what the kernel still has of it; the digest tells whether that is all."""
        copy = self._partial.with_name(f"{self._partial.name.removesuffix('.partial')}-{time.time_ns()}.partial")
        file = _HashingFile(copy, self._disk)
        try:
            with self._partial.open("rb", buffering=0) as source:
                while data := source.read(_WRITE_BYTES):
                    file.write(data)
            if file.digest() != digest:
                raise NotAsWrittenError(f"{self._partial} is not what was written: it is made anew from its journal")
            file.sync()
        except BaseException:
            with contextlib.suppress(OSError):
                copy.unlink()
            raise
        finally:
            file.close()
        self._remove_partial()
        self._partial = copy

    def _remove_partial(self) -> None:
        try:
            self._partial.unlink(missing_ok=True)
        except OSError as error:
            self._disk.note(f"{self._partial.name} cannot be deleted: {error}; it is not needed any more")

    def _write_row_group(self) -> None:
        if not self._held:
            return
        held, self._held, self._held_rows, self._held_bytes = self._held, [], 0, 0
        self._encoder.start(lambda: self._encode(held))

    def _encode(self, tables: list[pa.Table]) -> None:
        table = pa.concat_tables(tables).unify_dictionaries()
        self._writer.write_table(table, row_group_size=table.num_rows)


# What link(2) says where there are no hard links
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def place(partial: Path, final: Path) -> None:
    """Give a finished file its name, durably, and never that of another; the name that it had may stay beside it.

    May be called again after an error.

    Raises:
        FileExistsError: the name is taken.
        OSError: the disk failed.

    """
    try:
        _name(partial, final)
    except FileExistsError:
        if not partial.exists() or not final.samefile(partial):
            raise FileExistsError(f"{final} exists and is not overwritten") from None
        # from a try before this one that could not be taken back
        final.unlink()
        _name(partial, final)
    try:
        sync_folder(final.parent)
    except OSError:
        # the name is made again then: of a sync after one that failed nothing is believed but what was changed since
        if partial.exists():
            final.unlink()
        else:
            final.rename(partial)
        raise


def _name(partial: Path, final: Path) -> None:
    try:
        os.link(partial, final)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # rename(2) would replace another file: this one is nobody else's
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        try:
            partial.rename(final)
        except OSError:
            final.unlink()
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably.

    Raises:
        OSError: it cannot be made.

    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    try:
        sync_folder(folder.parent)
    except OSError:
        # made again, and then synced again
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _encoding(field: pa.Field) -> str:
    # small integers are no smaller as deltas once they are compressed, and text is larger by its lengths apart
    wide = pa.types.is_timestamp(field.type) or pa.types.is_int64(field.type) or pa.types.is_uint64(field.type)
    return "DELTA_BINARY_PACKED" if wide else "PLAIN"


class _HashingFile(NewFile):
    """A new file whose SHA-256 is taken as it is written, so that finishing need not read it again.

    After an error it is given up: what Arrow still has goes nowhere when its streams are thrown away, instead of
    failing once more, where nobody could be told.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(path, disk)
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        if self._error is not None:
            return memoryview(data).nbytes
        self._hash.update(data)
        try:
            return super().write(data)
        except OSError as error:
            self._error = error
            raise

    def sync(self) -> None:
        if self._error is not None:
            raise self._error
        super().sync()

    def digest(self) -> str:
        return self._hash.hexdigest()
