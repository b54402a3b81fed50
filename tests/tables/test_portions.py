"""Messages are converted in portions of bounded size, since rows of books take many times the bytes of their text."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.tables import session_tables

_PAYLOADS = st.one_of(st.text(max_size=9), st.binary(max_size=9))


@given(st.lists(_PAYLOADS, min_size=1, max_size=30), st.integers(1, 20))
def test_all_messages_in_order_and_few_bytes_each(payloads: list[str | bytes], most: int) -> None:
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(range(len(payloads))),
            pa.array([each if isinstance(each, str) else None for each in payloads], pa.string()),
            pa.array([each if isinstance(each, bytes) else None for each in payloads], pa.binary()),
        ],
        names=["seq", "text", "data"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_tables, "_PORTION_BYTES", most)
        found = list(session_tables.portions(batch))
    assert [row for portion in found for row in portion.to_pylist()] == batch.to_pylist()
    for portion in found:
        sizes = [len((row["text"] or "").encode()) + len(row["data"] or b"") for row in portion.to_pylist()]
        # the first one may be large
        assert sizes
        assert sum(sizes[1:]) < most
