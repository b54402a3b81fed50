"""Collection of a `Report` from capture files, in memory independent of their number.

Each file is read by itself into a mergeable `_Part` (`wsrec.engine`), a batch of rows at a time, only the columns that
are needed. Payloads and the steps between the stages, most of a file, are not read: the sum of their lengths and the
histograms of the steps are in the file's metadata, and `wsrec verify` compares those with the rows. A file whose ledger
or histograms are of other rows was changed by another tool, and is read for them.

Nothing is written. Unreadable files are named in `Report.errors`, and the others are reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from wsrec.engine.work import Engine, InProcess, Item, Progress, reduce
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError, UnreadableError
from wsrec.format.layout import EVENTS, MESSAGES, FileKind, other
from wsrec.format.metadata import FileMetadata
from wsrec.format.reading import DamagedFile, open_capture
from wsrec.format.stage_histograms import StageHistograms
from wsrec.report.model import Report, UnfinishedSession
from wsrec.report.stage_latency import STAMPED
from wsrec.report.tally import COLUMNS, STATED, RecordingTally

_EVENT_COLUMNS = ("time", "kind", "conn", "channel", "symbol", "detail")
_UNKNOWN_HOST = "(unknown host)"

Key = tuple[str, str]


class _OneFile(Item, frozen=True, kw_only=True):
    kind: FileKind


class _Part:
    """What some of the files hold.

    Attributes:
        tallies: by feed and host.
        damaged: the files that could not be read.
        unowned: events files among them whose feed is unknown.

    """

    def __init__(self) -> None:
        self.tallies: dict[Key, RecordingTally] = {}
        self.damaged: list[DamagedFile] = []
        self.unowned = 0

    def of(self, file: CaptureFile) -> RecordingTally:
        """The tally of a file's feed and host."""
        key = file.feed, file.host or _UNKNOWN_HOST
        return self.tallies.setdefault(key, RecordingTally(*key))


def collect(
    sources: Iterable[str | Path],
    progress: Progress | None = None,
    engine: Engine | None = None,
    *,
    running: bool = True,
) -> Report:
    """Read captures and summarize them.

    Args:
        sources: message files, folders (searched at any depth) and glob patterns.
        progress: called from time to time with the bytes read and the bytes of all files.
        engine: what reads the files; None: this process.
        running: whether to read what recordings in progress have journalled, too; its workers need this machine's
            temporary folder for it.

    Raises:
        EngineError: a worker of the engine failed.

    """
    found: list[DamagedFile] = []
    capture = open_capture(sources, damaged=found.append, running=running)
    items = [
        _OneFile(files=(str(path),), size=_size(path), kind=kind)
        for kind in (MESSAGES, EVENTS)
        for path in capture.paths(kind)
    ]
    part = reduce(engine or InProcess(), _read, _merged, items, progress) or _Part()
    # without message files next to them, their feed is unknown
    for tally in part.tallies.values():
        tally.events_unread += part.unowned + sum(each.kind == "folder" for each in found)
    found += part.damaged
    return Report(
        recordings=[part.tallies[key].result() for key in sorted(part.tallies)],
        unfinished=[
            UnfinishedSession(session=each.session, out=str(each.out), recording=each.recording)
            for each in capture.unfinished
        ],
        errors=[each.message for each in found if not each.unreadable and each.kind != "source"],
        absent=[each.message for each in found if not each.unreadable and each.kind == "source"],
        unreadable=[each.message for each in found if each.unreadable],
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(item: _OneFile) -> _Part:
    part, path = _Part(), Path(*item.files)
    try:
        if item.kind == MESSAGES:
            _read_messages(path, part)
        else:
            _read_events(path, part)
    except CaptureError as error:
        part.damaged.append(DamagedFile(path, str(error), isinstance(error, UnreadableError), item.kind))
    except msgspec.DecodeError as error:
        message = f"{path}: an event's detail is not JSON ({error}); nothing was changed: set the file aside"
        part.damaged.append(DamagedFile(path, message, False, item.kind))
    if part.damaged and item.kind == EVENTS:
        _count_unread(path, part)
    return part


def _merged(one: _Part, other: _Part) -> _Part:
    for key, tally in other.tallies.items():
        one.tallies[key] = one.tallies[key].merge(tally) if key in one.tallies else tally
    one.damaged += other.damaged
    one.unowned += other.unowned
    return one


def _read_messages(path: Path, part: _Part) -> None:
    file = CaptureFile(path, keep_footer=True)
    about = file.metadata
    tally = part.of(file)
    tally.begin(file, about)
    stated = _stated(about, file.rows)
    if stated is not None:
        tally.add_stated(about, stated)
    # one processor for each process: with threads, two processes would be no faster than one
    columns = COLUMNS if stated is not None else (*COLUMNS, *STATED)
    for batch in file.batches(columns, use_threads=False, ordered=False):
        tally.add(file.session, batch, is_stated=stated is not None)


def _stated(about: FileMetadata, rows: int) -> StageHistograms | None:
    """The durations of a file's steps by its metadata; None if they, or its ledger, are not those of its rows."""
    recv, own = about.ledger.recv, about.ledger.own
    received, sources = sum(recv.rows.values()), about.stage1
    figures = (*recv.rows.values(), *own.rows.values(), *sources.values(), recv.row_bytes, own.row_bytes)
    if min(figures) < 0 or received + sum(own.rows.values()) != rows or sum(sources.values()) != received:
        return None
    try:
        stages = StageHistograms.from_json(about.stages)
    except ValueError:
        return None
    return stages if stages.fits(received, sum(sources.get(name, 0) for name in STAMPED)) else None


def _read_events(path: Path, part: _Part) -> None:
    file = CaptureFile(path, EVENTS, keep_footer=True)
    tally = part.of(file)
    tally.begin_events(file)
    for batch in file.batches(_EVENT_COLUMNS, use_threads=False):
        tally.add_events(file.session, batch)


def _count_unread(path: Path, part: _Part) -> None:
    """Count an events file that was not read, or not completely, for the feed of the message file next to it."""
    beside = other(path.absolute())
    try:
        owner = CaptureFile(beside) if beside is not None else None
    except CaptureError:
        owner = None
    if owner is None:
        part.unowned += 1
    else:
        part.of(owner).events_unread += 1
