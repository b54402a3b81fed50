"""The rate of a recording: messages received in each second."""

from __future__ import annotations

from collections import Counter

import numpy as np

from wsrec.histogram import Int64s

SECOND = 1_000_000_000


class Seconds:
    """Messages in each second of UTC; seconds that no later file can change are settled and dropped."""

    def __init__(self) -> None:
        self._open: Counter[int] = Counter()
        self._peak, self._second = 0, 0

    def settle(self, before: int) -> None:
        """Settle all seconds before this time (ns since the epoch): no message of them will follow."""
        for second in sorted(second for second in self._open if second < before // SECOND):
            self._settle(second)

    def _settle(self, second: int) -> None:
        count = self._open.pop(second)
        if count > self._peak:
            self._peak, self._second = count, second

    def add(self, recv_time: Int64s) -> None:
        """Count messages by their receive times (ns since the epoch)."""
        if not len(recv_time):
            return
        second = recv_time // SECOND
        # runs of one second, not all seconds in between: a stray time must not cost memory
        ends = np.append(np.flatnonzero(np.diff(second)), len(second) - 1)
        for value, count in zip(second[ends].tolist(), np.diff(ends, prepend=-1).tolist(), strict=True):
            self._open[value] += count

    def peak(self) -> tuple[int, int]:
        """The largest number of messages in one second, and the second's beginning (ns since the epoch)."""
        for second in sorted(self._open):
            self._settle(second)
        return self._peak, self._second * SECOND
