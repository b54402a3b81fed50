"""The session record: what a session is going to record, made durable before anything is received.

Journals contain it too. If everything is killed before there is one, or the journals are gone, only this shows what was
lost. It is removed with the session's folder.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from wsrec.format.folders import read_file, sync_folder
from wsrec.format.heartbeat import FILE as HEARTBEAT
from wsrec.format.stored_json import decode_stored
from wsrec.format.unfinished import RECORD, check_record
from wsrec.format.version import FORMAT_VERSION
from wsrec.writer.job import WriterJob

_UNFINISHED = "session.json.new"
# The disk refused it, and the session continued
_REFUSED = "session.json.refused"
FILES = frozenset({RECORD, _UNFINISHED, _REFUSED, HEARTBEAT})


class _Record(msgspec.Struct):
    format_version: int
    job: WriterJob


def write(folder: Path, job: WriterJob) -> None:
    """Write it into a session's folder, unless it exists.

    Raises:
        OSError: the disk is full or gone; a marker of the refusal is left, if the disk permits.

    """
    if (folder / RECORD).exists():
        return
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(folder / _UNFINISHED, flags, 0o644), "wb") as file:
            file.write(msgspec.json.encode(_Record(FORMAT_VERSION, job.public())))
            file.flush()
            os.fsync(file.fileno())
        (folder / _UNFINISHED).rename(folder / RECORD)
        sync_folder(folder)
        sync_folder(folder.parent)
    except OSError:
        with contextlib.suppress(OSError):
            (folder / _REFUSED).touch()
        raise
    (folder / _REFUSED).unlink(missing_ok=True)


def read(folder: Path) -> WriterJob | None:
    """The job of the session's writer; None if there is no record.

    Raises:
        OSError: it cannot be read.
        OtherVersionError: it is of another version of the format.
        ValueError: it is damaged; the message names it.

    """
    path = folder / RECORD
    try:
        data = read_file(path)
    except FileNotFoundError:
        return None
    try:
        check_record(path, data)
        return decode_stored(data, _Record).job
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: it is damaged ({error}); delete it when you have dealt with it") from error


def preceded(folder: Path) -> bool:
    """True if a session was killed before it had written this, and so had received nothing.

    Raises:
        OSError: the folder cannot be read.

    """
    return {path.name for path in folder.iterdir()} <= {_UNFINISHED}


def end(folder: Path) -> None:
    """Remove it, before the folder is removed.

    Raises:
        OSError: the disk failed.

    """
    for name in (_UNFINISHED, _REFUSED, RECORD):
        (folder / name).unlink(missing_ok=True)
