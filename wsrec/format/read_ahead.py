"""Rows of a message file, decoded ahead by threads: Arrow decodes without the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.capture import open_messages
from wsrec.format.columns import row_batches

_Group = tuple[deque[Any], Exception | None]


def batches_ahead(path: Path, columns: Sequence[str], most: int, threads: int) -> Iterator[Any]:
    """The rows of a message file, as `wsrec.format.columns.batches` has them.

    Args:
        path: the file.
        columns: what of them to read.
        most: how many rows a batch may have.
        threads: how many threads decode, a row group each; as many row groups are in memory at most, and one more. With
            0 a batch is decoded when it is asked for.

    Raises:
        CaptureError: it is no message file of this version.
        pa.ArrowException, OSError, ValueError: it is damaged further on; the rows before were yielded.

    """
    with open_messages(path) as file:
        if not threads:
            yield from row_batches(file, columns, most=most)
            return
        metadata = file.metadata
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Group]] = deque()
        following = iter(range(metadata.num_row_groups))
        try:
            while True:
                while len(waiting) <= threads and (number := next(following, None)) is not None:
                    waiting.append(pool.submit(_decoded, path, metadata, columns, number, most))
                if not waiting:
                    return
                group, error = waiting.popleft().result()
                while group:
                    yield group.popleft()
                if error is not None:
                    raise error
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(path: Path, metadata: pq.FileMetaData, columns: Sequence[str], number: int, most: int) -> _Group:
    """The batches of a row group, and what kept the rest of them from being read."""
    group: deque[Any] = deque()
    try:
        with pq.ParquetFile(path, metadata=metadata) as file:
            # Arrow's own threads are for several columns of one row group
            group.extend(row_batches(file, columns, [number], most, use_threads=False))
    except (pa.ArrowException, OSError, ValueError) as error:
        return group, error
    return group, None
