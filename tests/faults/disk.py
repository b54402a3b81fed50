"""Every way in which the disk can fail once under a writer: what is lost, and whether it was said.

scripts/disk-faults            every call of a short recording fails once, one run each: a table
scripts/disk-faults --json     the same for programs
scripts/disk-faults write link only these calls
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.conftest import events_of, messages_of, received
from tests.store.rings import Rings, plan, writer_job
from wsrec.child import FailedLine, Line, LogLine, Stop, SummaryLine, encode_job, encode_order
from wsrec.feed.target import feed_of_url
from wsrec.ring.events import EventKind
from wsrec.store.recovery import recover
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify

FEED = feed_of_url("wss://h/s").public_config()
MESSAGES = 120
_DEADLINE = 60.0

# What each call may answer: write(2), ftruncate(2), fsync(2), open(2), ...
ANSWERS = {
    "write": ("short", errno.EIO, errno.ENOSPC),
    "ftruncate": (errno.EROFS,),
    "fdatasync": (errno.EIO,),
    "fsync": (errno.EIO,),
    "create": (errno.EIO, errno.EMFILE),
    "open": (errno.EIO,),
    "link": (errno.EIO, errno.EPERM),
    "rename": (errno.EIO,),
    "unlink": (errno.EIO,),
    "mkdir": (errno.EIO,),
    "rmdir": (errno.EIO,),
}


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
        library: see `build`.
        folder: the folder whose files are concerned.
        state: a folder of its own.

    """

    library: Path
    folder: Path
    state: Path

    def environment(self, *faults: str) -> dict[str, str]:
        """The environment of a process that has these faults."""
        self.state.mkdir(exist_ok=True)
        return {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "DISK_FOLDER": str(self.folder),
            "DISK_STATE": str(self.state),
            "DISK_LOG": str(self.state / "log"),
            "DISK_FAULTS": ",".join(faults),
        }

    @property
    def happened(self) -> int:
        """How many of the faults there were."""
        return sum(1 for path in self.state.iterdir() if path.name != "log")

    def cut_power(self) -> None:
        """What the syncs that failed did not bring to the disk is not there (zeros), as after a power cut."""
        for state in sorted(self.state.glob("[0-9]*")):
            path, start, stop = state.read_text().rsplit(" ", 2)
            file = self.folder / path.lstrip("/")
            if file.exists() and int(stop):
                with file.open("r+b") as opened:
                    opened.seek(int(start))
                    opened.write(bytes(int(stop) - int(start)))

    def calls(self) -> list[tuple[str, str]]:
        """Each call there was, and its path."""
        lines = (self.state / "log").read_text().splitlines()
        return [(call, path) for _, call, path in (line.split(" ", 2) for line in lines)]


class Writer:
    """A real writer process at the end of real rings, on a disk that fails; started again as its supervisor does it."""

    def __init__(self, disk: FaultyDisk, faults: tuple[str, ...], **job: Any) -> None:
        self.out = disk.folder
        self._environment = disk.environment(*faults)
        self.rings = Rings(1, 64 * 4096, 4096)
        slots, notes, status, *byte_rings = self.rings.fds
        job = {"batch_seconds": 0.01, "fsync_seconds": 0.02, **job}
        self._job = writer_job(
            self.out, (plan(0),), {"f": FEED}, slots=slots, notes=notes, status=status, rings=tuple(byte_rings), **job
        )
        self.said: list[Line] = []
        self.lives = self.frames = 0
        clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        self.rings.event(EventKind.ANCHOR, **clock, width_ns=1, clock="TSC", drift_ns=0)
        self._start()

    def _start(self) -> None:
        self.lives += 1
        job = self._job if self.lives == 1 else msgspec.structs.replace(self._job, resume=True)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wsrec.store"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self.rings.fds,
            env=self._environment,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(encode_job(job))
        self.process.stdin.flush()

    def _ended(self) -> bool:
        """Whether it ended for good; one that says that a new one may be able to is followed by a new one."""
        if self.process.poll() is None:
            return False
        self._hear()
        last = self.said[-1] if self.said else None
        if isinstance(last, FailedLine) and last.again and self.lives < 5:
            self._start()
            return False
        return True

    def _hear(self) -> None:
        output, _ = self.process.communicate()
        self.said += [msgspec.json.decode(line, type=Line) for line in output.splitlines()]

    def until(self, condition: Any) -> bool:
        """Wait until `condition` holds; False where the writer ended before."""
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            if self._ended():
                return False
            assert time.monotonic() < deadline, "in vain"
            time.sleep(0.002)
        return True

    def put(self, payload: bytes) -> bool:
        """Put a message once there is room."""
        room = self.rings.room(0) >= len(payload) and self.rings.slots.free(self.rings.producer.count)
        if not self.until(lambda: room or self.rings.room(0) >= len(payload)):
            return False
        now = time.monotonic_ns()
        self.rings.put(payload, 0, event=now, handoff=now)
        self.frames += 1
        return True

    def journalled(self) -> bool:
        """Wait until all that was put is in the journal."""
        return self.until(lambda: self.rings.slots.released.read() == self.rings.slots.published.read())

    def stop(self) -> None:
        """Have it finish, as after a receiver that was finished."""
        receiver = self.rings.status.receiver
        receiver["frames"], receiver["bytes"], receiver["finished"] = self.frames, self.rings.rings[0].head.read(), True
        while self.process.returncode is None:
            life = self.lives
            with suppress(OSError, ValueError):
                assert self.process.stdin is not None
                self.process.stdin.write(encode_order(Stop()))
                self.process.stdin.flush()
            self.until(lambda life=life: self.lives > life)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        with suppress(OSError, ValueError):
            self.process.communicate()
        self.rings.close()

    @property
    def words(self) -> list[str]:
        """What it said that an operator sees."""
        return [line.message for line in self.said if isinstance(line, LogLine | FailedLine)]


