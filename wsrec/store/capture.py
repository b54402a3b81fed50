"""A capture on disk as its readers find it: which files belong to it, and what each says of itself."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.store.schema import MESSAGE_SCHEMA, METADATA_PREFIX, SCHEMA_VERSION


class CaptureError(Exception):
    """A file or folder cannot be read as a capture; the message names it and the cure."""


def message_files(sources: Iterable[str | Path]) -> list[Path]:
    """The message files that files, folders and globs name, in order of their names.

    A folder is searched at any depth; what is below `events` or `.wsrec` does not count.

    Raises:
        CaptureError: a source does not exist or holds no message file.

    """
    found: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files = [file for file in path.rglob("*.parquet") if not _aside(file.relative_to(path))]
            if not files:
                raise CaptureError(f"{path}: no Parquet files of messages below this folder {_why_none(path)}")
        elif path.exists():
            files = [path]
        else:
            files = [Path(name) for name in glob.glob(str(source), recursive=True)]  # noqa: PTH207 (absolute too)
            if not files:
                raise CaptureError(f"{source}: no such file or folder, and no file matches it as a pattern")
        found.update(files)
    return sorted(found)


def _why_none(folder: Path) -> str:
    """Why a folder may hold no message file, and what to do about it."""
    if next(folder.glob(".wsrec/*/journal-*.arrows"), None) is None:
        return "(is it wsrec's --out folder?)"
    return (
        "yet: a recording is in progress there or was interrupted; its first file appears when it ends or at its next "
        "rotation, and the next `wsrec record` into this folder recovers an interrupted one"
    )


def _aside(relative: Path) -> bool:
    return "events" in relative.parts[:-1] or any(part.startswith(".") for part in relative.parts)


def open_messages(path: Path) -> pq.ParquetFile:
    """Open one message file.

    Raises:
        CaptureError: it is damaged, or no message file of wsrec, or of a later format.

    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CaptureError(
            f"{path}: not readable as Parquet ({_first_line(error)}); "
            "nothing was changed: set the file aside and read the others"
        ) from error
    try:
        own = metadata(file)
    except ValueError as error:
        file.close()
        raise CaptureError(f"{path}: its metadata is damaged ({_first_line(error)}); set the file aside") from error
    missing = [name for name in MESSAGE_SCHEMA.names if name not in file.schema_arrow.names]
    if missing:
        file.close()
        raise CaptureError(f"{path}: not a message file of wsrec (no column `{missing[0]}`)")
    version = own.get("schema_version")
    if version != SCHEMA_VERSION:
        file.close()
        raise CaptureError(
            f"{path}: schema version {version}, this wsrec reads {SCHEMA_VERSION}; install the wsrec that wrote it"
        )
    return file


def metadata(file: pq.ParquetFile) -> dict[str, Any]:
    """wsrec's own metadata of an open file: the keys of `schema.METADATA_KEYS`, decoded.

    Raises:
        ValueError: a value is no JSON.

    """
    pairs = (file.metadata.metadata or {}).items()
    prefix = METADATA_PREFIX.encode()
    return {key.removeprefix(prefix).decode(): json.loads(value) for key, value in pairs if key.startswith(prefix)}


def events_beside(messages: Path) -> Path | None:
    """The events file written together with a message file, None where there is none."""
    parts = list(messages.parts)
    if "messages" not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index("messages")] = "events"
    path = Path(*parts)
    return path if path.exists() else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
