"""The totals of frames: over time, by channel and connection, their parts, and the slowest ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wsrec.arrays import Flags
from wsrec.histogram import BUCKETS, FLOOR, MAX_BITS, Int64s, bucket_index
from wsrec.pictures import buckets
from wsrec.pictures.groups import Groups
from wsrec.pictures.model import Composition, LatencyOverTime, Share, TotalKey
from wsrec.pictures.slow_frames import SlowFrames
from wsrec.pictures.time_steps import Placed, SparseCounts
from wsrec.stages import STEPS, TOTAL, TOTAL_WITHOUT_NIC

NAMES: dict[TotalKey, str] = {"total": TOTAL.name, "event_to_handoff": TOTAL_WITHOUT_NIC.name}

_BANDS = {50.0: (0.49, 0.51), 90.0: (0.895, 0.905), 99.0: (0.985, 0.995), 99.9: (0.9985, 0.9995)}
_SHARES = (0.5, 0.9, 0.99, 0.999)
_LONGEST = 1 << MAX_BITS

Rows = npt.NDArray[np.intp]


class Totals:
    """The frames of one total.

    Args:
        key: which one.

    """

    def __init__(self, key: TotalKey) -> None:
        self._key: TotalKey = key
        self._steps = STEPS if key == "total" else STEPS[1:]
        self._over_time = SparseCounts(buckets.COLUMNS)
        # of frames first in their read, and behind others: by bucket of the total, their number and the sums of steps
        self._counts = np.zeros((2, BUCKETS), np.int64)
        self._sums = np.zeros((len(self._steps), 2, BUCKETS), np.int64)
        self.slow = SlowFrames()
        self.by_channel: Groups = Groups()
        self.by_connection: Groups = Groups()

    def add(
        self,
        batch: Any,
        placed: Placed,
        rows: Rows | None,
        steps: list[Int64s],
        behind: Flags,
        session: str,
        file: str,
    ) -> None:
        """Count frames.

        Args:
            batch: of `wsrec.pictures.slow_frames.COLUMNS`.
            placed: where its rows are in time.
            rows: those that count, ascending; None: all.
            steps: the steps of this total, of each row (ns).
            behind: whether a row is not the first of its read.
            session, file: of the batch.

        """
        if rows is not None:
            steps, behind = [ns[rows] for ns in steps], behind[rows]
        total: Int64s = np.sum(steps, axis=0)
        bucket = bucket_index(total)
        column = buckets.OF_FINER[bucket]
        cells = self._over_time.add(placed, column, rows)
        self.slow.add(batch, placed, rows, total, column, cells, session, file)
        self._add_parts(bucket + behind * BUCKETS, steps)
        self.by_channel.add_words(batch, "channel", total, rows)
        self.by_connection.add_numbers(batch, "conn", total, rows)

    def _add_parts(self, group: Int64s, steps: list[Int64s]) -> None:
        self._counts += np.bincount(group, minlength=2 * BUCKETS).reshape(2, BUCKETS)
        for sums, ns in zip(self._sums, steps, strict=True):
            if max(-int(ns.min()), int(ns.max())) > _LONGEST:
                # of a wrong clock: as in the last bucket
                ns = np.clip(ns, -_LONGEST, _LONGEST)
            # exact: below 2**53 for every real batch
            sums += np.bincount(group, ns, minlength=2 * BUCKETS).astype(np.int64).reshape(2, BUCKETS)

    def merge(self, other: Totals, level: int) -> None:
        """Add the frames of another, in steps of a level that is not below that of either."""
        self._over_time.merge(other._over_time, level)
        self._counts += other._counts
        self._sums += other._sums
        self.slow.merge(other.slow, level)
        self.by_channel.merge(other.by_channel)
        self.by_connection.merge(other.by_connection)

    def over_time(self, level: int, steps: list[int]) -> LatencyOverTime:
        """The total in each of these steps of time."""
        found = {
            step: (int(counts.sum()), buckets.quantiles(columns, counts, _SHARES, buckets.SCALE))
            for step, columns, counts in self._over_time.by_step(level)
        }
        slow = self.slow.by_step(level)
        frames = [frame for step in steps for frame in slow.get(step, ())]
        numbers = iter(range(len(frames)))
        most = {step: slow[step][0].total for step in found}
        none: list[None] = [None] * len(_SHARES)

        def at_most(value: int, step: int) -> int:
            return min(value, max(most[step], 0))

        by_share = [
            [at_most(found[step][1][at], step) if step in found else none[at] for step in steps]
            for at in range(len(_SHARES))
        ]
        p50, p90, p99, p999 = by_share
        return LatencyOverTime(
            key=self._key,
            name=NAMES[self._key],
            count=[found[step][0] if step in found else 0 for step in steps],
            p50=p50,
            p90=p90,
            p99=p99,
            p999=p999,
            max=[most.get(step) for step in steps],
            slowest=[[next(numbers) for _ in slow.get(step, ())] for step in steps],
            slow=frames,
        )

    def compositions(self) -> Iterator[Composition]:
        """Where the time of all frames went, and of those first in their read, unless that are all."""
        yield from self._compositions("all", self._counts.sum(axis=0), self._sums.sum(axis=1))
        if self._counts[1].any():
            yield from self._compositions("first", self._counts[0], self._sums[:, 0])

    def _compositions(self, frames: Literal["all", "first"], counts: Int64s, sums: Int64s) -> Iterator[Composition]:
        cumulative = np.cumsum(counts)
        count = int(cumulative[-1])
        if not count:
            return
        for percentile, band in _BANDS.items():
            ranks = [min(max(int(np.ceil(share * count)), 1), count) for share in band]
            low, high = np.searchsorted(cumulative, ranks).tolist()
            inside = int(counts[low : high + 1].sum())
            # the sum of the means, so that a bar is as long as its parts
            shares = [
                Share(key=step.key, name=step.name, mean=int(of_step[low : high + 1].sum()) / inside)
                for step, of_step in zip(self._steps, sums, strict=True)
            ]
            yield Composition(
                key=self._key,
                name=NAMES[self._key],
                frames=frames,
                percentile=percentile,
                low=int(FLOOR[low]),
                high=int(FLOOR[high + 1]) - 1,
                count=inside,
                mean=sum(share.mean for share in shares),
                shares=shares,
            )
