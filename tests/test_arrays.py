"""wsrec.arrays: payloads as an Arrow array, which holds what it was given no longer than it has to."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.arrays import large_binary


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)), st.booleans())
def test_it_is_what_arrow_makes_of_them(payloads, views):
    made = large_binary([memoryview(payload) for payload in payloads] if views else payloads)
    made.validate(full=True)
    assert made.equals(pa.array(payloads, pa.large_binary()))


def test_payloads_are_let_go():
    for count in (1, 2, 3):
        memory = [bytearray(b"a payload") for _ in range(count)]
        made = large_binary([memoryview(each).toreadonly() for each in memory])
        assert made.to_pylist() == [b"a payload"] * count
        del made
        for each in memory:
            # refused while anything has a view of it
            each.append(0)
