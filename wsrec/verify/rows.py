"""Rows of a message file as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.format.columns import Bools, times, words
from wsrec.format.schema import SEGMENT_COLUMNS
from wsrec.monitor.check import RowColumns, SnapshotRow
from wsrec.stages import HANDOFF, STEPS

COLUMNS = (
    "seq",
    "conn",
    "recv_time",
    "recv_source",
    HANDOFF.column,
    *(step.key for step in STEPS),
    "handoff_monotonic",
    "frame_in_read",
    *SEGMENT_COLUMNS,
    "direction",
    "opcode",
    "request",
    "channel",
    "symbol",
    "exchange_time",
    "exchange_seq",
    "text",
    "data",
)

Words = tuple[npt.NDArray[np.integer], list[str | None]]
"""A column of words as codes, and the word of each; the last code is null's."""


class Rows:
    """Rows of a message file as columns.

    Attributes:
        table: the rows as stored in the file.
        stage: hand-off of each row (ns on the stage clock).
        conns: connection of each row.
        payload: `large_binary` array.
        carried: received rows that are text or binary.
        received: rows that were received.
        binary: rows that are binary.
        messages: rows that are text or binary.
        sent, fetched: rows that were sent, and those that were fetched over HTTP.
        direction, opcode, channels, symbols: the columns of words.

    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.stage = table.column("handoff_monotonic").to_numpy()
        self.conns = table.column("conn").to_numpy(zero_copy_only=False)
        self.seq = table.column("seq").to_numpy(zero_copy_only=False)
        self.direction, self.opcode = (words(table, name) for name in ("direction", "opcode"))
        self.received, self.sent, self.fetched = (among(self.direction, {way}) for way in ("recv", "sent", "rest"))
        self.binary, self.messages = among(self.opcode, {"binary"}), among(self.opcode, {"text", "binary"})
        self.carried = self.received & self.messages
        self.payload = _payload(table.column("text"), table.column("data"))
        self.channels, self.symbols = words(table, "channel"), words(table, "symbol")

    def columns(self, start: int, stop: int) -> RowColumns:
        """A range of the rows in the form that the monitor reads."""
        span = slice(start, stop)
        part = self.table.slice(start, stop - start)
        requests = part.column("request").fill_null(0).to_numpy(zero_copy_only=False)
        return RowColumns(
            first=int(self.seq[start]),
            conns=self.conns[span],
            stage=self.stage[span],
            arrival=times(part, "recv_time")[0],
            payload=self.payload[span],
            received=self.received[span],
            carries=self.messages[span],
            readable=self.carried[span],
            binary=self.binary[span],
            requests=requests,
            snapshots={row: _snapshot(part, row) for row in np.flatnonzero(self.fetched[span]).tolist()},
        )


def _snapshot(part: Any, row: int) -> SnapshotRow:
    return SnapshotRow(*(part.column(name)[row].as_py() for name in ("channel", "symbol", "exchange_seq")))


def among(codes: tuple[npt.NDArray[np.integer], list[str | None]], known: set[str]) -> Bools:
    """Mask of a column's values that are in `known`."""
    are = np.array([word in known for word in codes[1]])
    # the last code is null's
    if len(are) == 2:
        return np.full(len(codes[0]), are[0]) if not codes[0].any() else are[codes[0]]
    found: Bools = are[codes[0]]
    return found


def _payload(text: pa.Array, data: pa.Array) -> pa.Array:
    """The payloads as `large_binary`; those of a batch of only texts, or none, are not copied."""
    if not text.null_count:
        return text.cast(pa.binary()).cast(pa.large_binary())
    if not data.null_count:
        return data.cast(pa.large_binary())
    # of a row with neither of them, which is reported, the checks read an empty payload
    return pc.coalesce(text.cast(pa.binary()), data, pa.scalar(b"", pa.binary())).cast(pa.large_binary())
