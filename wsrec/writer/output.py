"""Output files: written beside the journal under a name that readers ignore, and moved into place when complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.folders import sync_folder
from wsrec.units import system_error
from wsrec.writer.disk import NO_RETRY, Disk, NewFile, NotAsWrittenError

# A row group ends at either limit; both bound the writer's memory
ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 32 << 20

# Bytes passed to Python at a time: each call takes the interpreter's lock
_WRITE_BYTES = 1 << 20
# Columns of whole payloads
PAYLOADS = ("text", "data", "detail")
# Besides times: values that change steadily, so that they shrink most as deltas. The two steps do so from frame to
# frame of a read
STEADY = ("seq", "clock_offset", "monotonic", "recv_end_to_parsed", "parsed_to_handoff")
# Besides words: runs of few different values
REPEATED = ("event_to_recv_start",)
# Payloads in a page are compressed together
_PAGE_BYTES = 2 << 20
# Rows encoded at a time; Parquet's default of 1024 has too much overhead
_ENCODE_ROWS = 1 << 13


class Encoder:
    """Encodes row groups in another thread, one at a time: at most one more is held in memory.

    pyarrow encodes and compresses without the interpreter's lock. Several files may share an encoder, from one thread.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Start `work` once the previous work is done.

        Raises:
            OSError: the previous work failed.

        """
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,), name="encoder", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for all started work.

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
        partial: its temporary name.
        schema: `MESSAGE_SCHEMA` or `EVENT_SCHEMA`.
        disk: the policy for disk errors.
        encoder: encodes its row groups; None for a private one.
        level: zstd's level of compression; None for its default, which is fast.
        sorted_by: the columns that the rows of each row group are sorted by, null first, for readers.

    Attributes:
        rows: rows so far.

    Raises:
        OSError: it cannot be created.

    """

    def __init__(
        self,
        partial: Path,
        schema: pa.Schema,
        disk: Disk = NO_RETRY,
        encoder: Encoder | None = None,
        *,
        level: int | None = None,
        sorted_by: Sequence[str] = (),
    ) -> None:
        self.rows = 0
        self._disk = disk
        self._partial = partial
        self._schema = schema
        self._encoder = encoder or Encoder()
        self._file = _HashingFile(partial, disk)
        self._buffered = pa.BufferedOutputStream(pa.PythonFile(self._file, "w"), _WRITE_BYTES)
        dictionaries = [each.name for each in schema if _is_word(each, sorted_by) or each.name in REPEATED]
        self._writer = pq.ParquetWriter(
            self._buffered,
            schema,
            compression="zstd",
            compression_level=level,
            sorting_columns=[pq.SortingColumn(schema.names.index(name), nulls_first=True) for name in sorted_by],
            data_page_size=_PAGE_BYTES,
            write_batch_size=_ENCODE_ROWS,
            use_dictionary=dictionaries,
            # payloads are not searched by order, and their minimum and maximum would be stored four times
            write_statistics=[field.name for field in schema if field.name not in PAYLOADS],
            column_encoding={field.name: _encoding(field) for field in schema if field.name not in dictionaries},
        )
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._held_bytes = 0

    def append(self, table: pa.Table, size: int) -> None:
        """Add rows; they are written once they fill a row group.

        Args:
            table: the rows, in the file's schema.
            size: bytes of their payloads. Computing the table's size takes longer than making the table.

        Raises:
            OSError: the disk is full or gone, found now or with the previous row group.

        """
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += size
        self.rows += table.num_rows
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def settle(self) -> None:
        """Write the current rows as a row group, and wait for it.

        Raises:
            OSError: the disk is full or gone.

        """
        self._write_row_group()
        self._encoder.wait()

    def finish(self, final: Path, metadata: dict[str, str]) -> tuple[int, str]:
        """Write the rest and the metadata, flush, and move the file to its final name.

        Returns:
            The file's size (bytes) and SHA-256.

        Raises:
            FileExistsError: a file of that name exists; nothing is overwritten.
            NotAsWrittenError: the disk lost data; the file must be made again from the journal.
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
            self._disk.note(f"{self._partial.name} could not be synced ({system_error(error)}): it is written again")
            self._disk.retry(lambda: self._copy(digest))
        self._file.close()
        self._disk.retry(lambda: make_folder(final.parent))
        self._disk.retry(lambda: place(self._partial, final))
        self._remove_partial()
        return size, digest

    def _copy(self, digest: str) -> None:
        """Write the file again, from the data that the kernel still has; the digest shows whether that is complete."""
        copy = self._partial.with_name(f"{self._partial.name.removesuffix('.partial')}-{time.time_ns()}.partial")
        file = _HashingFile(copy, self._disk)
        try:
            with self._partial.open("rb", buffering=0) as source:
                while data := source.read(_WRITE_BYTES):
                    file.write(data)
            if file.digest() != digest:
                raise NotAsWrittenError(f"{self._partial} is damaged: it has to be made again from its journal")
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
            self._disk.note(f"{self._partial.name} cannot be deleted: {system_error(error)}; it is no longer needed")

    def _write_row_group(self) -> None:
        if not self._held:
            return
        held, self._held, self._held_rows, self._held_bytes = self._held, [], 0, 0
        self._encoder.start(lambda: self._encode(held))

    def _encode(self, tables: list[pa.Table]) -> None:
        table = pa.concat_tables(tables).unify_dictionaries()
        self._writer.write_table(table, row_group_size=table.num_rows)


# errors of link(2) on file systems without hard links
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def place(partial: Path, final: Path) -> None:
    """Give a finished file its final name, durably and without replacing any file; the old name may remain.

    May be repeated after an error.

    Raises:
        FileExistsError: the name is taken.
        OSError: the disk failed.

    """
    try:
        _name(partial, final)
    except FileExistsError:
        if not partial.exists() or not final.samefile(partial):
            raise FileExistsError(f"{final} exists and is not overwritten") from None
        # left from an earlier attempt that could not be undone
        final.unlink()
        _name(partial, final)
    try:
        sync_folder(final.parent)
    except OSError:
        # the name is made again then: after a failed sync a later one only covers changes made since
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
        # rename(2) would replace another file, so reserve the name first
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        try:
            partial.rename(final)
        except OSError:
            final.unlink()
            raise


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably.

    Raises:
        OSError: it cannot be created.

    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    try:
        sync_folder(folder.parent)
    except OSError:
        # created and synced again by the next attempt
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _is_word(field: pa.Field, sorted_by: Sequence[str]) -> bool:
    """Whether a column has few different values."""
    return pa.types.is_dictionary(field.type) or (pa.types.is_string(field.type) and field.name in sorted_by)


def _encoding(field: pa.Field) -> str:
    # measured on real messages: docs/decisions/0021-latencies-instead-of-times.md
    steady = pa.types.is_timestamp(field.type) or field.name in STEADY
    return "DELTA_BINARY_PACKED" if steady else "PLAIN"


class _HashingFile(NewFile):
    """A new file whose SHA-256 is computed while writing, so that it need not be read again at the end.

    After an error it discards all data: what Arrow's streams still hold on their destruction is dropped, instead of
    failing again where the error cannot be handled.
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
