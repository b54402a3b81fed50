"""Heartbeat file: the supervisor writes the time once a second, as a lower bound of when the recorder still ran.

The file is created and removed with the session's folder. Recovery reads from it when the recorder ended, so that a
lost interval ends there and not at the time of the recovery. The time is on both clocks: only the monotonic one, which
is never set, gives the time since the last row. It is overwritten in place, so it needs no space on a full disk. After
a reboot the file may be older than the recorder's end, since late writes may be lost: then the interval ends at boot.
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
from wsrec.format.stored_json import decode_stored
from wsrec.ring.loss_evidence import Until

FILE = "heartbeat"
PERIOD = 1.0
# two heartbeats may be missing on a busy machine
_LATE_NS = int(2 * PERIOD * 1e9)
_WIDTH = 200


class Beat(msgspec.Struct, frozen=True):
    """The content of the file.

    Attributes:
        time: time of writing, ns since the epoch.
        boot: id of the machine's boot.
        monotonic: `time` on CLOCK_MONOTONIC, which the stage clock follows.

    """

    time: int
    boot: str
    monotonic: int


class Machine(NamedTuple):
    """A boot of the machine: its id and time (ns since the epoch)."""

    boot: str
    began: int


def machine() -> Machine:
    """The current boot; without an id if the system has none."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Machine(boot, time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    return Machine("", 0)


def begin(folder: Path) -> None:
    """Create the file in a session's folder, or update an existing one.

    Raises:
        OSError: the disk is full or failing.

    """
    fd = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(fd, _encoded(), 0)
    finally:
        os.close(fd)


def end(folder: Path) -> None:
    """Remove the file, before the folder is removed.

    Raises:
        OSError: the disk failed.

    """
    (folder / FILE).unlink(missing_ok=True)


def ended(folder: Path, since: Moment | None, now: Moment, here: Machine | None = None) -> Until:
    """Until when an interrupted session may have received anything.

    Args:
        folder: the session's folder.
        since: its last recorded moment, when it still ran; None if nothing was recorded.
        now: the current moment, on the clocks of this boot.
        here: the current boot.

    """
    here = here or machine()
    recorded = 0 if since is None else since.utc
    try:
        beat = decode_stored(read_file(folder / FILE), Beat)
    except (OSError, msgspec.DecodeError):
        return Until(max(recorded, now.utc), "recovery")
    late, evidence = _LATE_NS, "heartbeat of the recorder"
    if beat.boot != here.boot:
        # writes of the last seconds before the reboot may not have reached the disk
        late, evidence = max(_LATE_NS, min(here.began, now.utc) - beat.time), "start of the machine"
    elif now.stage is not None:
        late = max(min(late, now.stage - beat.monotonic), 0)
    if since is None or since.stage is None:
        return Until(max(recorded, beat.time + late), evidence)
    # UTC may have been set since the last recorded moment
    more = max(since.stage - beat.monotonic - late, 0)
    return Until(beat.time + late + more, evidence, beat.monotonic + late + more)


class Heartbeat(threading.Thread):
    """Writes the time into the file of a session, from the time it appears until stopped.

    A thread of its own that ends with the process, so that a hanging disk blocks nothing else.

    Args:
        folder: the session's folder.

    """

    def __init__(self, folder: Path) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._path = folder / FILE
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop writing."""
        self._stopping.set()

    def run(self) -> None:
        """See the class."""
        fd: int | None = None
        try:
            while not self._stopping.wait(PERIOD):
                with contextlib.suppress(OSError):
                    if fd is None:
                        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                    os.pwrite(fd, _encoded(), 0)
        finally:
            if fd is not None:
                os.close(fd)


def _encoded() -> bytes:
    return msgspec.json.encode(Beat(time.time_ns(), machine().boot, time.monotonic_ns())).ljust(_WIDTH) + b"\n"
