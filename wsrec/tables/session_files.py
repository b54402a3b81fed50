"""The files of each session and feed: those that are asked for, and the others that tell of their rows.

What is known of a row is in the files of its whole session: an interval that was lost may be reported in a later file,
and the message before it may be in an earlier one. Where only some files of a capture are opened, the others are found
in its folder. A file that was copied elsewhere is alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from wsrec.engine.work import Item
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.folders import parquet_files
from wsrec.format.layout import EVENTS, MESSAGES, NAME, FileKind
from wsrec.tables.file_rows import FileRows
from wsrec.tables.listings import has_listing

_RUN = re.compile(r"(?P<run>.+)-r[0-9]+", re.DOTALL)


class Group(NamedTuple):
    """The files of one feed of one session, in order.

    Attributes:
        feed, session: their names.
        files: the messages files that are asked for.
        event_files: all events files that are there.
        whole: all messages files that are there.
        listings: messages files of other sessions with listings of instruments for this one: of several writers of a
            recording (`--cpu`) one fetches them for all.

    """

    feed: str
    session: str
    files: list[CaptureFile]
    event_files: list[CaptureFile]
    whole: list[CaptureFile]
    listings: list[Path]


class SessionItem(Item, frozen=True, kw_only=True):
    """Neighbouring messages files of one feed of one session, for a worker, with what tells of their rows.

    Attributes:
        earlier: paths of the messages files of the session and feed before them.
        later: paths of those behind them.
        event_files: paths of all events files of the session and feed.
        rows: the rows of all its messages files.
        listings: paths of files of other sessions with listings of instruments for this one.

    """

    earlier: tuple[str, ...]
    later: tuple[str, ...]
    event_files: tuple[str, ...]
    rows: tuple[FileRows, ...]
    listings: tuple[str, ...]


def groups(files: Sequence[CaptureFile], event_files: Sequence[CaptureFile]) -> list[Group]:
    """The files by session and feed, in order of their first messages."""
    found: dict[tuple[str, str], Group] = {}
    for file in files:
        group = found.setdefault((file.session, file.feed), Group(file.feed, file.session, [], [], [], []))
        group.files.append(file)
        group.whole.append(file)
    for file in event_files:
        if (file.session, file.feed) in found:
            found[file.session, file.feed].event_files.append(file)
    listed = cache(_listed)
    for group in found.values():
        for folder in sorted({each for file in group.files if (each := _capture(file.path)) is not None}):
            of_kinds: list[tuple[list[CaptureFile], FileKind]] = [(group.whole, MESSAGES), (group.event_files, EVENTS)]
            for known, kind in of_kinds:
                known += _others(listed(folder / kind / f"feed={group.feed}"), kind, group, known)
        for known in (group.files, group.event_files, group.whole):
            known.sort(key=lambda file: file.number)
    for of_session in found.values():
        if (run := _RUN.fullmatch(of_session.session)) is not None and _lists_elsewhere(of_session):
            of_session.listings.extend(_listings_of(run["run"], of_session, found.values(), listed))
    return list(found.values())


def _lists_elsewhere(group: Group) -> bool:
    """Whether a session's feed has a listing of instruments, and its own files have none."""
    with contextlib.suppress(CaptureError):
        return bool(group.files[0].metadata.feed_config.get("instruments")) and not _listing_numbers(group.event_files)
    return False


def _listings_of(
    run: str, group: Group, known: Collection[Group], listed: Callable[[Path], dict[str, list[Path]]]
) -> Iterator[Path]:
    """The messages files with listings of the other sessions of a recording."""
    messages: dict[Path, CaptureFile] = {}
    events: dict[Path, CaptureFile] = {}
    others = [each for each in known if each.feed == group.feed and _is_of(run, each.session)]
    for other in others:
        messages |= {file.path.absolute(): file for file in other.whole}
        events |= {file.path.absolute(): file for file in other.event_files}
    for folder in sorted({each for file in group.files if (each := _capture(file.path)) is not None}):
        for kind in (MESSAGES, EVENTS):
            found = messages if kind == MESSAGES else events
            sessions = listed(folder / kind / f"feed={group.feed}")
            for path in (path for name, paths in sessions.items() if _is_of(run, name) for path in paths):
                with contextlib.suppress(CaptureError):
                    found.setdefault(path.absolute(), CaptureFile(path, kind))
    with_listing = {(file.session, number) for file in events.values() for number in _listing_numbers([file])}
    chosen = [file for file in messages.values() if (file.session, file.number) in with_listing]
    yield from (file.path for file in sorted(chosen, key=lambda file: (file.first_time or 0, file.path)))


def are_of_one_run(one: str, other: str) -> bool:
    """Whether two sessions are those of two writers of one recording (`--cpu`)."""
    return (found := _RUN.fullmatch(one)) is not None and _is_of(found["run"], other)


def _is_of(run: str, session: str) -> bool:
    return (found := _RUN.fullmatch(session)) is not None and found["run"] == run


def _listing_numbers(event_files: Sequence[CaptureFile]) -> set[int]:
    """The numbers of the files with listings; of a damaged file it is not known."""
    found = set[int]()
    for file in event_files:
        with contextlib.suppress(CaptureError):
            if any(has_listing(batch) for batch in file.batches(["kind", "channel"])):
                found.add(file.number)
    return found


def _capture(path: Path) -> Path | None:
    """The folder of the capture that a messages file lies in; None if it lies elsewhere."""
    parents = path.absolute().parents
    return parents[4] if len(parents) > 4 and parents[3].name == MESSAGES else None


def _listed(folder: Path) -> dict[str, list[Path]]:
    """The files below a folder, by session."""
    found: dict[str, list[Path]] = {}
    for path in parquet_files(folder, lambda _: None) if folder.is_dir() else ():
        if (name := NAME.fullmatch(path.name)) is not None:
            found.setdefault(name["session"], []).append(path)
    return found


def _others(
    listed: dict[str, list[Path]], kind: FileKind, group: Group, known: Sequence[CaptureFile]
) -> Iterator[CaptureFile]:
    """The files of a session that are not known yet and can be read."""
    numbers = {file.number for file in known}
    for path in listed.get(group.session, ()):
        name = NAME.fullmatch(path.name)
        if name is None or int(name["number"]) in numbers:
            continue
        # one that is damaged tells nothing
        with contextlib.suppress(CaptureError):
            file = CaptureFile(path, kind)
            if (file.session, file.feed) == (group.session, group.feed):
                yield file
