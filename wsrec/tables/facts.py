"""What a messages file's rows depend on beside itself: a digest that shows whether a table of it is still current.

Later files of a session can tell more of a file's rows: an interval that was lost since its last message, numbers that
did not join, a snapshot that joins. What cannot concern its rows is left out, so that a table stays current while its
session goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc

from wsrec.format.capture_file import CaptureFile
from wsrec.tables.breaks import Break, Join
from wsrec.tables.file_rows import FileRows
from wsrec.tables.session_events import SessionEvents


class Extent(NamedTuple):
    """How far a file's rows go.

    Attributes:
        number: the file's number.
        seq: `seq` of its last row; -1 without rows.
        handoff: the last hand-off in it (ns on the stage clock).

    """

    number: int
    seq: int
    handoff: int

    @classmethod
    def of(cls, file: CaptureFile) -> Extent:
        """That of a messages file.

        Raises:
            CaptureError: it is damaged.

        """
        column = "handoff_monotonic"
        ends = [pc.max(batch[column]).as_py() for batch in file.batches([column])]
        return cls(file.number, -1 if file.last_seq is None else file.last_seq, max(ends, default=-1))


def files_digest(rows: Sequence[FileRows], event_files: Sequence[CaptureFile], of_run: Sequence[str] = ()) -> str:
    """A digest of which files a session has; where it is the same, so is all that they tell."""
    events = [(file.number, file.size, file.rows) for file in event_files]
    return _digest([[each._replace(begin=None) for each in rows], events, list(of_run)])


def facts_digest(events: SessionEvents, listed: Collection[int], of_run: Sequence[str], extent: Extent) -> str:
    """A digest of what a session's files tell of the rows of one of them.

    Args:
        events: what its events say.
        listed: the numbers of the files with a listing of instruments.
        of_run: the names of files of other sessions with listings for this one.
        extent: how far the file's rows go.

    """

    def concerns(each: Break) -> bool:
        return each.start <= extent.handoff if each.seq is None else each.seq <= extent.seq

    breaks = [
        each
        for each, number in zip(events.breaks, events.files, strict=True)
        if number == extent.number or concerns(each)
    ]
    overlaps = [each for each in events.overlaps if each.start <= extent.handoff]
    until = max((extent.handoff, *(each.end for each in overlaps)))
    undecided = events.undecided
    known: list[Any] = [
        breaks,
        [each for each in events.joins if _reaches(events, each, extent)],
        [each._replace(end=min(each.end, extent.handoff)) for each in overlaps],
        *([each for each in of if each.place <= until] for of in (events.begins, events.confirmed, events.denied)),
        *(
            frozenset(each for each in of if each.file <= extent.number)
            for of in (events.unchecked, events.unnumbered, events.unbooked)
        ),
        [each for each in events.resumptions if each.file <= extent.number],
        undecided if undecided is not None and undecided.seq <= extent.seq else None,
        events.lacks(extent.number),
        [each._replace(begin=None) for each in events.rows if each.number <= extent.number],
        frozenset(number for number in listed if number <= extent.number or number == min(listed)),
        list(of_run),
    ]
    return _digest(known)


def _reaches(events: SessionEvents, join: Join, extent: Extent) -> bool:
    """Whether the changes that a snapshot joins, which may have come before it, may be in a file."""
    return not any(
        each.ends_books
        and extent.handoff < each.noticed <= join.place
        and (each.conns is None or join.conn in each.conns)
        and (each.channels is None or each.channels & join.channels)
        and each.symbol in (None, join.symbol)
        for each in events.breaks
    )


def _digest(known: Any) -> str:
    return hashlib.sha256(repr(_ordered(known)).encode()).hexdigest()


def _ordered(value: Any) -> Any:
    """A value whose text does not depend on the order of sets."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, tuple | list):
        return [_ordered(each) for each in value]
    return value
