"""wsrec.arrays: what is between Arrow and numpy, and payloads that are held no longer than they have to be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.arrays import distinct, large_binary, lengths


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


@given(st.lists(st.integers(0, 65_535)))
def test_the_different_numbers_of_an_array(numbers):
    assert distinct(np.array(numbers, np.uint16)) == sorted(set(numbers))


@given(st.lists(st.binary(max_size=20)), st.integers(0, 5))
def test_the_lengths_of_payloads_also_of_a_slice(payloads, start):
    assert lengths(pa.array(payloads, pa.large_binary())[start:]).tolist() == list(map(len, payloads[start:]))


def test_the_length_of_a_null_is_0():
    assert lengths(pa.array([b"ab", None, b"c"], pa.large_binary())).tolist() == [2, 0, 1]
