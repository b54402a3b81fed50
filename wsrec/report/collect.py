"""Collection of a `Report` from capture files, in memory independent of their number.

Each file is read by itself into a mergeable `_Part` (`wsrec.engine`), a batch of rows at a time, only the columns that
are needed. Payloads and the steps between the stages, most of a file, are not read: the sum of their lengths and the
histograms of the steps are in the file's metadata, and `wsrec verify` compares those with the rows. A file whose ledger
or histograms are of other rows was changed by another tool, and is read for them; so is one of which only a part is
wanted.

Nothing is written. Unreadable files are named in `Report.errors`, and the others are reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar, cast

import msgspec

from wsrec.engine.work import Engine, InProcess, Item, Progress, reduce
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError, UnreadableError
from wsrec.format.layout import EVENTS, MESSAGES, FileKind, other
from wsrec.format.metadata import FileMetadata
from wsrec.format.reading import Capture, DamagedFile, open_capture
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.format.selection import EVERYTHING, Selection, folder_outside, inside, outside
from wsrec.format.stage_histograms import StageHistograms
from wsrec.report.chosen import ChosenRows, nothing_of
from wsrec.report.model import Part, Report, UnfinishedSession
from wsrec.report.tally import STATED, RecordingTally
from wsrec.report.verdict import verdict
from wsrec.stages import SEGMENT_WORDS, STAMPED_WORDS

_EVENT_COLUMNS = ("time", "kind", "conn", "channel", "symbol", "detail")
_UNKNOWN_HOST = "(unknown host)"

Key = tuple[str, str]


T = TypeVar("T", bound=RecordingTally)


class Collected(NamedTuple, Generic[T]):
    """What was collected.

    Attributes:
        report: the report.
        tallies: of each recording of the report.
        capture: the capture, of which copies of unfinished files last as long as this.

    """

    report: Report
    tallies: list[T]
    capture: Capture


class _OneFile(Item, frozen=True, kw_only=True):
    kind: FileKind
    selection: Selection
    tally: type[RecordingTally]


class _Part:
    """What some of the files hold.

    Args:
        tally: what counts them.
        is_part: whether rows and events are only those that a selection wants.

    Attributes:
        tallies: by feed and host.
        damaged: the files that could not be read.
        unowned: events files among them whose feed is unknown.
        columns: what `tally` needs of message files.
        found: the names of the selection that have rows.

    """

    def __init__(self, tally: type[RecordingTally], *, is_part: bool) -> None:
        self.tallies: dict[Key, RecordingTally] = {}
        self.damaged: list[DamagedFile] = []
        self.unowned = 0
        self.columns = tally.columns
        self.found: set[str] = set()
        self._tally, self._is_part = tally, is_part

    def of(self, file: CaptureFile) -> RecordingTally:
        """The tally of a file's feed and host."""
        key = file.feed, file.host or _UNKNOWN_HOST
        return self.tallies.setdefault(key, self._tally(*key, is_part=self._is_part))


def collect(
    sources: Iterable[str | Path],
    progress: Progress | None = None,
    engine: Engine | None = None,
    *,
    running: bool = True,
    selection: Selection = EVERYTHING,
) -> Report:
    """Read captures and summarize them: `collect_by` with the report alone."""
    return collect_by(RecordingTally, sources, progress, engine, running=running, selection=selection).report


