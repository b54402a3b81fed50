"""Histogram of signed durations: two of `wsrec.histogram`, one for the negative values."""

from __future__ import annotations

from math import ceil

from wsrec.histogram import FLOOR, Histogram, Int64s

# the longest duration with a bucket of its own (ns); beyond it only minimum and maximum are known
LONGEST = int(FLOOR[-1])


class SignedHistogram:
    """Counts of signed durations (ns), in constant memory."""

    def __init__(self) -> None:
        self._above = Histogram()
        # created with the first negative duration: most clocks never have one
        self._below: Histogram | None = None

    def add(self, ns: Int64s) -> None:
        """Count each duration of an array (ns)."""
        negative = ns < 0
        if negative.any():
            self._below = self._below or Histogram()
            self._below.add(-ns[negative])
            ns = ns[~negative]
        self._above.add(ns)

    def merge(self, other: SignedHistogram) -> None:
        """Add the counts of another histogram."""
        self._above.merge(other._above)
        if other._below is not None:
            self._below = self._below or Histogram()
            self._below.merge(other._below)

    @property
    def negative(self) -> int:
        """Number of negative durations."""
        return self._below.count if self._below is not None else 0

    @property
    def count(self) -> int:
        """Number of durations."""
        return self._above.count + self.negative

    @property
    def min(self) -> int | None:
        """The exact minimum (ns), None while empty."""
        if self._below is not None and self._below.max is not None:
            return -self._below.max
        return self._above.min

    @property
    def max(self) -> int | None:
        """The exact maximum (ns), None while empty."""
        if self._above.max is not None:
            return self._above.max
        return -self._below.min if self._below is not None and self._below.min is not None else None

    def quantile(self, q: float) -> int | None:
        """The duration (ns) that a share `q` of all durations does not exceed; None while empty.

        Within 1/128 of the true value, or the exact extreme if that is beyond `LONGEST`.
        """
        count, negative = self.count, self.negative
        if not count:
            return None
        # one rank over both halves, from 1; half a rank less gives a share that maps back to exactly that rank
        rank = min(max(ceil(q * count), 1), count)
        if self._below is not None and rank <= negative:
            value = self._below.quantile((negative - rank + 0.5) / negative)
            extreme, sign = self._below.max, -1
        else:
            value = self._above.quantile((rank - negative - 0.5) / (count - negative))
            extreme, sign = self._above.max, 1
        if value is None or extreme is None:
            return None
        # the last bucket has no end: the exact extreme is more precise than its middle
        return sign * (extreme if extreme >= LONGEST and value >= FLOOR[-2] else value)
