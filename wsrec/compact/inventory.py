"""The finished pairs of files of an output folder by its manifest, and which of them may be touched."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsrec.compact.model import Skipped
from wsrec.format import manifest
from wsrec.format.claim import is_live
from wsrec.format.folders import is_file, session_folders
from wsrec.format.layout import EVENTS, MESSAGES, Place, manifest_path, read_place, session_folder
from wsrec.format.manifest import ManifestLine

_LEFT = "the session was left as it is: `wsrec verify` says more"


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
        problems: why lines of the manifest, and all of the sessions that they name, are not acted on.

    """

    pairs: dict[tuple[str, str], list[FinishedPair]]
    removed: list[FinishedPair]
    skipped: list[Skipped]
    problems: list[str]


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
    doubtful: set[tuple[str, str]] = set()
    problems: list[str] = []
    places = _Places(out)

    def doubt(line: ManifestLine, why: str) -> None:
        doubtful.update(places.sessions(line))
        problems.append(f"{manifest_path(out)}: a line of {line.feed}, session {line.session}, {why}; {_LEFT}")

    for line in lines:
        of_pair = found.setdefault(line.pair, [])
        if (why := places.problem(line)) is not None:
            doubt(line, why)
        elif of_pair and (line.path, line.events_path) != (of_pair[0].path, of_pair[0].events_path):
            doubt(line, f"number {line.number}, names other files than a line before it")
        elif not of_pair or line.follows(of_pair):
            of_pair.append(line)
    pairs: dict[tuple[str, str], list[FinishedPair]] = {}
    removed, files = [], dict.fromkeys(left, 0)
    remains: set[tuple[str, str]] = set()
    for (feed, session, number), of_pair in sorted(found.items()):
        if of_pair and of_pair[-1].removed is None:
            remains.add((feed, session))
        elif of_pair and (feed, session) in remains:
            doubt(of_pair[-1], f"removes number {number}, which is not at the session's beginning")
    for (feed, session, _), of_pair in sorted(found.items()):
        if session in left:
            files[session] += bool(of_pair) and of_pair[-1].path is not None
        elif not of_pair or (feed, session) in doubtful:
            continue
        else:
            pair = FinishedPair(of_pair, places.hour(of_pair[0]))
            if pair.line.removed is not None:
                removed.append(pair)
            else:
                pairs.setdefault((feed, session), []).append(pair)
    skipped = [Skipped(session=session, files=files[session], why=_why(out, session)) for session in sorted(left)]
    return Finished(pairs, removed, skipped, problems)


def is_finished(out: Path, session: str) -> bool:
    """Whether no recorder and no recovery has a session in hand."""
    return not session_folder(out, session).exists()


def _why(out: Path, session: str) -> str:
    if is_live(session_folder(out, session)):
        return "it is being recorded"
    return f"it was interrupted: run `wsrec recover {out}` first"


class _Places:
    """Where the lines of a manifest say that files are.

    Args:
        out: the output folder.

    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._real = out.resolve()
        self._leads_elsewhere: dict[Path, bool] = {}

    def problem(self, line: ManifestLine) -> str | None:
        """Why its files must not be touched: anybody may have written the line. None: they are its own pair's."""
        names = [(kind, name) for kind, name in ((MESSAGES, line.path), (EVENTS, line.events_path)) if name is not None]
        if not names:
            return "names no file"
        hours = set()
        for kind, name in names:
            place = self._place(name)
            if place is None or place.pair != line.pair or place.kind != kind:
                return f"names {name!r}, which is not where wsrec puts its {kind}"
            hours.add(place.hour)
            folder = Path(name).parent
            if folder not in self._leads_elsewhere:
                self._leads_elsewhere[folder] = (self._out / folder).resolve() != self._real / folder
            if self._leads_elsewhere[folder]:
                return f"names {name!r}, whose folder is a link that leads elsewhere"
        return "names files of two hours" if len(hours) > 1 else None

    def sessions(self, line: ManifestLine) -> set[tuple[str, str]]:
        """The feeds and sessions that the line and its files are of."""
        places = [self._place(name) for name in (line.path, line.events_path) if name is not None]
        return {line.pair[:2], *(place.pair[:2] for place in places if place is not None)}

    def hour(self, line: ManifestLine) -> int | None:
        """The hour of its files' folders (since the epoch)."""
        name = line.path or line.events_path
        place = None if name is None else self._place(name)
        return None if place is None else place.hour

    def _place(self, name: str) -> Place | None:
        # no file system has such names
        return None if "\0" in name or Path(name).is_absolute() else read_place(self._out, self._out / name)


def size_of(path: Path) -> int:
    """A file's size; 0 if there is none."""
    try:
        return path.stat().st_size if is_file(path) else 0
    except OSError:
        return 0
