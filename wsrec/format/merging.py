"""Merges the record batches of several files into one order, holding one batch of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LAST = np.iinfo(np.int64).max


def merged(chains: Sequence[Iterator[pa.RecordBatch]], order: str) -> Iterator[pa.RecordBatch]:
    """Merge several chains of batches by a column that increases in each; holds one batch per chain.

    Args:
        chains: batches of one schema, none of them empty.
        order: the column; null comes last.

    """
    if len(chains) == 1:
        yield from chains[0]
        return
    heads = [(chain, _head(chain, order)) for chain in chains]
    while live := [(chain, head) for chain, head in heads if head is not None]:
        # up to the first row that another chain may still precede
        cut = min(int(keys[-1]) for _, (_, keys) in live)
        parts, keys_of_parts, heads = [], [], []
        for chain, (batch, keys) in live:
            count = int(np.searchsorted(keys, cut, side="right"))
            if count:
                parts.append(batch.slice(0, count))
                keys_of_parts.append(keys[:count])
            rest = (batch.slice(count), keys[count:]) if count < len(keys) else _head(chain, order)
            heads.append((chain, rest))
        if len(parts) == 1:
            yield parts[0]
            continue
        table = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks()
        rows = np.argsort(np.concatenate(keys_of_parts), kind="stable")
        yield from table.take(pa.array(rows)).combine_chunks().to_batches()


def _head(chain: Iterator[pa.RecordBatch], order: str) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]] | None:
    batch = next(chain, None)
    if batch is None:
        return None
    keys = batch.column(order).fill_null(_LAST).to_numpy(zero_copy_only=False)
    # where the stage clock was corrected backwards, rows stay in the order in which they were written
    return batch, np.maximum.accumulate(keys)
