"""Events of an events file, in chronological order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from wsrec.format.columns import times
from wsrec.format.errors import first_line
from wsrec.format.parquet_file import ParquetFile
from wsrec.ring.events import EventKind
from wsrec.units import named
from wsrec.verify.epochs import topics_of
from wsrec.verify.files import UNREADABLE, Report
from wsrec.verify.model import Kind

AFTERWARDS = int(np.iinfo(np.int64).max)
"""Place among the rows of events that recovery added: after all of them."""

_KINDS = frozenset(kind.value for kind in EventKind)
_COLUMNS = ["kind", "conn", "channel", "symbol", "detail"]


class EventRow(NamedTuple):
    """One event.

    Attributes:
        time: ns since the epoch.
        order: its place among the rows (ns on the stage clock), or `AFTERWARDS`.
        kind, conn, channel, symbol, detail: as in the file.

    """

    time: int
    order: int
    kind: str
    conn: int | None
    channel: str | None
    symbol: str | None
    detail: dict[str, Any]

    @property
    def loses_slots(self) -> bool:
        """Whether it reports lost events, possibly disconnects: no connection is assumed to go on across it."""
        return self.kind == EventKind.LOST_INTERVAL and "slots" in self.detail


def read_events(path: Path, report: Report) -> Iterator[EventRow]:
    """Yield the events of a file; reports unknown ones."""
    before = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                moments, _ = times(batch, "time")
                orders = batch.column("monotonic").fill_null(AFTERWARDS).to_pylist()
                rows = batch.select(_COLUMNS).to_pylist()
                for time, order, row in zip(moments.tolist(), orders, rows, strict=True):
                    detail = msgspec.json.decode("null" if row["detail"] is None else row["detail"])
                    if order < before or row["kind"] not in _KINDS or not isinstance(detail, dict):
                        report(Kind.CONTRADICTION, path, f"has an unknown event, at {time}")
                    before = order
                    row["detail"] = detail if isinstance(detail, dict) else {}
                    yield EventRow(time, order, **row)
    except UNREADABLE as error:
        report(Kind.DAMAGED, path, f"its events cannot be read: {first_line(error)}")


def finding_of(event: EventRow) -> tuple[Kind, str] | None:
    """What an event says of the capture, if it is a problem or worth knowing: its kind, and a description."""
    detail = event.detail
    if event.kind == EventKind.LOST_INTERVAL:
        return Kind.INCOMPLETE, f"lost interval: {detail.get('reason')}"
    if event.kind == EventKind.LATE:
        return Kind.INCOMPLETE, f"it took over too early for {named(topics_of(detail))}: {detail.get('message')}"
    if event.kind in (EventKind.REFUSED, EventKind.UNANSWERED):
        return Kind.INCOMPLETE, f"subscription {event.kind}: {detail.get('message', 'no answer')}"
    if event.kind == EventKind.EXCHANGE_TIME_OFF:
        count, unit = detail.get("count"), detail.get("unit")
        of, have = ("message", "has") if count == 1 else ("messages", "have")
        fits = f"; the first would fit as {unit}" if unit else ""
        what = f"{count} {of} of {event.channel or 'no channel'} {have} a time too far from their arrival"
        return Kind.NOTE, f"{what}: their exchange_time is null{fits}"
    return None
