"""`wsrec recover` as a function: the same recovery that `wsrec record` runs at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from wsrec.format import manifest
from wsrec.format.capture import message_files
from wsrec.format.errors import EXIT_UNREADABLE, UnreadableError
from wsrec.format.layout import manifest_path, own_folder
from wsrec.format.lock import OutputLock
from wsrec.format.parquet_file import ParquetFile
from wsrec.ring.events import EventKind
from wsrec.writer.recovery import recover


class LostInterval(msgspec.Struct, frozen=True, kw_only=True):
    """Time in which nothing was recorded.

    Attributes:
        start, end: ns since the epoch.
        start_evidence, end_evidence: the evidence for both.
        bound: `exact`, or `upper` if it may have been shorter.

    """

    start: int
    end: int
    start_evidence: str
    end_evidence: str
    bound: str


class RecoveredSession(msgspec.Struct, frozen=True, kw_only=True):
    """One recovered session.

    Attributes:
        session: its id.
        rows: number of rows from its journals.
        torn: journals that ended in the middle of a batch; their unreadable parts are set aside.
        lost: from the last journalled message to the recorder's end; null if it was recorded before.
        files: the manifest lines of the new files.

    """

    session: str
    rows: int
    torn: tuple[str, ...]
    lost: LostInterval | None
    files: tuple[manifest.ManifestLine, ...]


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a recovery.

    Attributes:
        status: exit status.
        out: the output folder.
        sessions: the recovered sessions.
        failures: what could not be recovered, with hints.

    """

    status: int
    out: str
    sessions: tuple[RecoveredSession, ...]
    failures: tuple[str, ...]


def recover_folder(out: Path) -> Recovery:
    """Recover every interrupted session in an output folder. May be killed and repeated.

    Raises:
        OutputLockedError: a recorder holds the folder.
        NoCaptureError: it holds no capture.
        FileNotFoundError: it has files of a capture, but is no output folder.
        UnreadableError: it cannot be read, or its manifest has another version of the format.
        OSError: it cannot be written.
        msgspec.ValidationError: the manifest has an invalid line.

    """
    if not own_folder(out).is_dir():
        message_files([out], lambda error: None)
        raise FileNotFoundError(f"{out}: it has no .wsrec, where the journals are; name the output folder itself")
    try:
        next((own_folder(out)).iterdir(), None)
    except OSError as error:
        raise UnreadableError(own_folder(out), error) from error
    failures: list[str] = []
    unreadable: list[UnreadableError] = []
    with OutputLock(out):
        try:
            before = len(manifest.read(out))
        except OSError as error:
            raise UnreadableError(manifest_path(out), error) from error
        recovered = recover(out, failures.append, on_unreadable=unreadable.append)
        landed = [line for line in manifest.read(out)[before:] if line.is_recorded]
    sessions = []
    for session in recovered:
        files = tuple(line for line in landed if line.session == session.session)
        reported = [event for line in files for event in _reported(out, line)]
        torn = {detail["journal"] for kind, detail in reported if kind == EventKind.RECOVERED and detail["torn"]}
        lost = [detail for kind, detail in reported if kind == EventKind.LOST_INTERVAL and "duration_ns" in detail]
        interval = _interval(lost[-1]) if lost else None
        sessions.append(
            RecoveredSession(
                session=session.session, rows=session.rows, torn=tuple(sorted(torn)), lost=interval, files=files
            )
        )
    status = 1 if failures else EXIT_UNREADABLE if unreadable else 0
    failures += map(str, unreadable)
    return Recovery(status=status, out=str(out), sessions=tuple(sessions), failures=tuple(failures))


def _interval(detail: dict[str, Any]) -> LostInterval:
    return LostInterval(
        start=detail["from"],
        end=detail["to"],
        start_evidence=detail["from_evidence"],
        end_evidence=detail["to_evidence"],
        bound=detail["bound"],
    )


def _reported(out: Path, line: manifest.ManifestLine) -> list[tuple[str, dict[str, Any]]]:
    """The events about the recovery in a new file, in order of time."""
    if line.events_path is None:
        return []
    rows = ParquetFile(out / line.events_path).read(["kind", "conn", "detail"]).to_pylist()
    kinds = (EventKind.RECOVERED, EventKind.LOST_INTERVAL)
    return [
        (row["kind"], msgspec.json.decode(row["detail"]))
        for row in rows
        if row["kind"] in kinds and row["conn"] is None
    ]
