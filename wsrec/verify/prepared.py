"""Rows made ready to be judged: decoded, their fields read, and checked by themselves. Any thread may do it ahead.

What is left needs the rows before: the order of rows, the gap rules, streams and their intervals.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import codes
from wsrec.decode.columns import FieldColumns
from wsrec.decode.implementation import FieldReader
from wsrec.feed.schema import Feed
from wsrec.format.columns import batches
from wsrec.format.schema import UTC_NS
from wsrec.verify.ahead import Ahead
from wsrec.verify.row_checks import RowChecks, checked
from wsrec.verify.rows import COLUMNS, Rows, Words

# as fast as larger ones, whose payloads do not fit into the processor's caches, in less memory
_BATCH_ROWS = 1 << 14

READ = (
    ("channel", pa.string()),
    ("symbol", pa.string()),
    ("exchange_seq", pa.uint64()),
    ("exchange_time", pa.int64()),
)
"""The columns that are read from the payload."""


class Prepared(NamedTuple):
    """A batch of rows, ready to be judged.

    Attributes:
        rows: the rows.
        checks: the checks of them alone.
        fields: their fields, with implausible times; None where they depend on the messages before.
        same: those of the columns `READ` that are known to be equal to the fields.

    """

    rows: Rows
    checks: RowChecks
    fields: FieldColumns | None
    same: frozenset[str]


class Preparation:
    """Makes the rows of a session's files ready.

    Args:
        feed: the session's feed; None if no metadata can be read.

    """

    def __init__(self, feed: Feed | None) -> None:
        self._feed = feed
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[type[Preparation], tuple[Feed | None]]:
        return Preparation, (self._feed,)

    def file(self, path: Path, conns: AbstractSet[int], ahead: Ahead) -> Iterator[Prepared]:
        """The rows of a message file in order of hand-off, a batch at a time.

        Args:
            path: the file.
            conns: the connections that it may have rows of.
            ahead: the threads that prepare, a batch each.

        Raises:
            CaptureError: it is no message file of this version.
            pa.ArrowException, OSError, ValueError: it is damaged further on; the rows before were yielded.

        """
        # Arrow's own threads decode several columns of a row group: more than one thread beside this one
        found = batches(path, COLUMNS, _BATCH_ROWS, use_threads=ahead.threads > 1)
        yield from ahead.map(lambda batch: self._prepared(batch, conns), (each for each in found if each.num_rows))

    def _prepared(self, batch: pa.RecordBatch, conns: AbstractSet[int]) -> Prepared:
        rows = Rows(batch)
        checks = checked(rows, conns)
        feed = self._feed
        # the meaning of ids is learned from messages, in their order
        if feed is None or (feed.fields is not None and feed.fields.ids is not None):
            return Prepared(rows, checks, None, frozenset())
        fields = self._reader(feed).read(rows.payload, rows.carried, rows.conns, rows.binary)
        return Prepared(rows, checks, fields, _same_columns(rows, fields))

    def _reader(self, feed: Feed) -> Any:
        """The reader of this thread: it keeps the names that it met."""
        reader = getattr(self._of_thread, "reader", None)
        if reader is None:
            reader = self._of_thread.reader = FieldReader(feed)
        return reader


def _same_columns(rows: Rows, fields: FieldColumns) -> frozenset[str]:
    """The columns that are equal to the payload's."""
    same = set()
    of = {"channel": rows.channels, "symbol": rows.symbols}
    for name, kind in READ:
        read = getattr(fields, name)
        if name in of:
            equal = same_words(of[name], read)
        else:
            # whatever cannot be cast is not equal
            with contextlib.suppress(pa.ArrowException):
                equal = stored_as_read(rows, name).cast(kind).equals(read.cast(kind))
        if equal:
            same.add(name)
    return frozenset(same)


def stored_as_read(rows: Rows, name: str) -> pa.Array:
    """A stored column that is read from the payload too; times in ns, also if another tool rewrote them."""
    stored = rows.table.column(name)
    return stored.cast(UTC_NS) if name == "exchange_time" else stored


def same_words(stored: Words, read: pa.DictionaryArray) -> bool:
    """Whether two columns of words are known to be equal, by their codes alone."""
    places, names = stored
    of_name = {name: code for code, name in enumerate(names)}
    null = len(names) - 1
    as_stored = np.array([*(of_name.get(name, -1) for name in read.dictionary.to_pylist()), null])
    return bool((as_stored[codes(read, len(as_stored) - 1)] == places).all())
