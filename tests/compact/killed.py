"""Compacts copies of a folder, ending itself before the first, second, third... operation on the disk (or each fourth).

Each attempt runs in a forked child, which is gone in the middle of whatever it does: nothing is cleaned up.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.compact.captures import compact
from tests.effort import LONG

EVERY = 1 if LONG else 4
OPERATIONS = ("write", "fsync", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "chmod")


def at_each(folder: Path, work: Path, *, full: bool = False, keep: float | None = None) -> Iterator[Path]:
    """Yield a copy of the folder for each operation, before which its compaction was killed.

    Args:
        folder: a capture that is not compacted.
        work: where the copies go.
        full: whether the disk is full from there on instead.
        keep: as `wsrec compact --keep`, in seconds.

    """
    number = 0
    while True:
        out = Path(shutil.copytree(folder, work / f"{number:04}"))
        if not _in_child(lambda out=out: compact(out, keep=keep), number, full=full):
            shutil.rmtree(out)
            return
        yield out
        shutil.rmtree(out)
        number += EVERY


def _in_child(action: Callable[[], object], number: int, *, full: bool) -> bool:
    """Do it in a child; whether the operation of this number was reached."""
    pid = os.fork()
    if not pid:
        reached = False
        try:
            reached = _fail_before(number, full=full)
            action()
        finally:
            os._exit(9 if reached and reached() else 0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 9


def _fail_before(number: int, *, full: bool) -> Callable[[], bool]:
    count = 0
    for name in OPERATIONS:
        real = getattr(os, name)

        def counted(*arguments: object, real=real, name=name, **options: object) -> object:
            nonlocal count
            count += 1
            if count > number and not full:
                os.kill(os.getpid(), signal.SIGKILL)
            if count > number and name in ("write", "link", "mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        setattr(os, name, counted)
    return lambda: count > number
