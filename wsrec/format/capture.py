"""Captures on disk, for readers: discovery of the files and their metadata."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.errors import (
    NO_CAPTURE,
    CaptureError,
    NoCaptureError,
    OtherVersionError,
    UnreadableError,
    first_line,
)
from wsrec.format.folders import NO_FILE, is_file, parquet_files, regular
from wsrec.format.layout import EVENTS, MESSAGES, OWN, other
from wsrec.format.metadata import FileMetadata, raw_metadata, read_metadata, stated_version
from wsrec.format.parquet_file import ParquetFile
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.format.sorted_rows import WORDS
from wsrec.format.version import FORMAT_VERSION

TABLE = "table="
"""How the folders of exported tables begin."""
_MAGIC = b"PAR1"


def message_files(
    sources: Iterable[str | Path], on_error: Callable[[UnreadableError], None] | None = None
) -> list[Path]:
    """The message files named by files, folders and globs, in order of their names.

    Folders are searched at any depth, without those named `events` or `.wsrec`.

    Args:
        sources: files, folders and globs.
        on_error: called for each folder that cannot be read; None: the first such folder raises.

    Raises:
        NoCaptureError: a folder holds no message file.
        CaptureError: a source does not exist.
        UnreadableError: a source, or without `on_error` a folder within one, cannot be read.

    """
    found: set[Path] = set()
    for source in sources:
        path = Path(source)
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError, ValueError):
            pass
        except OSError as error:
            raise UnreadableError(path, error) from error
        if path.is_dir():
            refused: list[OSError] = []
            within = parquet_files(path, refused.append)
            files = [file for file in within if not _aside(file.relative_to(path))]
            for refusal in refused:
                unreadable = UnreadableError(refusal.filename, refusal)
                if on_error is None:
                    raise unreadable
                on_error(unreadable)
            if not files and not refused:
                raise NoCaptureError(f"{path}: {_why_none(path)}")
        elif path.exists():
            files = [path]
        else:
            files = [Path(name) for name in glob.glob(str(source), recursive=True)]  # noqa: PTH207 (absolute too)
            if not files:
                raise CaptureError(f"found {str(source)!r}, which does not exist, and no file matches it as a pattern")
        found.update(files)
    return sorted(found)


def events_files(folder: Path) -> list[Path]:
    """The events files below a folder; unreadable folders were reported by the search for its message files."""
    below = parquet_files(folder, lambda _: None) if folder.is_dir() else []
    parts = [(path, path.relative_to(folder).parts) for path in below]
    return [path for path, within in parts if EVENTS in within[:-1] and not any(p.startswith(".") for p in within)]


def _why_none(folder: Path) -> str:
    """The reason why a folder has no message file, and a remedy."""
    if not (folder / OWN).is_dir():
        return NO_CAPTURE
    if next(folder.glob(f"{OWN}/*/journal-*.arrows"), None) is None:
        return "holds a capture without messages"
    return (
        "holds no finished file yet: a recording is in progress there or was interrupted; its first file appears when "
        "it ends or at its next rotation, and `wsrec recover` finishes an interrupted one"
    )


def _aside(relative: Path) -> bool:
    """Whether a file is none of messages: of events, of wsrec's own, or an exported table."""
    folders = relative.parts[:-1]
    return EVENTS in folders or any(part.startswith((".", TABLE)) for part in relative.parts)


def open_messages(path: Path) -> pq.ParquetFile:
    """Open one message file (`open_file`)."""
    return open_file(path, MESSAGES)


def open_file(path: Path, kind: str) -> pq.ParquetFile:
    """Open a file of a kind, `messages` or `events`.

    Raises:
        CaptureError: it is damaged, or not a file of wsrec.
        UnreadableError: the system refuses to read it.
        OtherVersionError: it has another version of the format.

    """
    check_readable(path)
    try:
        file = _opened(path, kind)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CaptureError(
            f"{path}: not readable as Parquet ({damage(path) or first_line(error)}); "
            "nothing was changed: set the file aside and read the others"
        ) from error
    # first of all: another version may have other columns and other metadata
    version = stated_version(file.metadata.metadata)
    if version is not None and version != FORMAT_VERSION:
        file.close()
        raise OtherVersionError(path, version)
    try:
        metadata(file)
    except ValueError as error:
        file.close()
        raise _damaged_metadata(path, error) from error
    schema, what = (MESSAGE_SCHEMA, "a message file") if kind == MESSAGES else (EVENT_SCHEMA, "an events file")
    # made anew at each access
    names = set(file.schema_arrow.names)
    missing = [name for name in schema.names if name not in names]
    if missing:
        file.close()
        raise CaptureError(f"{path}: not {what} of wsrec (no column `{missing[0]}`)")
    if version is None:
        file.close()
        raise CaptureError(f"{path}: not {what} of wsrec (no `wsrec.format_version` in its metadata)")
    return file


def _opened(path: Path, kind: str) -> pq.ParquetFile:
    try:
        return ParquetFile(path, read_dictionary=words(kind))
    except KeyError:
        # it has no such column, which is told in its turn
        return ParquetFile(path)


def words(kind: str) -> list[str]:
    """The columns of words that a file of this kind may store as plain strings."""
    return list(WORDS) if kind == MESSAGES else []


def check_readable(path: Path) -> None:
    """Check that a path is a regular file and may be read.

    Raises:
        CaptureError: it exists, but is not a regular file.
        UnreadableError: it may not be read.

    """
    try:
        if path.exists() and not is_file(path):
            raise CaptureError(f"{path}: {NO_FILE}; nothing was changed: remove it")
        with path.open("rb"):
            pass
    except OSError as error:
        raise UnreadableError(path, error) from error


def damage(path: Path, size: int | None = None) -> str | None:
    """What is wrong with a file's bytes, before it is parsed; None if nothing is.

    Args:
        path: the file.
        size: its size in bytes in the manifest; None if unknown.

    Raises:
        OSError: it cannot be read.

    """
    with regular(path).open("rb") as file:
        found = file.seek(0, os.SEEK_END)
        file.seek(0)
        begin = file.read(len(_MAGIC))
        file.seek(max(found - len(_MAGIC), 0))
        end = file.read()
    if not found:
        return "it is empty"
    if not _MAGIC.startswith(begin) and begin != _MAGIC:
        return "it is not a Parquet file: another program wrote or overwrote it"
    if size is not None and found < size:
        return f"it is truncated at byte {found:,} of {size:,}"
    if end != _MAGIC or found < 3 * len(_MAGIC):
        return f"it is truncated at byte {found:,}"
    if size is not None and found > size:
        return f"it has {found:,} bytes instead of {size:,}"
    return None


def metadata(file: pq.ParquetFile) -> dict[str, Any]:
    """wsrec's own metadata of an open file, decoded but not validated (`wsrec.format.metadata`).

    Raises:
        ValueError: a value is not JSON.

    """
    return raw_metadata(file.metadata.metadata)


def checked_metadata(path: Path, file: pq.ParquetFile) -> FileMetadata:
    """The metadata of an open file.

    Raises:
        CaptureError: they do not fit this version.

    """
    try:
        return read_metadata(file.metadata.metadata)
    except ValueError as error:
        raise _damaged_metadata(path, error) from error


def _damaged_metadata(path: Path, error: ValueError) -> CaptureError:
    return CaptureError(f"{path}: its metadata is damaged ({first_line(error)}); set the file aside")


def events_beside(messages: Path) -> Path | None:
    """The events file of a message file; None if there is none."""
    path = other(messages)
    return path if path is not None and EVENTS in path.parts and path.exists() else None
