"""What an interrupted session left behind, brought home when its rings are gone too (`journal_recovery`).

Call it with the output locked. It may be interrupted and called again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from wsrec.format import heartbeat
from wsrec.format.capture import UnreadableError
from wsrec.format.claim import LiveSessionError, alone
from wsrec.format.folders import session_began, session_folders
from wsrec.format.moment import Moment
from wsrec.ring import loss_evidence
from wsrec.ring.events import EventKind
from wsrec.units import utc
from wsrec.writer import session_start
from wsrec.writer.disk import NotAsWrittenError
from wsrec.writer.journal_format import files_of, journals
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.journal_recovery import DoneJournals, JournalRecovery, set_journal_aside
from wsrec.writer.pipeline import Pipeline, interval
from wsrec.writer.progress import Progress, forget

# also what a damaged journal makes of events, of the job and of the feed in it
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
    """One session that was recovered.

    Attributes:
        session: its id.
        rows: how many came out of its journals.
        lost_from, lost_to: when nothing was recorded, ns since the epoch; null where that was found out before.

    """

    session: str
    rows: int
    lost_from: int | None
    lost_to: int | None

    @property
    def text(self) -> str:
        """In words for the operator."""
        what = f"an interrupted session was recovered: {self.session}, {self.rows:,} rows"
        if self.lost_from is None or self.lost_to is None:
            return what
        return f"{what}; lost from {utc(self.lost_from)} to {utc(self.lost_to)} UTC at most"


def recover(
    out: Path,
    on_error: Callable[[str], None],
    own: Collection[str] = (),
    on_unreadable: Callable[[UnreadableError], None] | None = None,
) -> list[Recovered]:
    """Recover every session that was interrupted.

    Args:
        out: the output folder, locked by the caller.
        on_error: told of each session that cannot be recovered; its journals stay where they are.
        own: sessions of the caller, which are being recorded.
        on_unreadable: told in its place of those that cannot even be read.

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
                found = _recover_session(out, folder, on_error)
            recovered += [] if found is None else [found]
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
                path.open("rb").close()
    except PermissionError as error:
        raise UnreadableError(path, error) from error


def _recover_session(out: Path, folder: Path, on_error: Callable[[str], None]) -> Recovered | None:
    """Recover a session; None where all that it left is what could not be deleted when its files had landed."""
    journals = JournalRecovery(out, folder)
    job = journals.job()
    if job is None:
        if not _nothing_is_missed(folder, journals):
            what = f"session {folder.name} was interrupted, and nothing says what it recorded, nor since when"
            on_error(f"{what}: {folder} is kept, so that this is not forgotten; delete it when you have seen to it")
            return None
        journals.clear_way()
        for path in journals.journals:
            set_journal_aside(out, path)
        _remove(folder, on_error)
        return None
    recovery = _Recovery(folder, Pipeline(job, folder), journals)
    rows = recovery.run(DoneJournals(lambda path, error: on_error(f"{path} cannot be deleted: {error}; {_KEPT}")))
    _remove(folder, on_error)
    return Recovered(folder.name, rows, *(recovery.lost or (None, None))) if recovery.reported else None


_KEPT = "all of it is in files"


class _Recovery:
    """A session being recovered.

    Attributes:
        told: whether anything had to be told of it.
        lost: when nothing was recorded, ns since the epoch; None where that was found out before.

    """

    def __init__(self, folder: Path, pipeline: Pipeline, journals: JournalRecovery) -> None:
        self.reported = False
        self.lost: tuple[int, int] | None = None
        self._folder = folder
        self._pipeline = pipeline
        self._journals = journals
        self._last = journals.last_readable()
        self._unreported = set(pipeline.feeds)

    def run(self, done: DoneJournals) -> int:
        """Bring its journals home, and tell what is lost; how many rows came out of them."""
        progress = Progress(self._folder)
        rows = self._journals.recover(self._pipeline, before_finish=self._report, done=done, progress=progress)
        progress.end()
        done.delete(self._journals.journals)
        unreported = self._journals.unreported(self._unreported)
        if unreported:
            # no journal of theirs is left, or none that can be read: nothing else would say that they did not end
            self._pipeline.active = unreported
            self._pipeline.begin_session()
            self._report_interrupted()
            self._pipeline.event(
                Moment.afterwards(), EventKind.RECOVERED, journal=None, torn=False, damaged=0, skipped=0
            )
            self._pipeline.finish(self._journals.next_number)
        return rows

    def _report(self, path: Path, reader: JournalReader) -> None:
        self.reported = True
        if path == self._last:
            self._report_interrupted()
        about = {"torn": reader.torn, "damaged": reader.damaged, "skipped": reader.skipped}
        self._pipeline.event(Moment.afterwards(), EventKind.RECOVERED, journal=path.name, **about)

    def _report_interrupted(self) -> None:
        """Record that nothing was recorded from the last row, or the session's beginning, until it had been killed."""
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
    """When a session began by its id; None where that does not say."""
    began = session_began(folder.name)
    return None if began is None else Moment(began, None)


def _nothing_is_missed(folder: Path, journals: JournalRecovery) -> bool:
    """Whether a session that left no word of what it was going to record had received nothing, or all of it landed."""
    if not journals.lines:
        return not journals.journals and session_start.preceded(folder)
    return not journals.unreported({line.feed for line in journals.lines})


def _remove(folder: Path, on_error: Callable[[str], None]) -> None:
    """Remove a session's folder, of which nothing is missed."""
    try:
        heartbeat.end(folder)
        forget(folder)
        session_start.end(folder)
        folder.rmdir()
    except OSError as error:
        on_error(f"{folder} cannot be deleted: {error}; nothing in it is missed")
