"""The rows of a table that are wanted."""

from __future__ import annotations

import functools

import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.table_columns import Table
from wsrec.format.selection import Selection


def chosen_rows(table: Table, batch: pa.RecordBatch, selection: Selection) -> pa.RecordBatch:
    """The rows of a batch that are wanted."""
    begin, end = ("to", "from") if table is Table.GAPS else ("recv_time", "recv_time")
    kept = []
    if selection.since is not None:
        kept.append(pc.greater_equal(batch[begin].view(pa.int64()), selection.since))
    if selection.until is not None:
        kept.append(pc.less(batch[end].view(pa.int64()), selection.until))
    if selection.symbols:
        column = batch["symbol"]
        of_names = [name is None or name.casefold() in selection.symbols for name in column.dictionary.to_pylist()]
        kept.append(pa.array(of_names, pa.bool_()).take(column.indices).fill_null(True))
    # a gap without a time, or of all symbols, reaches everywhere
    masks = [mask.fill_null(table is Table.GAPS) for mask in kept]
    return batch.filter(functools.reduce(pc.and_, masks)) if masks else batch
