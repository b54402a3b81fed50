"""Latency histograms: log-linear as HdrHistogram's, filled and merged with numpy.

128 linear buckets in every power of two up to 2**43 ns (2.4 hours): a duration below 256 ns keeps its exact value, a
longer one is off by at most 1/128. The counts are a plain array, so they can live in shared memory (the live view),
in a file's metadata (sparse JSON) or in a process that reads hundreds of files (the report), and merging is adding.
"""

from __future__ import annotations

from operator import mul
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

SUB_BUCKET_BITS = 7
MAX_BITS = 43
BUCKETS = (MAX_BITS - SUB_BUCKET_BITS + 1) << SUB_BUCKET_BITS
# of histograms of which there may be a thousand: 16 linear buckets, within 1/16
COARSE_BITS = 4
COARSE_BUCKETS = (MAX_BITS - COARSE_BITS + 1) << COARSE_BITS

# IEEE 754 double: 52 bits of fraction, exponent biased by 1023
_DOUBLE_SHIFT = 52 - SUB_BUCKET_BITS
_DOUBLE_START = (1023 + SUB_BUCKET_BITS - 1) << SUB_BUCKET_BITS
_LINEAR = 1 << SUB_BUCKET_BITS
_INT64_MAX = (1 << 63) - 1

Int64s = npt.NDArray[np.int64]

_Natural = Annotated[int, msgspec.Meta(ge=0, le=_INT64_MAX)]
_Duration = Annotated[int, msgspec.Meta(ge=-_INT64_MAX - 1, le=_INT64_MAX)]


class _Stored(msgspec.Struct, frozen=True):
    """A histogram as JSON."""

    sub_bucket_bits: int
    sum: int
    min: _Duration | None
    max: _Duration | None
    negative: _Natural
    buckets: list[_Natural]


def bucket_index(ns: Int64s) -> Int64s:
    """The bucket of each duration (ns). Negative ones count as zero, those beyond 2**43 as the last bucket."""
    value: Int64s = np.minimum(np.maximum(ns, 0), (1 << MAX_BITS) - 1)
    # the top bits of a double (exact below 2**53) are the exponent and the linear bits: exactly the order of the
    # buckets
    index: Int64s = (value.astype(np.float64).view(np.int64) >> _DOUBLE_SHIFT) - _DOUBLE_START
    np.copyto(index, value, where=value < _LINEAR)
    return index


def bucket_counts(ns: Int64s) -> Int64s:
    """The number of durations (ns) in each bucket."""
    counts: Int64s = np.bincount(bucket_index(ns), minlength=BUCKETS)
    return counts


def _bucket_floor(bits: int, buckets: int) -> Int64s:
    index = np.arange(buckets + 1, dtype=np.int64)
    shift: Int64s = np.maximum((index >> bits) - 1, 0)
    return (index - (shift << bits)) << shift


# FLOOR[i] is the lowest duration of bucket i, FLOOR[BUCKETS] the end of the last one
FLOOR = _bucket_floor(SUB_BUCKET_BITS, BUCKETS)
COARSE_FLOOR = _bucket_floor(COARSE_BITS, COARSE_BUCKETS)
# the coarse bucket that each bucket lies in
COARSE_OF: Int64s = np.searchsorted(COARSE_FLOOR, FLOOR[:-1], side="right") - 1


