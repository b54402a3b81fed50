"""Replay sources: captures and text recordings as one stream of messages, in bounded memory.

Several files become one stream in the order in which their messages arrived: by hand-off within a session of a
capture, by hand-off time between sessions, by receive time in text recordings. A file is opened when its
first message is due and closed after its last, so memory holds one batch of rows per open file.
"""

from __future__ import annotations

import heapq
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from wsrec.format.capture import message_files
from wsrec.format.capture_file import CaptureFile
from wsrec.format.copies import RepeatedFileWarning, difference, once
from wsrec.format.errors import CaptureError, NoCaptureError, UnreadableError
from wsrec.format.folders import NO_FILE, cannot_read, is_file
from wsrec.format.layout import MESSAGES
from wsrec.replay import text
from wsrec.replay.message import Message, NoSourceError, SourceError, UnreadableSourceError

Item = TypeVar("Item")
Part = tuple[int, Callable[[], Iterator[Item]]]

_BATCH_ROWS = 4096
_HANDOFF = ("handoff_time", "handoff_monotonic")
_COLUMNS = ("conn", "handoff_monotonic", "opcode", "text", "data")
_MESSAGES = {"direction": ["recv"], "opcode": ["text", "binary"]}


class Source:
    """A stream of messages that can be read any number of times, by several readers at once.

    Args:
        sources: files, folders and globs: wsrec's Parquet, or text recordings (plain or gzip).

    Raises:
        SourceError: a source is missing, damaged or of unknown format, or there is nothing to replay.

    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self.name = " ".join(str(source) for source in sources)
        self._parts = _parts(sources)
        if next(iter(self), None) is None:
            raise NoSourceError(f"{self.name}: no received message in it; nothing to replay")

    def __iter__(self) -> Iterator[Message]:
        """All messages in order.

        Raises:
            SourceError: a file is damaged.

        """
        return merge(self._parts, key=_time)


def merge(parts: Sequence[Part[Item]], key: Callable[[Item], int]) -> Iterator[Item]:
    """Merge ordered parts; unlike `heapq.merge` a part is opened only when its start (its first key) is due."""
    pending = sorted(enumerate(parts), key=lambda part: part[1][0], reverse=True)
    heap: list[tuple[int, int, Item, Iterator[Item]]] = []
    while pending or heap:
        while pending and (not heap or pending[-1][1][0] <= heap[0][0]):
            number, (_, open_part) = pending.pop()
            rest = open_part()
            for item in rest:
                heapq.heappush(heap, (key(item), number, item, rest))
                break
        if not heap:
            continue
        _, number, item, rest = heap[0]
        yield item
        if len(heap) == 1 and not pending:
            yield from rest
            return
        for item in rest:
            heapq.heapreplace(heap, (key(item), number, item, rest))
            break
        else:
            heapq.heappop(heap)


def _parts(sources: Sequence[str | Path]) -> list[Part[Message]]:
    parts: list[Part[Message]] = []
    sessions: defaultdict[str, list[_CaptureFile]] = defaultdict(list)
    for path in _files(sources):
        if _is_parquet(path):
            file = _CaptureFile(path)
            if file.start is not None:
                sessions[file.session].append(file)
        else:
            first = next(text.read(path), None)
            if first is not None:
                parts.append((first.time_ns, lambda path=path: text.read(path)))  # type: ignore[misc]
    parts.extend(_session(files) for files in sessions.values())
    return parts


def _files(sources: Sequence[str | Path]) -> list[Path]:
    with _as_source_errors():
        found = once(message_files(sources), MESSAGES)
        if found.differing:
            raise CaptureError(difference(*found.differing[0]))
    if found.notice is not None:
        warnings.warn(found.notice, RepeatedFileWarning, stacklevel=2)
    return found.paths


def _is_parquet(path: Path) -> bool:
    try:
        if not is_file(path):
            raise SourceError(f"{path}: {NO_FILE}")
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise UnreadableSourceError(f"{path}: {cannot_read(error)}") from error


def _time(message: Message) -> int:
    return message.time_ns


def _stage(row: tuple[int, Message]) -> int:
    return row[0]


def _session(files: list[_CaptureFile]) -> Part[Message]:
    """One session's files as a part: a session writes one file per feed at once, so they are merged by hand-off."""
    first = min((file.start for file in files if file.start), key=_stage_of)
    # the pace follows the stage clock, which is never set
    ahead = first.utc - first.stage
    parts = [(file.start.stage, partial(file.rows, ahead)) for file in files if file.start]

    def read() -> Iterator[Message]:
        return (message for _, message in merge(parts, key=_stage))

    return first.utc, read


class _Start(NamedTuple):
    """The hand-off of a file's first row, on UTC and on the stage clock (ns)."""

    utc: int
    stage: int


def _stage_of(start: _Start) -> int:
    return start.stage


class _CaptureFile:
    """One message file of a capture; `start` is None if it has no row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _as_source_errors():
            self._file = CaptureFile(path)
            first = next(self._file.batches(_HANDOFF, most=1), None)
        self.session = self._file.session
        self.start = None if first is None else _Start(*(first[name][0].cast(pa.int64()).as_py() for name in _HANDOFF))

    def rows(self, ahead: int) -> Iterator[tuple[int, Message]]:
        """Hand-off and message of each received text or binary row, UTC being `ahead` (ns) of the stage clock."""
        with _as_source_errors():
            # in small batches, so that decoding a row group does not hold up the pace of other clients
            for batch in self._file.batches(_COLUMNS, among=_MESSAGES, most=_BATCH_ROWS):
                yield from self._messages(batch, ahead)

    def _messages(self, batch: Any, ahead: int) -> Iterator[tuple[int, Message]]:
        columns = [
            batch["handoff_monotonic"],
            batch["opcode"],
            batch["text"].cast(pa.binary()),  # the same bytes, without decoding them to str and back
            batch["data"],
            batch["conn"],
        ]
        for stage, opcode, utf8, data, conn in zip(*(column.to_pylist() for column in columns), strict=True):
            payload = data if utf8 is None else utf8
            if payload is None:
                raise SourceError(f"{self.path}: a row has no payload; the file was not written by wsrec")
            yield stage, Message(stage + ahead, opcode, payload, conn)


@contextmanager
def _as_source_errors() -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        raise UnreadableSourceError(str(error)) from error
    except NoCaptureError as error:
        raise NoSourceError(str(error)) from error
    except CaptureError as error:
        raise SourceError(str(error)) from error
