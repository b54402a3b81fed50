"""What lies in folders, with an error where that cannot be read: `Path.glob` takes such a folder for an empty one."""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path


def cannot_read(error: OSError) -> str:
    """The words for it: they are never those for what is damaged."""
    return f"cannot be read: {error.strerror or error}"


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
    return [path for path in matching(out / ".wsrec", "*") if path.name != "aside" and path.is_dir()]


def parquet_files(folder: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    """All Parquet files below a folder, in order of their names; `on_error` is told of folders that cannot be read."""
    found = []
    for name, folders, files in os.walk(folder, onerror=on_error):
        folders.sort()
        found += [Path(name, file) for file in files if file.endswith(".parquet")]
    return sorted(found)
