"""Coarser buckets of durations than `wsrec.histogram` has, for many histograms: one for each step of time.

64 in every power of two: a percentile is within 1/64. Beyond 2**43 ns (2.4 hours) it is that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.histogram import BUCKETS, FLOOR, MAX_BITS, Int64s, bucket_index

_BITS = 6
COLUMNS = (MAX_BITS - _BITS + 1) << _BITS
"""Number of buckets."""
SIGNED_COLUMNS = 2 * COLUMNS
"""Number of buckets of signed durations, ascending: of those below 0, then of the others."""

Columns = npt.NDArray[np.integer]


class Scale(NamedTuple):
    """The durations of buckets, ascending.

    Attributes:
        low: the lowest of each (ns).
        width: how many whole ns each has.

    """

    low: Int64s
    width: Int64s


def _of_finer() -> npt.NDArray[np.int16]:
    """The bucket that each bucket of `wsrec.histogram` lies in."""
    floor = FLOOR[:BUCKETS]
    bits = np.array([int(each).bit_length() for each in floor.tolist()], np.int64)
    shift = np.maximum(bits - _BITS - 1, 0)
    return ((shift << _BITS) + (floor >> shift)).astype(np.int16)


OF_FINER = _of_finer()


def _scale() -> Scale:
    low = FLOOR[np.searchsorted(OF_FINER, np.arange(COLUMNS))]
    return Scale(low, np.diff(np.append(low, FLOOR[-1])))


SCALE = _scale()
SIGNED_SCALE = Scale(
    np.concatenate([(1 - SCALE.low - SCALE.width)[::-1], SCALE.low]), np.concatenate([SCALE.width[::-1], SCALE.width])
)


def signed_buckets(ns: Int64s) -> Columns:
    """The bucket of each signed duration (ns)."""
    found = OF_FINER[bucket_index(np.abs(np.maximum(ns, -(1 << MAX_BITS))))].astype(np.int64)
    return np.where(ns < 0, COLUMNS - 1 - found, COLUMNS + found)


def quantiles(columns: Int64s, counts: Int64s, shares: tuple[float, ...], scale: Scale) -> list[int]:
    """The durations (ns) that these shares of all of some buckets do not exceed.

    Within a bucket they are taken to be spread evenly: otherwise a percentile that changes slowly over time would be
    drawn as a staircase.

    Args:
        columns, counts: the buckets in use, ascending, and how many are in each.
        shares: 0 to 1.
        scale: the durations of the buckets.

    """
    cumulative = np.cumsum(counts)
    count = int(cumulative[-1])
    rank = np.array([min(max(int(np.ceil(share * count)), 1), count) for share in shares])
    at = np.searchsorted(cumulative, rank)
    of_bucket, width = counts[at], scale.width[columns[at]]
    # the middle of the rank's own share of the bucket
    inside = (rank - (cumulative[at] - of_bucket) - 0.5) / of_bucket
    found: list[int] = (scale.low[columns[at]] + (inside * width).astype(np.int64)).tolist()
    return found
