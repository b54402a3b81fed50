"""Every way in which the disk can fail during a recording: what is lost, and whether it is reported.

scripts/disk-faults                every call of a short recording fails, one run each: a table; status 1 if one does
                                   not hold
scripts/disk-faults write link     only these calls
scripts/disk-faults --in recover   only in these: `writer` (to its end), `killed` (the same, killed once all is
                                   journalled), `recover` (`wsrec recover` of three journals), `whole` (`wsrec record`
                                   with all its processes; the faults are the supervisor's: the receiver writes
                                   nothing), `record` (the same with the writer's; only where requested, as it takes
                                   long: with --every 10)
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import received
from tests.endurance.accounting import account, merged
from tests.endurance.kill_matrix import Recorder, journalled, until
from tests.endurance.pulse import PulseExchange
from tests.faults.disk import (
    MESSAGES,
    ROTATE_BYTES,
    FaultyDisk,
    HungError,
    build,
    compiler,
    fault,
    fill,
    record,
    writing,
)
from tests.faults.forks import Forks
from wsrec.ipc import FailedLine, SummaryLine
from wsrec.options.value_types import Rotation
from wsrec.verify.model import State, VerifyStatus
from wsrec.verify.verify import verify
from wsrec.writer.recovery import recover

_EIO, _ENOSPC, _EROFS = errno.EIO, errno.ENOSPC, errno.EROFS
# how long a disk is full, ms: longer than the first second after which a writer tries again
_FULL_MS = 1300

# What each call may answer: write(2), ftruncate(2), fsync(2), open(2), ... and `disk.c`
ANSWERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "write": (
        ("short",),
        (str(_EIO),),
        (str(_ENOSPC),),
        ("torn", f"ftruncate@*:1:{_EROFS}"),
        ("torn", f"ftruncate@*:1:{_EIO}x3"),
    ),
    "ftruncate": ((str(_EIO),), (str(_EROFS),)),
    "grow": ((f"{_ENOSPC}~{_FULL_MS}",),),
    "fdatasync": ((str(_EIO),), (f"{_EIO}x3",)),
    "fsync": ((str(_EIO),), (f"{_EIO}x3",)),
    "create": ((str(_EIO),), (str(errno.EMFILE),), (str(_ENOSPC),)),
    "open": ((str(_EIO),),),
    "link": ((str(_EIO),), (str(errno.EPERM),), (str(_ENOSPC),)),
    "rename": ((str(_EIO),),),
    "unlink": ((str(_EIO),),),
    "mkdir": ((str(_EIO),), (str(_ENOSPC),)),
    "rmdir": ((str(_EIO),),),
}
# a short write is continued, and a file system may have no hard links: neither needs a report
_NO_TROUBLE = frozenset({"short", str(errno.EPERM)})
ROOMS = ("writer", "killed", "recover", "whole", "record")
_WHOLE = ("whole", "record")
_SLACK_NS = 20_000_000
_RATE = 500


class Place(NamedTuple):
    """A call that is to fail.

    Attributes:
        room: where; see ROOMS.
        call, nth: which call.
        answer: what it answers, and what else is to fail.

    """

    room: str
    call: str
    nth: int
    answer: tuple[str, ...]

    @property
    def orders(self) -> tuple[str, ...]:
        """For `disk.c`."""
        return (fault(self.call, self.nth, self.answer[0]), *self.answer[1:])

    @property
    def error(self) -> str:
        """What it answers, for people."""
        words = []
        for one in (self.answer[0], *(order.rpartition("@*:1:")[2] for order in self.answer[1:])):
            digits = "".join(itertools.takewhile(str.isdigit, one))
            words.append(errno.errorcode[int(digits)] + one[len(digits) :] if digits else one)
        return " + ftruncate ".join(words)


class Found(NamedTuple):
    """What a fault came to.

    Attributes:
        place: what was to fail.
        path: the file; empty where there were not that many calls.
        sent: messages that were put or sent.
        lost: those that are in no file in the end.
        unreported: those of them outside the intervals that verify reports.
        lines: lines for the operator.
        status: exit status of the process that had the fault.
        wrong: what does not hold; empty where all does.

    """

    place: Place
    path: str
    sent: int
    lost: int
    unreported: int
    stated: list[str]
    status: int | None
    wrong: list[str]


class Sent(NamedTuple):
    """A message, and when it was put into the ring (ns since the epoch)."""

    payload: bytes
    at: int


def judge(out: Path, sent: list[Sent], wrong: list[str]) -> tuple[int, int]:
    """Hold what can be read, and what verify says, against what was put; how many are lost, and lost without a word.

    The folder must be recovered. What does not hold is added to `wrong`.

    """
    left = sorted(f"{p.parent.name}/{p.name}" for p in out.glob(".wsrec/*/*") if p.parent.name != "aside")
    if left:
        wrong.append(f"left behind: {left}")
    rows = _readable(out, wrong)
    have = set(rows)
    missing = [one for one in sent if one.payload not in have]
    report = verify([out])
    if rows and report.status not in (VerifyStatus.HOLDS, VerifyStatus.INCOMPLETE):
        findings = [f"{f.where}: {f.what}" for capture in report.captures for f in capture.findings]
        wrong.append(f"verify says {report.status.name}: {findings[:3]}")
    sessions = [session for capture in report.captures for session in capture.sessions]
    named = merged(
        [(loss.start, loss.end) for session in sessions for loss in session.losses]
        + [
            (part.start, part.end)
            for session in sessions
            for stream in session.streams
            for part in stream.intervals
            if part.state is State.INCOMPLETE
        ]
    )
    unreported = [one for one in missing if not any(a - _SLACK_NS <= one.at <= b + _SLACK_NS for a, b in named)]
    if missing:
        wrong.append(f"{len(missing)} of {len(sent)} lost, {len(unreported)} of them without a word")
    if len(rows) > len(have):
        wrong.append(f"{len(rows) - len(have)} twice")
    if alien := have - {one.payload for one in sent}:
        wrong.append(f"{len(alien)} rows that were never sent")
    if not missing and len(rows) == len(have) and rows != [one.payload for one in sent]:
        wrong.append("out of order")
    return len(missing), len(unreported)


def _readable(out: Path, wrong: list[str]) -> list[bytes]:
    """What was received, out of the files that can be read, in order."""
    tables = []
    for file in sorted((out / "messages").rglob("*.parquet")):
        try:
            tables.append(pq.ParquetFile(file).read())
        except (OSError, pa.ArrowException) as error:
            wrong.append(f"{file.name} cannot be read: {error}")
    return received(pa.concat_tables(tables).sort_by("seq")) if tables else []


def _recovered(out: Path, wrong: list[str]) -> None:
    """Recover what there is to recover, on a disk that is well again."""
    failures: list[str] = []
    recover(out, failures.append)
    if failures:
        wrong.append(f"cannot be recovered: {failures}")


def _path(disk: FaultyDisk) -> str:
    return next((mark.read_text().rsplit(" ", 2)[0] or "/" for mark in disk.marks), "")


def in_writer(disk: FaultyDisk, place: Place, *, killed: bool) -> Found:
    """Record, to the end or until killed; recover; record again into the same folder; judge."""
    wrong: list[str] = []
    sent: list[Sent] = []
    with writing(disk, *place.orders, rotate=Rotation(bytes=ROTATE_BYTES)) as writer:
        try:
            if killed:
                fill(writer)
                writer.kill()
            else:
                record(writer)
        except HungError:
            wrong.append("it hangs")
            writer.kill()
        sent = [Sent(*one) for one in writer.put_at]
        last = writer.stated[-1] if writer.stated else None
        status = writer.process.returncode
        words, path = writer.words, _path(disk)
    if "Traceback" in writer.errors + " ".join(words):
        wrong.append("a traceback: " + (writer.errors + " ".join(words))[-400:])
    elif writer.errors:
        wrong.append("it wrote on standard error: " + writer.errors[-400:])
    if not killed:
        if not isinstance(last, SummaryLine | FailedLine):
            wrong.append("it ended without a word")
        elif (status == 0) != isinstance(last, SummaryLine):
            wrong.append(f"exit status {status} after {type(last).__name__}")
        elif status or len(sent) < MESSAGES:
            wrong.append(f"it gave up after {len(sent)} messages")
        torn = any(mark.name.endswith(".torn") for mark in disk.marks)
        quiet = not path or place.answer[0] in _NO_TROUBLE or (place.answer[0] == "torn" and not torn)
        if not words and not quiet:
            wrong.append("silent")
    if words and not path:
        wrong.append(f"words about nothing: {words}")
    _recovered(disk.folder, wrong)
    lost, unreported = judge(disk.folder, sent, wrong)
    again = FaultyDisk(disk.forks, disk.folder, disk.state.with_name("again"))
    with writing(again, session="t", rotate=Rotation(bytes=ROTATE_BYTES)) as writer:
        for number in range(3):
            writer.put(b"again %d" % number)
        writer.stop()
        if not isinstance(writer.stated[-1], SummaryLine):
            wrong.append(f"no second recording into the folder: {writer.words}")
    rows = _readable(disk.folder, [])
    if sum(row.startswith(b"again") for row in rows) != 3:
        wrong.append("the second recording into the folder is not there")
    return Found(place, path, len(sent), lost, unreported, words, status, wrong)


def interrupted(disk: FaultyDisk) -> list[Sent]:
    """Leave three journals that no file was made of, as a recorder that was killed while the disk was full."""
    with writing(
        disk, fault("create", 1, f"{_ENOSPC}~60000", ".partial"), rotate=Rotation(bytes=ROTATE_BYTES)
    ) as writer:
        fill(writer)
        writer.kill()
        return [Sent(*one) for one in writer.put_at]


def in_recovery(disk: FaultyDisk, place: Place, left: Path, sent: list[Sent]) -> Found:
    """Have `wsrec recover` fail, then recover without a fault, and judge."""
    wrong: list[str] = []
    shutil.copytree(left, disk.folder, symlinks=True)
    log = disk.state.with_name("lines")
    environment = disk.environment(*place.orders)
    with log.open("wb") as stated, Path(os.devnull).open("rb") as nothing:
        standard = (nothing.fileno(), stated.fileno(), stated.fileno())
        process = disk.forks.start(["wsrec", "recover", str(disk.folder)], environment, standard)
        try:
            process.wait()
        except TimeoutError:
            wrong.append("it hangs")
            process.kill()
            process.wait()
    stated, path = log.read_text(), _path(disk)
    lines = [line for line in stated.splitlines() if line.startswith("wsrec recover: ")]
    if "Traceback" in stated:
        wrong.append("a traceback: " + stated[-2500:])
    if process.returncode not in (0, 1, 66):
        wrong.append(f"exit status {process.returncode}: {stated[-400:]}")
    if (process.returncode and not lines) or (not process.returncode and lines):
        wrong.append(f"exit status {process.returncode} and says {lines}")
    if not process.returncode:
        early: list[str] = []
        judge(disk.folder, sent, early)
        wrong += [f"exit status 0, but {what}" for what in early]
    _recovered(disk.folder, wrong)
    lost, unreported = judge(disk.folder, sent, wrong)
    return Found(place, path, len(sent), lost, unreported, lines, process.returncode, wrong)


class Whole:
    """`wsrec record` of an exchange that knows what it sent.

    Args:
        library: what to preload.
        exchange: the exchange.
        feed: its YAML file.

    """

    def __init__(self, library: Path, exchange: PulseExchange, feed: Path) -> None:
        self._library, self._exchange, self._feed = library, exchange, feed

    def run(self, disk: FaultyDisk, place: Place) -> Found:
        """Record for a moment with a fault, recover, and judge."""
        wrong: list[str] = []
        environment = {**disk.environment(*place.orders), "LD_PRELOAD": str(self._library)}
        # children have no options
        environment["DISK_PROCESS"] = "--rotate" if place.room == "whole" else "wsrec.writer"
        environment["WSREC_PASS_ENV"] = ",".join(name for name in environment if name.startswith("DISK_"))
        prefix = ("env", *(f"{name}={value}" for name, value in environment.items()))
        out = disk.folder
        recorder = Recorder("record", self._feed, "--out", out, "--rotate", "1s", prefix=prefix)
        try:
            ended = recorder.process.poll
            until(lambda: any(size > 20_000 for size in journalled(out).values()) or ended() is not None, 30.0)
            time.sleep(0.3)
            cut = time.time_ns() - 50_000_000
            status, log = recorder.end()
        except TimeoutError:
            wrong.append("it hangs")
            recorder.kill("all")
            status, log = recorder.end(stop=False)
        path = _path(disk)
        if "Traceback" in log:
            wrong.append("a traceback: " + log[-400:])
        lines = [line for line in log.splitlines() if line]
        if status and not lines:
            wrong.append(f"exit status {status} without a word")
        _recovered(out, wrong)
        if not (out / "messages").exists():
            if not status:
                wrong.append("exit status 0, and nothing is there")
            return Found(place, path, 0, 0, 0, lines, status, wrong)
        found = account(out, self._exchange)
        silent = found.silent(self._exchange, cut)
        wrong += [f"unsound: {what}" for what in found.unsound]
        if found.wrong:
            wrong.append(f"{found.wrong} payloads differ")
        if found.claimed:
            wrong.append(f"a hole in a complete interval: {found.claimed[0]}")
        if silent:
            wrong.append(f"{silent} missing without a word")
        if found.lost and not status:
            wrong.append(f"exit status 0 after a loss of {found.lost}")
        return Found(place, path, found.last - found.first + 1, found.lost, silent, lines, status, wrong)


class Matrix:
    """All runs, in a folder.

    Args:
        folder: an empty one.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = build(folder)
        self._forks = Forks(self._library)
        self._numbers = itertools.count()
        self._exchange: PulseExchange | None = None
        self._left: tuple[Path, list[Sent]] | None = None

    def close(self) -> None:
        """End what runs."""
        self._forks.close()
        if self._exchange is not None:
            self._exchange.stop()

    def prepare(self, rooms: list[str]) -> None:
        """Have ready what the runs in these rooms share."""
        if "recover" in rooms:
            disk = self._disk()
            disk.folder.mkdir()
            self._left = disk.folder, interrupted(disk)
        if set(_WHOLE) & set(rooms):
            self._exchange = PulseExchange(_RATE)
            feed = self._folder / "pulse.yaml"
            feed.write_text(self._exchange.feed())
            self._whole = Whole(self._library, self._exchange, feed)

    def run(self, place: Place) -> Found:
        """One run."""
        found, folder = self._run(place)
        shutil.rmtree(folder, ignore_errors=True)
        return found

    def counts(self, room: str) -> dict[str, int]:
        """How often each call is made in a run without faults.

        Raises:
            AssertionError: a run without faults does not hold.

        """
        found, folder = self._run(Place(room, "none", 1, ("0",)))
        assert not found.wrong, found
        counted = dict.fromkeys(ANSWERS, 0)
        for call, _ in FaultyDisk(self._forks, folder / "out", folder / "state").calls():
            counted[call] = counted.get(call, 0) + 1
        counted["grow"] = sum(counted[call] for call in ("write", "create", "mkdir", "link"))
        return counted

    def _run(self, place: Place) -> tuple[Found, Path]:
        disk = self._disk()
        if place.room == "recover":
            assert self._left is not None
            found = in_recovery(disk, place, *self._left)
        else:
            disk.folder.mkdir()
            if place.room in _WHOLE:
                found = self._whole.run(disk, place)
            else:
                found = in_writer(disk, place, killed=place.room == "killed")
        return found, disk.folder.parent

    def _disk(self) -> FaultyDisk:
        folder = self._folder / f"{next(self._numbers):05}"
        folder.mkdir()
        return FaultyDisk(self._forks, folder / "out", folder / "state")


