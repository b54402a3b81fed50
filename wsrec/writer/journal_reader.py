"""Journal reading: behind the running writer batch by batch, and after a crash (`journal_format`)."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from wsrec.format.folders import regular
from wsrec.format.unfinished import JOB_KEY, check_metadata
from wsrec.writer.batch import JOURNAL_SCHEMA, JOURNAL_SCHEMAS, Batch, payload_offsets
from wsrec.writer.disk import NotAsWrittenError
from wsrec.writer.journal_format import (
    CHECKSUM_KEY,
    FIRST_KEY,
    FROM_KEY,
    MARKER_KEY,
    Span,
    rewritten_path,
)

_DROP_BYTES = 64 << 20
# Batches of this size and more are mapped
_MAP_BYTES = 1 << 20
# Start of a message in the stream, before the length of its metadata
_CONTINUATION = b"\xff\xff\xff\xff"
_HEADER = 8
# The metadata of a batch takes a few hundred bytes
_METADATA_MAX = 1 << 14
# Read size of the search for the next batch
_SEARCH_BYTES = 1 << 20


class JournalTail:
    """A journal that is being written, read batch by batch behind its writer.

    Large batches are mapped, not copied: data just written is in the kernel's page cache. Small ones are read: mappings
    keep a descriptor while their rows wait for their row group, which on a slow feed takes an hour.

    Args:
        path: the file.
        schema: its columns.

    Raises:
        OSError: it cannot be opened.

    """

    def __init__(self, path: Path, schema: pa.Schema = JOURNAL_SCHEMA) -> None:
        self._schema = schema
        self._fd = os.open(regular(path), os.O_RDONLY | os.O_CLOEXEC)
        self._dropped = 0

    def read(self, span: Span, synced: int = 0) -> Batch:
        """The batch at this position.

        Earlier data is not read again, so from time to time the kernel is advised to write it out and drop it from the
        cache. Otherwise the journal would fill the machine's memory, and a fresh page costs more than writing to it.
        Data not yet synced is not dropped: if the disk fails then, it may have no other copy.

        Args:
            span: its position.
            synced: number of bytes of the journal certainly on the disk.

        Raises:
            NotAsWrittenError: the content differs from what was written.
            OSError: it cannot be read.

        """
        before = min(span.start, synced)
        if before - self._dropped >= _DROP_BYTES:
            os.posix_fadvise(self._fd, 0, before, os.POSIX_FADV_DONTNEED)
            self._dropped = before
        if span.stop - span.start < _MAP_BYTES:
            data = pa.py_buffer(os.pread(self._fd, span.stop - span.start, span.start))
        else:
            page = span.start - span.start % mmap.ALLOCATIONGRANULARITY
            area = mmap.mmap(self._fd, span.stop - page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            data = pa.py_buffer(area).slice(span.start - page)
        try:
            found = pa.ipc.read_record_batch(pa.ipc.read_message(data), self._schema)
        except (pa.ArrowException, OSError, ValueError, EOFError):
            found = None
        batch = None if found is None else _whole(found, span.first)
        if batch is None or batch.checksum() != span.checksum:
            raise NotAsWrittenError(f"a batch of the journal is not what was written there (byte {span.start:,})")
        return batch

    def close(self) -> None:
        """Close it; batches already read stay valid."""
        os.close(self._fd)


class JournalReader:
    """The intact batches of a finished journal, in order.

    It is read, not mapped: so an unreadable page is an error, and does not kill the process.

    Args:
        path: the file; its rewritten part is found beside it.

    Attributes:
        job: JSON of the job of its writer.
        torn: after reading: whether it ends in the middle of a batch.
        damaged: after reading: number of places with damaged data that was left out.
        skipped: after reading: bytes left out, at its end and elsewhere.

    Raises:
        OSError: the file cannot be read.
        OtherVersionError: it is of another version of the format.
        pa.ArrowInvalid: its beginning is damaged.

    """

    def __init__(self, path: Path) -> None:
        self.torn = False
        self.damaged = 0
        self.skipped = 0
        self._parts: list[tuple[_JournalFile, int | None]] = []
        beside: _JournalFile | None = None
        if rewritten_path(path).exists():
            with contextlib.suppress(pa.ArrowInvalid):
                beside = _JournalFile(rewritten_path(path))
        try:
            self._parts.append((_JournalFile(path), None if beside is None else beside.start))
        except (pa.ArrowInvalid, FileNotFoundError):
            if beside is None:
                raise
            self.damaged = int(beside.start > 0)
            self.skipped = beside.start
        if beside is not None:
            self._parts.append((beside, None))
        self.job = self._parts[-1][0].job

    def __iter__(self) -> Iterator[Batch]:
        for file, stop in self._parts:
            yield from file.batches(stop)
            self.torn = self.torn or file.torn
            self.damaged += file.damaged
            self.skipped += file.skipped


class _JournalFile:
    """One file of a journal; `start` is the number of valid bytes of the journal that it continues."""

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        if not self._size:
            raise pa.ArrowInvalid(f"{path} is empty")
        self._file = pa.OSFile(os.fsencode(regular(path)))
        try:
            self._stream = pa.ipc.open_stream(self._file)
        except OSError as error:
            if error.errno is not None:
                raise
            # Arrow raises this for an invalid start of a stream; errors of the system have an errno
            raise pa.ArrowInvalid(f"{path} does not begin as a journal: {error}") from error
        metadata = self._stream.schema.metadata or {}
        if not check_metadata(path, metadata):
            raise pa.ArrowInvalid(f"{path} is not a journal of wsrec")
        if not any(map(self._stream.schema.equals, JOURNAL_SCHEMAS)) or not metadata.get(MARKER_KEY):
            raise pa.ArrowInvalid(f"{path} has other columns than this version's journals")
        self._beginning = self._file.tell()
        self._key: bytes = metadata[MARKER_KEY]
        self.job: bytes = metadata[JOB_KEY]
        start = metadata.get(FROM_KEY, b"0")
        if not start.isdigit():
            raise pa.ArrowInvalid(f"{path} does not say where it continues")
        self.start = int(start)
        self.torn = False
        self.damaged = 0
        self.skipped = 0

    def batches(self, stop: int | None) -> Iterator[Batch]:
        """Its intact batches, up to a byte of the file."""
        end = self._size if stop is None else min(stop, self._size)
        at = last = self._beginning
        while at < end:
            after = self._framed(at)
            batch = None if after is None else self._read(at, after)
            if batch is not None and after is not None:
                at, last = after, at
                if len(batch.slots):
                    yield batch
                continue
            # the length that led here may itself be damaged
            following = self._next(last + 1, end)
            if following is None and after != end:
                self.torn = True
            else:
                self.damaged += 1
            self.skipped += max((following or end) - at, 0)
            at, last = following or end, at

    def _next(self, at: int, end: int) -> int | None:
        """Start of the next intact batch."""
        while at < end:
            data = self._at(at, _SEARCH_BYTES)
            place = data.find(_CONTINUATION)
            while place >= 0:
                after = self._framed(at + place)
                if after is not None and self._read(at + place, after) is not None:
                    return at + place
                place = data.find(_CONTINUATION, place + 1)
            if at + len(data) >= end or not data:
                return None
            at += len(data) - len(_CONTINUATION) + 1
        return None

    def _framed(self, at: int) -> int | None:
        """End of a batch of this journal that begins at `at`, according to its metadata; None if none begins there."""
        header = self._at(at, _HEADER)
        size = int.from_bytes(header[len(_CONTINUATION) :], "little")
        if len(header) < _HEADER or not header.startswith(_CONTINUATION) or size > _METADATA_MAX:
            return None
        metadata = self._at(at + _HEADER, size)
        if self._key not in metadata:
            return None
        try:
            after = at + _HEADER + size + _body_length(metadata)
        except struct.error:
            return None
        return after if at < after <= self._size else None

    def _read(self, at: int, after: int) -> Batch | None:
        """The batch between these offsets, if it is intact."""
        try:
            self._file.seek(at)
            found, about = self._stream.read_next_batch_with_custom_metadata()
            # views of a damaged batch may point anywhere
            found.validate(full=True)
            batch = self._verified(found, about or {})
        except (pa.ArrowException, OSError, ValueError, MemoryError, StopIteration):
            batch = None
        if batch is None or self._file.tell() != after:
            # reset the stream: its interpretation of the next message may depend on this one
            self._file.seek(0)
            self._stream = pa.ipc.open_stream(self._file)
            return None
        return batch

    def _at(self, start: int, size: int) -> bytes:
        """Up to `size` bytes at `start`."""
        self._file.seek(start)
        found: bytes = self._file.read(min(size, max(self._size - start, 0)))
        return found

    def _verified(self, found: pa.RecordBatch, about: dict[bytes, bytes]) -> Batch | None:
        """The batch if it is intact; the empty one behind the schema has no checksum."""
        if about.get(MARKER_KEY) != self._key:
            return None
        if not found.num_rows and FIRST_KEY not in about:
            return Batch.from_arrow(found, 0)
        batch = _whole(found, int(about.get(FIRST_KEY, b"")))
        return batch if batch and b"%016x" % batch.checksum() == about.get(CHECKSUM_KEY) else None


def _body_length(metadata: bytes) -> int:
    """`bodyLength` of a flatbuffer `Message`, its 4th field (https://github.com/apache/arrow/blob/main/format/Message.fbs).

    Raises:
        struct.error: not such a message.

    """
    (table,) = struct.unpack_from("<I", metadata)
    (back,) = struct.unpack_from("<i", metadata, table)
    if not 0 <= table - back < len(metadata):
        raise struct.error("no table")
    (field,) = struct.unpack_from("<H", metadata, table - back + 4 + 3 * 2)
    length: int = struct.unpack_from("<q", metadata, table + field)[0]
    return length


def _whole(found: pa.RecordBatch, first: int) -> Batch | None:
    """The batch in a record batch, if the payload lengths match its slots."""
    if any(column.null_count for column in found.columns):
        return None
    batch = Batch.from_arrow(found, first)
    offsets = payload_offsets(batch.payload)
    return batch if bool((offsets[1:] - offsets[:-1] == batch.slots["length"]).all()) else None
