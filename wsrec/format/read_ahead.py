"""Rows of a message file, decoded ahead by threads: Arrow decodes without the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.capture import open_messages, words
from wsrec.format.columns import batches, ordered_parts, part_batches
from wsrec.format.layout import MESSAGES

_Group = tuple[deque[Any], Exception | None]


def batches_ahead(path: Path, columns: Sequence[str], most: int, threads: int) -> Iterator[Any]:
    """The rows of a message file, as `wsrec.format.columns.batches` has them.

    Args:
        path: the file.
        columns: what of them to read.
        most: how many rows a batch may have.
        threads: how many threads decode, a row group each (of a sorted file a block); as many are in memory at most,
            and one more. With 0 a batch is decoded when it is asked for.

    Raises:
        CaptureError: it is no message file of this version.
        pa.ArrowException, OSError, ValueError: it is damaged further on; the rows before were yielded.

    """
    if not threads:
        yield from batches(path, columns, most)
        return
    with open_messages(path) as file:
        metadata, (parts, is_sorted) = file.metadata, ordered_parts(file)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Group]] = deque()
        following = iter(parts)
        try:
            while True:
                while len(waiting) <= threads and (groups := next(following, None)) is not None:
                    waiting.append(pool.submit(_decoded, path, metadata, columns, groups, most, is_sorted=is_sorted))
                if not waiting:
                    return
                group, error = waiting.popleft().result()
                while group:
                    yield group.popleft()
                if error is not None:
                    raise error
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(
    path: Path, metadata: pq.FileMetaData, columns: Sequence[str], groups: range, most: int, *, is_sorted: bool
) -> _Group:
    """The batches of some row groups, and what kept the rest of them from being read."""
    group: deque[Any] = deque()
    try:
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=words(MESSAGES)) as file:
            # Arrow's own threads are for several columns of one row group
            group.extend(part_batches(file, columns, groups, most, is_sorted=is_sorted, use_threads=False))
    except (pa.ArrowException, OSError, ValueError) as error:
        return group, error
    return group, None
