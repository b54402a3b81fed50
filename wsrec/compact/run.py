"""`wsrec compact` as a function: sorts the message files of finished sessions, and removes what is too old.

For each file, in this order: its sorted file is written and synced in wsrec's own folder, compared with the original
row by row, named in the manifest with its checksum and that of the original, and renamed to the original's name. Killed
anywhere, a file is the original or the sorted one, whole, and the manifest has its checksum. `wsrec verify` takes the
line whose checksum the file has. Pairs of files, their numbers, ledgers and events files remain as they were recorded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from wsrec.compact import removal
from wsrec.compact.inventory import Finished, FinishedPair, finished, is_finished, size_of
from wsrec.compact.model import Compacted, CompactStatus, Removed, Sorted
from wsrec.compact.rewrite import MessageFile, Rewritten, mark_of, rewrite
from wsrec.engine.work import Engine, Progress
from wsrec.format import manifest
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import NO_CAPTURE, CaptureError, NoCaptureError, UnreadableError
from wsrec.format.folders import sync_folder
from wsrec.format.layout import compacting_folder, manifest_path, own_folder
from wsrec.units import system_error

# what must remain free for lines of the manifest
_RESERVE = 1 << 20


class HeldError(Exception):
    """Another `wsrec compact` is at work in the folder."""


class Compaction:
    """What is done in one output folder.

    Args:
        out: the output folder.
        engine: where files are sorted.
        keep: seconds; hours that ended so long ago are removed. None: none is.
        now: ns since the epoch.

    """

    def __init__(self, out: Path, engine: Engine, keep: float | None = None, now: int | None = None) -> None:
        self._out, self._engine = out, engine
        self._now = time.time_ns() if now is None else now
        self._before = None if keep is None else self._now - int(keep * 1e9)
        self._problems: list[str] = []
        self._unreadable = self._failed = False
        self._already = 0

    def plan(self) -> Compacted:
        """What would be done. Nothing is changed.

        Raises:
            CaptureError: there is no capture, or it cannot be read.

        """
        of = self._finished()
        old = self._old(of)
        todo = self._unsorted(of, old)
        lines = [pair.line for pair in todo]
        size = sum(size_of(self._out / str(line.path)) for line in lines)
        after = _expected(of, lines)
        rows = sum(line.rows for line in lines)
        wanted = Sorted(files=len(todo), rows=rows, bytes_before=size, bytes_after=after, larger=None)
        removed = removal.summary(old, removal.sizes(self._out, old), self._before)
        return self._result(of, wanted, removed, dry_run=True)

    def run(self, progress: Progress | None = None) -> Compacted:
        """Do it.

        Raises:
            CaptureError: there is no capture, it cannot be read, or the disk refuses to write.
            EngineError: a worker ended, or the workers cannot be used.
            HeldError: another one is at work in the folder.

        """
        self._finished()
        with _alone(self._out) as folder:
            of = self._finished()
            for pair in of.removed:
                self._remove(pair)
            old = self._old(of)
            sizes = removal.sizes(self._out, old)
            gone = [pair for pair in old if self._remove(pair)]
            removed = removal.summary(gone, sizes, self._before)
            done = self._sort(self._unsorted(of, old), folder, progress)
        return self._result(of, done, removed, dry_run=False)

    def _finished(self) -> Finished:
        if not own_folder(self._out).is_dir():
            raise NoCaptureError(f"{self._out}: {NO_CAPTURE}")
        if own_folder(self._out).is_symlink():
            raise CaptureError(f"{own_folder(self._out)}: is a link that leads elsewhere; nothing was changed")
        try:
            return finished(self._out)
        except OSError as error:
            raise UnreadableError(error.filename or self._out, error) from error
        except msgspec.ValidationError as error:
            raise CaptureError(f"{error}; nothing was changed: `wsrec verify` says more") from error

    def _old(self, of: Finished) -> list[FinishedPair]:
        return [] if self._before is None else removal.old_pairs(of, self._before)

    def _remove(self, pair: FinishedPair) -> bool:
        try:
            removal.remove(self._out, pair, self._now)
        except OSError as error:
            self._fail(f"{error.filename or pair.line.path}: {error.strerror or error}")
            return False
        return True

    def _unsorted(self, of: Finished, old: list[FinishedPair]) -> list[FinishedPair]:
        """The pairs whose message files are to be sorted."""
        gone = {pair.line.pair for pair in old}
        todo = []
        for pairs in of.pairs.values():
            for pair in pairs:
                if pair.line.path is None or pair.line.pair in gone:
                    continue
                if pair.is_sorted and self._is_in_place(pair):
                    self._already += 1
                else:
                    todo.append(pair)
        return todo

    def _is_in_place(self, pair: FinishedPair) -> bool:
        """Whether the file is the sorted one that the manifest names, as far as its size shows."""
        path = self._out / str(pair.line.path)
        if pair.line.bytes not in {line.bytes for line in pair.lines[:-1]}:
            return size_of(path) == pair.line.bytes
        try:
            return bool(CaptureFile(path).metadata.sorted_blocks)
        except CaptureError:
            return False

    def _sort(self, todo: list[FinishedPair], folder: Path, progress: Progress | None) -> Sorted:
        items = [self._item(pair, folder) for pair in todo]
        files = rows = before = after = larger = 0
        results = self._engine.map(rewrite, items, progress)
        for pair, item, made in zip(todo, items, results, strict=True):
            if made.problem is not None:
                self._problems.append(made.problem)
                self._unreadable |= made.unreadable
                self._failed |= made.stops
            elif self._put_in_place(pair, item, made):
                files, rows = files + 1, rows + pair.line.rows
                before, after = before + item.size, after + made.size
                larger += made.size > item.size
            if self._failed:
                break
        return Sorted(files=files, rows=rows, bytes_before=before, bytes_after=after, larger=larger)

    def _item(self, pair: FinishedPair, folder: Path) -> MessageFile:
        path = self._out / str(pair.line.path)
        # of a run that was killed the file may still be the one before
        known = tuple(line.sha256 for line in pair.lines if line.sha256 is not None)
        return MessageFile(files=(str(path),), size=size_of(path), known=known, folder=str(folder.absolute()))

    def _put_in_place(self, pair: FinishedPair, item: MessageFile, made: Rewritten) -> bool:
        """Name the sorted file in the manifest, then give it the original's name; whether that was done."""
        new, path = Path(made.made), item.path
        try:
            if not is_finished(self._out, pair.line.session) or mark_of(path) != made.mark:
                self._problems.append(f"{path}: was changed in the meantime; it was left as it is")
                return False
            line = msgspec.structs.replace(pair.line, bytes=made.size, sha256=made.sha256, replaces=made.original)
            if line not in pair.lines:
                _check_space(self._out)
                manifest.append(self._out, line)
            new.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            self._fail(f"{path}: {error.strerror or error}; no row is lost: free space and repeat `wsrec compact`")
            return False
        return True

    def _fail(self, problem: str) -> None:
        self._failed = True
        self._problems.append(problem)

    def _result(self, of: Finished, done: Sorted, removed: Removed, *, dry_run: bool) -> Compacted:
        status = CompactStatus.DONE
        problems = [*of.problems, *self._problems]
        if problems:
            status = CompactStatus.UNREADABLE if self._unreadable and not self._failed else CompactStatus.FAILED
        return Compacted(
            status=status,
            path=str(self._out),
            dry_run=dry_run,
            sorted=done,
            already=self._already,
            removed=removed,
            skipped=of.skipped,
            problems=problems,
        )


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[Path]:
    """Hold the folder for new files, which is emptied before and afterwards."""
    folder = compacting_folder(out)
    try:
        folder.mkdir(exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise CaptureError(f"{folder}: {system_error(error)}; nothing was changed") from error
    try:
        _hold(fd, out)
        _empty(folder)
        try:
            yield folder
        finally:
            _empty(folder)
    finally:
        os.close(fd)


def _hold(fd: int, out: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldError(f"{out}: another `wsrec compact` is at work there; nothing was changed") from None
    except OSError as error:
        # a file system without locks
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise


def _empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)


def _check_space(out: Path) -> None:
    """Make sure that a line of the manifest will not be cut off by a full disk.

    Raises:
        OSError: there is too little space.

    """
    found = os.statvfs(own_folder(out))
    if found.f_bavail * found.f_frsize < _RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(manifest_path(out)))


def _expected(of: Finished, lines: list[manifest.ManifestLine]) -> int | None:
    """The bytes of files after sorting, as the same feeds' files that were sorted before suggest."""
    before: dict[str, int] = {}
    after: dict[str, int] = {}
    for pairs in of.pairs.values():
        for pair in pairs:
            if pair.is_sorted:
                feed = pair.line.feed
                before[feed] = before.get(feed, 0) + pair.lines[0].bytes
                after[feed] = after.get(feed, 0) + pair.line.bytes
    if any(line.feed not in before for line in lines):
        return None
    return sum(line.bytes * after[line.feed] // max(before[line.feed], 1) for line in lines)
