"""What can be replayed: captures and text recordings, read as one stream of messages in bounded memory.

Several files become one stream in the order in which their messages arrived: by `seq` within a session of a capture, by
hand-off time between sessions, by the noted receive time in text recordings. A file is opened when its first message is
due and closed after its last, so what is held at once is a batch of rows a file that is open at that time.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from wsrec.format.capture import CaptureError, UnreadableError, message_files, metadata, open_messages
from wsrec.format.folders import NO_FILE, cannot_read, is_file
from wsrec.replay import text
from wsrec.replay.message import Message, SourceError, UnreadableSourceError

Item = TypeVar("Item")
Part = tuple[int, Callable[[], Iterator[Item]]]

_BATCH_ROWS = 4096
_HANDOFF = ("handoff_time", "handoff_monotonic")
_COLUMNS = ["seq", "conn", "handoff_monotonic", "direction", "opcode", "text", "data"]


class Source:
    """A stream of messages that can be read any number of times, by several readers at once.

    Args:
        sources: files, folders and globs: wsrec's Parquet, or text recordings (plain or gzip).

    Raises:
        SourceError: one is missing, damaged or of no known form, or there is nothing to replay.

    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self.name = " ".join(str(source) for source in sources)
        self._parts = _parts(sources)
        if next(iter(self), None) is None:
            raise SourceError(f"{self.name}: no received message in it; nothing to replay")

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
    try:
        return message_files(sources)
    except UnreadableError as error:
        raise UnreadableSourceError(str(error)) from error
    except CaptureError as error:
        raise SourceError(str(error)) from error


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


def _seq(row: tuple[int, Message]) -> int:
    return row[0]


def _session(files: list[_CaptureFile]) -> Part[Message]:
    """One session's files as a part: a session writes several at once (one a feed), so they merge by `seq`."""
    first = min((file.start for file in files if file.start), key=_first_seq)
    # the pace is that of the clock that nobody sets
    ahead = first.utc - first.stage
    parts = [(file.start.seq, partial(file.rows, ahead)) for file in files if file.start]

    def read() -> Iterator[Message]:
        return (message for _, message in merge(parts, key=_seq))

    return first.utc, read


class _Start(NamedTuple):
    """A file's first row: its `seq`, and its hand-off on UTC and on the stage clock (ns)."""

    seq: int
    utc: int
    stage: int


def _first_seq(start: _Start) -> int:
    return start.seq


class _CaptureFile:
    """One message file of a capture; `start` is None if it has no row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start: _Start | None = None
        with self._opened() as file:
            try:
                self.session = str(metadata(file).get("session", path))
                for batch in file.iter_batches(batch_size=1, columns=["seq", *_HANDOFF]):
                    utc, stage = (batch[name][0].cast(pa.int64()).as_py() for name in _HANDOFF)
                    self.start = _Start(batch["seq"][0].as_py(), utc, stage)
                    break
            except (pa.ArrowException, OSError, ValueError) as error:
                raise self._damaged() from error

    def _opened(self) -> Any:
        try:
            return open_messages(self.path)
        except UnreadableError as error:
            raise UnreadableSourceError(str(error)) from error
        except CaptureError as error:
            raise SourceError(str(error)) from error

    def _damaged(self) -> SourceError:
        return SourceError(f"{self.path}: damaged; set the file aside and replay the others")

    def rows(self, ahead: int) -> Iterator[tuple[int, Message]]:
        """`seq` and message of each received text or binary row, UTC being `ahead` (ns) of the stage clock."""
        with self._opened() as file:
            try:
                for group in range(file.num_row_groups):
                    # in small batches, so that decoding a row group does not hold up the pace of other clients
                    for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=_COLUMNS):
                        yield from self._messages(batch, ahead)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged() from error

    def _messages(self, batch: Any, ahead: int) -> Iterator[tuple[int, Message]]:
        data_frames = pc.is_in(batch["opcode"].cast(pa.string()), value_set=pa.array(["text", "binary"]))
        batch = batch.filter(pc.and_(pc.equal(batch["direction"].cast(pa.string()), "recv"), data_frames))
        columns = [
            batch["seq"],
            batch["handoff_monotonic"],
            batch["opcode"],
            batch["text"].cast(pa.binary()),  # the same bytes, without decoding them to str and back
            batch["data"],
            batch["conn"],
        ]
        for seq, stage, opcode, utf8, data, conn in zip(*(column.to_pylist() for column in columns), strict=True):
            payload = data if utf8 is None else utf8
            if payload is None:
                raise SourceError(f"{self.path}: row with seq {seq} has no payload; the file was not written by wsrec")
            yield seq, Message(stage + ahead, opcode, payload, conn)
