"""Second copies: messages that came on two connections while one replaced the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, known, low_bits, where_set
from wsrec.monitor.stream_keys import NameNumbers, stream_keys
from wsrec.tables.breaks import Overlap
from wsrec.tables.session_events import SessionEvents

CONTENT = ("text", "data")
"""The columns of messages with their payload; without them nothing is known to be a copy."""

_Key = tuple[int, int | None, bytes | None]


class Copies(NamedTuple):
    """What is known of messages that came while two connections were open.

    Attributes:
        proved: which are second copies: the same payload came on the other connection before.
        possible: which others may be: of their number or at their time the other connection had the stream, too.

    """

    proved: Flags
    possible: Flags


class SecondCopies:
    """Finds the later copy of each message of an overlap.

    A message is a second copy if its stream, its number (where numbers are the same on each connection) and its payload
    are those of a message on the other connection before; a number that counts the messages of the connection is no
    part of the payload. What differs may be another message, as an exchange may use numbers again, or the same with
    another time of sending. It is possibly a copy if its number came on the other connection before; where there are no
    numbers, if it came on the new connection before that took over, or on the old one after that, and the other
    connection was subscribed to its stream.

    Args:
        events: the events of the session.
        numbered: returns by channel number whether its messages have such numbers.

    """

    def __init__(self, events: SessionEvents, numbered: Callable[[], Flags]) -> None:
        self._events, self._overlaps, self._numbered = events, events.overlaps, numbered
        # of each overlap, by stream, number and payload, how often each connection brought it
        self._came: dict[int, dict[_Key, dict[int, int]]] = {}

    def among(self, rows: pa.RecordBatch, channels: Int64s, symbol_numbers: NameNumbers) -> Copies:
        """Which rows are second copies, or may be.

        Args:
            rows: messages in order: the columns of `wsrec.tables.trust`, and those of `CONTENT`.
            channels: the number of each one's channel.
            symbol_numbers: gives the numbers of symbols.

        """
        found = Copies(np.zeros(rows.num_rows, np.bool_), np.zeros(rows.num_rows, np.bool_))
        if not self._overlaps or not rows.num_rows:
            return found
        handoff, conns = rows.column("handoff_monotonic").to_numpy(), rows.column("conn").to_numpy()
        for place, overlap in enumerate(self._overlaps):
            if overlap.start > handoff[-1]:
                continue
            if overlap.end < handoff[0]:
                self._came.pop(place, None)
                continue
            inside = (handoff >= overlap.start) & (handoff <= overlap.end)
            inside &= ((conns == overlap.old) | (conns == overlap.new)) & known(rows.column("channel").indices)
            within = where_set(inside)
            if len(within):
                symbols = symbol_numbers.of(rows.column("symbol"))[within]
                streams = stream_keys(0, channels[within], symbols)
                self._compare(found, rows, within, streams, channels, place)
                self._by_time(found, rows, within, channels, overlap)
        found.possible[found.proved] = False
        return found

    def _compare(
        self, found: Copies, rows: pa.RecordBatch, within: Places, streams: Any, channels: Int64s, place: int
    ) -> None:
        """Hold each message against those that came on the other connection."""
        came = self._came.setdefault(place, {})
        conns = rows.column("conn").to_numpy()[within].tolist()
        has = known(rows.column("exchange_seq"))[within]
        shared = (has & self._numbered()[channels[within]]).tolist()
        numbers = low_bits(rows.column("exchange_seq"))[within].tolist()
        counts_messages = self._events.feed.sequence is not None
        own = [str(number) if counts_messages and known else None for number, known in zip(numbers, has, strict=True)]
        each = zip(within.tolist(), streams.tolist(), conns, shared, numbers, _digests(rows, within, own), strict=True)
        for row, stream, conn, is_shared, number, digest in each:
            number = number if is_shared else None
            if digest is not None:
                times = came.setdefault((stream, number, digest), {})
                times[conn] = times.get(conn, 0) + 1
                found.proved[row] |= any(times[conn] <= count for other, count in times.items() if other != conn)
            if is_shared:
                times = came.setdefault((stream, number, None), {})
                times[conn] = times.get(conn, 0) + 1
                found.possible[row] |= next(iter(times)) != conn

    def _by_time(self, found: Copies, rows: pa.RecordBatch, within: Places, channels: Int64s, overlap: Overlap) -> None:
        """Mark what may be a copy by its time."""
        handoff, conns = (rows.column(name).to_numpy()[within] for name in ("handoff_monotonic", "conn"))
        unshared = ~(known(rows.column("exchange_seq"))[within] & self._numbered()[channels[within]])
        early = unshared & (conns == overlap.new) & (handoff < overlap.taken)
        late = unshared & (conns == overlap.old) & (handoff > overlap.taken)
        for chosen, other in ((within[early], overlap.old), (within[late], overlap.new)):
            self._subscribed(found, rows, chosen, other, overlap.end)

    def _subscribed(self, found: Copies, rows: pa.RecordBatch, chosen: Places, other: int, until: int) -> None:
        """Mark those of some rows to whose streams the other connection was subscribed."""
        since: dict[tuple[str | None, str | None], int | None] = {}
        channels, symbols = (rows.column(name).take(pa.array(chosen)).to_pylist() for name in ("channel", "symbol"))
        handoff = rows.column("handoff_monotonic").to_numpy()[chosen].tolist()
        for row, channel, symbol, time in zip(chosen.tolist(), channels, symbols, handoff, strict=True):
            stream = channel, symbol
            if stream not in since:
                since[stream] = self._events.subscribed_since(other, channel, symbol, until)
            begun = since[stream]
            found.possible[row] |= begun is not None and begun <= time


def _digests(rows: pa.RecordBatch, within: Places, numbers: list[str | None]) -> Iterator[bytes | None]:
    """A digest of each payload, without the number of its message in its connection; None where it is not known."""
    names = [name for name in CONTENT if name in rows.schema.names]
    chosen = [rows.column(name).take(pa.array(within)).to_pylist() for name in names]
    for number, *payloads in zip(numbers, *chosen, strict=True):
        payload = next((each for each in payloads if each is not None), None)
        if payload is None:
            yield None
            continue
        content = payload.encode() if isinstance(payload, str) else payload
        if number is not None:
            content = content.replace(number.encode(), b"", 1)
        yield hashlib.blake2b(content, digest_size=16).digest()
