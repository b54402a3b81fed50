"""Collection of the `Pictures` of a capture, in one pass over its files and in memory independent of their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.compute as pc
from msgspec import structs

from wsrec.engine.work import Engine, Progress
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.layout import MESSAGES
from wsrec.format.reading import Capture
from wsrec.format.selection import EVERYTHING, Selection
from wsrec.pictures.model import Figures, Pictures, SlowFrame
from wsrec.pictures.tally import FiguresTally
from wsrec.report.collect import collect_by

_PAYLOADS = ("text", "data")
_ROWS = 4096


def collect(
    sources: Iterable[str | Path],
    progress: Progress | None = None,
    engine: Engine | None = None,
    *,
    running: bool = True,
    selection: Selection = EVERYTHING,
) -> Pictures:
    """Read captures into their report and figures.

    Args:
        sources: message files, folders (searched at any depth) and glob patterns.
        progress: called from time to time with the bytes read and the bytes of all files.
        engine: what reads the files; None: this process.
        running: whether to read what recordings in progress have journalled, too.
        selection: which rows and events are wanted.

    Raises:
        EngineError: a worker of the engine failed.
        ConfigError: a channel of the selection that no feed of the capture has.

    """
    named = list(sources)
    collected = collect_by(FiguresTally, named, progress, engine, running=running, selection=selection)
    figures = [_finished(tally.figures(), collected.capture) for tally in collected.tallies]
    return Pictures(sources=[str(each) for each in named], report=collected.report, figures=figures)


def _finished(figures: Figures, capture: Capture) -> Figures:
    """The figures with the payloads of the slowest frames, and names of files that outlive this call."""
    over_time = figures.over_time
    if over_time is not None:
        latency = [
            structs.replace(each, slow=[_located(frame, capture) for frame in each.slow]) for each in over_time.latency
        ]
        over_time = structs.replace(over_time, latency=latency)
    slowest = {
        key: [_located(frame, capture) for frame in _with_payloads(frames)] for key, frames in figures.slowest.items()
    }
    return structs.replace(figures, over_time=over_time, slowest=slowest)


def _located(frame: SlowFrame, capture: Capture) -> SlowFrame:
    """The frame with a name of its file, if that is a copy of what its session had journalled."""
    path = Path(frame.file)
    if not capture.is_copy(path, MESSAGES):
        return frame
    out = next((each.out for each in capture.unfinished if each.session == frame.session), None)
    return structs.replace(frame, file=f"{path.name}, not finished yet{f', in {out}' if out else ''}")


def _with_payloads(frames: list[SlowFrame]) -> list[SlowFrame]:
    """The frames with the sizes of their payloads, as far as their files can still be read."""
    by_file: dict[str, list[SlowFrame]] = {}
    for frame in frames:
        by_file.setdefault(frame.file, []).append(frame)
    sizes: dict[tuple[str, int], int] = {}
    for path, of_file in by_file.items():
        for seq, size in _payload_sizes(Path(path), of_file):
            sizes[path, seq] = size
    return [structs.replace(frame, payload_bytes=sizes.get((frame.file, frame.seq))) for frame in frames]


def _payload_sizes(path: Path, frames: list[SlowFrame]) -> Iterator[tuple[int, int]]:
    try:
        among = {"seq": [frame.seq for frame in frames]}
        for batch in CaptureFile(path).batches(
            ["seq", *_PAYLOADS], among=among, most=_ROWS, use_threads=False, ordered=False
        ):
            sizes = [pc.binary_length(batch.column(name)).fill_null(0) for name in _PAYLOADS]
            yield from zip(batch.column("seq").to_pylist(), pc.add(*sizes).to_pylist(), strict=True)
    except CaptureError:
        # removed meanwhile, or damaged in its payloads alone: the sizes stay unknown
        return
