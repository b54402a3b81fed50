"""The rate of a recording: messages received in each second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsrec.histogram import Int64s

SECOND = 1_000_000_000
_HOUR = 3600


class Seconds:
    """Messages in each second of UTC, in 6 bytes for each second that has some: 22 kB an hour, 190 MB a year.

    Seconds are kept by their hour, so that a stray time costs no more than an hour of its own.
    """

    def __init__(self) -> None:
        # by hour since the epoch: its seconds that have messages, ascending, and how many
        self._hours: dict[int, tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]] = {}

    def add(self, recv_time: Int64s) -> None:
        """Count messages by their receive times (ns since the epoch)."""
        if not len(recv_time):
            return
        first, last = int(recv_time.min()) // SECOND, int(recv_time.max()) // SECOND
        if last - first < _HOUR:
            counts = np.bincount((recv_time - first * SECOND) // SECOND)
            seconds = counts.nonzero()[0]
            counts, seconds = counts[seconds], seconds + first
        else:
            # not those in between: a stray time must not cost memory
            seconds, counts = np.unique(recv_time // SECOND, return_counts=True)
        hours, within = np.divmod(seconds, _HOUR)
        for hour in np.unique(hours).tolist():
            of_hour = hours == hour
            self._count(hour, within[of_hour], counts[of_hour])

    def _count(self, hour: int, seconds: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]) -> None:
        every = np.zeros(_HOUR, np.int64)
        known = self._hours.get(hour)
        if known is not None:
            every[known[0]] = known[1]
        np.add.at(every, seconds, counts)
        used = np.flatnonzero(every)
        self._hours[hour] = used.astype(np.uint16), every[used].astype(np.uint32)

    def merge(self, other: Seconds) -> None:
        """Add the messages of another."""
        for hour, (seconds, counts) in other._hours.items():
            if hour in self._hours:
                self._count(hour, seconds, counts)
            else:
                self._hours[hour] = seconds, counts

    def peak(self) -> tuple[int, int]:
        """The largest number of messages in one second, and the beginning of the first such second (ns)."""
        most, at = 0, 0
        for hour in sorted(self._hours):
            seconds, counts = self._hours[hour]
            place = int(np.argmax(counts))
            if counts[place] > most:
                most, at = int(counts[place]), hour * _HOUR + int(seconds[place])
        return most, at * SECOND
