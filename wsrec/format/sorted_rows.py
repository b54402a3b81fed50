"""The rows of a file that `wsrec compact` sorted, in order of hand-off again.

Such a file consists of blocks of consecutive rows, each small enough to be held in memory. Within a block the rows are
sorted by channel, symbol and `seq`, and divided into row groups, so that statistics show where one symbol's rows are.
Whoever needs the order of hand-off sorts a block by `seq`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.metadata import METADATA_PREFIX
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.stored_json import decode_stored

SEQ = "seq"
SORTED_BY = ("channel", "symbol", SEQ)
"""The columns by which the rows of a block are sorted; null comes first."""

WORDS = ("channel", "symbol")
"""Columns that such a file stores as plain strings, as pyarrow ignores the statistics of others."""
SORTED_SCHEMA: pa.Schema = pa.schema(
    [field.with_type(pa.string()) if field.name in WORDS else field for field in MESSAGE_SCHEMA]
)
"""The schema of such a file."""

_KEY = f"{METADATA_PREFIX}sorted_blocks".encode()
_BATCH_ROWS = 1 << 14
# numbers of a block for each row that is wanted, up to which they are counted through
_SPARSE = 64


def sorted_blocks(file: pq.ParquetFile) -> list[range] | None:
    """The row groups of each block; None if the rows of a file are in order of hand-off.

    Raises:
        ValueError: the metadata do not fit the row groups.

    """
    stated = (file.metadata.metadata or {}).get(_KEY)
    try:
        counts = decode_stored(stated, list[int]) if stated is not None else []
    except msgspec.DecodeError as error:
        raise ValueError(f"sorted_blocks: {error}") from error
    if not counts:
        return None
    ends = np.cumsum(counts).tolist()
    if min(counts) < 1 or ends[-1] != file.metadata.num_row_groups:
        raise ValueError(f"sorted_blocks has {ends[-1]:,} row groups, the file {file.metadata.num_row_groups:,}")
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def in_order(batches: Iterable[pa.RecordBatch], most: int | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a block in order of hand-off.

    Args:
        batches: its rows, or some of them; they have `seq`.
        most: largest number of rows in a batch.

    """
    block = _joined([batch for batch in batches if batch.num_rows])
    if block is None:
        return
    order = _order(block.column(SEQ).to_numpy())
    rows = most or _BATCH_ROWS
    for first in range(0, len(order), rows):
        yield block.take(pa.array(order[first : first + rows]))


def as_it_lies(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of a block in one batch, sorted as in the file; none without rows."""
    block = _joined([batch for batch in batches if batch.num_rows])
    if block is not None:
        yield block


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch | None:
    """The batches, which are taken from the list, as one; None without any. Only one column is in memory twice."""
    if not batches:
        return None
    table = pa.Table.from_batches(batches).unify_dictionaries()
    batches.clear()
    schema, chunked = table.schema, table.columns[::-1]
    del table
    columns = []
    while chunked:
        columns.append(chunked.pop().combine_chunks())
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _order(seq: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The order of rows by `seq`, which is of consecutive rows or of some of them: quicker than sorting."""
    least = seq.min()
    span = int(seq.max() - least) + 1
    if span > _SPARSE * len(seq) + _BATCH_ROWS or len(seq) < 2:
        return np.argsort(seq, kind="stable")
    places = np.full(span, -1, np.int64)
    places[seq - least] = np.arange(len(seq))
    order = places[places >= 0]
    # a number that occurs twice, in a file that wsrec did not write
    return order if len(order) == len(seq) else np.argsort(seq, kind="stable")
