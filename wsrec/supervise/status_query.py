"""The question of `wsrec status`: who records into a folder, and how it is doing.

Nothing here waits longer than its deadline, and nothing is written. What is found of recorders that do not answer is
read from the lock files and /proc.
"""

from __future__ import annotations

import os
import socket
import time
from enum import IntEnum
from pathlib import Path

import msgspec

from wsrec.format.claim import is_live
from wsrec.format.errors import NO_CAPTURE, NoCaptureError
from wsrec.format.folders import session_folders
from wsrec.format.layout import KINDS, own_folder
from wsrec.format.lock import holders, is_held
from wsrec.supervise.health import Problem, problems, summary
from wsrec.supervise.state import RecorderState
from wsrec.supervise.status_socket import FORM, Answer, Header, address, peer
from wsrec.units import clean, plural

TIMEOUT = 3.0
"""How long a recorder may take to answer (s)."""
_MOST = 64 << 20


class StatusExit(IntEnum):
    """Exit status of `wsrec status`. The text below each is that of docs/how-to/monitoring.md."""

    HEALTHY = 0
    """it is recording, or finishing, and nothing is wrong"""
    DIED = 1
    """the recorder has died: what it left needs recovery, or its writer is still finishing"""
    USAGE = 2
    """wrong usage"""
    NOTHING = 3
    """nothing is being recorded into this folder"""
    DEGRADED = 4
    """it is recording, but something is wrong: a connection is not up, something is missing, the disk, the writer"""
    UNREADABLE = 66
    """the folder cannot be read, or the recorder is of a version of wsrec whose answer this one cannot read"""
    UNREACHABLE = 69
    """a recorder holds the folder, but does not answer: it is stopped, hangs, or belongs to another user or host"""
    UNPRINTED = 74
    """standard output cannot be written"""


class RecorderReport(msgspec.Struct, frozen=True, kw_only=True):
    """A recorder: its state, and what is wrong with it."""

    state: RecorderState
    problems: tuple[Problem, ...]


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the recorders of a folder; as JSON the output of `wsrec status --json`.

    Attributes:
        status: exit status.
        out: the folder.
        summary: one line.
        recorders: those that answered, the holder of the folder first; during a takeover there are two.
        notes: lines about recorders that did not answer, and sessions without one.

    """

    status: int
    out: str
    summary: str
    recorders: tuple[RecorderReport, ...] = ()
    notes: tuple[str, ...] = ()


class _UnansweredError(Exception):
    """A recorder did not answer."""

    def __init__(self, text: str, status: StatusExit = StatusExit.UNREACHABLE) -> None:
        super().__init__(text)
        self.status = status


class _NobodyError(Exception):
    """No recorder of this process id listens."""


def ask(out: Path, timeout: float = TIMEOUT) -> StatusReport:
    """Ask the recorders of a folder.

    Args:
        out: the output folder.
        timeout: seconds that all recorders together may take.

    Raises:
        NoCaptureError: wsrec has never recorded there.
        OSError: the folder cannot be read.

    """
    if not own_folder(out).is_dir():
        if any((out / kind).is_dir() for kind in KINDS):
            raise FileNotFoundError(f"{out}: it has no .wsrec; name the output folder itself")
        raise NoCaptureError(f"{out}: {NO_CAPTURE}")
    deadline = time.monotonic() + timeout
    found, notes, worst = list[RecorderReport](), list[str](), StatusExit.HEALTHY
    is_locked = is_held(out)
    for pid in holders(out):
        try:
            state = _ask(out, pid, deadline)
        except _NobodyError:
            continue
        except _UnansweredError as error:
            notes.append(str(error))
            worst = max(worst, error.status)
            continue
        found.append(RecorderReport(state=state, problems=problems(state)))
    found.sort(key=lambda each: not each.state.holds_folder)
    if found or notes:
        if found and found[0].problems:
            worst = max(worst, StatusExit.DEGRADED)
        words = [summary(each.state) for each in found[:1]] or notes[:1]
        return StatusReport(status=worst, out=str(out), summary=words[0], recorders=tuple(found), notes=tuple(notes))
    return _unattended(out, is_locked=is_locked is not False)


def _unattended(out: Path, *, is_locked: bool) -> StatusReport:
    """The report of a folder in which no recorder answers."""
    pids = [pid for pid in holders(out) if is_locked and _is_running(pid)]
    left = session_folders(out)
    live = [folder for folder in left if is_live(folder)]
    if is_locked and pids:
        status = StatusExit.DEGRADED
        line = f"process {pids[0]} holds the folder, but is not recording yet, or no longer: it is starting or ending"
    elif is_locked or live:
        status = StatusExit.DIED
        line = "its recorder is gone (or on another host); a writer still holds the folder, and finishes the files"
    elif left:
        status = StatusExit.DIED
        line = f"not running: a recorder was killed and left {plural(len(left), 'session')}"
        line += f"; `wsrec recover {out}` or the next `wsrec record` recovers what it had journalled"
    else:
        status, line = StatusExit.NOTHING, "no recorder is at work here, and none left anything to recover"
    return StatusReport(
        status=status,
        out=str(out),
        summary=line,
        notes=tuple(f"session {clean(folder.name)} is unfinished" for folder in left),
    )


def _ask(out: Path, pid: int, deadline: float) -> RecorderState:
    """Ask one recorder.

    Raises:
        _NobodyError: there is none of this process id.
        _UnansweredError: it does not answer.

    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address(out, pid))
            owner, user = peer(connection)
            if user not in (os.getuid(), 0) and os.getuid() != 0:
                raise _UnansweredError(f"process {owner} answers for the recorder, but belongs to user {user}")
            data = _read(connection, deadline)
        except (ConnectionRefusedError, FileNotFoundError):
            raise _NobodyError from None
        except (TimeoutError, BlockingIOError):
            raise _UnansweredError(f"process {pid} holds the folder, but does not answer: {_why(pid)}") from None
        except OSError as error:
            raise _UnansweredError(f"process {pid} cannot be asked: {error.strerror or error}") from error
    try:
        header = msgspec.json.decode(data, type=Header)
        if header.refused is not None:
            refused = f"process {pid} does not answer: {clean(header.refused)}; ask as its user, or as root"
            raise _UnansweredError(refused)
        if header.form != FORM:
            other = f"process {pid} is wsrec {clean(header.version, 40)}: ask it with that version"
            raise _UnansweredError(other, StatusExit.UNREADABLE)
        return msgspec.json.decode(data, type=Answer).state
    except msgspec.DecodeError as error:
        raise _UnansweredError(f"process {pid} gave an answer that cannot be read: {error}") from error


def _read(connection: socket.socket, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < _MOST:
        connection.settimeout(_left(deadline))
        if not (more := connection.recv(1 << 16)):
            break
        data += more
    return bytes(data)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _why(pid: int) -> str:
    state = _process_state(pid)
    if state in ("T", "t"):
        return f"it is stopped (Ctrl-Z, SIGSTOP, a debugger); `kill -CONT {pid}` lets it go on"
    if state == "D":
        return "it waits for a disk or network storage"
    return "its supervisor hangs, or the machine is overloaded"


def _is_running(pid: int) -> bool:
    return _process_state(pid) not in ("", "Z", "X")


def _process_state(pid: int) -> str:
    """The state of a process (proc_pid_stat(5)); empty without one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
