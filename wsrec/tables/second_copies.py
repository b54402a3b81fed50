"""Second copies: messages that came on two connections while one replaced the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, known, low_bits, where_set
from wsrec.monitor.stream_keys import NameNumbers, stream_keys
from wsrec.tables.session_events import SessionEvents


class SecondCopies:
    """Finds the later copy of each message of an overlap.

    Numbers that are the same on each connection identify a message. Where there are none, the messages of the new
    connection count from the moment when it took over, and those of the old one until then; but where the other
    connection was not subscribed to the stream, all of them do.

    Args:
        events: the events of the session.
        numbered: returns by channel number whether its messages have such numbers.

    """

    def __init__(self, events: SessionEvents, numbered: Callable[[], Flags]) -> None:
        self._events, self._overlaps, self._numbered = events, events.overlaps, numbered
        # of each overlap, by stream and number, the connection that brought it first
        self._first: dict[int, dict[tuple[int, int], int]] = {}

    def among(self, rows: pa.RecordBatch, channels: Int64s, symbol_numbers: NameNumbers) -> Flags:
        """Which rows are second copies."""
        found = np.zeros(rows.num_rows, np.bool_)
        if not self._overlaps or not rows.num_rows:
            return found
        handoff, conns = rows.column("handoff_monotonic").to_numpy(), rows.column("conn").to_numpy()
        for place, overlap in enumerate(self._overlaps):
            if overlap.start > handoff[-1]:
                continue
            if overlap.end < handoff[0]:
                self._first.pop(place, None)
                continue
            inside = (handoff >= overlap.start) & (handoff <= overlap.end)
            inside &= (conns == overlap.old) | (conns == overlap.new)
            within = where_set(inside)
            has = known(rows.column("exchange_seq"))[within] & self._numbered()[channels[within]]
            early = (conns[within] == overlap.new) & (handoff[within] < overlap.taken)
            late = (conns[within] == overlap.old) & (handoff[within] > overlap.taken)
            self._by_time(found, rows, within[~has & early], overlap.old, overlap.end)
            self._by_time(found, rows, within[~has & late], overlap.new, overlap.end)
            numbered = within[has]
            if len(numbered):
                symbols = symbol_numbers.of(rows.column("symbol"))[numbered]
                streams = stream_keys(0, channels[numbered], symbols)
                numbers = low_bits(rows.column("exchange_seq"))[numbered]
                first = self._first.setdefault(place, {})
                of = zip(numbered.tolist(), streams.tolist(), numbers.tolist(), conns[numbered].tolist(), strict=True)
                for row, stream, number, conn in of:
                    found[row] |= first.setdefault((stream, number), conn) != conn
        return found

    def _by_time(self, found: Flags, rows: pa.RecordBatch, chosen: Places, other: int, until: int) -> None:
        """Mark those of some rows as second copies to whose streams the other connection was subscribed."""
        since: dict[tuple[str | None, str | None], int | None] = {}
        channels, symbols = (rows.column(name).take(pa.array(chosen)).to_pylist() for name in ("channel", "symbol"))
        handoff = rows.column("handoff_monotonic").to_numpy()[chosen].tolist()
        for row, channel, symbol, time in zip(chosen.tolist(), channels, symbols, handoff, strict=True):
            stream = channel, symbol
            if stream not in since:
                since[stream] = self._events.subscribed_since(other, channel, symbol, until)
            begun = since[stream]
            found[row] |= begun is not None and begun <= time
