"""Progress of a recording: samples of the status pages, and rates and latencies between two of them."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.histogram import quantile
from wsrec.ring.status import RECEIVER_FIELDS, WRITER_FIELDS
from wsrec.supervise.pair import Pair

Counts = npt.NDArray[np.int64]
WINDOW = 10
"""Period of the rates and latencies in the live view (s)."""


class Sample(NamedTuple):
    """The status of all pairs at one moment.

    Attributes:
        time: monotonic time, s.
        counters: sums of the status pages' fields, by name, and of `restarts`; lags are the longest.
        steps: a histogram of each step, (steps + total, buckets).
        fill: fill level of the fullest ring, from 0 to 1.

    """

    time: float
    counters: dict[str, int]
    steps: Counts
    fill: float


class Progress(NamedTuple):
    """Progress between two samples: rates per second, and the median and 99th percentile (ns) of each step."""

    messages: float
    bytes: float
    steps: list[tuple[int | None, int | None]]


def sample(pairs: list[Pair]) -> Sample:
    """Read the status pages now."""
    pages = [pair.status for pair in pairs if pair.status is not None]
    counters: dict[str, int] = {}
    for name in RECEIVER_FIELDS:
        counters[name] = sum(int(page.receiver[name]) for page in pages)
    for name in WRITER_FIELDS:
        counters[name] = sum(int(page.writer[name]) for page in pages)
    counters["journal_lag_ns"] = max((int(page.writer["journal_lag_ns"]) for page in pages), default=0)
    counters["restarts"] = sum(pair.restarts for pair in pairs)
    steps = (
        sum((page.steps.copy() for page in pages[1:]), pages[0].steps.copy()) if pages else np.zeros((6, 1), np.int64)
    )
    return Sample(time.monotonic(), counters, steps, max((pair.fill for pair in pairs), default=0.0))


def progress(before: Sample, after: Sample) -> Progress:
    """Rates and latencies between two samples."""
    seconds = max(after.time - before.time, 1e-9)
    counts = after.steps - before.steps
    return Progress(
        (after.counters["messages"] - before.counters["messages"]) / seconds,
        (after.counters["bytes"] - before.counters["bytes"]) / seconds,
        [(quantile(row, 0.5), quantile(row, 0.99)) for row in counts],
    )
