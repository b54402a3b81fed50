"""Rows of a capture as numpy arrays, batch by batch, in memory independent of the file size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.arrays import codes
from wsrec.format.capture import open_messages
from wsrec.format.schema import UTC_NS
from wsrec.format.sorted_rows import SEQ, in_order, sorted_blocks
from wsrec.format.stage_times import derived, stored_columns
from wsrec.histogram import Int64s

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 64 << 20

Bools = npt.NDArray[np.bool_]


def batches(path: Path, columns: Sequence[str], most: int | None = None, *, use_threads: bool = True) -> Iterator[Any]:
    """The rows of a message file in order of hand-off, so many at a time as fit into some 64 MB.

    Args:
        path: the file.
        columns: what of them to read, as for `row_batches`.
        most: how many rows a batch may have.
        use_threads: whether Arrow decodes several columns at the same time.

    Raises:
        CaptureError: it is no message file of this version.
        pa.ArrowException, OSError, ValueError: it is damaged further on.

    """
    with open_messages(path) as file:
        parts, is_sorted = ordered_parts(file)
        for groups in parts:
            yield from part_batches(file, columns, groups, most, is_sorted=is_sorted, use_threads=use_threads)


def ordered_parts(file: pq.ParquetFile) -> tuple[list[range], bool]:
    """The row groups of the parts of a file that follow one another in order of hand-off, and whether it was sorted.

    Raises:
        ValueError: the metadata do not fit the row groups.

    """
    blocks = sorted_blocks(file)
    if blocks is not None:
        return blocks, True
    return [range(group, group + 1) for group in range(file.metadata.num_row_groups)], False


def part_batches(
    file: pq.ParquetFile,
    columns: Sequence[str],
    groups: Sequence[int],
    most: int | None,
    *,
    is_sorted: bool,
    use_threads: bool = True,
) -> Iterator[Any]:
    """The rows of one part of a file (`ordered_parts`) in order of hand-off; arguments as of `row_batches`."""
    if not is_sorted:
        yield from row_batches(file, columns, groups, most, use_threads=use_threads)
        return
    needed = [*columns, *({SEQ} - set(columns))]
    for batch in in_order(row_batches(file, needed, groups, use_threads=use_threads), most):
        yield batch.select(list(columns))


def row_batches(
    file: pq.ParquetFile,
    columns: Sequence[str],
    groups: Sequence[int] | None = None,
    most: int | None = None,
    *,
    use_threads: bool = True,
) -> Iterator[Any]:
    """The rows of an open file as they lie in it, so many at a time as fit into some 64 MB.

    Args:
        file: the file.
        columns: what of them to read; for a message file also derived ones (`wsrec.format.stage_times`).
        groups: the row groups to read; all where None.
        most: how many rows a batch may have.
        use_threads: whether Arrow decodes several columns at the same time.

    Raises:
        pa.ArrowException, OSError, ValueError: it is damaged.

    """
    stored = stored_columns(columns)
    chosen = range(file.metadata.num_row_groups) if groups is None else groups
    for number in chosen:
        group = file.metadata.row_group(number)
        width = max(group.total_byte_size / max(group.num_rows, 1), 1.0)
        rows = int(min(most or _BATCH_ROWS, max(_BATCH_BYTES // width, 1)))
        chunks = file.iter_batches(batch_size=rows, row_groups=[number], columns=stored, use_threads=use_threads)
        for batch in chunks:
            yield derived(batch, columns)


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
    return codes(column, len(known) - 1), known
