"""Heartbeat file: the supervisor writes the time once a second, a lower bound for how long the recorder was alive.

The file is as old as the session's folder and goes with it. Who recovers the session reads when the recorder ended: a
lost interval then lasts until there, and not until somebody looks. It is written on both clocks: how long after the
last row it was, only the one that nobody sets can say. The time is written over, so it needs no space on a disk that is
full. After a reboot the file may be older than the recorder's end was: then the interval ends with it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec.format.folders import read_file
from wsrec.format.moment import Moment
from wsrec.ring.loss_evidence import Until

FILE = "alive"
PERIOD = 1.0
# Two beats may be missing where the machine was busy
_LATE_NS = int(2 * PERIOD * 1e9)
_WIDTH = 200


class Beat(msgspec.Struct, frozen=True):
    """What stands in the file.

    Attributes:
        time: when it was written, ns since the epoch.
        boot: in which life of the machine.
        monotonic: `time` on CLOCK_MONOTONIC, which the stage clock follows.

    """

    time: int
    boot: str
    monotonic: int


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
    """Make the file, in a session's folder, or write the time into the one that is there.

    Raises:
        OSError: the disk is full or gone.

    """
    fd = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, _encoded(), 0)
    finally:
        os.close(fd)


def end(folder: Path) -> None:
    """Remove it, before the folder goes.

    Raises:
        OSError: the disk failed.

    """
    (folder / FILE).unlink(missing_ok=True)


def ended(folder: Path, since: Moment | None, now: Moment, here: Machine | None = None) -> Until:
    """Until when a session that was interrupted can have received anything.

    Args:
        folder: the session's.
        since: what it recorded last; it was alive then. None where it has recorded nothing.
        now: this moment, on the clocks of this life of the machine.
        here: this life of the machine.

    """
    here = here or machine()
    recorded = 0 if since is None else since.utc
    try:
        beat = msgspec.json.decode(read_file(folder / FILE), type=Beat)
    except (OSError, msgspec.DecodeError):
        return Until(max(recorded, now.utc), "recovery")
    late, evidence = _LATE_NS, "heartbeat of the recorder"
    if beat.boot != here.boot:
        # what was written in the last seconds before may not have reached the disk
        late, evidence = max(_LATE_NS, min(here.began, now.utc) - beat.time), "start of the machine"
    elif now.stage is not None:
        late = max(min(late, now.stage - beat.monotonic), 0)
    if since is None or since.stage is None:
        return Until(max(recorded, beat.time + late), evidence)
    # UTC may have been set since what it recorded last
    more = max(since.stage - beat.monotonic - late, 0)
    return Until(beat.time + late + more, evidence, beat.monotonic + late + more)


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
    return msgspec.json.encode(Beat(time.time_ns(), machine().boot, time.monotonic_ns())).ljust(_WIDTH) + b"\n"
