"""What to do when the disk refuses: give the error on at once, or say so and try again until it takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

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

        """
        began, message = 0, ""
        while True:
            try:
                result = action()
            except (FileExistsError, FileNotFoundError):
                raise
            except OSError as error:
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
