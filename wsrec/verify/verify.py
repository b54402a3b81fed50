"""`wsrec verify` as a function: paths in, verification out. Nothing in a capture is changed.

A file's bytes are checked against the manifest's SHA-256 before it is parsed; a file that fails is never parsed.
Each session is read once, its files in order of their numbers and rows in order of time. Memory does not grow with
the capture: one state per stream is kept. Each session of each feed is verified alone (`verify_session`), anywhere;
the results are merged.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsrec.format.errors import NO_CAPTURE
from wsrec.format.folders import cannot_read
from wsrec.format.layout import own_folder
from wsrec.verify.inventory import Inventory, SessionTask, roots, take
from wsrec.verify.memory import Memory, marks_of
from wsrec.verify.meter import Meter, Progress, size_of
from wsrec.verify.model import Capture, Finding, Kind, Verification, worst
from wsrec.verify.result import SessionResult, merge


def verify(paths: Iterable[Path], progress: Progress | None = None, *, memory: Memory | None = None) -> Verification:
    """Read captures back and verify them.

    Args:
        paths: output folders, folders that hold some, or files and folders within one.
        progress: called from time to time with the bytes read and the bytes of all files.
        memory: what was proved before and is not read again, of whole output folders; None: everything is read.

    Raises:
        OSError: a folder cannot be read.

    """
    inventories = [_take(root, only) for root, only in sorted(roots(paths).items())]
    meter = Meter(sum(_size(each) for each in inventories if isinstance(each, Inventory)), progress)
    captures = [_capture(each, meter, memory) if isinstance(each, Inventory) else each for each in inventories]
    return Verification(status=worst(captures), captures=captures)


def _take(root: Path, only: list[Path] | None) -> Inventory | Capture:
    """The inventory of an output folder; a `Capture` if there is none, or if it cannot be read."""
    try:
        inventory = take(root, only)
        if inventory.pairs or inventory.findings or own_folder(root).is_dir():
            return inventory
        finding = Finding(kind=Kind.NOTE, where=str(root), what=NO_CAPTURE)
        return Capture(path=str(root), found=False, whole=only is None, sessions=[], findings=[finding])
    except OSError as error:
        where = str(error.filename or root)
        finding = Finding(kind=Kind.UNREADABLE, where=where, what=cannot_read(error))
        return Capture(path=str(root), whole=only is None, sessions=[], findings=[finding])


def _size(inventory: Inventory) -> int:
    return sum(size_of(pair.messages) + size_of(pair.events) for pairs in inventory.pairs.values() for pair in pairs)


def _capture(inventory: Inventory, meter: Meter, memory: Memory | None) -> Capture:
    tasks = inventory.tasks()
    results = [verify_session(task, meter, memory) for task in tasks]
    if memory is not None and inventory.whole:
        memory.forget_others(inventory.root, tasks)
    return merge(inventory.root, inventory.findings, results, whole=inventory.whole)


def verify_session(task: SessionTask, meter: Meter, memory: Memory | None = None) -> SessionResult:
    """Verify one session of one feed.

    Args:
        task: the session.
        meter: takes what was read of it.
        memory: what was proved of it before, and is not read again while it is unchanged; takes what is proved now.

    """
    # what reads files costs half a second to import: not where all is known
    if memory is None or not task.whole:
        from wsrec.verify.read_session import read_session

        return read_session(task, meter)
    marks = marks_of(task)
    known = memory.recall(task, marks)
    if known is not None and known.result is not None:
        meter.add(known.size)
        return known.result
    from wsrec.verify.read_session import read_on

    return read_on(task, meter, memory, marks, known)
