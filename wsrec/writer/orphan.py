"""What a session has lost whose end nobody heard: a writer that outlives its supervisor leaves a note for the next.

A file a session under `.wsrec`, which goes once it has been read out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from wsrec.format.folders import matching, read_file
from wsrec.format.layout import own_folder
from wsrec.units import utc

_NAME = "orphaned-{}.json"


class Orphan(msgspec.Struct, frozen=True, kw_only=True):
    """Such a session.

    Attributes:
        session: its id.
        lost_intervals: how many it had.
        lost_from, lost_to: the time that its receiver has left unsaid, ns since the epoch; null where it has not.

    """

    session: str
    lost_intervals: int
    lost_from: int | None
    lost_to: int | None

    @property
    def text(self) -> str:
        """In words for the operator."""
        what = f"session {self.session} ended without its supervisor: {self.lost_intervals} lost intervals"
        if self.lost_from is None or self.lost_to is None:
            return what
        return f"{what}, the last from {utc(self.lost_from)} to {utc(self.lost_to)} UTC"


def leave(out: Path, orphan: Orphan) -> None:
    """Leave the note.

    Raises:
        OSError: the disk is full or gone.

    """
    (own_folder(out) / _NAME.format(orphan.session)).write_bytes(msgspec.json.encode(orphan))


def take(out: Path) -> list[Orphan]:
    """Read all notes and delete them; one that cannot be read is left where it is.

    Raises:
        OSError: their folder cannot be read.

    """
    found = []
    for path in matching(own_folder(out), _NAME.format("*")):
        try:
            found.append(msgspec.json.decode(read_file(path), type=Orphan))
            path.unlink()
        except (OSError, msgspec.DecodeError):
            continue
    return found
