"""Files of a session that are there twice, as in a capture and its backup beside it: each is read once.

Only files of the same name, which has session and number, are opened for it. Equal are files of the same size and the
same footer, which has the ledger, the place of every page and the statistics of every column; or of the same metadata
but for the order of rows, if `wsrec compact` sorted one of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.layout import MESSAGES, FileKind

# of Parquet: the footer's length, then the magic bytes
_LENGTH, _END = 4, 8


class RepeatedFileWarning(UserWarning):
    """Files of a session are there twice, with equal contents; one of each is read."""


class Once(NamedTuple):
    """The files that are to be read.

    Attributes:
        paths: each file once; also those that cannot be opened.
        copies: the files that are left out, each with the one that is read in its place.
        differing: pairs of files of the same name that differ, neither of which is in `paths`.

    """

    paths: list[Path]
    copies: list[tuple[Path, Path]]
    differing: list[tuple[Path, Path]]

    @property
    def notice(self) -> str | None:
        """What is to be said of the copies; None without any."""
        if not self.copies:
            return None
        copy, original = self.copies[0]
        more = len(self.copies) - 1
        others = f", and so are {more:,} more" if more > 1 else ", and so is another file" if more else ""
        return f"{copy} is a copy of {original}{others}: each is read once"


def once(paths: Iterable[Path], kind: FileKind) -> Once:
    """Each file once, in the order given.

    Args:
        paths: files of a kind; files of text among them stay as they are.
        kind: `messages` or `events`.

    """
    files = list(paths)
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(path.name, []).append(path)
    repeated = [same for named in by_name.values() if len(named) > 1 for same in _by_folder(named) if len(same) > 1]
    copies: list[tuple[Path, Path]] = []
    differing: list[tuple[Path, Path]] = []
    for same in repeated:
        for first, *others in _by_owner(same, kind):
            different = [other for other in others if not _is_equal(first, other)]
            differing += [(first.path, other.path) for other in different]
            copies += [(other.path, first.path) for other in others if not different]
    left = {path for path, _ in copies} | {path for pair in differing for path in pair}
    return Once([path for path in files if path not in left], copies, differing)


def difference(first: Path, second: Path) -> str:
    """What is to be said of two files of the same name that differ."""
    return (
        f"{second}: differs from {first}, and both are the same file of the same session by their names; "
        "neither was read: name the folder of one of them"
    )


def _by_folder(paths: list[Path]) -> list[list[Path]]:
    """Files of the same name by the feed that their folders name; all together if one has no such folder."""
    found: dict[str | None, list[Path]] = {}
    for path in paths:
        feeds = [part for part in path.absolute().parts[:-1] if part.startswith("feed=")]
        found.setdefault(feeds[-1] if feeds else None, []).append(path)
    return [paths] if None in found else list(found.values())


def _by_owner(paths: list[Path], kind: FileKind) -> list[list[CaptureFile]]:
    """The files by feed and session; what cannot be opened is told by whoever reads it."""
    found: dict[tuple[str, str], list[CaptureFile]] = {}
    for path in paths:
        try:
            file = CaptureFile(path, kind)
        except CaptureError:
            continue
        found.setdefault((file.feed, file.session), []).append(file)
    return list(found.values())


def _is_equal(one: CaptureFile, other: CaptureFile) -> bool:
    try:
        if one.size == other.size and _footer(one.path) == _footer(other.path):
            return True
        if one.kind != MESSAGES or one.rows != other.rows:
            return False
        about, beside = one.metadata, other.metadata
    except (CaptureError, OSError):
        return False
    if bool(about.sorted_blocks) == bool(beside.sorted_blocks):
        return False
    return msgspec.structs.replace(about, sorted_blocks=[]) == msgspec.structs.replace(beside, sorted_blocks=[])


def _footer(path: Path) -> bytes:
    """The bytes of a Parquet file's footer.

    Raises:
        OSError: it cannot be read.

    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _END, 0))
        length = int.from_bytes(file.read(_LENGTH), "little") + _END
        file.seek(max(size - length, 0))
        return file.read()
