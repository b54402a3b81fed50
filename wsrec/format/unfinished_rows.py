"""Rows of recordings in progress and of interrupted ones, for readers: what their journals have and no file has yet.

The journals are made into files in a temporary folder by a process of the writer's code
(`wsrec.writer.unfinished_rows`), while their recorder goes on unaware. Whoever reads lists the finished files
afterwards, and a copy whose file has been finished meanwhile is left out: so no row is there twice, and none is
missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec import parent_death
from wsrec.child_environment import worker_environment
from wsrec.format.claim import is_live
from wsrec.format.folders import matching, parquet_files, session_folders
from wsrec.format.layout import KINDS, OWN, FileKind
from wsrec.format.temporary_copies import new_folder

_MODULE = "wsrec.writer.unfinished_rows"
_FINISHED = "finished files can, in Python by open_capture(..., running=False)"


class UnfinishedSession(NamedTuple):
    """A session that has rows in no finished file yet.

    Attributes:
        session: its id.
        out: its output folder.
        recording: whether a recorder is running; if not, it was interrupted, and `wsrec recover` finishes it.

    """

    session: str
    out: Path
    recording: bool


class UnfinishedRows:
    """The rows that the unfinished sessions of some folders had when this was made.

    Args:
        sources: folders, searched at any depth; anything else is no output folder.

    Attributes:
        sessions: the unfinished sessions.
        problems: the folder of each session that cannot be read, and why.

    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        folders = [*{each.resolve(): each for source in sources for each in _unfinished(Path(source))}.values()]
        self.sessions = [UnfinishedSession(folder.name, _out(folder), is_live(folder)) for folder in folders]
        self.problems: list[tuple[Path, str]] = []
        self._copies: Path | None = None
        if not folders:
            return
        try:
            into = new_folder()
            weakref.finalize(self, into.remove)
            self._copies = into.path
            found = _copy(folders, self._copies)
        except (OSError, msgspec.DecodeError) as error:
            found = [str(error)] * len(folders)
        for folder, problem in zip(folders, found, strict=True):
            if problem is not None:
                what = f"{folder}: its unfinished rows cannot be read ({problem}); {_FINISHED}"
                self.problems.append((folder, what))

    def files(self, kind: FileKind, finished: Collection[Path]) -> list[Path]:
        """The copies of a kind whose files are not finished.

        Args:
            kind: `messages` or `events`.
            finished: the finished files of the same sources, listed after this was made.

        """
        if self._copies is None:
            return []
        names = set(map(_name, finished))
        below = [each / kind for each in sorted(self._copies.iterdir())]
        copies = [path for folder in below for path in parquet_files(folder, lambda _: None)]
        return [path for path in copies if _name(path) not in names]


def _unfinished(source: Path) -> list[Path]:
    """The folders of sessions with journals, in the output folders at or below a folder."""
    found: list[Path] = []
    for name, folders, _ in os.walk(source):
        if OWN in folders:
            for folder in session_folders(Path(name)):
                found += [folder] if matching(folder, "*.arrows") else []
        folders[:] = sorted(each for each in folders if each != OWN and each not in KINDS)
    return found


def _name(path: Path) -> tuple[str, str]:
    """The feed and name of a file, which no other of its kind has."""
    return path.parents[2].name, path.name


def _out(folder: Path) -> Path:
    return folder.parent.parent


def _copy(folders: Sequence[Path], into: Path) -> list[str | None]:
    """Copy each of these sessions; returns the problem of each, or None.

    Raises:
        OSError: the process cannot be started, or failed.
        msgspec.DecodeError: it does not tell what it did.

    """
    command = [sys.executable, "-P", "-m", _MODULE, str(into), *(str(folder.absolute()) for folder in folders)]
    environment = parent_death.with_parent_death(worker_environment())
    done = subprocess.run(command, capture_output=True, env=environment, check=False)  # noqa: S603 (a module of ours)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{_MODULE} ended with status {done.returncode}: {last[-1] if last else 'it says nothing'}")
    *_, told = [b"", *done.stdout.splitlines()]
    return msgspec.json.decode(told, type=list[str | None])
