"""New files, and the policy for disk errors: raise them, or report them and retry until the disk recovers."""

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
from wsrec.units import size, system_error

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_COPY_BYTES = 1 << 20


class NotAsWrittenError(Exception):
    """The content of a file is not what was written to it."""


class Disk:
    """Raises every error: for work that can simply be repeated, such as recovery."""

    def retry(self, action: Callable[[], T], grows: float = 0) -> T:
        """Execute an action that writes.

        Args:
            action: the action; repeated if that may help.
            grows: share of the reserve that must be free for it; 0 if it needs no space.

        Raises:
            OSError: the disk refused.

        """
        return action()

    def note(self, message: str) -> None:
        """Report a failure that costs nothing, or that was repaired."""


NO_RETRY = Disk()

# Parquet stops at the reserve; the journal, which preserves the messages, may use up to half of it
PARQUET_RESERVE = 1.0
JOURNAL_RESERVE = 0.5


class NewFile(io.RawIOBase):
    """A newly created file, unbuffered: everything passed to `write` has reached the kernel.

    Args:
        path: its name.
        disk: the policy for disk errors.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be created.

    """

    # the destructor closes it also where it could not be created
    _fd = -1

    def __init__(self, path: Path, disk: Disk = NO_RETRY) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = disk.retry(lambda: os.open(path, flags, 0o644))
        self._path = path
        self._disk = disk
        self._size = 0

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`; with a retrying disk an interrupted write continues where it stopped."""
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
        """Truncate to the first `size` bytes."""
        os.ftruncate(self._fd, size)
        self._size = size

    def sync(self) -> None:
        """Flush to the disk (fdatasync(2)).

        Not retried after an error: Linux then marks the unwritten pages as clean
        (fsync(2), https://lwn.net/Articles/752063/), and reports success.
        """
        os.fdatasync(self._fd)

    def has_name(self) -> bool:
        """True while it has a name: data written to a deleted file vanishes with it."""
        return bool(os.fstat(self._fd).st_nlink)

    def is_as_long(self) -> bool:
        """True if its length is what was written: data behind a truncation would be misplaced."""
        return os.fstat(self._fd).st_size == self._size

    def read_back(self) -> Iterator[bytes]:
        """The content piece by piece, even if the file has no name any more.

        Raises:
            OSError: it cannot be read.

        """
        at = 0
        while data := os.pread(self._fd, _COPY_BYTES, at):
            yield data
            at += len(data)

    def close(self) -> None:
        """Close it."""
        if not self.closed and self._fd >= 0:
            os.close(self._fd)
        super().close()


class Trouble(NamedTuple):
    """A period, or a moment, of disk errors: its end, its duration, and the first error."""

    ended: Moment
    duration_ns: int
    message: str


class RetryingDisk(Disk):
    """Retries every second and reports: a disk that is full, gone or not writable for a while.

    Args:
        on_wait: called with True while it waits, and with False once the disk works again.
        folder: a folder on the disk.
        reserve: bytes to keep free for others (f_bavail of statvfs(3)); with less the disk counts as full.

    Attributes:
        over: finished troubles not yet recorded; may be taken out by any thread.
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
        """From now on give up on an error that lasts longer than this: the end is waiting for it."""
        self._hurried_at, self._timeout = time.monotonic(), seconds

    def note(self, message: str) -> None:
        """Log it, and have it recorded."""
        ipc.warn(message, kind="disk")
        self.over.append(Trouble(Moment.now(), 0, message))

    def retry(self, action: Callable[[], T], grows: float = 0) -> T:
        """Execute an action that writes, repeatedly until it succeeds.

        Raises:
            FileExistsError: a name is taken.
            FileNotFoundError: the folder is gone, which waiting does not fix.
            MemoryError: this process gets no more memory, but a new one may.
            OSError: the disk still refused when the time set by `set_deadline` was over.

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
                    since, message = time.monotonic(), system_error(error)
                    hint = "free some space, or grant access to the output folder; retrying every second"
                    ipc.error(f"the output cannot be written: {system_error(error)}", hint, kind="disk")
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
                ipc.info("the output can be written again", kind="disk")
            return result

    def _check_reserve(self, grows: float) -> None:
        if not grows or not self._reserve or self._folder is None:
            return
        found = os.statvfs(self._folder)
        free, wanted = found.f_bavail * found.f_frsize, int(self._reserve * grows)
        if free < wanted:
            what = f"{size(free)} are free, but {size(wanted)} must stay free (--reserve)"
            raise OSError(errno.ENOSPC, what, str(self._folder))
