"""Ownership of a session's folder: a flock(2) on the folder itself, released by the kernel however its holder ends.

A recorder holds its session's folder shared: the supervisor, even while no writer runs, and each writer, which may
outlive it. A recovery holds it exclusively. So a live session is left alone even if the lock of the output folder was
deleted, or the folder's `.wsrec` recreated.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class LiveSessionError(Exception):
    """A session is being recorded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"session {folder.name} is being recorded, by a recorder that has not the lock of {folder.parent} (was it "
            "deleted?): left alone; end that recorder first"
        )


def hold(folder: Path) -> int:
    """Make a session's folder if it is not there, and hold it for as long as the descriptor is open.

    Raises:
        OSError: it cannot be made or opened.

    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        fd = _open(folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), folder.stat()):
                    return fd
        except OSError:
            os.close(fd)
            raise
        # a recovery held it before us and removed it
        os.close(fd)


def place(fd: int) -> str:
    """The current path of a held folder (proc_pid_fd(5)), if known."""
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        return "where it was moved to"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a session's folder if no recorder is using it.

    Raises:
        LiveSessionError: somebody does.
        OSError: it cannot be opened, or is a link.

    """
    fd = _open(folder)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LiveSessionError(folder) from None
        except OSError as error:
            # a file system without locks: there is only that of the output folder
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise
        yield
    finally:
        os.close(fd)


def is_live(folder: Path) -> bool:
    """Whether a session is being recorded, as far as that can be found out."""
    try:
        with alone(folder):
            return False
    except LiveSessionError:
        return True
    except OSError:
        return False


def _open(folder: Path) -> int:
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "is a symbolic link, which wsrec does not follow: remove it", str(folder))
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
