"""The files of each session and feed: those that are asked for, and the others that tell of their rows.

What is known of a row is in the files of its whole session: an interval that was lost may be reported in a later file,
and the message before it may be in an earlier one. Where only some files of a capture are opened, the others are found
in its folder. A file that was copied elsewhere is alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from wsrec.engine.work import Item
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.folders import parquet_files
from wsrec.format.layout import EVENTS, MESSAGES, NAME, FileKind
from wsrec.tables.file_rows import FileRows


class Group(NamedTuple):
    """The files of one feed of one session, in order.

    Attributes:
        feed, session: their names.
        files: the messages files that are asked for.
        event_files: all events files that are there.
        whole: all messages files that are there.

    """

    feed: str
    session: str
    files: list[CaptureFile]
    event_files: list[CaptureFile]
    whole: list[CaptureFile]


class SessionItem(Item, frozen=True, kw_only=True):
    """Neighbouring messages files of one feed of one session, for a worker, with what tells of their rows.

    Attributes:
        earlier: paths of the messages files of the session and feed before them.
        later: paths of those behind them.
        event_files: paths of all events files of the session and feed.
        rows: the rows of all its messages files.

    """

    earlier: tuple[str, ...]
    later: tuple[str, ...]
    event_files: tuple[str, ...]
    rows: tuple[FileRows, ...]


def groups(files: Sequence[CaptureFile], event_files: Sequence[CaptureFile]) -> list[Group]:
    """The files by session and feed, in order of their first messages."""
    found: dict[tuple[str, str], Group] = {}
    for file in files:
        group = found.setdefault((file.session, file.feed), Group(file.feed, file.session, [], [], []))
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
    return list(found.values())


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
