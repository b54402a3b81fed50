"""Free space of the output's disk, and when it will be full, watched by a thread: a disk that hangs blocks nothing."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from wsrec.supervise.state import DiskState

_PERIOD = 2.0
# the slope is measured over an hour, so that a rotation, which deletes the journal, is in it
_KEPT, _EVERY = 61, 60.0
# shorter, a single row group would be mistaken for a trend (s)
_LEAST = 30.0


class _Free(NamedTuple):
    at: float
    free: int


class FreeSpace(threading.Thread):
    """Watches the free space of a folder's file system.

    Args:
        folder: the folder.
        reserve: bytes that are not to be used.

    """

    def __init__(self, folder: Path, reserve: int = 0) -> None:
        super().__init__(name="free-space", daemon=True)
        self._folder = folder
        self._reserve = reserve
        self._history: deque[_Free] = deque(maxlen=_KEPT)
        self._latest: _Free | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        """Look, until stopped."""
        while True:
            with contextlib.suppress(OSError):
                found = os.statvfs(self._folder)
                self.note(time.monotonic(), found.f_bavail * found.f_frsize)
            if self._stopping.wait(_PERIOD):
                return

    def stop(self) -> None:
        """Stop looking."""
        self._stopping.set()

    def note(self, at: float, free: int) -> None:
        """Note the free bytes at a monotonic time (s)."""
        self._latest = _Free(at, max(free - self._reserve, 0))
        if not self._history or at - self._history[-1].at >= _EVERY:
            self._history.append(self._latest)

    def state(self) -> DiskState | None:
        """The last known state; None before the first."""
        latest = self._latest
        if latest is None:
            return None
        first = self._history[0]
        seconds, used = latest.at - first.at, first.free - latest.free
        full = int(latest.free * seconds / used * 1e9) if seconds >= _LEAST and used > 0 else None
        return DiskState(free=latest.free, full_in_ns=full)