class Histogram:
    """Counts of durations, with their exact sum, minimum and maximum, and how many were negative.

    Args:
        counts: int64 array of `BUCKETS`, updated in place (shared memory); None for a new one.

    """

    def __init__(self, counts: Int64s | None = None) -> None:
        self.counts: Int64s = np.zeros(BUCKETS, np.int64) if counts is None else counts
        self.sum = 0
        self.min: int | None = None
        self.max: int | None = None
        self.negative = 0

    def add(self, ns: Int64s) -> None:
        """Count each duration of an array (ns)."""
        if len(ns):
            self.counts += bucket_counts(ns)
            self.sum_up(ns, int(np.min(ns)), int(np.max(ns)))

    def sum_up(self, ns: Int64s, low: int, high: int) -> None:
        """Update everything but the counts with at least one duration (ns), from `low` to `high`."""
        if max(-low, high) <= _INT64_MAX // len(ns):
            self.sum += int(ns.sum())
        else:
            # halves that cannot overflow: a wrong clock produces durations of decades
            self.sum += (int((ns >> 32).sum()) << 32) + int((ns & 0xFFFFFFFF).sum())
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)
        if low < 0:
            self.negative += int(np.count_nonzero(ns < 0))

    def merge(self, other: Histogram) -> None:
        """Add another histogram."""
        self.counts += other.counts
        self.sum += other.sum
        self.negative += other.negative
        for low in (other.min,) if other.min is not None else ():
            self.min = low if self.min is None else min(self.min, low)
        for high in (other.max,) if other.max is not None else ():
            self.max = high if self.max is None else max(self.max, high)

    def __getstate__(self) -> dict[str, Any]:
        used = self.counts.nonzero()[0]
        return {**self.__dict__, "counts": (used.astype(np.uint16), self.counts[used])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.counts = np.zeros(BUCKETS, np.int64)
        used, counts = state["counts"]
        self.counts[used] = counts

    @property
    def count(self) -> int:
        """Number of durations counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """The exact mean (ns), None while empty."""
        count = self.count
        return self.sum / count if count else None

    def quantile(self, q: float) -> int | None:
        """The duration (ns) that a share `q` of all durations does not exceed; None while empty.

        Within 1/128 of the true value, and never outside the recorded minimum and maximum.
        """
        value = quantile(self.counts, q)
        if value is None or self.min is None or self.max is None:
            return value
        return min(max(value, self.min), self.max)

    def to_json(self) -> dict[str, Any]:
        """The histogram as JSON.

        `buckets` has two numbers for each bucket in use: its distance from the one before (from 0), and its count. In
        the metadata of a file, they take half as much as pairs of bucket number and count.
        """
        used = np.nonzero(self.counts)[0]
        return {
            "sub_bucket_bits": SUB_BUCKET_BITS,
            "sum": self.sum,
            "min": self.min,
            "max": self.max,
            "negative": self.negative,
            "buckets": np.column_stack([np.diff(used, prepend=0), self.counts[used]]).ravel().tolist(),
        }

    @classmethod
    def from_json(cls, value: Any) -> Histogram:
        """Inverse of `to_json`.

        Raises:
            ValueError: it is not of this form, its figures are those of no durations, or the resolution differs from
                this version's.

        """
        try:
            stored = msgspec.convert(value, _Stored)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        if stored.sub_bucket_bits != SUB_BUCKET_BITS:
            raise ValueError(f"histogram of {stored.sub_bucket_bits} sub-bucket bits, not {SUB_BUCKET_BITS}")
        distances, counts = stored.buckets[::2], stored.buckets[1::2]
        # in Python's numbers, which do not overflow
        if len(distances) != len(counts) or sum(distances) >= BUCKETS or 0 in distances[1:] or 0 in counts:
            raise ValueError("a histogram's buckets are not in order, or none of this resolution's")
        if sum(counts) > _INT64_MAX:
            raise ValueError("a histogram's counts are beyond 64 bits")
        histogram = cls()
        histogram.counts[np.cumsum(np.array(distances, np.int64))] = counts
        histogram.sum, histogram.min, histogram.max = stored.sum, stored.min, stored.max
        histogram.negative = stored.negative
        histogram._check()
        return histogram

    def _check(self) -> None:
        """Check that there are durations with these figures.

        Raises:
            ValueError: there are none.

        """
        used = self.counts.nonzero()[0]
        low, high = self.min, self.max
        if low is None or high is None or not len(used):
            if len(used) or (low, high, self.sum, self.negative) != (None, None, 0, 0):
                raise ValueError("a histogram's extremes do not fit its buckets")
            return
        if low > high or bucket_index(np.array([low, high])).tolist() != used[[0, -1]].tolist():
            raise ValueError("a histogram's extremes do not fit its buckets")
        counts, floors, ends = (each.tolist() for each in (self.counts[used], FLOOR[used], FLOOR[used + 1]))
        below_zero = counts[0] if high < 0 else min(self.negative, counts[0])
        if self.negative != below_zero or bool(self.negative) != (low < 0):
            raise ValueError("a histogram's negative durations do not fit its buckets")
        # negative ones count as zero in their bucket; the last bucket has no end of its own
        top = max(high, 0)
        tops = [min(end - 1, top) if end < FLOOR[-1] else top for end in ends]
        least = low * self.negative + sum(map(mul, counts, (max(floor, low) for floor in floors)))
        if not least <= self.sum <= min(high, -1) * self.negative + sum(map(mul, counts, tops)):
            raise ValueError("a histogram's sum does not fit its buckets")


def quantile(counts: Int64s, q: float) -> int | None:
    """The duration (ns, middle of its bucket) that a share `q` of `counts` does not exceed; None while empty."""
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if not total:
        return None
    rank = min(max(int(np.ceil(q * total)), 1), total)
    index = int(np.searchsorted(cumulative, rank))
    low, high = int(FLOOR[index]), int(FLOOR[index + 1])
    return low if high - low == 1 else (low + high) // 2


def coarse_quantiles(counts: Int64s, q: float) -> list[int | None]:
    """As `quantile`, of many coarse histograms at once.

    Args:
        counts: (histograms, `COARSE_BUCKETS`).
        q: the share.

    """
    cumulative = np.cumsum(counts, axis=1)
    totals = cumulative[:, -1]
    rank = np.clip(np.ceil(q * totals).astype(np.int64), 1, np.maximum(totals, 1))
    index = np.minimum((cumulative < rank[:, None]).sum(axis=1), COARSE_BUCKETS - 1)
    low, high = COARSE_FLOOR[index], COARSE_FLOOR[index + 1]
    middle = np.where(high - low == 1, low, (low + high) // 2)
    return [value if total else None for value, total in zip(middle.tolist(), totals.tolist(), strict=True)]
