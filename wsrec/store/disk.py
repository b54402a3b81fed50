"""New files, and what to do when the disk refuses: give the error on, or say so and try again until it takes."""

from __future__ import annotations

import errno
import io
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wsrec import child

T = TypeVar("T")

_RETRY_SECONDS = 1.0


class Disk:
    """Gives every error on: for whoever can simply be called again, as recovery."""

    def retry(self, action: Callable[[], T]) -> T:
        """Do something that writes.

        Raises:
            OSError: the disk refused.

        """
        return action()


GIVES_UP = Disk()


class NewFile(io.RawIOBase):
    """A file that did not exist, without a buffer of its own: what `write` took the kernel has.

    Args:
        path: its name.
        disk: what to do when the disk refuses.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be created.

    """

    def __init__(self, path: Path, disk: Disk = GIVES_UP) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
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
            done += self._disk.retry(lambda rest=view[done:]: os.write(self._fd, rest))  # type: ignore[misc]
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
        """Have it on the disk (fdatasync(2))."""
        self._disk.retry(lambda: os.fdatasync(self._fd))

    def check_name(self) -> None:
        """Make sure that it still has a name.

        Raises:
            FileNotFoundError: somebody deleted it; what is written now would vanish with it.

        """
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "deleted while it was written", str(self._path))

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._fd)
        super().close()


class Trouble(NamedTuple):
    """A time in which the disk refused: its beginning and end (ns since the epoch), and the first error."""

    began: int
    ended: int
    message: str


class PatientDisk(Disk):
    """Tries again every second, and tells: a disk that is full, gone or not to be written for a while.

    Args:
        on_wait: called while it waits, with True, and with False once the disk takes again.

    Attributes:
        over: troubles that are over and not yet recorded; any thread may take them out.

    """

    def __init__(self, on_wait: Callable[[bool], None]) -> None:
        self.over: deque[Trouble] = deque()
        self._on_wait = on_wait

    def retry(self, action: Callable[[], T]) -> T:
        """Do something that writes, as often as it takes.

        Raises:
            FileExistsError: a name is taken.
            FileNotFoundError: the folder is gone; waiting does not bring it back.
            MemoryError: this process gets no more memory, where a new one may.

        """
        began, message = 0, ""
        while True:
            try:
                result = action()
            except (FileExistsError, FileNotFoundError):
                raise
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise MemoryError(str(error)) from error
                if not began:
                    began, message = time.time_ns(), str(error)
                    cure = "make room, or give access to the output folder: it is tried again every second"
                    child.error(f"the output cannot be written: {error}", cure)
                self._on_wait(True)
                time.sleep(_RETRY_SECONDS)
                continue
            if began:
                self._on_wait(False)
                self.over.append(Trouble(began, time.time_ns(), message))
                child.info("the output can be written again")
            return result
