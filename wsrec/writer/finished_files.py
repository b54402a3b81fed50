"""The finished files of a session, as far as its recovery continues from them: their last row, anchor and events.

A file that is missing or damaged says nothing here; `wsrec verify` reports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.format.capture import metadata
from wsrec.format.columns import row_batches
from wsrec.format.manifest import ManifestLine
from wsrec.format.moment import Moment
from wsrec.format.parquet_file import ParquetFile
from wsrec.format.stage_times import MONOTONIC
from wsrec.monitor.check import MonitorEvent
from wsrec.ring import loss_evidence
from wsrec.ring.events import Event, EventKind
from wsrec.writer.feed_writer import FeedWriter
from wsrec.writer.utc_line import StoredAnchor

_FOLLOWED = ("seq", "conn", MONOTONIC, "direction", "channel", "symbol", "exchange_seq")
_FOLLOWED_EVENTS = (EventKind.ACK, EventKind.STALE)
_EVENT_COLUMNS = ["monotonic", "kind", "conn", "channel", "symbol", "detail"]


def announces_end(out: Path, line: ManifestLine) -> bool:
    """True if the events of finished files record that their session ended, or was interrupted."""
    if line.events_path is None:
        return False
    try:
        rows = ParquetFile(out / line.events_path).read(["kind", "conn", "detail"]).to_pylist()
        return any(
            row["kind"] == EventKind.SESSION_END
            or (
                row["kind"] == EventKind.LOST_INTERVAL
                and row["conn"] is None
                and msgspec.json.decode(row["detail"]).get("reason") == loss_evidence.INTERRUPTED
            )
            for row in rows
        )
    except (OSError, ValueError, LookupError, AttributeError):
        return False


def about(out: Path, line: ManifestLine) -> dict[str, Any] | None:
    """The metadata of a finished file; None if it is missing or damaged."""
    path = line.path or line.events_path
    try:
        with ParquetFile(out / str(path)) as file:
            return metadata(file)
    except (OSError, ValueError):
        return None


def last_about(out: Path, lines: Sequence[ManifestLine]) -> dict[str, Any] | None:
    """The metadata of the last of these files that can be read; None if none can."""
    return next((found for line in reversed(lines) if (found := about(out, line)) is not None), None)


def last_row(out: Path, lines: list[ManifestLine]) -> Moment | None:
    """Hand-off time of the last row in finished files; None if there is none, or it cannot be read."""
    last = max((line.number for line in lines if line.path is not None), default=None)
    moments = []
    for line in lines:
        if line.number != last or line.path is None:
            continue
        try:
            with ParquetFile(out / line.path) as file:
                *_, last_rows = row_batches(file, ["handoff_time", MONOTONIC], [file.num_row_groups - 1])
        except (OSError, ValueError):
            return None
        moments.append(Moment(last_rows["handoff_time"][-1].value, last_rows[MONOTONIC][-1].as_py()))
    return max(moments, key=lambda moment: moment.order, default=None)


def records_restart(out: Path, lines: list[ManifestLine], stage: int) -> bool:
    """Whether finished files record the restart of a writer at this moment (ns on the stage clock)."""
    for line in sorted(lines, key=lambda line: line.number, reverse=True):
        if line.events_path is None:
            continue
        try:
            rows = ParquetFile(out / line.events_path).read(["monotonic", "kind"]).to_pylist()
        except (OSError, ValueError):
            # missing or damaged, which `wsrec verify` reports
            continue
        if any(row["kind"] == EventKind.RESTART and row["monotonic"] == stage for row in rows):
            return True
        if max((row["monotonic"] or 0 for row in rows), default=0) < stage:
            return False
    return False


def follow_landed(out: Path, lines: list[ManifestLine], feed: FeedWriter) -> None:
    """Continue sequences and idle times from the last finished pair: for each connection, since it was last opened."""
    ended: dict[int, int] = {}
    events: list[MonitorEvent] = []
    if any(line.path is not None for line in lines):
        feed.check_from(lines[-1].number + 1)
    for line in reversed(lines):
        try:
            if line.events_path is not None:
                table = ParquetFile(out / line.events_path).read(_EVENT_COLUMNS)
                for row in table.filter(pc.is_valid(table["monotonic"])).to_pylist():
                    moment, conn = row["monotonic"], row["conn"]
                    if row["kind"] == EventKind.DISCONNECT:
                        ended[conn] = max(moment, ended.get(conn, moment))
                    elif row["kind"] in _FOLLOWED_EVENTS:
                        names = {"channel": row["channel"], "symbol": row["symbol"]}
                        detail = {**msgspec.json.decode(row["detail"]), **names}
                        events.append(MonitorEvent(EventKind(row["kind"]), moment, conn, detail))
            if line.path is None:
                continue
            with ParquetFile(out / line.path) as file:
                for batch in row_batches(file, _FOLLOWED):
                    conns = batch.column("conn").to_numpy()
                    since = np.zeros(1 << 16, np.int64)
                    since[list(ended)] = list(ended.values())
                    kept = pa.array(batch.column(MONOTONIC).to_numpy() > since[conns])
                    feed.follow(batch.filter(pc.and_(kept, pc.equal(batch.column("direction"), "recv"))))
            feed.check_from(line.number)
        except (OSError, ValueError):
            # missing or damaged, which `wsrec verify` reports: then a gap to what follows is not found
            pass
        break
    for event in sorted(events, key=lambda event: event.time):
        if event.conn is not None and event.time > ended.get(event.conn, 0):
            feed.follow_event(event)


def last_anchor(out: Path, lines: list[ManifestLine]) -> StoredAnchor | None:
    """The last anchor in finished files."""
    for line in sorted(lines, key=lambda line: line.number, reverse=True):
        if line.events_path is None or not (out / line.events_path).exists():
            continue
        table = ParquetFile(out / line.events_path).read(["kind", "detail"])
        anchors = [row["detail"] for row in table.to_pylist() if row["kind"] == EventKind.ANCHOR]
        if anchors:
            return StoredAnchor.of(Event(EventKind.ANCHOR, detail=msgspec.json.decode(anchors[-1])))
    return None
