"""Coarser buckets of durations than `wsrec.histogram` has, for many histograms: one for each step of time.

32 in every power of two: a percentile is within 1/64. Beyond 2**43 ns (2.4 hours) it is that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsrec.histogram import BUCKETS, FLOOR, MAX_BITS, Int64s, bucket_index

_BITS = 5
_LINEAR = 1 << _BITS
COLUMNS = (MAX_BITS - _BITS + 1) << _BITS
"""Number of buckets."""
SIGNED_COLUMNS = 2 * COLUMNS
"""Number of buckets of signed durations, ascending: of those below 0, then of the others."""

Columns = npt.NDArray[np.integer]


def _of_finer() -> npt.NDArray[np.int16]:
    """The bucket that each bucket of `wsrec.histogram` lies in."""
    floor = FLOOR[:BUCKETS]
    bits = np.array([int(each).bit_length() for each in floor.tolist()], np.int64)
    shift = np.maximum(bits - _BITS - 1, 0)
    return ((shift << _BITS) + (floor >> shift)).astype(np.int16)


OF_FINER = _of_finer()


def _middles() -> Int64s:
    """The duration that stands for each bucket: its middle, in whole ns."""
    first = FLOOR[np.searchsorted(OF_FINER, np.arange(COLUMNS))]
    last = np.append(first[1:], FLOOR[-1]) - 1
    return np.where(first == last, first, (first + last + 1) // 2)


MIDDLES = _middles()
SIGNED_MIDDLES: Int64s = np.concatenate([-MIDDLES[::-1], MIDDLES])


def signed_buckets(ns: Int64s) -> Columns:
    """The bucket of each signed duration (ns)."""
    found = OF_FINER[bucket_index(np.abs(np.maximum(ns, -(1 << MAX_BITS))))].astype(np.int64)
    return np.where(ns < 0, COLUMNS - 1 - found, COLUMNS + found)


def quantiles(columns: Int64s, counts: Int64s, shares: tuple[float, ...], middles: Int64s) -> list[int]:
    """The durations (ns) that these shares of all of some buckets do not exceed.

    Args:
        columns, counts: the buckets in use, ascending, and how many are in each.
        shares: 0 to 1.
        middles: the duration that stands for each bucket.

    """
    cumulative = np.cumsum(counts)
    count = int(cumulative[-1])
    ranks = [min(max(int(np.ceil(share * count)), 1), count) for share in shares]
    found: list[int] = middles[columns[np.searchsorted(cumulative, ranks)]].tolist()
    return found
