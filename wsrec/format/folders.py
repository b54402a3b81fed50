"""Folder listings that raise if a folder cannot be read: `Path.glob` treats it as empty."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from wsrec.format.layout import ASIDE, COMPACTING, own_folder

NO_FILE = "it is not a regular file (but a pipe, a device or a folder), so wsrec did not write it"

_NOT_REPLACED = "it is not a regular file (but a pipe, a device or a folder), which is not replaced; give another name"


def cannot_read(error: OSError) -> str:
    """The message for it, which differs from those for damage."""
    return f"cannot be read: {error.strerror or error}"


def is_file(path: Path) -> bool:
    """Whether a path is a regular file: opening anything else (a pipe, a device) may block forever.

    Raises:
        OSError: it cannot be determined.

    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def regular(path: Path) -> Path:
    """The same path, to be opened: refuses what is there and is no regular file.

    Raises:
        OSError: it is something else, or it cannot be determined.

    """
    return _no_other_kind(path, NO_FILE)


def replaceable(path: Path) -> Path:
    """The same path, to be written: refuses what is there and is no regular file.

    Raises:
        OSError: it is something else, or it cannot be determined.

    """
    return _no_other_kind(path, _NOT_REPLACED)


def _no_other_kind(path: Path, why: str) -> Path:
    """The same path, if it is free or a regular file's; `why` is the reason of the error otherwise."""
    if path.exists() and not is_file(path):
        raise OSError(errno.EINVAL, why, str(path))
    return path


def read_file(path: Path) -> bytes:
    """The content of a regular file; anything else is not opened.

    Raises:
        OSError: it is not a regular file, or cannot be read.

    """
    return regular(path).read_bytes()


def matching(folder: Path, pattern: str) -> list[Path]:
    """The entries of a folder that match a pattern, sorted by name; empty if there is no such folder.

    Raises:
        OSError: the folder cannot be read.

    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def session_folders(out: Path) -> list[Path]:
    """The session folders in an output folder; each has the session's remaining journals.

    Raises:
        OSError: it cannot be read.

    """
    return [path for path in matching(own_folder(out), "*") if path.name not in (ASIDE, COMPACTING) and path.is_dir()]


def session_began(session: str) -> int | None:
    """The second in which a session began (ns since the epoch), from its id; None if the id has no time."""
    found = re.match(r"\d{8}T\d{6}Z(?=-)", session, re.ASCII)
    try:
        moment = datetime.strptime(found[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
    return None if moment is None else int(moment.timestamp()) * 1_000_000_000


def parquet_files(folder: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """All Parquet files below a folder, sorted by name; `on_error` is called for folders that cannot be read."""
    found = []
    for name, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        found += [Path(name, file) for file in files if file.endswith(".parquet")]
    return sorted(found)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable (fsync(2), NOTES)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
