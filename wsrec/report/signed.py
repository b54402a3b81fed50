"""Histogram of signed durations: two of `wsrec.histogram`, one for the negative values."""

from __future__ import annotations

from math import ceil

from wsrec.histogram import FLOOR, Histogram

# the longest duration with a bucket of its own (ns); beyond it only minimum and maximum are known
LONGEST = int(FLOOR[-1])


class SignedHistogram:
    """Counts of signed durations (ns), in constant memory.

    Attributes:
        above: of durations from 0.
        below: of negative ones, with their sign reversed.

    """

    def __init__(self) -> None:
        self.above = Histogram()
        self.below = Histogram()

    def merge(self, other: SignedHistogram) -> None:
        """Add the counts of another histogram."""
        self.above.merge(other.above)
        self.below.merge(other.below)

    @property
    def negative(self) -> int:
        """Number of negative durations."""
        return self.below.count

    @property
    def count(self) -> int:
        """Number of durations."""
        return self.above.count + self.negative

    @property
    def min(self) -> int | None:
        """The exact minimum (ns), None while empty."""
        if self.below.max is not None:
            return -self.below.max
        return self.above.min

    @property
    def max(self) -> int | None:
        """The exact maximum (ns), None while empty."""
        if self.above.max is not None:
            return self.above.max
        return -self.below.min if self.below.min is not None else None

    def quantile(self, q: float) -> int | None:
        """The duration (ns) that a share `q` of all durations does not exceed; None while empty.

        Within 1/128 of the true value, or the exact extreme if that is beyond `LONGEST`.
        """
        count, negative = self.count, self.negative
        if not count:
            return None
        # one rank over both halves, from 1; half a rank less gives a share that maps back to exactly that rank
        rank = min(max(ceil(q * count), 1), count)
        if rank <= negative:
            value = self.below.quantile((negative - rank + 0.5) / negative)
            extreme, sign = self.below.max, -1
        else:
            value = self.above.quantile((rank - negative - 0.5) / (count - negative))
            extreme, sign = self.above.max, 1
        if value is None or extreme is None:
            return None
        # the last bucket has no end: the exact extreme is more precise than its middle
        return sign * (extreme if extreme >= LONGEST and value >= FLOOR[-2] else value)