def collect_by(
    tally: type[T],
    sources: Iterable[str | Path],
    progress: Progress | None = None,
    engine: Engine | None = None,
    *,
    running: bool = True,
    selection: Selection = EVERYTHING,
) -> Collected[T]:
    """Read captures and summarize them.

    Args:
        tally: what counts the rows and events of each recording.
        sources: message files, folders (searched at any depth) and glob patterns.
        progress: called from time to time with the bytes read and the bytes of all files.
        engine: what reads the files; None: this process.
        running: whether to read what recordings in progress have journalled, too; its workers need this machine's
            temporary folder for it.
        selection: which rows and events are wanted; files of other times are not read.

    Raises:
        EngineError: a worker of the engine failed.
        ConfigError: a channel of the selection that no feed of the capture has.

    """
    found: list[DamagedFile] = []
    capture = open_capture(sources, damaged=found.append, running=running)
    items = [
        _OneFile(files=(str(path),), size=_size(path), kind=kind, selection=selection, tally=tally)
        for kind in (MESSAGES, EVENTS)
        for path in capture.paths(kind)
        if not folder_outside(path, selection)
    ]
    is_part = selection != EVERYTHING
    part = reduce(engine or InProcess(), _read, _merged, items, progress) or _Part(tally, is_part=is_part)
    # without message files next to them, their feed is unknown
    for each in part.tallies.values():
        each.events_unread += part.unowned + sum(one.kind == "folder" for one in found)
    found += part.damaged
    unread = sum(one.kind != "source" for one in found)
    tallies = [part.tallies[key] for key in sorted(part.tallies)]
    recordings = []
    unfinished = {each.session: each.recording for each in capture.unfinished}
    for each in tallies:
        recording = each.result()
        judged = verdict(recording, is_part=is_part, unread=unread, unfinished=unfinished)
        recordings.append(msgspec.structs.replace(recording, verdict=judged))
    has_rows = any(recording.rows for recording in recordings)
    report = Report(
        part=_part(selection) if is_part else None,
        recordings=recordings,
        unfinished=[
            UnfinishedSession(session=each.session, out=str(each.out), recording=each.recording)
            for each in capture.unfinished
        ],
        errors=[each.message for each in found if not each.unreadable and each.kind != "source"],
        absent=[each.message for each in found if not each.unreadable and each.kind == "source"],
        unreadable=[each.message for each in found if each.unreadable],
        nothing_of=nothing_of(capture, selection, part.found, has_rows=has_rows) if is_part else [],
    )
    return Collected(report, cast("list[T]", tallies), capture)


def _part(selection: Selection) -> Part:
    return Part(
        since=selection.since,
        until=selection.until,
        symbols=sorted(selection.symbols),
        channels=list(selection.channels),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(item: _OneFile) -> _Part:
    part, path = _Part(item.tally, is_part=item.selection != EVERYTHING), Path(*item.files)
    try:
        if item.kind == MESSAGES:
            _read_messages(path, part, item.selection)
        else:
            _read_events(path, part, item.selection)
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
    one.found |= other.found
    return one


def _read_messages(path: Path, part: _Part, selection: Selection) -> None:
    file = CaptureFile(path, keep_footer=True)
    if not inside(file, selection):
        _read_some_messages(file, part, selection)
        return
    about = file.metadata
    tally = part.of(file)
    tally.begin(file, about)
    stated = _stated(about, file.rows)
    if stated is not None:
        tally.add_stated(about, *stated)
    # one processor for each process: with threads, two processes would be no faster than one
    columns = part.columns if stated is not None else _with_stated(part.columns)
    for batch in file.batches(columns, use_threads=False, ordered=False):
        tally.add(file.session, batch, is_stated=stated is not None)


def _read_some_messages(file: CaptureFile, part: _Part, selection: Selection) -> None:
    if outside(file, selection):
        return
    chosen, tally = ChosenRows(file, selection), None
    for batch in chosen.messages(_with_stated(part.columns)):
        if tally is None:
            tally = part.of(file)
            tally.begin(file, file.metadata, is_whole=False)
        tally.add(file.session, batch, is_stated=False)
    part.found |= chosen.found


def _with_stated(columns: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*columns, *STATED)))


def _stated(about: FileMetadata, rows: int) -> tuple[StageHistograms, SegmentHistograms] | None:
    """What a file's metadata say of its steps and segments; None if they, or its ledger, are not those of its rows."""
    recv, own = about.ledger.recv, about.ledger.own
    received, sources = sum(recv.rows.values()), about.stage1
    figures = (*recv.rows.values(), *own.rows.values(), *sources.values(), recv.row_bytes, own.row_bytes)
    if min(figures) < 0 or received + sum(own.rows.values()) != rows or sum(sources.values()) != received:
        return None
    try:
        stages, segments = StageHistograms.from_json(about.stages), SegmentHistograms.from_json(about.segments)
    except ValueError:
        return None
    by_segment = sum(sources.get(name, 0) for name in SEGMENT_WORDS)
    fits = stages.fits(received, sum(sources.get(name, 0) for name in STAMPED_WORDS))
    return (stages, segments) if fits and sum(segments.order.values()) == by_segment else None


def _read_events(path: Path, part: _Part, selection: Selection) -> None:
    file = CaptureFile(path, EVENTS, keep_footer=True)
    chosen = ChosenRows(file, selection) if selection != EVERYTHING else None
    tally = None if chosen is not None else part.of(file)
    if tally is not None:
        tally.begin_events(file)
    for whole in file.batches(_EVENT_COLUMNS, use_threads=False):
        batch = whole if chosen is None else chosen.events(whole)
        if batch.num_rows:
            if tally is None:
                tally = part.of(file)
                tally.begin_events(file)
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
