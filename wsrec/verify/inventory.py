"""Inventory of a capture's folder, compared with its manifest: files, lines, journals, quarantined files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec.format.claim import is_live
from wsrec.format.errors import OtherVersionError, first_line
from wsrec.format.folders import cannot_read, is_file, matching, parquet_files, read_file, session_folders
from wsrec.format.layout import KINDS, OWN, aside_folder, manifest_path, other, read_place, session_folder
from wsrec.format.lock import is_held
from wsrec.format.manifest import ManifestLine, decode_line
from wsrec.format.unfinished import checks
from wsrec.units import plural, utc
from wsrec.verify.model import Finding, Kind


class Pair:
    """A message file and its events file, as found and as listed.

    Attributes:
        feed, session, number: from the files' names.
        messages, events: their paths; None for a missing file.
        line: their line in the manifest.
        where: the manifest and the line's number, for messages.
        hours: the hours (since the epoch) of their folders.
        unreadable: the listed files that may exist but cannot be read.
        earlier: its earlier lines, whose place `line` took.

    """

    def __init__(self, feed: str, session: str, number: int) -> None:
        self.feed, self.session, self.number = feed, session, number
        self.messages: Path | None = None
        self.events: Path | None = None
        self.line: ManifestLine | None = None
        self.where = ""
        self.hours: set[int | None] = set()
        self.unreadable: set[str] = set()
        self.earlier: list[ManifestLine] = []

    def list_in(self, line: ManifestLine, where: str) -> None:
        """Take a line of the manifest, in the place of the one before."""
        self.earlier += [] if self.line is None else [self.line]
        self.line, self.where = line, where


class Inventory(NamedTuple):
    """Contents of one output folder.

    Attributes:
        root: the folder.
        whole: whether the whole folder is to be verified.
        listed: whether there is a manifest, and all of its lines can be read.
        pairs: by feed and session, in order of their numbers.
        journals: sessions with a journal folder: number of journals and their bytes.
        held: whether a recorder is using the folder; None if that cannot be determined.
        findings: inconsistencies found so far.
        removed: sessions some of whose files were removed on purpose.

    """

    root: Path
    whole: bool
    listed: bool
    pairs: dict[tuple[str, str], list[Pair]]
    journals: dict[str, tuple[int, int]]
    held: bool | None
    findings: list[Finding]
    removed: frozenset[str] = frozenset()

    def tasks(self) -> list[SessionTask]:
        """Its sessions, each as a task of its own, in order of session and feed."""
        return [
            SessionTask(
                self.root,
                # what was removed was the beginning
                self.whole and session not in self.removed,
                self.listed,
                feed,
                session,
                pairs,
                session in self.journals,
                self.held,
                self.whole,
            )
            for (feed, session), pairs in sorted(self.pairs.items(), key=lambda item: item[0][::-1])
        ]


class SessionTask(NamedTuple):
    """One session of one feed, to be verified alone.

    Attributes:
        root, listed, held: as of the `Inventory`.
        whole: whether all of its files are verified, from its first on.
        feed, session: which one.
        pairs: its files, in order of their numbers.
        left: whether its journals are there.
        as_found: whether all of its files that were not removed on purpose are verified.

    """

    root: Path
    whole: bool
    listed: bool
    feed: str
    session: str
    pairs: list[Pair]
    left: bool
    held: bool | None
    as_found: bool


def roots(paths: Iterable[Path]) -> dict[Path, list[Path] | None]:
    """The output folders that contain, are, or lie below the paths, with the paths named in each (None: the whole)."""
    found: dict[Path, list[Path] | None] = {}

    def add(root: Path, only: Path | None) -> None:
        if only is None:
            found[root] = None
        elif (named := found.setdefault(root, [])) is not None:
            named.append(only)

    for given in paths:
        path = given.resolve()
        try:
            (path / OWN).exists()
        except PermissionError:
            add(path, None)
            continue
        if path.is_dir() and any((path / name).is_dir() for name in (OWN, *KINDS)):
            add(path, None)
        elif (above := next((p for p in path.parents if (p / OWN).is_dir()), None)) is not None:
            add(above, path)
        elif path.is_dir():
            for root in sorted(p.parent for p in path.rglob(OWN) if p.is_dir()) or [path]:
                add(root, None)
        else:
            add(path.parent, path)
    return found


def take(root: Path, only: list[Path] | None) -> Inventory:
    """Read an output folder's contents.

    Raises:
        OSError: it cannot be read.

    """
    findings: list[Finding] = []

    def refused(error: OSError) -> None:
        findings.append(Finding(kind=Kind.UNREADABLE, where=str(error.filename), what=cannot_read(error)))

    # before the manifest: a file that is written in between is found by its line then, and not reported as unlisted
    if only is None:
        # a missing folder holds nothing; an unreadable one is reported
        there = [root / kind for kind in KINDS if (root / kind).exists()]
        files = sorted(path for folder in there for path in parquet_files(folder, refused))
    else:
        files = _named(only, refused)
    journals = _journals(root, refused)
    held = is_held(root) if journals else False
    listed = manifest_path(root).exists()
    pairs: dict[tuple[str, str, int], Pair] = {}
    for path in files:
        place = read_place(root, path)
        if place is None:
            what = "is not where wsrec puts a file: its name or folder was changed, or another program wrote it"
            findings.append(Finding(kind=Kind.CONTRADICTION, where=str(path), what=what))
            continue
        pair = pairs.setdefault(place.pair, Pair(*place.pair))
        if (found := getattr(pair, place.kind)) is not None:
            what = f"has the same session and number as another file: {found}"
            findings.append(Finding(kind=Kind.CONTRADICTION, where=str(path), what=what))
            continue
        setattr(pair, place.kind, path)
        pair.hours.add(place.hour)
    if listed:
        listed = _read_lines(root, pairs, findings, whole=only is None)
    elif pairs and all(session in journals and number == 1 for _, session, number in pairs):
        # a recorder was killed between its first files and their lines: their content is in its journals too
        listed = True
    elif pairs:
        what = "there is no manifest: checksums cannot be checked, and missing files cannot be noticed"
        findings.append(Finding(kind=Kind.CONTRADICTION, where=str(manifest_path(root)), what=what))
    removed = _take_out_removed(root, pairs, findings)
    by_session: dict[tuple[str, str], list[Pair]] = {}
    for _, pair in sorted(pairs.items()):
        if only is None or any(path is not None and _chosen(path, only) for path in (pair.messages, pair.events)):
            by_session.setdefault((pair.feed, pair.session), []).append(pair)
    findings += _left_behind(root, journals, held) if only is None else []
    return Inventory(root, only is None, listed, by_session, journals, held, findings, removed)


def _named(only: list[Path], refused: Callable[[OSError], None]) -> list[Path]:
    """The named files, and the other file of each pair."""
    files = {file for path in only for file in (parquet_files(path, refused) if path.is_dir() else (path,))}
    for path in list(files):
        beside = other(path)
        files |= {beside} if beside is not None and beside.exists() else set()
    return sorted(files)


def _chosen(path: Path, only: list[Path]) -> bool:
    return any(path == named or named in path.parents for named in only)


def _read_lines(root: Path, pairs: dict[tuple[str, str, int], Pair], findings: list[Finding], *, whole: bool) -> bool:
    """Read the manifest; False if some lines have another version, so that files may be listed there unseen."""
    listed = True
    manifest = manifest_path(root)
    seen: dict[bytes, int] = {}
    matches: dict[tuple[str, str, int], list[Callable[[], None]]] = {}
    for number, text in enumerate(read_file(manifest).split(b"\n"), 1):
        where = f"{manifest}:{number}"

        def report(kind: Kind, what: str, where: str = where) -> None:
            findings.append(Finding(kind=kind, where=where, what=what))

        if not text:
            continue
        if (before := seen.setdefault(text, number)) != number:
            report(Kind.NOTE, f"repeats line {before}: the disk had reported an error for that line")
            continue
        try:
            line = decode_line(text, manifest, number)
        except OtherVersionError as error:
            report(Kind.UNREADABLE, str(error).removeprefix(f"{where}: "))
            listed = False
            continue
        except msgspec.ValidationError as error:
            report(Kind.CONTRADICTION, first_line(error).removeprefix(f"{where}: "))
            continue
        except msgspec.DecodeError:
            report(Kind.NOTE, "is cut off by a crash; its files must be listed elsewhere")
            continue
        if msgspec.json.encode(line) != text:
            report(Kind.CONTRADICTION, "is not in wsrec's form")
        places = [(path, read_place(root, root / path)) for path in (line.path, line.events_path) if path is not None]
        named = {place[1:] for _, place in places if place is not None}
        keys = {place.pair for _, place in places if place is not None}
        if not places or any(place is None for _, place in places) or len(named) != 1:
            report(Kind.CONTRADICTION, "does not name a pair of files of one folder, session and number")
            continue
        (key,) = keys
        if key not in pairs and not whole:
            continue
        pair = pairs.setdefault(key, Pair(*key))
        if pair.line is not None and not line.follows([pair.line, *pair.earlier]):
            report(Kind.CONTRADICTION, f"lists the same files as line {pair.where.rpartition(':')[2]}")
            continue
        pair.list_in(line, where)
        if (line.feed, line.session, line.number) != key:
            report(Kind.CONTRADICTION, "feed, session or number differ from those of its files")
        # by its last line: of those before it the files may be gone
        matches[key] = [
            partial(_match, root / path, place.kind if place else "", pair, report) for path, place in places
        ]
    for key, of_pair in matches.items():
        line_in_force = pairs[key].line
        if line_in_force is not None and line_in_force.removed is None:
            for match in of_pair:
                match()
    return listed


def _take_out_removed(root: Path, pairs: dict[tuple[str, str, int], Pair], findings: list[Finding]) -> frozenset[str]:
    """Take out the pairs that were removed on purpose, which is a session's beginning; returns their sessions."""
    removed: dict[tuple[str, str], list[ManifestLine]] = {}
    remains: set[tuple[str, str]] = set()
    for key, pair in sorted(pairs.items()):
        if pair.line is None or pair.line.removed is None:
            remains.add(key[:2])
            continue
        if key[:2] in remains:
            what = (
                "says that files were removed on purpose, but `wsrec compact` removes from a session's beginning only"
            )
            findings.append(Finding(kind=Kind.CONTRADICTION, where=pair.where, what=what))
            _match_all(root, pair, findings)
            continue
        del pairs[key]
        removed.setdefault(key[:2], []).append(pair.line)
        if pair.messages is not None or pair.events is not None:
            what = "lists files as removed that are still there: `wsrec compact` was killed; run it again"
            findings.append(Finding(kind=Kind.NOTE, where=pair.where, what=what))
    for (feed, session), lines in sorted(removed.items()):
        count, last = plural(len(lines), "pair"), max(line.removed or 0 for line in lines)
        rows = plural(sum(line.rows for line in lines), "row")
        what = (
            f"its first {count} of files, {rows}, were removed on purpose, last on {utc(last)}: `wsrec compact --keep`"
        )
        findings.append(Finding(kind=Kind.NOTE, where=f"{feed}, session {session}", what=what))
    return frozenset(session for _, session in removed)


