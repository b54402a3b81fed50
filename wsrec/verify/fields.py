"""The one place where the payload of rows is read again: by the feed's own reader and rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.feed.fields import FieldColumns, FieldReader
from wsrec.feed.sequence import SequenceChecker, SequenceGap
from wsrec.store.batch import payload_list


def read_fields(reader: FieldReader, payload: pa.Array, readable: npt.NDArray[np.bool_]) -> FieldColumns:
    """The fields of each payload (`large_binary`) that is `readable`; of the others nothing."""
    views = payload_list(payload)
    return reader.read([view if ok else b"" for view, ok in zip(views, readable.tolist(), strict=True)])


def check_sequences(
    checker: SequenceChecker, conns: npt.NDArray[np.uint16], columns: FieldColumns
) -> list[SequenceGap]:
    """The rows that break their channel's rule."""
    return checker.check(conns.tolist(), columns)


def as_array(values: Any, kind: pa.DataType) -> pa.Array:
    """A column of `FieldColumns` as an Arrow array."""
    return pa.array(values, kind)


def part(columns: FieldColumns, start: int, stop: int) -> FieldColumns:
    """Some rows of `FieldColumns`."""
    return FieldColumns._make(column[start:stop] for column in columns)
