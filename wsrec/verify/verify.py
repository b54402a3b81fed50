"""`wsrec verify` as a function: paths in, verification out. Nothing on disk is changed.

A file's bytes are checked against the manifest's SHA-256 before it is parsed; a file that fails is never parsed.
Each session is read once, its files in order of their numbers and rows in order of time. Memory does not grow with
the capture: one state per stream is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wsrec.format.errors import NO_CAPTURE
from wsrec.format.folders import cannot_read
from wsrec.format.layout import own_folder
from wsrec.verify.inventory import Inventory, roots, take
from wsrec.verify.ledger import LedgerAudit, cross_check
from wsrec.verify.meter import Meter, Progress, size_of
from wsrec.verify.model import Capture, Finding, Kind, Verification, worst
from wsrec.verify.session import SessionReading

_GRAVEST = list(Kind)


def verify(paths: Iterable[Path], progress: Progress | None = None) -> Verification:
    """Read captures back and verify them.

    Args:
        paths: output folders, folders that hold some, or files and folders within one.
        progress: called from time to time with the bytes read and the bytes of all files.

    Raises:
        OSError: a folder cannot be read.

    """
    inventories = [_take(root, only) for root, only in sorted(roots(paths).items())]
    meter = Meter(sum(_size(each) for each in inventories if isinstance(each, Inventory)), progress)
    captures = [_capture(each, meter) if isinstance(each, Inventory) else each for each in inventories]
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


def _capture(inventory: Inventory, meter: Meter) -> Capture:
    sessions, findings = [], list(inventory.findings)
    lines = [pair.line for pairs in inventory.pairs.values() for pair in pairs if pair.line is not None]
    both = [each for line in lines for each in ((line.sha256, line.path), (line.events_sha256, line.events_path))]
    listed = {digest: name for digest, name in both if digest is not None and name is not None}
    ended: dict[str, list[LedgerAudit]] = {}
    for (feed, session), pairs in sorted(inventory.pairs.items(), key=lambda item: item[0][::-1]):
        reading = SessionReading(inventory, feed, session, meter, listed)
        sessions.append(reading.read(pairs))
        findings += reading.log.findings
        ended.setdefault(session, []).append(reading.books)
    for session, books in ended.items():
        findings += cross_check(session, books)
    findings.sort(key=lambda finding: _GRAVEST.index(finding.kind))
    return Capture(path=str(inventory.root), whole=inventory.whole, sessions=sessions, findings=findings)