def _match_all(root: Path, pair: Pair, findings: list[Finding]) -> None:
    """Compare the files that a pair's line in force lists with the files found."""

    def report(kind: Kind, what: str) -> None:
        findings.append(Finding(kind=kind, where=pair.where, what=what))

    for kind, name in zip(KINDS, (pair.line.path, pair.line.events_path) if pair.line else (), strict=False):
        if name is not None:
            _match(root / name, kind, pair, report)


def _match(path: Path, kind: str, pair: Pair, report: Callable[[Kind, str], None]) -> None:
    """Compare a listed file with the files found."""
    found = getattr(pair, kind)
    if found == path:
        return
    if found is not None:
        report(Kind.CONTRADICTION, f"names {path}, but {found} has this session and number")
        return
    try:
        there = is_file(path)
    except OSError:
        # its folder is reported
        pair.unreadable.add(kind)
        return
    if there:
        # it was written after the folder was read
        setattr(pair, kind, path)
    else:
        report(Kind.DAMAGED, f"the file is gone: {path}")


def _journals(root: Path, refused: Callable[[OSError], None]) -> dict[str, tuple[int, int]]:
    left: dict[str, tuple[int, int]] = {}
    for folder in session_folders(root):
        sizes = []
        try:
            for journal in matching(folder, "journal-*.arrows"):
                try:
                    sizes.append(journal.stat().st_size)
                except FileNotFoundError:
                    continue  # deleted by its recorder in the meantime
        except OSError as error:
            refused(error)
            continue
        left[folder.name] = (len(sizes), sum(sizes))
    return left


