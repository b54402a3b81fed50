"""Which rows of the tables are wanted: by time, symbol and channel."""

from __future__ import annotations

import functools
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.capture_file import CaptureFile
from wsrec.tables.asked_names import spellings


class Selection(NamedTuple):
    """Which rows are wanted.

    Attributes:
        since, until: `recv_time` at or after, and before (ns since the epoch); of `gaps` those that reach into it.
        symbols: as the exchange writes them, in any case, or as `BTC/USDT`; empty: all.
        channels: names of the catalogue or common names (`trades`); empty: all.

    """

    since: int | None = None
    until: int | None = None
    symbols: frozenset[str] = frozenset()
    channels: tuple[str, ...] = ()

    def in_feed(self, feed: Feed) -> Selection:
        """The same with the symbols as a feed's messages carry them, folded."""
        return self._replace(symbols=frozenset[str]().union(*(spellings(feed, name) for name in self.symbols)))


EVERYTHING = Selection()


def outside(file: CaptureFile, selection: Selection) -> bool:
    """Whether no row of a file can be wanted, by its times."""
    too_late = selection.until is not None and file.first_time is not None and file.first_time >= selection.until
    too_early = selection.since is not None and file.last_time is not None and file.last_time < selection.since
    return too_late or too_early


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
