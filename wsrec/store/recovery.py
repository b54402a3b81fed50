"""What an interrupted session left behind, brought home when its rings are gone too (`leftovers`).

Call it with the output locked. It may be interrupted and called again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from wsrec.ring.events import EventKind
from wsrec.store.claim import LiveSessionError, alone
from wsrec.store.disk import NotAsWrittenError
from wsrec.store.journal import JournalReader
from wsrec.store.leftovers import DoneJournals, Leftovers, set_journal_aside
from wsrec.store.pipeline import Pipeline

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
    """One session that was recovered: its id, and how many rows came out of its journals."""

    session: str
    rows: int


def recover(out: Path, on_error: Callable[[str], None], own: Collection[str] = ()) -> list[Recovered]:
    """Recover every session that was interrupted.

    Args:
        out: the output folder, locked by the caller.
        on_error: told of each session that cannot be recovered; its journals stay where they are.
        own: sessions of the caller, which are being recorded.

    """
    recovered = []
    for folder in sorted((out / ".wsrec").glob("*/")):
        if folder.name == "aside" or folder.name in own:
            continue
        try:
            with alone(folder):
                found = _recover_session(out, folder, on_error)
            recovered += [] if found is None else [found]
        except LiveSessionError as error:
            on_error(str(error))
        except _UNRECOVERABLE as error:
            on_error(f"session {folder.name} cannot be recovered now: {error}; its journals are kept in {folder}")
    return recovered


def _recover_session(out: Path, folder: Path, on_error: Callable[[str], None]) -> Recovered | None:
    """Recover a session; None where all that it left is what could not be deleted when its files had landed."""
    leftovers = Leftovers(out, folder)
    job = leftovers.job()
    rows = told = 0
    stuck = DoneJournals(lambda path, error: on_error(f"{path} cannot be deleted: {error}; all of it is in files"))
    journals = list(leftovers.journals)
    if job is not None:
        pipeline = Pipeline(job, folder)
        last = leftovers.last_readable()

        def tell(path: Path, reader: JournalReader) -> None:
            nonlocal told
            told += 1
            now = time.time_ns()
            if path == last:
                since = pipeline.last_time or now
                detail: dict[str, Any] = {"from": since, "to": now, "duration_ns": now - since}
                pipeline.event(now, EventKind.LOST_INTERVAL, **detail, reason="the recorder was interrupted")
            about = {"torn": reader.torn, "damaged": reader.damaged, "skipped": reader.skipped}
            pipeline.event(now, EventKind.RECOVERED, journal=path.name, **about)

        rows = leftovers.bring_home(pipeline, before_finish=tell, done=stuck)
        stuck.delete(leftovers.journals)
    else:
        leftovers.clear_way()
        for path in leftovers.journals:
            set_journal_aside(out, path)
    try:
        folder.rmdir()
    except OSError as error:
        on_error(f"{folder} cannot be deleted: {error}; nothing in it is missed")
    return Recovered(folder.name, rows) if told or (job is None and journals) else None