def _of_other_versions(folder: Path) -> list[Finding]:
    """The files of an unfinished session that cannot be read because they have another version."""
    found = []
    try:
        versioned = checks(folder)
    except OSError as error:
        return [Finding(kind=Kind.UNREADABLE, where=str(folder), what=cannot_read(error))]
    for path, check in versioned:
        try:
            check()
        except OtherVersionError as error:
            found.append(Finding(kind=Kind.UNREADABLE, where=str(path), what=str(error).removeprefix(f"{path}: ")))
        except OSError as error:
            found.append(Finding(kind=Kind.UNREADABLE, where=str(path), what=cannot_read(error)))
        except msgspec.DecodeError:
            # its recovery says so
            continue
    return found


def _left_behind(root: Path, journals: dict[str, tuple[int, int]], held: bool | None) -> list[Finding]:
    found = []
    for session, (count, size) in journals.items():
        where = str(session_folder(root, session))
        kept = f"{plural(count, 'journal')} of {plural(size, 'byte')}"
        if held or is_live(session_folder(root, session)):
            what = f"a recorder is using the folder: this session is still being recorded; {kept} so far"
        elif held is None:
            what = f"left behind or still being recorded (the lock cannot be read): {kept}"
        else:
            others = _of_other_versions(session_folder(root, session))
            found += others
            hint = "recover it with the wsrec that wrote it" if others else f"run `wsrec recover {root}`"
            what = f"was interrupted and not recovered: {kept}; {hint}"
        found.append(Finding(kind=Kind.INCOMPLETE, where=where, what=what))
    aside = aside_folder(root)
    count = sum(1 for _ in aside.iterdir()) if aside.is_dir() else 0
    if count:
        what = f"{plural(count, 'file')} set aside: unusable parts, or parts that were replaced"
        found.append(Finding(kind=Kind.NOTE, where=str(aside), what=what))
    return found
