"""The rows of a capture as numpy sees them: a batch at a time, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.format.capture import open_messages
from wsrec.format.schema import UTC_NS
from wsrec.histogram import Int64s

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 64 << 20

Bools = npt.NDArray[np.bool_]


def batches(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of a message file, so many at a time as fit into some 64 MB.

    Raises:
        CaptureError: it is no message file of this version.
        pa.ArrowException, OSError, ValueError: it is damaged further on.

    """
    with open_messages(path) as file:
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1.0)
        rows = int(min(_BATCH_ROWS, max(_BATCH_BYTES // max(widest, 1.0), 1)))
        yield from file.iter_batches(batch_size=rows, columns=list(columns))


def times(batch: Any, name: str) -> tuple[Int64s, Bools]:
    """A column of times (ns since the epoch, 0 where null), and where it is not null."""
    column = batch.column(name)
    if column.type != UTC_NS:  # rewritten by another tool
        column = column.cast(UTC_NS)
    if not column.null_count:
        return column.view(pa.int64()).to_numpy(), np.ones(len(column), np.bool_)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return column.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), known


def words(batch: Any, name: str) -> tuple[npt.NDArray[np.integer], list[str | None]]:
    """A column of words as codes, and the word of each code; the last code is null's."""
    column = batch.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    known = [*column.dictionary.to_pylist(), None]
    return column.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False), known


def first_line(error: Exception) -> str:
    """What an error says first; Arrow's go on with a stack."""
    return (str(error).splitlines() or [type(error).__name__])[0]
