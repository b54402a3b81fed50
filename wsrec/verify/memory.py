"""What `wsrec verify` has proved before, one file a session and feed: what is unchanged since is not read again.

A file counts as unchanged while its path, size, inode, and times of modification and of change are those that it had
when its bytes had the manifest's SHA-256. Nothing else is trusted: a session is remembered only as a whole or from its
first file on that was not removed on purpose, with all manifest lines as they were, by the same wsrec, and only if
every byte of it was proved.

The memory is the verifier's own: it lies in a folder that only its user can write, not in the capture, where whoever
changes a file could change it as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wsrec.format.folders import cannot_read, regular
from wsrec.verify.inventory import SessionTask
from wsrec.verify.result import SessionResult
from wsrec.version import __version__

_SUFFIX = ".proved"
_DIGEST = 32
# A file that changed so recently may change again without a difference in its times: file systems have a clock of
# 10 ms or less, except those with whole (FAT: even) seconds.
_TICK_NS, _COARSE_TICK_NS = 100_000_000, 2_000_000_000
_SECOND = 1_000_000_000


class FileMark(msgspec.Struct, frozen=True, array_like=True):
    """What shows that a file is unchanged, without reading it.

    Attributes:
        path: its path in the output folder.
        size: in bytes; -1 where it cannot be looked at.
        modified, changed: st_mtime and st_ctime (ns since the epoch).
        inode: its inode.

    """

    path: str
    size: int = -1
    modified: int = 0
    changed: int = 0
    inode: int = 0

    def settled(self, now: int) -> bool:
        """Whether any later change of the file will show in its times (`now`: ns since the epoch)."""
        last = max(self.modified, self.changed)
        return self.size >= 0 and last + (_TICK_NS if last % _SECOND else _COARSE_TICK_NS) < now


class PairMark(msgspec.Struct, frozen=True, array_like=True):
    """What shows that a pair of files and its manifest line are unchanged.

    Attributes:
        number: the pair's number in the session.
        where: the manifest and the line's number, as bytes of a path.
        line: SHA-256 of the line.
        files: its files.

    """

    number: int
    where: bytes
    line: str
    files: tuple[FileMark, ...]


class Context(msgspec.Struct, frozen=True, array_like=True):
    """What else a session's verification depends on: attributes of `SessionTask`."""

    listed: bool
    left: bool
    held: bool | None


