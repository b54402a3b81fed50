"""Checks of one file: its checksum, its schema and its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.capture import checked_metadata, damage, metadata, open_file
from wsrec.format.capture_file import SCHEMAS
from wsrec.format.errors import CaptureError, UnreadableError, first_line
from wsrec.format.folders import NO_FILE, cannot_read, is_file
from wsrec.format.layout import EVENTS, MESSAGES, FileKind
from wsrec.format.manifest import ManifestLine, digest_of, names_by_digest
from wsrec.format.metadata import METADATA_KEYS, OF_ROWS, OF_SESSION
from wsrec.units import plural
from wsrec.verify.inventory import Pair
from wsrec.verify.model import Kind

Report = Callable[[Kind, Path | str, str], None]

# errors that damaged or forged files cause in their readers
UNREADABLE = (
    CaptureError,
    pa.ArrowException,
    msgspec.MsgspecError,
    OSError,
    ValueError,
    KeyError,
    OverflowError,
    RecursionError,
)


def sound(
    path: Path,
    root: Path,
    digest: str | None,
    size: int | None,
    report: Report,
    listed_too: Callable[[str], bool] = lambda _: False,
) -> bool:
    """Whether a file's bytes match its manifest line; reports differences.

    A file without a line is accepted: the missing line is a separate finding.

    Args:
        path: the file.
        root: the output folder.
        digest: its SHA-256 in the manifest; None without a line.
        size: its size in the manifest; None if the manifest does not have it.
        report: called with each problem.
        listed_too: whether the manifest has another SHA-256 of this file too.

    """
    try:
        if not is_file(path):
            report(Kind.DAMAGED, path, NO_FILE if path.exists() else "the file is gone")
            return False
        found = digest_of(path) if digest is not None else None
        if found != digest and not listed_too(found or ""):
            if (other := names_by_digest(root).get(found or "")) is not None:
                report(Kind.DAMAGED, path, f"is another file, renamed or copied here: {other}")
                return False
            why = damage(path, size)
            changed = "its SHA-256 is not the manifest's: the file was changed after it was written"
            report(Kind.DAMAGED, path, why or changed)
            return False
    except OSError as error:
        report(Kind.UNREADABLE, path, cannot_read(error))
        return False
    return True


def about_messages(path: Path, pair: Pair, report: Report) -> dict[str, Any] | None:
    """The metadata of a message file after a check of it and the schema; None if its rows cannot be read."""
    return _about_file(path, MESSAGES, pair, report)


def about_events(path: Path, pair: Pair, report: Report) -> dict[str, Any] | None:
    """The metadata of an events file, as for `about_messages`."""
    return _about_file(path, EVENTS, pair, report)


def _about_file(path: Path, kind: FileKind, pair: Pair, report: Report) -> dict[str, Any] | None:
    try:
        with open_file(path, kind) as file:
            about = _about(file, kind, path, pair, report)
            rows = file.metadata.num_rows
            if kind == EVENTS and about is not None and pair.line is not None and rows != pair.line.events:
                counted = f"{plural(rows, 'row')}, the manifest says {plural(pair.line.events, 'event')}"
                report(Kind.CONTRADICTION, path, f"has {counted}")
            return about
    except UnreadableError as error:
        report(Kind.UNREADABLE, path, str(error).removeprefix(f"{path}: "))
        return None
    except UNREADABLE as error:
        report(Kind.DAMAGED, path, f"cannot be read: {first_line(error).removeprefix(f'{path}: ')}")
        return None


def _about(file: pq.ParquetFile, kind: FileKind, path: Path, pair: Pair, report: Report) -> dict[str, Any] | None:
    about, schema = metadata(file), SCHEMAS[kind]
    found = file.schema_arrow
    if not found.equals(schema):
        differing = [f.name for f in schema if f.name not in found.names or not found.field(f.name).equals(f)]
        column = next(iter([*differing, *(name for name in found.names if name not in schema.names)]), "their order")
        report(Kind.CONTRADICTION, path, f"its columns differ from the format: {column}")
        return None
    missing = [key for key in METADATA_KEYS if key not in about and key not in _left_out(kind, pair)]
    if missing:
        report(Kind.CONTRADICTION, path, f"its metadata lack wsrec.{missing[0]}")
    checked = checked_metadata(path, file)
    if kind == EVENTS and checked.events != file.metadata.num_rows:
        report(
            Kind.CONTRADICTION,
            path,
            f"wsrec.events differs from its rows{_both(checked.events, file.metadata.num_rows)}",
        )
    for key, value in (("feed", pair.feed), ("session", pair.session)):
        if key in about and about[key] != value:
            report(Kind.CONTRADICTION, path, f"its metadata say {key} {about[key]!r}, its name says {value!r}")
    if "feed_config" in about:
        digest = hashlib.sha256(msgspec.json.encode(about["feed_config"], order="sorted")).hexdigest()
        if digest != about.get("feed_config_sha256"):
            report(Kind.CONTRADICTION, path, "wsrec.feed_config does not match wsrec.feed_config_sha256")
    return about


def _left_out(kind: FileKind, pair: Pair) -> tuple[str, ...]:
    """The keys that a file of this kind need not have."""
    if kind == MESSAGES:
        return ()
    beside = pair.messages is not None or (pair.line is not None and pair.line.path is not None)
    return (*OF_ROWS, *OF_SESSION) if beside else OF_ROWS


def check_figures(path: Path, about: dict[str, Any], line: ManifestLine | None, report: Report, **read: Any) -> None:
    """Compare figures read from a message file with its metadata and its manifest line.

    Args:
        path: the file.
        about: its metadata.
        line: its manifest line; None without one.
        report: called with each contradiction.
        read: figures from the rows, by their key in the metadata and name in the line.

    """
    for key, value in read.items():
        if key in METADATA_KEYS and not _same(about.get(key), value):
            report(Kind.CONTRADICTION, path, f"wsrec.{key} differs from the rows{_both(about.get(key), value)}")
        if line is not None and hasattr(line, key) and getattr(line, key) != value:
            both = _both(getattr(line, key), value)
            report(Kind.CONTRADICTION, path, f"the manifest's {key} differs from the file{both}")


def _same(stated: Any, found: Any) -> bool:
    """Whether two values are the same JSON; for Python 1, 1.0 and true are equal."""
    return msgspec.json.encode(stated, order="sorted") == msgspec.json.encode(found, order="sorted")


def _both(stated: Any, found: Any) -> str:
    brief = isinstance(stated, int | str | None) and isinstance(found, int | str | None)
    return f": {stated!r}, found {found!r}" if brief else ""
