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

from wsrec.format.layout import ASIDE, own_folder

NO_FILE = "it is no regular file (a pipe, a device, a folder), so wsrec did not write it"


def cannot_read(error: OSError) -> str:
    """The words for it: they are never those for what is damaged."""
    return f"cannot be read: {error.strerror or error}"


def is_file(path: Path) -> bool:
    """Whether it is a regular file: opening anything else (a pipe, a device) may wait for ever.

    Raises:
        OSError: that cannot be found out.

    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def read_file(path: Path) -> bytes:
    """All of a regular file; anything else is not opened.

    Raises:
        OSError: it is none, or cannot be read.

    """
    if path.exists() and not is_file(path):
        raise OSError(errno.EINVAL, NO_FILE, str(path))
    return path.read_bytes()


def matching(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has a name like that, in order of the names; none in one that is not there.

    Raises:
        OSError: the folder cannot be read.

    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def session_folders(out: Path) -> list[Path]:
    """The folders of sessions in an output folder, each with the journals that are left of it.

    Raises:
        OSError: that cannot be found out.

    """
    return [path for path in matching(own_folder(out), "*") if path.name != ASIDE and path.is_dir()]


def session_began(session: str) -> int | None:
    """The second (ns since the epoch) in which a session began, by its id; None where that does not say."""
    found = re.match(r"\d{8}T\d{6}Z(?=-)", session, re.ASCII)
    try:
        moment = datetime.strptime(found[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
    return None if moment is None else int(moment.timestamp()) * 1_000_000_000


def parquet_files(folder: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """All Parquet files below a folder, in order of their names; `on_error` is told of folders that cannot be read."""
    found = []
    for name, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        found += [Path(name, file) for file in files if file.endswith(".parquet")]
    return sorted(found)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync(2), notes)."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
