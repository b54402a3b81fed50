"""The figures as CSV files: one for each, with all recordings in it.

Times are ISO 8601 in UTC with nine digits of a second, durations are whole ns. A text that a spreadsheet would take for
a formula has an apostrophe before it, control characters are spelled out, and long texts are cut: it may be from an
exchange.
"""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from wsrec.format.folders import replaceable
from wsrec.pictures.model import PERCENTILES, Figures, Pictures, SlowFrame
from wsrec.pictures.totals import NAMES
from wsrec.stages import STEPS
from wsrec.tables.whole_file import whole_file
from wsrec.units import clean, no_formula

Row = list[Any]


class Table(NamedTuple):
    """One figure.

    Attributes:
        name: of its file, without `.csv`.
        header: the names of its columns.
        rows: as long as the header; null where there is no value.

    """

    name: str
    header: tuple[str, ...]
    rows: Iterator[Row]


_LONGEST = 1000
_LONGEST_NAME = 120
"""Characters of a cell."""
_IDENTITY = ("feed", "host")
_FRAME = (
    *("total", "time", "session", "file", "seq", "conn", "channel", "symbol", "opcode", "payload_bytes", "read_bytes"),
    *("frame_in_read", "frames_in_read", *(f"{step.key}_ns" for step in STEPS), "total_ns"),
)


def figures_as_csv(pictures: Pictures) -> Iterator[Table]:
    """Each figure as a table with a header, in a fixed order; those that no recording has have no rows."""
    for name, (header, rows_of) in _TABLES.items():
        yield Table(name, (*_IDENTITY, *header), _rows(pictures, rows_of))


def write_csv(pictures: Pictures, folder: Path) -> list[Path]:
    """Write each figure to a CSV file in a folder, which is made; figures of an earlier report there are replaced.

    Returns:
        The files.

    Raises:
        OSError: as of `check_folder`, in which case nothing was written; or one cannot be written.

    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{table.name}.csv", table) for table in figures_as_csv(pictures)]


def check_folder(folder: Path) -> None:
    """Check that figures can be written to a folder, as far as that can be said before they are collected.

    Raises:
        OSError: it is no folder, cannot be written to, or has something else under the name of a figure.

    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for name in _TABLES:
        path = replaceable(folder / f"{name}.csv")
        if path.exists() and not _is_ours(path):
            what = "it is no figure of wsrec, and is not replaced; name another folder"
            raise OSError(errno.EINVAL, what, str(path))
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        begin = file.readline(1000)
    return begin.startswith(",".join(_IDENTITY).encode() + b",")


def _write(path: Path, table: Table) -> Path:
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.header)
        writer.writerows([_cell(value) for value in row] for row in table.rows)
    return path


def _cell(value: Any) -> Any:
    return no_formula(clean(value, _LONGEST)) if isinstance(value, str) else value


def _name(text: str | None) -> str | None:
    """The name of a stream, of which a figure may have one in each of thousands of rows."""
    return None if text is None else clean(text, _LONGEST_NAME)


def _rows(pictures: Pictures, rows_of: Callable[[Figures], Iterator[Row]]) -> Iterator[Row]:
    for figures in pictures.figures:
        for row in rows_of(figures):
            yield [figures.feed, figures.host, *row]


def _time(ns: int | None) -> str | None:
    """A time (ns since the epoch) as ISO 8601; one beyond the calendar as its number."""
    if ns is None:
        return None
    try:
        return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09}Z"
    except (OverflowError, OSError, ValueError):
        return str(ns)


def _traffic(figures: Figures) -> Iterator[Row]:
    over_time = figures.over_time
    if over_time is not None:
        for begin, messages, size in zip(over_time.begins, over_time.messages, over_time.read_bytes, strict=True):
            yield [_time(begin), over_time.width, messages, round(messages * 1e9 / over_time.width, 3), size]


def _latency(figures: Figures) -> Iterator[Row]:
    over_time = figures.over_time
    for each in over_time.latency if over_time is not None else ():
        columns = zip(each.count, each.p50, each.p90, each.p99, each.p999, each.max, strict=True)
        for begin, values in zip(over_time.begins if over_time is not None else (), columns, strict=True):
            if values[0]:
                yield [each.name, _time(begin), *values]