def places(room: str, counted: dict[str, int], calls: list[str]) -> Iterator[Place]:
    """Every place there is in a room, and one more of each: what goes by time may be called once more."""
    for call in calls:
        for answer in ANSWERS[call]:
            # what only follows a fault is never called without one
            for nth in range(1, counted[call] + (2 if counted[call] else 0)):
                yield Place(room, call, nth, answer)


def table(found: list[Found]) -> Iterator[str]:
    """A line for each call and answer."""
    form = "{:8} {:10} {:30} {:>7} {:>5} {:>7} {:>6} {:>7}"
    yield form.format("in", "call", "answers", "places", "held", "failed", "lost", "unreported")
    kinds: dict[tuple[str, str, str], list[Found]] = {}
    for one in found:
        if one.path or one.wrong:
            kinds.setdefault((one.place.room, one.place.call, one.place.error), []).append(one)
    for kind, all_of_it in kinds.items():
        held = sum(not one.wrong for one in all_of_it)
        lost, unreported = sum(one.lost for one in all_of_it), sum(one.unreported for one in all_of_it)
        yield form.format(*kind, len(all_of_it), held, len(all_of_it) - held, lost, unreported)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"only these: {' '.join(ANSWERS)}")
    parser.add_argument("--in", nargs="+", dest="rooms", choices=ROOMS, default=list(ROOMS[:-1]))
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--jobs", type=int, default=8, help="runs at a time (they mostly wait)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th run")
    options = parser.parse_args()
    if unknown := set(options.calls) - set(ANSWERS):
        parser.error(f"no such call: {', '.join(sorted(unknown))}")
    if compiler() is None:
        print("there is no C compiler (cc)", file=sys.stderr)
        return 2
    began = time.monotonic()
    found: list[Found] = []
    with tempfile.TemporaryDirectory(prefix="wsrec-disk-") as name:
        matrix = Matrix(Path(name))
        try:
            matrix.prepare(options.rooms)
            runs: list[Place] = []
            for room in options.rooms:
                counted = matrix.counts(room)
                print(f"{room}: " + ", ".join(f"{call} {n}" for call, n in counted.items() if n), flush=True)
                runs += places(room, counted, options.calls or list(ANSWERS))
            runs = runs[:: options.every]
            with ThreadPoolExecutor(options.jobs) as pool:
                for one in pool.map(matrix.run, runs):
                    found.append(one)
                    if one.wrong:
                        what = f"{one.place.room} {one.place.call} {one.place.nth} {one.place.error} {one.path}"
                        print(f"{what}: {'; '.join(one.wrong)} {one.stated}", flush=True)
                    if len(found) % 50 == 0:
                        print(f"{len(found)} of {len(runs)} runs, {time.monotonic() - began:.0f} s", flush=True)
        finally:
            matrix.close()
    for line in table(found):
        print(line)
    bad = sum(bool(one.wrong) for one in found)
    print(f"{len(found)} runs in {time.monotonic() - began:.0f} s, {bad} failed")
    if options.json is not None:
        options.json.write_text(
            json.dumps([{**one._asdict(), "place": one.place._asdict()} for one in found], indent=1)
        )
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
