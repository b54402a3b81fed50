"""The stored columns of a message file from the times of its stages, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.format.schema import SEGMENT_COLUMNS
from wsrec.format.stage_times import DERIVED_SCHEMA, derived, stored_columns
from wsrec.stages import STAGES, STEPS

STAMPS = tuple(stage.column for stage in STAGES)


def stored(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a message file, for plain ones with the times of the stages."""
    times = {name: pa.array(columns[name], pa.int64()) for name in STAMPS}
    steps = {step.key: pc.subtract(times[step.end.column], times[step.start.column]) for step in STEPS}
    offset = np.asarray(columns["handoff_time"]) - np.asarray(columns["handoff_monotonic"])
    without = dict.fromkeys(SEGMENT_COLUMNS, pa.nulls(len(offset)))
    return {**without, **columns, **steps, "clock_offset": offset}


def with_stage_times(table: pa.Table) -> pa.Table:
    """Rows of message files with those times of the stages that follow from their columns."""
    names = [name for name in DERIVED_SCHEMA.names if set(stored_columns([name])) <= set(table.column_names)]
    times = [derived(batch, names) for batch in table.combine_chunks().to_batches()]
    for name in names if times else ():
        table = table.append_column(name, pa.chunked_array([batch.column(name) for batch in times]))
    return table
