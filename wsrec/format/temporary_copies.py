"""Folders for temporary copies, each held by its process (flock(2)): what a killed one left is removed by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

_PREFIX = "wsrec-unfinished-"


class CopiesFolder(NamedTuple):
    """A folder that this process holds.

    Attributes:
        path: where it is.
        fd: what holds it.

    """

    path: Path
    fd: int

    def remove(self) -> None:
        """Remove it, and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.fd)


def new_folder() -> CopiesFolder:
    """Make one, and remove those that nobody holds any more.

    Raises:
        OSError: it cannot be made.

    """
    _remove_left()
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            fd = _open(path)
            # without locks in this file system nobody else removes it either
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_SH)
            if path.exists():
                return CopiesFolder(path, fd)
            # another process has just removed it: it was not held yet
            os.close(fd)


def _remove_left() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = _open(path)
            try:
                if os.fstat(fd).st_uid == os.geteuid():
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
