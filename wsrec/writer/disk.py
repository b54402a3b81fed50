"""New files, and what to do when the disk refuses: give the error on, or say so and try again until it takes."""

from __future__ import annotations

import errno
import io
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wsrec import ipc
from wsrec.format.moment import Moment
from wsrec.units import size

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_COPY_BYTES = 1 << 20


class NotAsWrittenError(Exception):
    """What stands in a file is not what was written there."""


class Disk:
    """Gives every error on: for whoever can simply be called again, as recovery."""

    def retry(self, action: Callable[[], T], grows: float = 0) -> T:
        """Do something that writes.

        Args:
            action: what to do; called again where that may help.
            grows: the part of the reserve that has to be free for it, 0 where it takes no room.

        Raises:
            OSError: the disk refused.

        """
        return action()

    def note(self, message: str) -> None:
        """Something failed that costs nothing, or that was made good: say so."""


NO_RETRY = Disk()

# Parquet stops at the reserve; the journal, which is what keeps a message, goes on to half of it
PARQUET_RESERVE = 1.0
JOURNAL_RESERVE = 0.5


class NewFile(io.RawIOBase):
    """A file that did not exist, without a buffer of its own: what `write` took the kernel has.

    Args:
        path: its name.
        disk: what to do when the disk refuses.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, disk: Disk = NO_RETRY) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = disk.retry(lambda: os.open(path, flags, 0o644))
        self._path = path
        self._disk = disk
        self._size = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`; a refusal in the middle goes on where it stopped, if the disk is a patient one."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            rest = view[done:]
            done += self._disk.retry(lambda rest=rest: os.write(self._fd, rest), PARQUET_RESERVE)  # type: ignore[misc]
        self._size += done
        return done

    def tell(self) -> int:
        """Bytes written."""
        return self._size

    def cut(self, size: int) -> None:
        """Take back what was written after the first `size` bytes."""
        os.ftruncate(self._fd, size)
        self._size = size

    def sync(self) -> None:
        """Have it on the disk (fdatasync(2)).

        Not tried again after an error: Linux takes what it could not write for written from then on
        (fsync(2), https://lwn.net/Articles/752063/), and says that all is well.
        """
        os.fdatasync(self._fd)

    def has_name(self) -> bool:
        """Whether it still has a name: what is written to one that somebody deleted vanishes with it."""
        return bool(os.fstat(self._fd).st_nlink)

    def is_as_long(self) -> bool:
        """Whether it is as long as what was written: behind what somebody cut off nothing stands in its place."""
        return os.fstat(self._fd).st_size == self._size

    def read_back(self) -> Iterator[bytes]:
        """What was written, piece by piece, also where it has no name any more.

        Raises:
            OSError: it cannot be read.

        """
        at = 0
        while data := os.pread(self._fd, _COPY_BYTES, at):
            yield data
            at += len(data)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._fd)
        super().close()


class Trouble(NamedTuple):
    """A time in which the disk refused, or a moment: its end, how long it was, and the first error."""

    ended: Moment
    duration_ns: int
    message: str


class RetryingDisk(Disk):
    """Tries again every second, and tells: a disk that is full, gone or not to be written for a while.

    Args:
        on_wait: called while it waits, with True, and with False once the disk takes again.
        folder: a folder on the disk.
        reserve: bytes that are to stay free for others (f_bavail of statvfs(3)); with less the disk counts as full.

    Attributes:
        over: troubles that are over and not yet recorded; any thread may take them out.
        waiting: the threads that wait.

    """

    def __init__(self, on_wait: Callable[[bool], None], folder: Path | None = None, reserve: int = 0) -> None:
        self.over: deque[Trouble] = deque()
        self._on_wait = on_wait
        self._folder = folder
        self._reserve = reserve
        self._timeout = math.inf
        self._hurried_at = 0.0
        self.waiting: set[int] = set()

    def set_deadline(self, seconds: float) -> None:
        """From now on give a refusal up that lasts longer than this: somebody waits for the end."""
        self._hurried_at, self._timeout = time.monotonic(), seconds

    def note(self, message: str) -> None:
        """Say it, and have it recorded."""
        ipc.warn(message)
        self.over.append(Trouble(Moment.now(), 0, message))

    def retry(self, action: Callable[[], T], grows: float = 0) -> T:
        """Do something that writes, as often as it takes.

        Raises:
            FileExistsError: a name is taken.
            FileNotFoundError: the folder is gone; waiting does not bring it back.
            MemoryError: this process gets no more memory, where a new one may.
            OSError: the disk still refused at the end of the patience that `set_deadline` left.

        """
        since, message = 0.0, ""
        while True:
            try:
                self._check_reserve(grows)
                result = action()
            except (FileExistsError, FileNotFoundError):
                raise
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise MemoryError(str(error)) from error
                if not message:
                    since, message = time.monotonic(), str(error)
                    hint = "make room, or give access to the output folder: it is tried again every second"
                    ipc.error(f"the output cannot be written: {error}", hint)
                if time.monotonic() - max(since, self._hurried_at) > self._timeout:
                    raise
                self.waiting.add(threading.get_ident())
                self._on_wait(True)
                time.sleep(_RETRY_SECONDS)
                continue
            if message:
                self.waiting.discard(threading.get_ident())
                # another thread may still wait
                self._on_wait(bool(self.waiting))
                self.over.append(Trouble(Moment.now(), int((time.monotonic() - since) * 1e9), message))
                ipc.info("the output can be written again")
            return result

    def _check_reserve(self, grows: float) -> None:
        if not grows or not self._reserve or self._folder is None:
            return
        found = os.statvfs(self._folder)
        free, wanted = found.f_bavail * found.f_frsize, int(self._reserve * grows)
        if free < wanted:
            what = f"{size(free)} are free, and {size(wanted)} are to stay so (--reserve)"
            raise OSError(errno.ENOSPC, what, str(self._folder))
