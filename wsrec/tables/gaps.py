"""The table `gaps`: where messages of a session are or may be missing, for tables that are used without the events."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags
from wsrec.feed.table_columns import Table
from wsrec.format.columns import times, words
from wsrec.tables.breaks import AFTERWARDS, Break, BreakKind
from wsrec.tables.schema import table_schema
from wsrec.tables.session_events import SessionEvents

COLUMNS = ("seq", "conn", "recv_time", "handoff_monotonic", "channel", "symbol")
"""The columns of messages that are needed."""

_SCHEMA = table_schema(Table.GAPS)


def gap_rows(
    events: SessionEvents,
    session: str,
    file: int,
    rows: pa.RecordBatch | pa.Table,
    channels: Collection[str] | None = None,
) -> pa.RecordBatch:
    """The rows of the events in one file.

    `seq` is that of the row after the break, or the one that follows the file's last row where none came in it. `from`
    is the time of the message before the missing ones, as far as it is in this file.

    Args:
        events: the events of the session.
        session: its id.
        file: the file's number.
        rows: the messages of the file with the same number, in order (`COLUMNS`); may be empty.
        channels: only breaks that concern one of these names of channels; None: all.

    """
    messages = _Messages(rows)
    found = [
        _row(events.feed.name, session, each, messages)
        for each, number in zip(events.breaks, events.files, strict=True)
        if number == file
        and each.kind not in (BreakKind.RESUMED, BreakKind.END)
        and (channels is None or each.channel is None or each.channel in channels)
    ]
    columns = [_column([row[field.name] for row in found], field.type) for field in _SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def _row(feed: str, session: str, found: Break, messages: _Messages) -> dict[str, Any]:
    seq = found.seq if found.seq is not None else messages.after(found.place)
    since = found.since if found.since is not None else messages.time_before(found, seq)
    return {
        "feed": feed,
        "session": session,
        "seq": seq,
        "from": since,
        "to": found.until,
        "conn": found.conn,
        "channel": found.channel,
        "symbol": found.symbol,
        "kind": found.kind.value,
        "missing": found.missing,
        "detail": found.detail,
    }


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


class _Messages:
    """The messages of a file: which comes after a moment, and which before a row in its stream."""

    def __init__(self, rows: pa.RecordBatch | pa.Table) -> None:
        whole = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._whole = whole.unify_dictionaries().combine_chunks()
        self._seq = self._numpy("seq")
        self._handoff = np.maximum.accumulate(self._numpy("handoff_monotonic"))

    def _numpy(self, name: str) -> Any:
        return self._whole.column(name).to_numpy()

    def after(self, place: int) -> int | None:
        """`seq` of the first row handed off at or after a moment; None if nothing comes after it."""
        if place == AFTERWARDS or not len(self._seq):
            return None
        at = int(np.searchsorted(self._handoff, place))
        return int(self._seq[at]) if at < len(self._seq) else int(self._seq[-1]) + 1

    def time_before(self, found: Break, seq: int | None) -> int | None:
        """`recv_time` of the last message of the break's streams before a row."""
        if seq is None or not len(self._seq):
            return None
        stop = int(np.searchsorted(self._seq, seq))
        if not stop:
            return None
        before = self._whole.slice(0, stop)
        mine = np.ones(stop, np.bool_)
        if found.conns is not None:
            mine &= np.isin(before.column("conn").to_numpy(), list(found.conns))
        wanted = (("channel", found.channels), ("symbol", None if found.symbol is None else {found.symbol}))
        for name, names in wanted:
            if names is not None:
                mine &= _among(before, name, names)
        rows = np.flatnonzero(mine)
        if not len(rows):
            return None
        moments, _ = times(_Batch(before.slice(int(rows[-1]), 1)), "recv_time")
        return int(moments[0])


class _Batch:
    """A table's columns, each in one piece."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def column(self, name: str) -> pa.Array:
        """The column."""
        return self._table.column(name).combine_chunks()


def _among(table: pa.Table, name: str, names: set[str] | frozenset[str]) -> Flags:
    codes, known = words(_Batch(table), name)
    found: Flags = np.array([word in names for word in known])[codes]
    return found
