"""Doubts behind what was left out: a message, or a part of one, that makes no rows may have changed what follows it.

Its stream is suspect from there on: of a book up to the next snapshot, of other tables the first row after it. What was
left out of an earlier file is not known to a later one, whose books are unproved up to their first snapshot anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.table_columns import STATES, Table

_SUSPECT = STATES.index("suspect")
_HISTORY = STATES.index("history")


class LeftOutMessage(NamedTuple):
    """A message of which something was left out.

    Attributes:
        seq: its `seq`.
        channel: the catalogue's name of its channel.
        symbol: its symbol; None: of any of the channel.
        table: the table that lacks it; None: all.

    """

    seq: int
    channel: str
    symbol: str | None
    table: Table | None


class LeftOutDoubts:
    """Marks the rows of one feed of one session, in order, of one file."""

    def __init__(self) -> None:
        self._open: dict[Table, list[LeftOutMessage]] = {}

    def noted(self, table: Table, left_out: Sequence[LeftOutMessage]) -> list[LeftOutMessage]:
        """Take what was left out of messages, when they make no rows of a table; all that is open of the table."""
        known = self._open.setdefault(table, [])
        known += (each for each in left_out if each.table is None or each.table is table)
        return known

    def marked(self, table: Table, rows: pa.RecordBatch, left_out: Sequence[LeftOutMessage]) -> pa.RecordBatch:
        """Rows of a table with their states corrected.

        Args:
            table: the table.
            rows: its next rows.
            left_out: what was left out of their messages, and of those between and after them.

        """
        known = self.noted(table, left_out)
        if not known:
            return rows
        doubted = np.zeros(rows.num_rows, np.bool_)
        seqs = rows["seq"].to_numpy()
        self._open[table] = [each for each in known if not self._mark(table, rows, seqs, each, doubted)]
        if not doubted.any():
            return rows
        states = rows["state"].indices.to_numpy().copy()
        states[doubted & (states != _HISTORY)] = _SUSPECT
        state = pa.DictionaryArray.from_arrays(pa.array(states, pa.int32()), pa.array(STATES))
        return rows.set_column(rows.schema.get_field_index("state"), rows.schema.field("state"), state)

    def _mark(
        self,
        table: Table,
        rows: pa.RecordBatch,
        seqs: npt.NDArray[np.uint64],
        left_out: LeftOutMessage,
        doubted: npt.NDArray[np.bool_],
    ) -> bool:
        """Mark the rows that one message leaves in doubt; whether no later ones are."""
        of_stream = pc.equal(rows["channel"].cast(pa.string()), left_out.channel)
        if left_out.symbol is not None:
            of_stream = pc.and_(of_stream, pc.equal(rows["symbol"].cast(pa.string()), left_out.symbol))
        is_book = table is Table.BOOK_CHANGES
        # what is left of the message itself lacks something of the book; a trade beside it does not
        after = seqs >= left_out.seq if is_book else seqs > left_out.seq
        behind = np.flatnonzero(of_stream.to_numpy(zero_copy_only=False).astype(np.bool_) & after)
        if not len(behind):
            return False
        if not is_book:
            doubted[behind[seqs[behind] == seqs[behind[0]]]] = True
            return True
        clears = pc.equal(rows["action"].cast(pa.string()), "clear").to_numpy(zero_copy_only=False).astype(np.bool_)
        begins = behind[clears[behind] & (seqs[behind] > left_out.seq)]
        # with a symbol the stream is one book; without, each of the channel's has to begin anew: never closed here
        if len(begins) and left_out.symbol is not None:
            doubted[behind[behind < begins[0]]] = True
            return True
        doubted[behind] = True
        return False
