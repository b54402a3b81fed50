"""`wsrec verify` as a function: paths in, verification out. Nothing in a capture is changed.

A file's bytes are checked against the manifest's SHA-256 before it is parsed; a file that fails is never parsed.
Each session is read once, its files in order of their numbers and rows in order of time. Memory does not grow with
the capture: one state per stream is kept. Each session of each feed is read alone (`wsrec.verify.read_session`), by any
engine; the results are merged.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wsrec.engine.work import Engine, InProcess
from wsrec.format.errors import NO_CAPTURE
from wsrec.format.folders import cannot_read
from wsrec.format.layout import own_folder
from wsrec.verify.inventory import Inventory, SessionTask, roots, take
from wsrec.verify.memory import Memory, marks_of
from wsrec.verify.meter import Meter, Progress
from wsrec.verify.model import Capture, Finding, Kind, Verification, worst
from wsrec.verify.result import merge

if TYPE_CHECKING:
    from wsrec.verify.read_session import Reading


def verify(
    paths: Iterable[Path],
    progress: Progress | None = None,
    *,
    memory: Memory | None = None,
    engine: Engine | None = None,
) -> Verification:
    """Read captures back and verify them.

    Args:
        paths: output folders, folders that hold some, or files and folders within one.
        progress: called from time to time with the bytes read and the bytes of all files.
        memory: what was proved before and is not read again, of whole output folders; None: everything is read.
        engine: where sessions are read; None: in this process, one after the other.

    Raises:
        EngineError: the engine cannot be used, or a worker of it ended.
        OSError: a folder cannot be read.

    """
    inventories = [_take(root, only) for root, only in sorted(roots(paths).items())]
    sessions = [_Session(task, memory) for each in inventories if isinstance(each, Inventory) for task in each.tasks()]
    _read([each for each in sessions if each.result is None], memory, engine, progress)
    captures = []
    for each in inventories:
        if isinstance(each, Inventory):
            of = [session for session in sessions if session.task.root == each.root]
            if memory is not None and each.whole:
                memory.forget_others(each.root, [session.task for session in of])
            results = [session.result for session in of if session.result is not None]
            captures.append(merge(each.root, each.findings, results, whole=each.whole))
        else:
            captures.append(each)
    return Verification(status=worst(captures), captures=captures)


class _Session:
    """A session, what was known of it, and its verification as soon as there is one."""

    def __init__(self, task: SessionTask, memory: Memory | None) -> None:
        self.task = task
        self.remembers = memory is not None and task.as_found
        self.marks = marks_of(task) if self.remembers else []
        self.known = memory.recall(task, self.marks) if memory is not None and self.remembers else None
        self.result = None if self.known is None else self.known.result


def _read(sessions: list[_Session], memory: Memory | None, engine: Engine | None, progress: Progress | None) -> None:
    """Read sessions, and have the memory keep what was proved."""
    if not sessions:
        return
    # what reads files costs half a second to import: not where all is known
    from wsrec.engine.processes import Processes
    from wsrec.verify.read_session import item_of, read_session

    # fewer sessions than processes: what is left of the processors prepares rows
    threads = max(engine.parallelism // len(sessions), 1) if isinstance(engine, Processes) else 1
    items = [item_of(each.task, each.known, remembers=each.remembers, threads=threads) for each in sessions]
    readings: Iterable[Reading]
    if engine is None or isinstance(engine, InProcess):
        # with progress in the middle of a session
        meter = Meter(sum(item.size for item in items), progress)
        readings = (read_session(item, meter) for item in items)
    else:
        readings = engine.map(read_session, items, progress)
    for each, reading in zip(sessions, readings, strict=True):
        each.result = reading.result
        if memory is not None and each.remembers and reading.sound:
            memory.keep(each.task, each.marks, reading.since, reading.began, reading.result, reading.state)
        if each.known is not None and reading.continued:
            each.result = each.known.marked(reading.result)


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
