"""How long a recorder is known to have lived: its supervisor writes the time into a file of the session, once a second.

The file is as old as the session's folder and goes with it. Who recovers the session reads when the recorder ended: a
lost interval then lasts until there, and not until somebody looks. The time is written over, so it needs no space on a
disk that is full. After a reboot the file may be older than the recorder's end was: then the interval ends with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec.ring.loss import Until

FILE = "alive"
PERIOD = 1.0
# Two beats may be missing where the machine was busy
_LATE_NS = int(2 * PERIOD * 1e9)
_WIDTH = 200


class Beat(msgspec.Struct, frozen=True):
    """What stands in the file: when it was written (ns since the epoch), and in which life of the machine."""

    time: int
    boot: str


class Machine(NamedTuple):
    """The life of the machine: its id, and when it began (ns since the epoch)."""

    boot: str
    began: int


def machine() -> Machine:
    """This one's; without an id where the system has none."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Machine(boot, time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    return Machine("", 0)


def begin(folder: Path) -> None:
    """Make the file, in a session's folder.

    Raises:
        OSError: the disk is full or gone.

    """
    (folder / FILE).write_bytes(_encoded())


def end(folder: Path) -> None:
    """Remove it, before the folder goes.

    Raises:
        OSError: the disk failed.

    """
    (folder / FILE).unlink(missing_ok=True)


def ended(folder: Path, since: int, now: int, here: Machine | None = None) -> Until:
    """Until when a session that was interrupted can have received anything.

    Args:
        folder: the session's.
        since: what it recorded last, ns since the epoch; it was alive then.
        now: ns since the epoch.
        here: the life of the machine now.

    """
    here = here or machine()
    try:
        beat = msgspec.json.decode((folder / FILE).read_bytes(), type=Beat)
    except (OSError, msgspec.DecodeError):
        return Until(max(since, now), "recovery")
    if beat.boot != here.boot:
        # what was written in the last seconds before may not have reached the disk
        return Until(max(since, min(max(beat.time + _LATE_NS, here.began), now)), "start of the machine")
    return Until(max(since, min(beat.time + _LATE_NS, now)), "heartbeat of the recorder")


class Heartbeat(threading.Thread):
    """Writes the time into the file of a session, from its appearance on until stopped.

    A thread of its own, which ends with the process: a disk that hangs holds nobody else up.

    Args:
        folder: the session's.

    """

    def __init__(self, folder: Path) -> None:
        super().__init__(name="alive", daemon=True)
        self._path = folder / FILE
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()

    def run(self) -> None:
        """See the class."""
        fd: int | None = None
        try:
            while not self._stopping.wait(PERIOD):
                with contextlib.suppress(OSError):
                    if fd is None:
                        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    os.pwrite(fd, _encoded(), 0)
        finally:
            if fd is not None:
                os.close(fd)


def _encoded() -> bytes:
    return msgspec.json.encode(Beat(time.time_ns(), machine().boot)).ljust(_WIDTH) + b"\n"
