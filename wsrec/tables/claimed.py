"""Claims on files and folders in the making: a maker locks its own, so that the next one knows what a killed one left.

The lock (flock(2)) ends with its process in whatever way that ends, and is seen from other machines where the file
system passes it on. A folder without locks keeps what was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def claim(make: Callable[[], Path]) -> tuple[Path, int]:
    """Make a file or folder and claim it until the descriptor is closed.

    Args:
        make: makes it; called again if another process takes it for left behind before it is claimed.

    Returns:
        Its path and the descriptor.

    Raises:
        BlockingIOError: another process is making it.
        OSError: it cannot be made.

    """
    while True:
        path = make()
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY)
            if _lock(fd, path) and _is_there(path, fd):
                return path, fd
            os.close(fd)


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove files and folders of these names that no process claims any more."""
    for path in folder.glob(pattern):
        # what cannot be removed is in no one's way
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(fd)


def _lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise BlockingIOError(error.errno, "another process is writing it", str(path)) from error
    except OSError:
        # a file system without locks: then nothing of it is ever removed
        return True
    return True


def _is_there(path: Path, fd: int) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(fd))