def _delay(figures: Figures) -> Iterator[Row]:
    over_time = figures.over_time
    if over_time is not None and over_time.delay is not None:
        delay = over_time.delay
        for begin, count, p50, p99 in zip(over_time.begins, delay.count, delay.p50, delay.p99, strict=True):
            if count:
                yield [_time(begin), count, p50, p99]


def _frame(name: str, frame: SlowFrame) -> Row:
    where = [frame.session, frame.file, frame.seq, frame.conn, _name(frame.channel), _name(frame.symbol), frame.opcode]
    read = [frame.payload_bytes, frame.read_bytes, frame.frame_in_read, frame.frames_in_read]
    return [name, _time(frame.time), *where, *read, *frame.steps, frame.total]


def _slowest(figures: Figures) -> Iterator[Row]:
    for key, frames in figures.slowest.items():
        for frame in frames:
            yield _frame(NAMES[key], frame)


def _slowest_over_time(figures: Figures) -> Iterator[Row]:
    for each in figures.over_time.latency if figures.over_time is not None else ():
        for frame in each.slow:
            yield _frame(each.name, frame)


def _compositions(figures: Figures) -> Iterator[Row]:
    for each in figures.compositions:
        of_step = {share.key: round(share.mean, 3) for share in each.shares}
        band = [each.name, each.frames, each.percentile, each.count, each.low, each.high, round(each.mean, 3)]
        yield [*band, *(of_step.get(step.key) for step in STEPS)]


def _curves(figures: Figures) -> Iterator[Row]:
    for each in figures.curves:
        for curve in each.curves:
            points = [(at, value) for at, value in zip(PERCENTILES, curve.values, strict=True) if value is not None]
            # the ends are exact: percentiles between them take negative durations of steps as 0
            for at, value in [(0.0, curve.min), *(point for point in points if point[0]), (100.0, curve.max)]:
                yield [each.by, NAMES[each.key] if each.key else None, curve.name, curve.count, at, value]


def _events(figures: Figures) -> Iterator[Row]:
    for line in figures.lines:
        for begin, count in zip(line.begins, line.counts, strict=True):
            yield [line.kind, _time(begin), count]


def _incidents(figures: Figures) -> Iterator[Row]:
    for line in figures.lines:
        for each in line.moments:
            where = [each.session, each.conn, _name(each.channel), _name(each.symbol)]
            yield [each.kind, _time(each.time), _time(each.begin), _time(each.end), *where, each.text]


def _streams(figures: Figures) -> Iterator[Row]:
    for each in figures.coverage.streams if figures.coverage is not None else ():
        yield [_name(each.channel), _name(each.symbol), each.messages, each.gaps, _time(each.first), _time(each.last)]


def _coverage(figures: Figures) -> Iterator[Row]:
    coverage = figures.coverage
    for each in coverage.streams if coverage is not None else ():
        stream = [_name(each.channel), _name(each.symbol)]
        for begin, count in zip(each.begins, each.counts, strict=True):
            yield [*stream, _time(begin), coverage.width if coverage is not None else None, count]


def _facts(figures: Figures) -> Iterator[Row]:
    for fact in figures.facts:
        for value in fact.values:
            yield [fact.name, value]


_TABLES: dict[str, tuple[tuple[str, ...], Callable[[Figures], Iterator[Row]]]] = {
    "traffic_over_time": (("begin", "width_ns", "messages", "messages_per_second", "read_bytes"), _traffic),
    "latency_over_time": (
        ("total", "begin", "count", "p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"),
        _latency,
    ),
    "exchange_delay_over_time": (("begin", "count", "p50_ns", "p99_ns"), _delay),
    "slowest_frames": (_FRAME, _slowest),
    "slowest_frames_over_time": (_FRAME, _slowest_over_time),
    "compositions": (
        (
            *("total", "frames", "percentile", "count", "low_ns", "high_ns", "mean_ns"),
            *(f"{step.key}_ns" for step in STEPS),
        ),
        _compositions,
    ),
    "percentiles": (("by", "total", "name", "count", "percentile", "ns"), _curves),
    "events_over_time": (("kind", "begin", "count"), _events),
    "events": (
        ("kind", "time", "begin", "end", "session", "conn", "channel", "symbol", "text"),
        _incidents,
    ),
    "streams": (("channel", "symbol", "messages", "gaps", "first", "last"), _streams),
    "streams_over_time": (("channel", "symbol", "begin", "width_ns", "messages"), _coverage),
    "circumstances": (("name", "value"), _facts),
}
