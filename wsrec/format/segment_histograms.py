"""What the captured segments say of the rows of a file (`--segments`), in its metadata.

As with the steps between the stages (`stage_histograms`), the writer counts the rows, `wsrec verify` counts them again
and compares, and `wsrec report` adds up what is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from wsrec.arrays import Flags, known, values
from wsrec.format.columns import words
from wsrec.format.schema import FIRST_SEGMENT, READ_STAMP, SEGMENT_ORDER
from wsrec.format.stage_histograms import Durations
from wsrec.histogram import Histogram
from wsrec.stages import SegmentOrder

_REPEATED = SegmentOrder.REPEATED.word
_WORDS = {order.word for order in SegmentOrder}


class SegmentHistograms:
    """Rows with stage 1 of a captured segment.

    Attributes:
        durations: the histograms of `READ_STAMP` and `FIRST_SEGMENT`, of the rows that are not `repeated`.
        order: number of rows by `SegmentOrder.word`.

    """

    def __init__(self) -> None:
        self.durations = {READ_STAMP: Histogram(), FIRST_SEGMENT: Histogram()}
        self.order: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.order)

    def add(self, read_stamp: Durations, first_segment: Durations, order: Mapping[str, int]) -> None:
        """Count rows.

        Args:
            read_stamp: `READ_STAMP` of each.
            first_segment: `FIRST_SEGMENT` of each.
            order: the number of rows by `SegmentOrder.word`.

        """
        for key, (ns, has) in ((READ_STAMP, read_stamp), (FIRST_SEGMENT, first_segment)):
            self.durations[key].add(np.ascontiguousarray(ns if has is None else ns[has]))
        self.order.update({word: rows for word, rows in order.items() if rows})

    def add_rows(self, batch: Any, counted: Flags | None = None) -> None:
        """Count rows of a message file, with `SEGMENT_COLUMNS`; `counted`: those that count, None: all."""
        column = batch.column(SEGMENT_ORDER)
        if column.null_count == len(column):
            return
        code, names = words(batch, SEGMENT_ORDER)
        rows = np.bincount(code if counted is None else code[counted], minlength=len(names)).tolist()
        order = {name: count for name, count in zip(names, rows, strict=True) if name is not None}
        # TCP may have refused the first arrival of a byte that came again
        timed = code != (names.index(_REPEATED) if _REPEATED in names else -1)
        if counted is not None:
            timed &= counted
        self.add(_durations(batch, READ_STAMP, timed), _durations(batch, FIRST_SEGMENT, timed), order)

    def merge(self, other: SegmentHistograms) -> None:
        """Add the rows of another."""
        for key, histogram in other.durations.items():
            self.durations[key].merge(histogram)
        self.order.update(other.order)

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON, without empty histograms; `{}` without rows."""
        if not self:
            return {}
        filled = {key: each.to_json() for key, each in self.durations.items() if each.min is not None}
        return {**filled, SEGMENT_ORDER: dict(sorted(self.order.items()))}

    @classmethod
    def from_json(cls, value: Any) -> SegmentHistograms:
        """Inverse of `to_json`.

        Raises:
            ValueError: it is not of this form, or its figures are those of no rows.

        """
        found = cls()
        try:
            stored = msgspec.convert(value, dict[str, dict[str, Any]])
            order = msgspec.convert(stored.pop(SEGMENT_ORDER, {}), dict[str, int])
            for key, histogram in stored.items():
                found.durations[key].merge(Histogram.from_json(histogram))
        except (KeyError, ValueError, msgspec.ValidationError) as error:
            raise ValueError(f"segments: {error}") from error
        rows = sum(order.values())
        if not _WORDS.issuperset(order) or min(order.values(), default=1) < 1:
            raise ValueError(f"segments: {SEGMENT_ORDER} has other words, or counts below 1")
        if max(each.count for each in found.durations.values()) > rows:
            raise ValueError(f"segments: more durations than rows with {SEGMENT_ORDER}")
        found.order.update(order)
        return found


def _durations(batch: Any, name: str, counted: Flags) -> Durations:
    column = batch.column(name)
    return values(column), known(column) & counted
