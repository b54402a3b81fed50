"""Session recovery: finishes interrupted sessions from the disk, when their rings are gone too (`journal_recovery`).

The output must be locked. May be interrupted and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from wsrec.format import heartbeat
from wsrec.format.claim import LiveSessionError, alone
from wsrec.format.errors import UnreadableError
from wsrec.format.folders import regular, session_began, session_folders
from wsrec.format.moment import Moment
from wsrec.ring import loss_evidence
from wsrec.ring.events import EventKind
from wsrec.units import plural, system_error, utc
from wsrec.writer import session_start
from wsrec.writer.disk import NotAsWrittenError
from wsrec.writer.journal_format import files_of, journals
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.journal_recovery import DoneJournals, JournalRecovery, RecoveryStoppedError, set_journal_aside
from wsrec.writer.messages import interval
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.progress import Progress, forget

# includes what damaged journals cause in events, the job and its feed
_UNRECOVERABLE = (
    OSError,
    NotAsWrittenError,
    pa.ArrowException,
    msgspec.MsgspecError,
    ValueError,
    LookupError,
    TypeError,
)


class Recovered(NamedTuple):
    """A recovered session.

    Attributes:
        session: its id.
        rows: number of rows from its journals.
        lost_from, lost_to: the lost interval, ns since the epoch; null if it was recorded before.

    """

    session: str
    rows: int
    lost_from: int | None
    lost_to: int | None

    @property
    def text(self) -> str:
        """Message for the operator."""
        what = f"an interrupted session was recovered: {self.session}, {plural(self.rows, 'row')}"
        if self.lost_from is None or self.lost_to is None:
            return what
        return f"{what}; lost from {utc(self.lost_from)} to {utc(self.lost_to)} UTC at most"


def recover(
    out: Path,
    on_error: Callable[[str], None],
    own: Collection[str] = (),
    on_unreadable: Callable[[UnreadableError], None] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> list[Recovered]:
    """Recover all interrupted sessions.

    Args:
        out: the output folder, locked by the caller.
        on_error: called with a message for each session that cannot be recovered; its journals are left.
        own: sessions of the caller, which are being recorded.
        on_unreadable: called instead for those that cannot be read at all.
        is_stopped: called before each batch; once True, the rest is left as after a kill.

    Raises:
        OSError: the folder of the sessions cannot be read.

    """
    recovered = []
    for folder in session_folders(out):
        if folder.name in own:
            continue
        try:
            _check_readable(folder)
            with alone(folder):
                found = _recover_session(out, folder, on_error, is_stopped)
            recovered += [] if found is None else [found]
        except RecoveryStoppedError:
            break
        except UnreadableError as error:
            if on_unreadable is None:
                on_error(f"{error}; what session {folder.name} left is kept there")
            else:
                on_unreadable(error)
        except LiveSessionError as error:
            on_error(str(error))
        except _UNRECOVERABLE as error:
            on_error(f"session {folder.name} cannot be recovered now: {error}; its journals are kept in {folder}")
    return recovered


def _check_readable(folder: Path) -> None:
    path = folder
    try:
        for journal in journals(folder):
            for path in files_of(journal):
                regular(path).open("rb").close()
    except PermissionError as error:
        raise UnreadableError(path, error) from error


def _recover_session(
    out: Path, folder: Path, on_error: Callable[[str], None], is_stopped: Callable[[], bool]
) -> Recovered | None:
    """Recover a session; None if it only left files that could not be deleted once its data was finished."""
    unfinished = JournalRecovery(out, folder)
    job = unfinished.job()
    if job is None:
        if not _nothing_is_missed(folder, unfinished):
            what = f"session {folder.name} was interrupted, and nothing shows what it was recording, or since when"
            on_error(f"{what}: {folder} is kept as a reminder; delete it when you have dealt with it")
            return None
        unfinished.clear_way()
        for path in unfinished.journals:
            set_journal_aside(out, path)
        _remove(folder, on_error)
        return None
    recovery = _Recovery(folder, Pipeline(job, folder), unfinished)
    done = DoneJournals(lambda path, error: on_error(f"{path} cannot be deleted: {system_error(error)}; {_KEPT}"))
    rows = recovery.run(done, is_stopped)
    _remove(folder, on_error)
    return Recovered(folder.name, rows, *(recovery.lost or (None, None))) if recovery.reported else None


_KEPT = "all of it is in files"


class _Recovery:
    """A session being recovered.

    Attributes:
        reported: whether there was anything to report.
        lost: the lost interval, ns since the epoch; None if it was recorded before.

    """

    def __init__(self, folder: Path, pipeline: Pipeline, unfinished: JournalRecovery) -> None:
        self.reported = False
        self.lost: tuple[int, int] | None = None
        self._folder = folder
        self._pipeline = pipeline
        self._unfinished = unfinished
        self._last = unfinished.last_readable()
        self._unreported = set(pipeline.feeds)

    def run(self, done: DoneJournals, is_stopped: Callable[[], bool]) -> int:
        """Recover its journals and record what is lost; returns the number of rows.

        Raises:
            RecoveryStoppedError: `is_stopped` came true.

        """
        progress = Progress(self._folder)
        rows = self._unfinished.recover(
            self._pipeline, before_finish=self._report, done=done, progress=progress, is_stopped=is_stopped
        )
        progress.end()
        done.delete(self._unfinished.journals)
        unreported = self._unfinished.unreported(self._unreported)
        if unreported:
            # they have no readable journal: nothing else would record that they did not end
            self._pipeline.active = unreported
            self._pipeline.begin_session()
            self._report_interrupted()
            self._pipeline.event(
                Moment.afterwards(), EventKind.RECOVERED, journal=None, torn=False, damaged=0, skipped=0
            )
            self._pipeline.finish(self._unfinished.next_number)
        return rows

    def _report(self, path: Path, reader: JournalReader) -> None:
        self.reported = True
        if path == self._last:
            self._report_interrupted()
        about = {"torn": reader.torn, "damaged": reader.damaged, "skipped": reader.skipped}
        self._pipeline.event(Moment.afterwards(), EventKind.RECOVERED, journal=path.name, **about)

    def _report_interrupted(self) -> None:
        """Record the lost interval from the last row, or the session's beginning, to the time of the kill."""
        self.reported = True
        pipeline = self._pipeline
        known = pipeline.last or pipeline.began
        until = heartbeat.ended(self._folder, known, Moment.now())
        end = Moment(until.time, until.stage)
        since = known or _named(self._folder) or end
        self.lost = since.utc, until.time
        evidence = (
            loss_evidence.LAST_ROW if pipeline.last else loss_evidence.WANTED if pipeline.began else loss_evidence.NAMED
        )
        pipeline.event(
            Moment.afterwards(),
            EventKind.LOST_INTERVAL,
            **interval(since, end),
            reason=loss_evidence.INTERRUPTED,
            from_evidence=evidence,
            to_evidence=until.evidence,
            bound=loss_evidence.UPPER,
        )
        self._unreported -= pipeline.active


def _named(folder: Path) -> Moment | None:
    """Start time of a session according to its id; None if it is unknown."""
    began = session_began(folder.name)
    return None if began is None else Moment(began, None)


def _nothing_is_missed(folder: Path, unfinished: JournalRecovery) -> bool:
    """True if a session without a job record had received nothing, or all of it is in finished files."""
    if not unfinished.lines:
        return not unfinished.journals and session_start.preceded(folder)
    return not unfinished.unreported({line.feed for line in unfinished.lines})


def _remove(folder: Path, on_error: Callable[[str], None]) -> None:
    """Remove the folder of a session that is complete."""
    try:
        heartbeat.end(folder)
        forget(folder)
        session_start.end(folder)
        folder.rmdir()
    except OSError as error:
        on_error(f"{folder} cannot be deleted: {system_error(error)}; it contains nothing of value")
