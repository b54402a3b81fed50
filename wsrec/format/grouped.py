"""Counting durations into the histograms of their groups: compiled if that was built and WSREC_PURE is not set.

A received row adds to six histograms of its group, first in its read or behind others, when it is recorded, and to one
of its channel in a report. numpy goes through all durations about ten times for each histogram, the compiled loop once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsrec.arrays import Flags
from wsrec.histogram import COARSE_OF, Histogram, Int64s, bucket_counts, bucket_index

Uint16s = npt.NDArray[np.uint16]
Int32s = npt.NDArray[np.int32]

NO_GROUP = 0xFFFF
"""The group of durations that do not count."""


def python_add(
    histograms: Sequence[Histogram],
    ns: Int64s,
    group: Uint16s,
    total: Int64s | None = None,
    buckets: Int64s | None = None,
) -> None:
    """Count each duration (ns) in the histogram of its group; those of groups without one do not count.

    Args:
        histograms: fewer than `NO_GROUP`.
        ns: the durations, contiguous.
        group: of each duration, an index of `histograms`.
        total: to which each duration is added, whatever its group.
        buckets: the counts of one more histogram, for the durations of all groups.

    """
    if total is not None:
        total += ns
    for number, histogram in enumerate(histograms):
        histogram.add(ns[group == number])
    if buckets is not None:
        buckets += bucket_counts(ns[group < len(histograms)])


def python_add_between(
    later: Sequence[Histogram],
    earlier: Sequence[Histogram],
    start: Int64s,
    stop: Int64s,
    code: Int32s,
    group_of: Uint16s,
    counted: Flags | None,
    resolution: Int64s,
) -> None:
    """Count the durations between times in the histogram of their group.

    Args:
        later, earlier: by group, for durations from 0, and for negative ones, with their sign reversed.
        start, stop: the times (ns).
        code: of each duration, an index of `group_of`.
        group_of: an index of `later` and of `earlier`; those of groups without one do not count.
        counted: which durations count; None: all.
        resolution: by group, 10**9, 10**6, 1000 or 1: lowered to one of which all its `start` are multiples.

    """
    group = group_of[code]
    if counted is not None:
        group[~counted] = NO_GROUP
    ns = stop - start
    negative = ns < 0
    python_add(later, ns, np.where(negative, np.uint16(NO_GROUP), group))
    if negative.any():
        python_add(earlier, -ns, np.where(negative, group, np.uint16(NO_GROUP)))
    for number in np.unique(group[group < len(later)]).tolist():
        times = start[group == number]
        while resolution[number] > 1 and (times % resolution[number]).any():
            resolution[number] //= 1000


def python_add_messages(
    figures: Int64s,
    histograms: Int64s,
    row: Uint16s,
    counted: npt.NDArray[np.uint8],
    size: Int64s,
    time: Int64s,
    start: Int64s,
    stop: Int64s,
) -> None:
    """Count messages, their bytes and durations by connection, in shared memory.

    Args:
        figures: (connections, 3 or more): messages, bytes, and the latest time; updated in place.
        histograms: (connections, `wsrec.histogram.COARSE_BUCKETS`), of the durations; updated in place.
        row: of each message, the connection's index; those without one do not count.
        counted: which ones count, 1 or 0.
        size: bytes of each one.
        time: of each one.
        start, stop: the times (ns) whose difference is its duration.

    """
    at = np.flatnonzero((counted != 0) & (row < len(figures)))
    if not len(at):
        return
    row = row[at]
    np.add.at(figures[:, 0], row, 1)
    np.add.at(figures[:, 1], row, size[at])
    np.maximum.at(figures[:, 2], row, time[at])
    np.add.at(histograms, (row, COARSE_OF[bucket_index(stop[at] - start[at])]), 1)


if TYPE_CHECKING:
    compiled_add_messages: Callable[..., None] | None
    compiled_add: Callable[..., None] | None
    compiled_add_between: Callable[..., None] | None
else:
    try:
        from wsrec.format._grouped import add as compiled_add
        from wsrec.format._grouped import add_between as compiled_add_between
        from wsrec.format._grouped import add_messages as compiled_add_messages
    except ImportError:
        compiled_add = compiled_add_between = compiled_add_messages = None

add: Callable[..., None] = python_add
add_between: Callable[..., None] = python_add_between
add_messages: Callable[..., None] = python_add_messages
if (
    compiled_add is not None
    and compiled_add_between is not None
    and compiled_add_messages is not None
    and not os.environ.get("WSREC_PURE")
):
    add, add_between, add_messages = compiled_add, compiled_add_between, compiled_add_messages
