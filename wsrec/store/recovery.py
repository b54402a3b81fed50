"""What an interrupted session left behind, brought home when its rings are gone too (`leftovers`).

Call it with the output locked. It may be interrupted and called again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from wsrec.ring import loss
from wsrec.ring.events import EventKind
from wsrec.store import alive
from wsrec.store.capture import UnreadableError
from wsrec.store.claim import LiveSessionError, alone
from wsrec.store.disk import NotAsWrittenError
from wsrec.store.folders import session_folders
from wsrec.store.journalformat import files_of, journals
from wsrec.store.journalreader import JournalReader
from wsrec.store.leftovers import DoneJournals, Leftovers, set_journal_aside
from wsrec.store.moment import Moment
from wsrec.store.pipeline import Pipeline, interval
from wsrec.store.progress import Progress, forget
from wsrec.units import utc

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
    leftovers = Leftovers(out, folder)
    job = leftovers.job()
    rows = told = 0
    stuck = DoneJournals(lambda path, error: on_error(f"{path} cannot be deleted: {error}; all of it is in files"))
    journals = list(leftovers.journals)
    lost: list[tuple[int, int]] = []
    if job is not None:
        pipeline = Pipeline(job, folder)
        last = leftovers.last_readable()

        def tell(path: Path, reader: JournalReader) -> None:
            nonlocal told
            told += 1
            now = Moment.afterwards()
            if path == last:
                until = alive.ended(folder, pipeline.last, Moment.now())
                end = Moment(until.time, until.stage)
                since = pipeline.last or end
                lost.append((since.utc, until.time))
                pipeline.event(
                    now,
                    EventKind.LOST_INTERVAL,
                    **interval(since, end),
                    reason="the recorder was interrupted",
                    from_evidence=loss.LAST_ROW,
                    to_evidence=until.evidence,
                    bound=loss.UPPER,
                )
            about = {"torn": reader.torn, "damaged": reader.damaged, "skipped": reader.skipped}
            pipeline.event(now, EventKind.RECOVERED, journal=path.name, **about)

        progress = Progress(folder)
        rows = leftovers.bring_home(pipeline, before_finish=tell, done=stuck, progress=progress)
        progress.end()
        stuck.delete(leftovers.journals)
    else:
        leftovers.clear_way()
        for path in leftovers.journals:
            set_journal_aside(out, path)
    try:
        alive.end(folder)
        forget(folder)
        folder.rmdir()
    except OSError as error:
        on_error(f"{folder} cannot be deleted: {error}; nothing in it is missed")
    found = Recovered(folder.name, rows, *(lost[-1] if lost else (None, None)))
    return found if told or (job is None and journals) else None
