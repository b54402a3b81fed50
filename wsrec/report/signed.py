"""A histogram of signed durations: two of `wsrec.histogram`, one for the negative values."""

from __future__ import annotations

from math import ceil

from wsrec.histogram import FLOOR, Histogram, Int64s

# The longest duration that the buckets tell apart (ns); beyond it only minimum and maximum are known
LONGEST = int(FLOOR[-1])


class SignedHistogram:
    """Counts of signed durations (ns), in memory that does not grow with them."""

    def __init__(self) -> None:
        self._above = Histogram()
        # Made with the first negative duration: most clocks never show one
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
        """Add what another histogram counted."""
        self._above.merge(other._above)
        if other._below is not None:
            self._below = self._below or Histogram()
            self._below.merge(other._below)

    @property
    def negative(self) -> int:
        """How many durations were below zero."""
        return self._below.count if self._below is not None else 0

    @property
    def count(self) -> int:
        """How many durations were counted."""
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
        """The duration (ns) that the share `q` of all durations does not pass; None while empty.

        Within 1/128 of the true value, or the exact extreme where that is beyond `LONGEST`.
        """
        count, negative = self.count, self.negative
        if not count:
            return None
        # One rank over both halves, from 1; half a rank less makes a share that leads back to exactly that rank
        rank = min(max(ceil(q * count), 1), count)
        if self._below is not None and rank <= negative:
            value = self._below.quantile((negative - rank + 0.5) / negative)
            extreme, sign = self._below.max, -1
        else:
            value = self._above.quantile((rank - negative - 0.5) / (count - negative))
            extreme, sign = self._above.max, 1
        if value is None or extreme is None:
            return None
        # The last bucket has no end: there the exact extreme says more than the bucket's middle
        return sign * (extreme if extreme >= LONGEST and value >= FLOOR[-2] else value)
