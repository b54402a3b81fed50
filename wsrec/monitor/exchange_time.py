"""Plausibility of exchange times, compared with the arrival of their messages.

Wrong times come from an exchange that changes the unit of its times, sends 0 for none, or has a wrong clock: a time in
seconds read as milliseconds is a day in January 1970. A time that is farther from the arrival than the feed's
`fields.time_tolerance` is implausible: the column is null there, and each channel is reported once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import Flags, Int64s, codes, known, values, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.decode.packed import json_of
from wsrec.decode.places import fitting_unit, row_places, stated_time
from wsrec.decode.scalars import INT64_MAX, INT64_MIN
from wsrec.feed.schema import Feed
from wsrec.feed.values import TimeUnit
from wsrec.monitor.check import Check, Finding, RowBatch, Setup, Signal
from wsrec.ring.events import EventKind

# Channels reported by name; a hostile peer can invent any number of names, so the rest are reported together
_CHANNELS = 100
# A time beyond int64 is read as one of these (`decode.scalars.time_of`)
_CLAMPED = (INT64_MIN, INT64_MAX)


class OddTime(NamedTuple):
    """Implausible times of a channel.

    Attributes:
        channel: the channel; None for messages without one, and for all other channels where there are too many.
        messages: how many messages have such a time.
        row: `seq` of the row of the first one.
        time: when that one arrived (ns since the epoch).
        stated: its time as received; cut if it is long.
        value: that time as it was read (ns since the epoch); None if it is beyond int64.
        unit: the unit in which that time would be plausible; None if none would.

    """

    channel: str | None
    messages: int
    row: int
    time: int
    stated: str
    value: int | None
    unit: TimeUnit | None


class TimeChecker:
    """Finds the implausible times of one feed, and counts them by channel.

    Cost: 5 ns a message where all are plausible.

    Args:
        feed: the feed.

    Attributes:
        tolerance: the accepted difference from the arrival (s), as text.

    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        seconds = feed.fields.time_tolerance if feed.fields else 0.0
        self.tolerance = f"{seconds:,.10g}"
        self._tolerance = round(seconds * 1e9)
        self._span = np.uint64(2 * self._tolerance)
        self._channels = feed.channel_by_any_name
        self._found: dict[str | None, OddTime] = {}
        self._known: set[str | None] = set()

    def odd(self, times: pa.Array, arrival: npt.NDArray[np.int64]) -> Flags | None:
        """Which of the times are too far from the arrival of their message; None if none is."""
        if times.null_count == len(times):
            return None
        # distance from the earliest plausible time; it wraps around below 0, so one comparison covers both ends
        after = values(times) - arrival
        after += self._tolerance
        far: Flags = after.view(np.uint64) > self._span
        if times.null_count and far.any():
            far &= known(times)
        return far if far.any() else None

    def count(
        self,
        far: Flags,
        columns: FieldColumns,
        arrival: npt.NDArray[np.int64],
        first: int,
        payload: pa.Array,
        binary: Flags,
    ) -> list[OddTime]:
        """Count the implausible times of a batch.

        Args:
            far: which they are, from `odd`.
            columns: the fields of the messages.
            arrival: when each arrived (ns since the epoch).
            first: `seq` of the first row.
            payload: `large_binary` array of the messages.
            binary: which of them were binary messages.

        Returns:
            the first one of each channel that had none before.

        """
        new = []
        rows = where_set(far)
        names = [*columns.channel.dictionary.to_pylist(), None]
        channels = codes(columns.channel, len(names) - 1)[rows]
        counts = np.bincount(channels)
        for code in where_set(counts).tolist():
            channel, count = names[code], int(counts[code])
            if channel not in self._found and len(self._found) >= _CHANNELS:
                channel = None
            seen = self._found.get(channel)
            if seen is not None:
                self._found[channel] = seen._replace(messages=seen.messages + count)
                continue
            row = int(rows[np.argmax(channels == code)])
            time, value = int(arrival[row]), columns.exchange_time[row].as_py()
            unit, stated = self._stated(channel, payload[row : row + 1], binary[row : row + 1], time)
            value = None if value in _CLAMPED else value
            fresh = channel not in self._known and len(self._known) <= _CHANNELS
            self._found[channel] = OddTime(channel, count, first + row, time, stated, value, unit)
            if fresh:
                self._known.add(channel)
                new.append(self._found[channel])
        return new

    def _stated(self, channel: str | None, payload: pa.Array, binary: Flags, time: int) -> tuple[TimeUnit | None, str]:
        """The unit in which a message's time would be plausible, and that time as received."""
        assert self._feed.fields is not None
        where = row_places(self._feed, self._channels.get(channel) if channel else None).time
        message, _ = json_of(self._feed.fields, payload, np.ones(1, np.bool_), binary)
        text = message[0].as_py()
        return fitting_unit(text, where, time, self._tolerance), stated_time(text, where)

    def take(self) -> list[OddTime]:
        """The counts since the last call, by channel."""
        found = list(self._found.values())
        self._found = {}
        return found


class ExchangeTimeCheck(Check):
    """Reports channels with implausible times.

    `without_odd` is called as fields are read, so that the recorded and the checked columns have the same times.
    """

    kinds = frozenset({EventKind.EXCHANGE_TIME_OFF})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._times = TimeChecker(setup.feed)
        self._new: list[OddTime] = []

    def without_odd(
        self, first: int, fields: FieldColumns, arrival: Int64s, payload: pa.Array, binary: Flags
    ) -> FieldColumns:
        """The fields of rows, the first of which has the `seq` `first`, without implausible times."""
        odd = self._times.odd(fields.exchange_time, arrival)
        if odd is None:
            return fields
        self._new += self._times.count(odd, fields, arrival, first, payload, binary)
        return fields._replace(exchange_time=pc.if_else(pa.array(~odd), fields.exchange_time, None))

    def rows(self, rows: RowBatch) -> Iterable[Finding]:
        """Report each channel that has such times, once."""
        if not self._new:
            return ()
        new, self._new = self._new, []
        tolerance = self._times.tolerance
        return [
            Finding(
                kind=Signal.ODD_TIME,
                time=int(rows.stage[0]),
                channel=odd.channel,
                detail={"unit": odd.unit, "tolerance": tolerance},
            )
            for odd in new
        ]

    def end_file(self, time: int) -> Iterator[Finding]:
        """Report the channels of the file."""
        for odd in self._times.take():
            detail = {"count": odd.messages, "unit": odd.unit, "stated": odd.stated, "value": odd.value}
            detail["seq"] = odd.row
            yield Finding(kind=EventKind.EXCHANGE_TIME_OFF, time=time, channel=odd.channel, detail=detail, utc=odd.time)
