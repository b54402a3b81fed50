"""What an interrupted session left behind, brought home: its journals become the files that they were to become.

Call it with the output locked. It may be interrupted and called again: a journal goes only after its files have landed,
and what stands in the way of a file is set aside under `.wsrec/aside`, never deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.feed.message import Ids
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import Flag
from wsrec.store import manifest
from wsrec.store.job import WriterJob
from wsrec.store.journal import JournalReader
from wsrec.store.pipeline import Pipeline
from wsrec.store.schema import METADATA_PREFIX

# also what a damaged journal makes of events, of the job and of the feed in it
_UNRECOVERABLE = (OSError, pa.ArrowException, msgspec.MsgspecError, ValueError, LookupError, TypeError)


class Recovered(NamedTuple):
    """One session that was recovered: its id, and how many rows came out of its journals."""

    session: str
    rows: int


def recover(out: Path, on_error: Callable[[str], None]) -> list[Recovered]:
    """Recover every session that was interrupted.

    Args:
        out: the output folder, locked by the caller.
        on_error: told of each session that cannot be recovered; its journals stay where they are.

    """
    recovered = []
    for folder in sorted((out / ".wsrec").glob("*/")):
        if folder.name == "aside":
            continue
        try:
            recovered.append(_recover_session(out, folder))
        except _UNRECOVERABLE as error:
            on_error(f"session {folder.name} cannot be recovered now: {error}; its journals are kept in {folder}")
    return recovered


def _recover_session(out: Path, folder: Path) -> Recovered:
    session = folder.name
    journals = sorted(folder.glob("journal-*.arrows"))
    lines = [line for line in manifest.read(out) if line.session == session]
    landed = {(line.feed, line.number) for line in lines}
    _clear_way(out, folder, lines)
    next_seq = {line.feed: line.last_seq + 1 for line in lines if line.last_seq is not None}
    pipeline: Pipeline | None = None
    rows = 0
    for path in journals:
        try:
            reader = JournalReader(path)
        except pa.ArrowInvalid:
            # a power cut may leave a journal without a beginning: nothing in it can be read
            _set_aside(out, path)
            continue
        if pipeline is None:
            job = msgspec.structs.replace(msgspec.json.decode(reader.job, type=WriterJob), out=str(out))
            pipeline = Pipeline(job, folder, next_seq=next_seq)
            for name, ids in _landed_ids(out, lines).items():
                pipeline.feeds[name].restore(ids)
            offset = _landed_offset(out, lines)
            offset = _first_offset(journals) if offset is None else offset
            if offset is not None:
                pipeline.follow_clock(offset)
        number = int(path.stem.partition("-")[2])
        pipeline.active = {name for name in pipeline.feeds if (name, number) not in landed}
        if not pipeline.active:
            # kept for the beginning of a message that the next journal ends
            for batch in reader:
                pipeline.remember(batch)
            continue
        for batch in reader:
            pipeline.take(batch, number)
        if path is journals[-1]:
            now = time.time_ns()
            last = pipeline.last_time or now
            detail = {"from": last, "to": now, "duration_ns": now - last, "reason": "the recorder was interrupted"}
            pipeline.event(now, EventKind.LOST_INTERVAL, **detail)
        pipeline.event(time.time_ns(), EventKind.RECOVERED, journal=path.name, torn=reader.torn)
        rows += sum(line.rows for line in pipeline.finish(number))
        if reader.torn:
            _set_aside(out, path)
    for path in folder.glob("journal-*.arrows"):
        path.unlink()
    folder.rmdir()
    return Recovered(session, rows)


def _landed_ids(out: Path, lines: list[manifest.ManifestLine]) -> dict[str, Ids]:
    """What each feed's ids stood for at the end of its last file of messages that has landed."""
    found = {}
    for line in sorted(lines, key=lambda line: line.number):
        if line.path is not None and (out / line.path).exists():
            metadata = pq.read_metadata(out / line.path).metadata or {}
            text = metadata.get(f"{METADATA_PREFIX}ids".encode(), b"{}")
            found[line.feed] = msgspec.json.decode(text, type=Ids)
    return found


def _landed_offset(out: Path, lines: list[manifest.ManifestLine]) -> int | None:
    """What turned the stage clock into UTC (ns) by the last anchor in the files that have landed."""
    for line in sorted(lines, key=lambda line: line.number, reverse=True):
        if line.events_path is None or not (out / line.events_path).exists():
            continue
        table = pq.ParquetFile(out / line.events_path).read(["kind", "detail"])
        anchors = [row["detail"] for row in table.to_pylist() if row["kind"] == EventKind.ANCHOR]
        if anchors:
            anchor = msgspec.json.decode(anchors[-1])
            return int(anchor["realtime"] - anchor["monotonic"])
    return None


def _first_offset(journals: list[Path]) -> int | None:
    """The same by the first anchor in the journals: the best there is where no file tells."""
    for path in journals:
        try:
            for batch in JournalReader(path):
                whole = int(Flag.EVENT | Flag.FIN)
                for row in np.flatnonzero(batch.slots["flags"] & whole == whole).tolist():
                    event = Event.decode(batch.payload[row].as_py())
                    if event.kind is EventKind.ANCHOR:
                        return int(event.detail["realtime"] - event.detail["monotonic"])
        except (pa.ArrowInvalid, msgspec.DecodeError):
            # damaged, or the end of an event in parts
            continue
    return None


def _clear_way(out: Path, folder: Path, lines: list[manifest.ManifestLine]) -> None:
    """Set aside what is made anew: unfinished files, and files that landed without their line in the manifest."""
    known = {path for line in lines for path in (line.path, line.events_path)}
    for path in folder.glob("*.partial"):
        _set_aside(out, path)
    for kind in ("messages", "events"):
        for path in (out / kind).rglob(f"{folder.name}-[0-9]*.parquet"):
            if str(path.relative_to(out)) not in known:
                _set_aside(out, path)


def _set_aside(out: Path, path: Path) -> None:
    aside = out / ".wsrec" / "aside" / f"{path.name}.{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    path.rename(aside)