@contextmanager
def writing(disk: FaultyDisk, *faults: str, **job: Any) -> Iterator[Writer]:
    """A writer on that disk."""
    writer = Writer(disk, faults, **job)
    try:
        yield writer
    finally:
        writer.close()


def record(writer: Writer) -> list[bytes]:
    """Have messages written in three files, and return those that were put."""
    sent = []
    for index in range(MESSAGES):
        payload = b"%06d " % index + bytes(b"%d" % index) * 100
        if not writer.put(payload):
            break
        sent.append(payload)
        if index % 10 == 9:
            writer.journalled()
    writer.stop()
    return sent


class Found(NamedTuple):
    """What a fault came to.

    Attributes:
        fault: what failed.
        path: the file.
        lost, twice: messages that are not in the files in the end, and that are in them more than once.
        lives: how many writers it took.
        ended: the last word: `summary`, or what the writer gave as its reason.
        said: lines for the operator.
        events: events of the disk.
        verify: status of `wsrec verify`.
        verdict: `holds`, or what does not.

    """

    fault: str
    path: str
    lost: int
    twice: int
    lives: int
    ended: str
    said: list[str]
    events: int
    verify: int
    verdict: str


def run(library: Path, folder: Path, *faults: str) -> Found:
    """Record with these faults, recover what there is to recover, and judge it."""
    disk = FaultyDisk(library, folder / "out", folder / "state")
    disk.folder.mkdir(parents=True)
    with writing(disk, *faults, rotate_bytes=12_000) as writer:
        sent = record(writer)
    ended = "summary" if isinstance(writer.said[-1] if writer.said else None, SummaryLine) else "failed"
    failures: list[str] = []
    recover(disk.folder, failures.append)
    rows = received(messages_of(disk.folder)) if (disk.folder / "messages").exists() else []
    lost, twice = len(set(sent) - set(rows)), len(rows) - len(set(rows))
    events = events_of(disk.folder, "disk") if (disk.folder / "events").exists() else []
    status = verify([disk.folder]).status if rows else VerifyStatus.HOLDS
    paths = [path.read_text().rsplit(" ", 2)[0] for path in sorted(disk.state.iterdir()) if path.name != "log"]
    left = sorted(p.parent.name for p in disk.folder.glob(".wsrec/*/*") if p.parent.name != "aside")
    wrong = []
    # syncs go by time: there may be one less
    quiet = not paths or all(order.endswith((":short", f":{errno.EPERM}")) for order in faults)
    if lost:
        wrong.append(f"{lost} of {len(sent)} lost")
    if twice:
        wrong.append(f"{twice} twice")
    if rows != sent and not lost and not twice:
        wrong.append("out of order")
    if "Traceback" in " ".join(writer.words) or (writer.process.returncode and ended == "summary"):
        wrong.append("crashed")
    if not writer.said or (ended != "summary" and not isinstance(writer.said[-1], FailedLine)):
        wrong.append("died without a word")
    # a short write is gone on with, and a file system may have no hard links
    if not writer.words and not quiet:
        wrong.append("silent")
    if status not in (VerifyStatus.HOLDS, VerifyStatus.INCOMPLETE):
        wrong.append(f"verify says {status.name}")
    if failures or left:
        wrong.append(f"left behind: {failures or left}")
    return Found(
        ", ".join(faults),
        paths[0] if paths else "",
        lost,
        twice,
        writer.lives,
        ended,
        writer.words,
        len(events),
        int(status),
        "; ".join(wrong) or "holds",
    )


def calls(library: Path, folder: Path) -> dict[str, int]:
    """How often each call is made in a recording without faults."""
    disk = FaultyDisk(library, folder / "out", folder / "state")
    disk.folder.mkdir(parents=True)
    with writing(disk, rotate_bytes=12_000) as writer:
        record(writer)
    counted: dict[str, int] = {}
    for call, _ in disk.calls():
        counted[call] = counted.get(call, 0) + 1
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"only these: {' '.join(ANSWERS)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workers", type=int, default=1, help="writers at a time")
    arguments = parser.parse_args()
    if compiler() is None:
        print("there is no C compiler (cc)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        counted = calls(library, Path(name) / "plain")
        orders = [
            fault(call, nth, what)
            for call in arguments.calls or ANSWERS
            for nth in range(1, counted.get(call, 0) + 1)
            for what in ANSWERS[call]
        ]

        def one(order: str) -> Found:
            folder = Path(name) / order.replace(":", "-").replace("*", "")
            try:
                return run(library, folder, order)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        found = []
        with ThreadPoolExecutor(arguments.workers) as pool:
            for each in pool.map(one, orders):
                found.append(each)
                if not arguments.json and each.verdict != "holds":
                    print(f"{each.fault:28} {each.path:60} {each.verdict}", flush=True)
        if arguments.json:
            print(json.dumps([each._asdict() for each in found]))
        else:
            for call in arguments.calls or ANSWERS:
                mine = [each for each in found if each.fault.startswith(call + "@")]
                good = sum(each.verdict == "holds" for each in mine)
                lost = sum(each.lost for each in mine)
                print(f"{call:10} {counted.get(call, 0):4} places {len(mine):4} runs {good:4} hold {lost:6} lost")
    return 0 if all(each.verdict == "holds" for each in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
