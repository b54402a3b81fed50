"""Writes the sorted file of one message file, and compares the two row by row. The original is not touched.

This is what an engine's workers do. The new file lies in wsrec's own folder until `wsrec.compact.run` puts it in place.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from wsrec.compact.sorting import READ_ROWS, NotInOrderError, blocks, row_groups
from wsrec.engine.work import Item
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError, UnreadableError
from wsrec.format.manifest import digest_of
from wsrec.format.metadata import FileMetadata
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.sorted_rows import SORTED_BY, SORTED_SCHEMA
from wsrec.units import plural
from wsrec.writer.output import ParquetOutput

_LEVEL = 9
_COLUMNS = MESSAGE_SCHEMA.names


class MessageFile(Item, frozen=True, kw_only=True):
    """A message file that is to be sorted: its path is the only one in `files`.

    Attributes:
        known: checksums (SHA-256) of it in the manifest: as recorded, or sorted by a run that was killed.
        folder: where the new file is made.

    """

    known: tuple[str, ...]
    folder: str

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.files[0])


class Mark(msgspec.Struct, frozen=True):
    """What shows that a file is still the one that was read."""

    size: int
    modified: int
    inode: int


def mark_of(path: Path) -> Mark:
    """A file's mark now.

    Raises:
        OSError: it cannot be looked at.

    """
    found = path.stat()
    return Mark(found.st_size, found.st_mtime_ns, found.st_ino)


class Rewritten(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message file.

    Attributes:
        made: the new file, durable and with the same rows; empty if there is none.
        size, sha256: of the new file.
        original: SHA-256 of the original.
        mark: of the original as it was read.
        problem: why there is no new file.
        unreadable: whether the system refuses to read the original.
        stops: whether the disk refuses to write, so that other files would fail as well.

    """

    made: str = ""
    size: int = 0
    sha256: str = ""
    original: str = ""
    mark: Mark | None = None
    problem: str | None = None
    unreadable: bool = False
    stops: bool = False


def rewrite(item: MessageFile) -> Rewritten:
    """Make the sorted file of a message file."""
    path = item.path
    new = _NewFile(Path(item.folder), path.stem)
    try:
        return _rewritten(item, new)
    except UnreadableError as error:
        return Rewritten(problem=str(error), unreadable=True)
    except (CaptureError, NotInOrderError, _DifferentError) as error:
        text = str(error)
        return Rewritten(problem=text if text.startswith(str(path)) else f"{path}: {text}; it was left as it is")
    except OSError as error:
        where = error.filename or new.finished
        return Rewritten(problem=f"{where}: {error.strerror or error}; {path} was left as it is", stops=True)
    finally:
        new.remove_partial()


class _DifferentError(Exception):
    """The new file has not the rows of the original."""


class _NewFile:
    """The names of a file in the making: no other attempt has them."""

    def __init__(self, folder: Path, stem: str) -> None:
        name = f"{stem}.{uuid.uuid4().hex}"
        self.partial, self.finished = folder / f"{name}.partial", folder / f"{name}.parquet"

    def remove_partial(self) -> None:
        with contextlib.suppress(OSError):
            self.partial.unlink(missing_ok=True)

    def remove(self) -> None:
        self.remove_partial()
        with contextlib.suppress(OSError):
            self.finished.unlink(missing_ok=True)


def _rewritten(item: MessageFile, new: _NewFile) -> Rewritten:
    path = item.path
    mark, digest_before = _checked(path, item.known)
    original = CaptureFile(path)
    about = original.metadata
    try:
        size, digest = _write(original, about, new)
        _like(path, new.finished)
        _compare(original, about, CaptureFile(new.finished))
        if mark_of(path) != mark:
            raise _DifferentError("it was changed in the meantime")
    except BaseException:
        new.remove()
        raise
    return Rewritten(made=str(new.finished), size=size, sha256=digest, original=digest_before, mark=mark)


def _checked(path: Path, known: Collection[str]) -> tuple[Mark, str]:
    """The mark and checksum of a file whose bytes are those of the manifest."""
    try:
        mark = mark_of(path)
        found = digest_of(path)
    except FileNotFoundError as error:
        raise CaptureError(f"{path}: the file is gone; `wsrec verify` says more") from error
    except OSError as error:
        raise UnreadableError(path, error) from error
    if found not in known:
        raise CaptureError(f"{path}: its SHA-256 is not the manifest's; it was left as it is, `wsrec verify` says more")
    return mark, found


def _write(original: CaptureFile, about: FileMetadata, new: _NewFile) -> tuple[int, str]:
    output = ParquetOutput(new.partial, SORTED_SCHEMA, level=_LEVEL, sorted_by=SORTED_BY)
    counts = []
    try:
        for block in blocks(original.batches(_COLUMNS, most=READ_ROWS)):
            count = 0
            for group in row_groups(block):
                payload = group.column("text").nbytes + group.column("data").nbytes
                output.append(pa.Table.from_batches([group]).cast(SORTED_SCHEMA), payload)
                output.settle()
                count += 1
            counts.append(count)
    except BaseException:
        # an error of the encoder is told once
        with contextlib.suppress(OSError):
            output.settle()
        raise
    return output.finish(new.finished, msgspec.structs.replace(about, sorted_blocks=counts).encode())


def _like(path: Path, new: Path) -> None:
    """Give the new file owner and mode of the original, as far as this user may, and its time.

    By that time tables that were exported are known to be later.
    """
    found = path.stat()
    with contextlib.suppress(OSError):
        os.chown(new, found.st_uid, found.st_gid)
    new.chmod(found.st_mode & 0o7777)
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))


def _compare(original: CaptureFile, about: FileMetadata, new: CaptureFile) -> None:
    """Make sure that both have the same rows in the same order, and the same metadata."""
    if msgspec.structs.replace(new.metadata, sorted_blocks=[]) != about:
        raise _DifferentError("the metadata of its sorted file differ")
    theirs = _Rows(new)
    rows = 0
    for batch in original.batches(_COLUMNS, most=READ_ROWS):
        for part in theirs.take(batch.num_rows):
            mine = batch.slice(rows - theirs.before, part.num_rows)
            if not _plain(mine).equals(_plain(part)):
                raise _DifferentError(f"its sorted file differs after row {rows:,}")
            rows += part.num_rows
        theirs.before = rows
    if rows != original.rows or theirs.more():
        raise _DifferentError(f"its sorted file has not its {plural(original.rows, 'row')}")


class _Rows:
    """The rows of a file, taken in any portions."""

    def __init__(self, file: CaptureFile) -> None:
        self.before = 0
        self._batches: Iterator[pa.RecordBatch] = file.batches(_COLUMNS)
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> Iterator[pa.RecordBatch]:
        """The next rows, or all that are left."""
        while count:
            batch = next(self._batches, None) if self._rest is None else self._rest
            if batch is None:
                return
            part, rest = batch.slice(0, count), batch.slice(count)
            self._rest = rest if rest.num_rows else None
            count -= part.num_rows
            yield part

    def more(self) -> bool:
        """Whether rows are left."""
        return self._rest is not None or next(self._batches, None) is not None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with words instead of codes, which differ from file to file."""
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
