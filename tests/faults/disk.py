"""A disk that fails on order (`disk.c`), and a real writer on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.faults.forks import Forked, Forks
from tests.rings import Rings, plan, writer_job
from wsrec.ipc import FailedLine, Line, LogLine, Stop, encode_job, encode_order
from wsrec.plan.target import feed_of_url
from wsrec.ring.events import EventKind

FEED = feed_of_url("wss://h/s").public_config()
MESSAGES = 60
_AT_ONCE = 10
ROTATE_BYTES = 4_000
"""Makes three files of it."""
_DEADLINE = 60.0
_STARTS = 5


class HungError(Exception):
    """A writer did not go on, nor end."""


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return shutil.which("cc")


def build(folder: Path) -> Path:
    """The library that makes calls fail (`disk.c`)."""
    library = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def fault(call: str, nth: int, what: str | int, part: str = "*") -> str:
    """An order for `disk.c`: the `nth` call (from 1) on a path that has `part` in it answers `what`."""
    return f"{call}@{part}:{nth}:{what}"


class FaultyDisk(NamedTuple):
    """A disk that fails on order.

    Attributes:
        forks: starts its processes, with the library of `build`.
        folder: the folder whose files are concerned.
        state: a folder of its own.

    """

    forks: Forks
    folder: Path
    state: Path

    def environment(self, *faults: str) -> dict[str, str]:
        """The environment of a process that has these faults."""
        self.state.mkdir(exist_ok=True)
        return {
            "DISK_FOLDER": str(self.folder),
            "DISK_STATE": str(self.state),
            "DISK_LOG": str(self.state / "log"),
            "DISK_FAULTS": ",".join(faults),
        }

    @property
    def happened(self) -> int:
        """How many of the faults there were."""
        return len(self.marks)

    @property
    def marks(self) -> list[Path]:
        """What `disk.c` left for each."""
        return sorted(self.state.glob("[0-9]*"))

    def cut_power(self) -> None:
        """What the syncs that failed did not bring to the disk is not there (zeros), as after a power cut."""
        for state in self.marks:
            path, start, stop = state.read_text().rsplit(" ", 2)
            file = self.folder / path.lstrip("/")
            if file.exists() and int(stop):
                with file.open("r+b") as opened:
                    opened.seek(int(start))
                    opened.write(bytes(int(stop) - int(start)))

    def calls(self) -> list[tuple[str, str]]:
        """Each call there was, and its path below the folder."""
        text = (self.state / "log").read_text().replace(str(self.folder), "")
        lines = text.splitlines()
        return [(call, path) for _, call, path in (line.split(" ", 2) for line in lines)]


class Writer:
    """A real writer process at the end of real rings, on a disk that fails; started again as its supervisor does it."""

    def __init__(self, disk: FaultyDisk, faults: tuple[str, ...], **job: Any) -> None:
        self._disk = disk
        self._environment = disk.environment(*faults)
        self.rings = Rings(1, 64 * 4096, 4096)
        slots, control, status, *byte_rings = self.rings.fds
        job = {"batch": 0.01, "fsync": 0.02, **job}
        self._job = writer_job(
            disk.folder,
            (plan(0),),
            {"f": FEED},
            slots=slots,
            control_ring=control,
            status=status,
            rings=tuple(byte_rings),
            **job,
        )
        self._heard: dict[int, list[Line]] = {}
        self._orders = -1
        self.starts = 0
        # each message, and when it was put (ns since the epoch)
        self.put_at: list[tuple[bytes, int]] = []
        clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        self.rings.event(EventKind.ANCHOR, **clock, width_ns=1, clock="TSC", drift_ns=0)
        self._start()

    def _start(self) -> None:
        self.starts += 1
        job = self._job if self.starts == 1 else msgspec.structs.replace(self._job, resume=True)
        there, self._orders = os.pipe()
        with self._output("lines").open("wb") as stated, self._output("errors").open("wb") as errors:
            standard = (there, stated.fileno(), errors.fileno())
            self.process: Forked = self._disk.forks.start(["store"], self._environment, standard, self.rings.fds)
        os.close(there)
        with suppress(OSError):
            os.write(self._orders, encode_job(job))

    def _output(self, what: str) -> Path:
        return self._disk.state / f"{what}-{self.starts}"

    def _ended(self) -> bool:
        """Whether it ended for good; one that says that a new one may be able to is followed by a new one."""
        if self.process.poll() is None:
            return False
        self._hear()
        last = self.stated[-1] if self.stated else None
        if isinstance(last, FailedLine) and last.again and self.starts < _STARTS:
            self._start()
            return False
        return True

    def _hear(self) -> None:
        """Its lines until it ended."""
        with suppress(OSError):
            os.close(self._orders)
        self._orders = -1
        lines = self._output("lines").read_bytes().splitlines()
        self._heard[self.starts] = [msgspec.json.decode(line, type=Line) for line in lines]

    @property
    def stated(self) -> list[Line]:
        """All of its lines, over all restarts."""
        return [line for life in sorted(self._heard) for line in self._heard[life]]

    @property
    def errors(self) -> str:
        """What it wrote on standard error."""
        return "".join(path.read_text() for path in sorted(self._disk.state.glob("errors-*")))

    def until(self, condition: Callable[[], Any]) -> bool:
        """Wait until `condition` holds; False where the writer ended before.

        Raises:
            HungError: neither came.

        """
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            if self._ended():
                return False
            if time.monotonic() > deadline:
                raise HungError
            time.sleep(0.002)
        return True

    def put(self, payload: bytes) -> bool:
        """Put a message once there is room."""
        if not self.until(
            lambda: self.rings.room(0) >= len(payload) and self.rings.slots.free(self.rings.producer.count)
        ):
            return False
        now = time.monotonic_ns()
        self.rings.put(payload, 0, event=now, handoff=now)
        self.put_at.append((payload, time.time_ns()))
        return True

    def journalled(self) -> bool:
        """Wait until all that was put is in the journal."""
        return self.until(lambda: self.rings.slots.released.read() == self.rings.slots.published.read())

    def stop(self) -> None:
        """Have it finish, as after a receiver that was finished."""
        receiver = self.rings.status.receiver
        receiver["frames"], receiver["bytes"], receiver["finished"] = (
            len(self.put_at),
            self.rings.rings[0].head.read(),
            True,
        )
        while self.process.returncode is None:
            life = self.starts
            with suppress(OSError):
                os.write(self._orders, encode_order(Stop()))
            self.until(lambda life=life: self.starts > life)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._hear()

    def close(self) -> None:
        """End it."""
        self.kill()
        self.rings.close()

    @property
    def words(self) -> list[str]:
        """Its lines for the operator."""
        return [line.message for line in self.stated if isinstance(line, LogLine | FailedLine)]


@contextmanager
def writing(disk: FaultyDisk, *faults: str, **job: Any) -> Iterator[Writer]:
    """A writer on that disk."""
    writer = Writer(disk, faults, **job)
    try:
        yield writer
    finally:
        writer.close()


def fill(writer: Writer) -> list[bytes]:
    """Have messages journalled for several files, and return those that were put."""
    sent = []
    for index in range(MESSAGES):
        payload = b"%06d " % index + bytes(b"%d" % index) * 100
        if not writer.put(payload):
            break
        sent.append(payload)
        if index % _AT_ONCE == _AT_ONCE - 1:
            writer.journalled()
    return sent


def record(writer: Writer) -> list[bytes]:
    """The same, and have the writer finish the files."""
    sent = fill(writer)
    writer.stop()
    return sent
