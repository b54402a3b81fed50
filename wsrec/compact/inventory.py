"""The finished pairs of files of an output folder by its manifest, and which of them may be touched."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsrec.compact.model import Skipped
from wsrec.format import manifest
from wsrec.format.claim import is_live
from wsrec.format.folders import is_file, session_folders
from wsrec.format.layout import EVENTS, MESSAGES, read_place, session_folder
from wsrec.format.manifest import ManifestLine


class FinishedPair(NamedTuple):
    """A pair of files and its lines in the manifest.

    Attributes:
        lines: its lines, each in the place of the one before.
        hour: the hour of its folder (since the epoch).

    """

    lines: list[ManifestLine]
    hour: int | None

    @property
    def line(self) -> ManifestLine:
        """The line in force."""
        return self.lines[-1]

    @property
    def is_sorted(self) -> bool:
        """Whether the manifest says so; a run that was killed may not have put the file in place."""
        return self.line.replaces is not None

    def paths(self, out: Path) -> list[Path]:
        """Its files."""
        return [out / name for name in (self.line.path, self.line.events_path) if name is not None]


class Finished(NamedTuple):
    """What may be touched.

    Attributes:
        pairs: by feed and session, in order of their numbers.
        removed: those that were removed.
        skipped: sessions that may not be touched.

    """

    pairs: dict[tuple[str, str], list[FinishedPair]]
    removed: list[FinishedPair]
    skipped: list[Skipped]


def finished(out: Path) -> Finished:
    """Read the manifest of an output folder.

    Raises:
        OSError: it, or wsrec's own folder, cannot be read.
        OtherVersionError, msgspec.ValidationError: a line has another version, or is not valid.

    """
    # in this order: a session that begins in between is in none of the lines
    lines = manifest.read(out)
    left = {folder.name for folder in session_folders(out)}
    found: dict[tuple[str, str, int], list[ManifestLine]] = {}
    for line in lines:
        of_pair = found.setdefault(line.pair, [])
        if not of_pair or line.follows(of_pair):
            of_pair.append(line)
    pairs: dict[tuple[str, str], list[FinishedPair]] = {}
    removed, files = [], dict.fromkeys(left, 0)
    for (feed, session, _), of_pair in sorted(found.items()):
        pair = FinishedPair(of_pair, _hour(out, of_pair[0]))
        if session in left:
            files[session] += pair.line.path is not None
        elif pair.line.removed is not None:
            removed.append(pair)
        else:
            pairs.setdefault((feed, session), []).append(pair)
    skipped = [Skipped(session=session, files=files[session], why=_why(out, session)) for session in sorted(left)]
    return Finished(pairs, removed, skipped)


def is_finished(out: Path, session: str) -> bool:
    """Whether no recorder and no recovery has a session in hand."""
    return not session_folder(out, session).exists()


def _why(out: Path, session: str) -> str:
    if is_live(session_folder(out, session)):
        return "it is being recorded"
    return f"it was interrupted: run `wsrec recover {out}` first"


def _hour(out: Path, line: ManifestLine) -> int | None:
    name = line.path or line.events_path
    place = read_place(out, out / name) if name is not None else None
    if place is None or place.pair != line.pair or place.kind != (MESSAGES if line.path else EVENTS):
        return None
    return place.hour


def size_of(path: Path) -> int:
    """A file's size; 0 if there is none."""
    try:
        return path.stat().st_size if is_file(path) else 0
    except OSError:
        return 0
