"""The times of a message's six stages, from the columns that its file stores.

A file stores when a message was handed off and how long each step before took, since six nearly equal times cost twice
the bytes (docs/decisions/0021-latencies-instead-of-times.md). Each time is the hand-off minus the steps behind it, in
whole ns: exactly the time that was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.format.schema import FIRST_SEGMENT, MESSAGE_SCHEMA, UTC_NS
from wsrec.stages import HANDOFF, NIC, STAGES, STEPS, TOTAL

Int64s = npt.NDArray[np.int64]

MONOTONIC = "handoff_monotonic"
"""The column that orders the rows of a session."""
CLOCK_OFFSET = "clock_offset"
FIRST_SEGMENT_TIME = "first_segment_time"


def _field(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"meaning": meaning})


DERIVED_SCHEMA: pa.Schema = pa.schema(
    [
        *(
            _field(stage.column, UTC_NS, f"stage {stage.number}: {stage.meaning}")
            for stage in STAGES
            if stage is not HANDOFF
        ),
        _field(FIRST_SEGMENT_TIME, UTC_NS, "arrival of the segment with the message's first byte (`--segments`)"),
        _field(
            MONOTONIC, pa.int64(), "stage 6 in ns on the stage clock, which is never set: the order of rows and events"
        ),
        _field(TOTAL.key, pa.int64(), f"ns from `{TOTAL.start.column}` to `{TOTAL.end.column}`"),
    ]
)
"""Columns that are computed from those of `MESSAGE_SCHEMA` where they are asked for."""

_DERIVED = frozenset(DERIVED_SCHEMA.names)
# steps between a stage and the hand-off, the last one first
_STEPS_BEHIND = {stage.column: [step.key for step in reversed(STEPS[stage.number - 1 :])] for stage in STAGES}
_NEEDS = {
    **{column: [HANDOFF.column, *steps] for column, steps in _STEPS_BEHIND.items()},
    FIRST_SEGMENT_TIME: [HANDOFF.column, *_STEPS_BEHIND[NIC.column], FIRST_SEGMENT],
    MONOTONIC: [HANDOFF.column, CLOCK_OFFSET],
    TOTAL.key: _STEPS_BEHIND[TOTAL.start.column],
}


def message_field(name: str) -> pa.Field:
    """The field of a stored or derived column.

    Raises:
        KeyError: there is none.

    """
    return (DERIVED_SCHEMA if name in _DERIVED else MESSAGE_SCHEMA).field(name)


def stored_columns(names: Iterable[str]) -> list[str]:
    """The columns to read from a file for these columns, each once."""
    needed = [column for name in names for column in (_NEEDS[name] if name in _DERIVED else (name,))]
    return list(dict.fromkeys(needed))


def derived(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """These columns of a batch that has the stored columns for them."""
    if _DERIVED.isdisjoint(names):
        return batch.select(list(names))
    made = _Derivation(batch)
    columns = [made.column(name) if name in _DERIVED else batch.column(name) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=list(names))


class _Derivation:
    """The derived columns of one batch."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        # ns from the stage at the end of this many steps behind, and which rows have all of them
        self._spans: dict[tuple[str, ...], tuple[Int64s, pa.Array | None]] = {}

    def column(self, name: str) -> pa.Array:
        """A derived column."""
        if name == MONOTONIC:
            return _array(self._ns(HANDOFF.column) - self._ns(CLOCK_OFFSET), None, pa.int64())
        if name == TOTAL.key:
            return _array(*self._span(tuple(_STEPS_BEHIND[TOTAL.start.column])), pa.int64())
        steps = [*_STEPS_BEHIND[NIC.column], FIRST_SEGMENT] if name == FIRST_SEGMENT_TIME else _STEPS_BEHIND[name]
        behind, missing = self._span(tuple(steps))
        return _array(self._ns(HANDOFF.column) - behind, missing, UTC_NS)

    def _ns(self, name: str) -> Int64s:
        column = self._batch.column(name)
        if pa.types.is_timestamp(column.type) and column.type != UTC_NS:  # rewritten by another tool
            column = column.cast(UTC_NS)
        column = column.view(pa.int64())
        numbers: Int64s = (column.fill_null(0) if column.null_count else column).to_numpy()
        return numbers

    def _span(self, steps: tuple[str, ...]) -> tuple[Int64s, npt.NDArray[np.bool_] | None]:
        """The sum of steps (ns), and which rows lack one of them; None if no row does."""
        found = self._spans.get(steps)
        if found is not None:
            return found
        step = self._batch.column(steps[-1])
        ns = self._ns(steps[-1])
        missing = step.is_null().to_numpy(zero_copy_only=False) if step.null_count else None
        if len(steps) > 1:
            behind, also = self._span(steps[:-1])
            ns = ns + behind
            missing = also if missing is None else missing if also is None else missing | also
        self._spans[steps] = ns, missing
        return ns, missing


def _array(ns: Int64s, missing: npt.NDArray[np.bool_] | None, kind: pa.DataType) -> pa.Array:
    return pa.array(ns, mask=missing).view(kind)
