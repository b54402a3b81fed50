"""Sorts the rows of a message file block by block, and cuts each block into row groups.

A block is as many consecutive rows as a reader that needs the order of hand-off can hold (`wsrec.format.sorted_rows`).
A row group has the rows of one stream, or of several small ones of one channel, so that its statistics exclude all
others: one symbol's question reads one or two of some thirty groups of each block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.format.columns import words
from wsrec.format.sorted_rows import SEQ

BLOCK_BYTES = 64 << 20
"""Bytes of a block's rows in memory."""
READ_ROWS = 1 << 13
"""Rows that are read at a time."""

# each row group takes some 4 kB and 50 us: smaller ones would take more than sorting wins
GROUP_ROWS = 1 << 13
_MOST_ROWS = 1 << 16

Ints = npt.NDArray[np.int64]


class NotInOrderError(Exception):
    """The rows of a file are not in order of `seq`, so that a reader could not restore their order."""


def blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join batches in order of hand-off to blocks.

    Raises:
        NotInOrderError: `seq` does not increase from row to row.

    """
    held: list[pa.RecordBatch] = []
    size, last = 0, -1
    for batch in batches:
        seq = batch.column(SEQ).to_numpy().astype(np.int64)
        if seq[0] <= last or (np.diff(seq) <= 0).any():
            raise NotInOrderError(f"seq {int(seq[0])} or one behind it is not above the one before")
        last = int(seq[-1])
        if held and size + batch.nbytes > BLOCK_BYTES:
            yield _joined(held)
            held, size = [], 0
        held.append(batch)
        size += batch.nbytes
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    (block,) = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
    return block


def row_groups(block: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the row groups of a block, whose rows are in order of `seq`."""
    channels, symbols = _ranks(block, "channel"), _ranks(block, "symbol")
    # stable: each stream's rows remain in order of seq
    order = np.lexsort((symbols, channels))
    ends = _group_ends(channels[order], symbols[order])
    first = 0
    for end in ends:
        yield block.take(pa.array(order[first:end]))
        first = end


def _ranks(block: pa.RecordBatch, name: str) -> Ints:
    """The place of each row's word among the words in order, -1 for null."""
    found, known = words(block, name)
    ranks = np.full(len(known), -1, np.int64)
    named = sorted((word, at) for at, word in enumerate(known) if word is not None)
    ranks[[at for _, at in named]] = np.arange(len(named))
    of_rows: Ints = ranks[found]
    return of_rows


def _group_ends(channels: Ints, symbols: Ints) -> list[int]:
    """Where each row group ends, in sorted rows."""
    new_channel = np.diff(channels) != 0
    starts = np.flatnonzero(new_channel | (np.diff(symbols) != 0)) + 1
    begins = [0, *starts.tolist()]
    opens_channel = [False, *new_channel[starts - 1].tolist()]
    ends: list[int] = []
    group = 0
    for begin, stop, opens in zip(begins, [*begins[1:], len(channels)], opens_channel, strict=True):
        full = begin - group >= GROUP_ROWS // 4 and (opens or stop - group > GROUP_ROWS)
        if full:
            ends.append(begin)
            group = begin
        while stop - group > _MOST_ROWS:
            group += _MOST_ROWS
            ends.append(group)
    return [*ends, len(channels)]
