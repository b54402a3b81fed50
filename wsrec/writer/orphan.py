"""Orphan notes: left by the writer of a session whose supervisor died, for the next start to report its losses.

One file per session under `.wsrec`, deleted once it has been read.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from wsrec.format.folders import matching, read_file
from wsrec.format.layout import own_folder
from wsrec.format.stored_json import decode_stored
from wsrec.units import plural, utc

_NAME = "orphaned-{}.json"


class OrphanNote(msgspec.Struct, frozen=True, kw_only=True):
    """A session whose writer outlived its supervisor.

    Attributes:
        session: its id.
        lost_intervals: number of lost intervals.
        lost_from, lost_to: interval that its receiver did not report, ns since the epoch; null if there is none.
        ended: time of its last row, ns since the epoch; null if it has none.

    """

    session: str
    lost_intervals: int
    lost_from: int | None
    lost_to: int | None
    ended: int | None = None

    @property
    def text(self) -> str:
        """Message for the operator."""
        what = f"the previous recorder (session {self.session}) ended without its supervisor, which was killed"
        if self.lost_intervals:
            what += f": {plural(self.lost_intervals, 'lost interval')}"
        if self.lost_from is None or self.lost_to is None:
            return what
        return f"{what}, the last from {utc(self.lost_from)} to {utc(self.lost_to)} UTC"


def leave(out: Path, orphan: OrphanNote) -> None:
    """Write the note.

    Raises:
        OSError: the disk is full or gone.

    """
    (own_folder(out) / _NAME.format(orphan.session)).write_bytes(msgspec.json.encode(orphan))


def take(out: Path) -> list[OrphanNote]:
    """Read and delete all notes; unreadable ones are left.

    Raises:
        OSError: their folder cannot be read.

    """
    found = []
    for path in matching(own_folder(out), _NAME.format("*")):
        try:
            found.append(decode_stored(read_file(path), OrphanNote))
            path.unlink()
        except (OSError, msgspec.DecodeError):
            continue
    return found