class _Proved(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a memory file.

    Attributes:
        made_by: the wsrec that proved it.
        root, feed, session: what was proved.
        whole: whether from its beginning on, none of which was removed.
        since: when the reading of its oldest part began (ns since the epoch).
        pairs: the session's files.
        context: what its result depends on besides.
        result: its verification.
        state: its state after these files, for more of them (`wsrec.verify.frozen_state`); None if it has ended.

    """

    made_by: str
    root: bytes
    feed: str
    session: str
    whole: bool
    since: int
    pairs: list[PairMark]
    context: Context
    result: SessionResult
    state: bytes | None


class Known(NamedTuple):
    """What is known of a session that need not be read again.

    Attributes:
        pairs: how many of its pairs of files.
        files: how many files these are.
        size: their size in bytes.
        since: when the reading of the oldest of them began (ns since the epoch).
        result: its verification; None if more files have come.
        state: its state after these files, if more files have come.

    """

    pairs: int
    files: int
    size: int
    since: int
    result: SessionResult | None
    state: bytes

    def marked(self, result: SessionResult) -> SessionResult:
        """The result, which says what of it was not read this time."""
        session = msgspec.structs.replace(result.session, remembered=self.files, remembered_since=self.since)
        return msgspec.structs.replace(result, session=session)


def marks_of(task: SessionTask) -> list[PairMark]:
    """The marks of a session's files, as they are now."""
    marks = []
    for pair in task.pairs:
        line = "" if pair.line is None else hashlib.sha256(msgspec.json.encode(pair.line)).hexdigest()
        files = tuple(_mark(task.root, path) for path in (pair.messages, pair.events) if path is not None)
        marks.append(PairMark(pair.number, os.fsencode(pair.where), line, files))
    return marks


def _mark(root: Path, path: Path) -> FileMark:
    name = str(path.relative_to(root))
    try:
        found = path.stat()
    except OSError:
        return FileMark(name)
    return FileMark(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def default_folder() -> Path | None:
    """The folder in the user's cache (`XDG_CACHE_HOME`, else ~/.cache); None for a user without a home."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache_folder = Path(stated) if Path(stated).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache_folder / "wsrec" / "proved"


class Memory:
    """What was proved before, in a folder.

    Args:
        folder: the folder; made when something is kept.
        again: whether nothing of it is used, so that everything is read again and replaces it.

    Attributes:
        problem: why nothing can be kept, or used; None if nothing is known against it.

    """

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        self.problem: str | None = None
        self._folder, self._again = folder, again

    def recall(self, task: SessionTask, marks: list[PairMark]) -> Known | None:
        """What is known of a session whose files have these marks; None if all of it must be read."""
        proved = None if self._again else self._read(self._path(task))
        if proved is None or any(getattr(proved, name) != value for name, value in _about(task).items()):
            return None
        count = len(proved.pairs)
        if not count or proved.pairs != marks[:count]:
            return None
        files = [file for pair in proved.pairs for file in pair.files]
        known = Known(count, len(files), sum(file.size for file in files), proved.since, None, proved.state or b"")
        if count == len(marks) and proved.context == _context(task):
            return known._replace(result=known.marked(proved.result))
        return known if proved.state else None

    def keep(
        self,
        task: SessionTask,
        marks: list[PairMark],
        since: int,
        began: int,
        result: SessionResult,
        state: bytes | None,
    ) -> None:
        """Keep what was proved of a session.

        Args:
            task: the session.
            marks: its files' marks before they were read.
            since: when the reading of the oldest of them began (ns since the epoch).
            began: when this reading began.
            result: its verification.
            state: its state after them, None if no more can come.

        """
        if marks_of(task) != marks or not all(file.settled(began) for pair in marks for file in pair.files):
            return
        # a figure of a forged file that is no integer of 64 bits, or its name is not UTF-8
        with contextlib.suppress(OverflowError, UnicodeEncodeError):
            proved = _Proved(
                **_about(task),
                since=since,
                pairs=marks,
                context=_context(task),
                result=result,
                state=state,
            )
            self._write(self._path(task), msgspec.msgpack.encode(proved))

    def forget_others(self, root: Path, tasks: Iterable[SessionTask]) -> None:
        """Forget the sessions of an output folder that are no longer there."""
        there = {self._path(task) for task in tasks}
        folder = self._of(root)
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.suffix == _SUFFIX and path not in there:
                    path.unlink(missing_ok=True)

    def _of(self, root: Path) -> Path:
        return self._folder / _name(str(root))

    def _path(self, task: SessionTask) -> Path:
        return self._of(task.root) / (_name(f"{task.feed}\0{task.session}") + _SUFFIX)

    def _read(self, path: Path) -> _Proved | None:
        try:
            self._check(path.parent)
            fd = os.open(regular(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor)
                _check_own(path, os.fstat(fd))
                digest, data = file.read(_DIGEST), file.read()
            if hashlib.sha256(data).digest() != digest:
                return None
            return msgspec.msgpack.decode(data, type=_Proved)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            # another wsrec's
            return None
        except OSError as error:
            self.problem = _why(error)
            return None

    def _write(self, path: Path, data: bytes) -> None:
        try:
            for folder in (self._folder, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check(path.parent)
            # a file of its own for each of several verifications at once
            fd, name = tempfile.mkstemp(dir=path.parent)
            made = Path(name)
            try:
                with open(fd, "wb") as file:  # noqa: PTH123 (a descriptor)
                    file.write(hashlib.sha256(data).digest() + data)
                made.replace(path)
            except BaseException:
                made.unlink(missing_ok=True)
                raise
        except OSError as error:
            self.problem = _why(error)

    def _check(self, folder: Path) -> None:
        for each in (self._folder, folder):
            _check_own(each, each.stat())


def _check_own(path: Path, found: os.stat_result) -> None:
    """Make sure that nobody else can write a file or folder of the memory.

    Raises:
        OSError: others can.

    """
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(0, "others can write it: it must belong to this user alone", str(path))


def _why(error: OSError) -> str:
    return f"{error.filename}: {cannot_read(error).removeprefix('cannot be read: ')}"


def _context(task: SessionTask) -> Context:
    return Context(task.listed, task.left, task.held if task.left else None)


def _about(task: SessionTask) -> dict[str, Any]:
    """What has to be the same for anything to be known of a session."""
    return {
        "made_by": this_wsrec(),
        "root": os.fsencode(task.root),
        "feed": task.feed,
        "session": task.session,
        "whole": task.whole,
    }


def _name(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


@cache
def this_wsrec() -> str:
    """The version of this wsrec, and a digest of its own files' names, sizes and times: another one reads again."""
    package = Path(__file__).parent.parent
    found = hashlib.sha256()
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        for name in sorted(names):
            # one that is being installed may be gone
            with contextlib.suppress(OSError):
                about = Path(folder, name).stat()
                found.update(f"{folder}/{name}:{about.st_size}:{about.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return f"{__version__} {found.hexdigest()}"
