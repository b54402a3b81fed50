"""The version of what a recorder left unfinished: the journals and the record in a session's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from wsrec.format.errors import OtherVersionError
from wsrec.format.folders import is_file, matching, read_file, regular
from wsrec.format.stored_json import decode_stored
from wsrec.format.version import FORMAT_VERSION

JOB_KEY = b"wsrec.job"
VERSION_KEY = b"wsrec.format_version"
RECORD = "session.json"
"""Name of the session record (`wsrec.writer.session_start`)."""

# where journals stated their version before version 5 of the format
_EARLIER_VERSION_KEY = b"wsrec.journal_version"


class _Versioned(msgspec.Struct):
    """The part of the record that every version has; none before version 5."""

    format_version: int | str | None = None


def check_metadata(path: Path, metadata: Mapping[bytes, bytes]) -> bool:
    """False if the metadata of an Arrow stream are not those of a journal.

    Raises:
        OtherVersionError: they are those of a journal of another version of the format.

    """
    version = metadata.get(VERSION_KEY, b"")
    if JOB_KEY not in metadata or not (version or metadata.get(_EARLIER_VERSION_KEY, b"")).isdigit():
        return False
    if version != b"%d" % FORMAT_VERSION:
        raise OtherVersionError(path, version.decode() or None)
    return True


def check_journal(path: Path) -> None:
    """Make sure that a journal is not of another version; one without a valid beginning states none.

    Raises:
        OSError: it cannot be read.
        OtherVersionError: it is of another version of the format.

    """
    # a recorder writes the record of its session without it, and takes half as long to start
    import pyarrow as pa

    try:
        with pa.OSFile(os.fsencode(regular(path))) as file:
            metadata = pa.ipc.open_stream(file).schema.metadata or {}
    except pa.ArrowInvalid:
        return
    except OSError as error:
        # Arrow raises this for an invalid start of a stream as well; errors of the system have an errno
        if error.errno is not None:
            raise
        return
    check_metadata(path, metadata)


def checks(folder: Path) -> list[tuple[Path, Callable[[], None]]]:
    """The files in a session's folder that state a version, each with the call that checks it.

    Raises:
        OSError: the folder cannot be read.

    """
    found: list[tuple[Path, Callable[[], None]]] = [
        (path, partial(check_journal, path)) for path in matching(folder, "journal-*.arrows")
    ]
    record = folder / RECORD
    if is_file(record):
        found.append((record, lambda: check_record(record, read_file(record))))
    return found


def check_record(path: Path, data: bytes) -> None:
    """Make sure that the bytes of a session's record are not of another version.

    Raises:
        OtherVersionError: they are.
        msgspec.DecodeError: they are damaged.

    """
    version = decode_stored(data, _Versioned).format_version
    if version != FORMAT_VERSION:
        raise OtherVersionError(path, version)
