"""wsrec.feed.packed: what an exchange compresses itself, in any shape, and never to more than is allowed."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.feed.packed import unpacked

JSON = b'{"ch":"market.btcusdt.trade.detail","tick":{"id":1}}'


@pytest.mark.parametrize(
    "packed",
    [
        JSON,
        gzip.compress(JSON),
        gzip.compress(JSON[:9]) + gzip.compress(JSON[9:]),
        gzip.compress(b"") + gzip.compress(JSON) + b"\0" * 20,
        gzip.compress(JSON[:9]) + b"\0" * 3 + gzip.compress(JSON[9:]),
        zlib.compress(JSON),
        zlib.compress(JSON, wbits=-15),
    ],
    ids=["as it is", "gzip", "two members", "padded", "padded between", "zlib", "deflate"],
)
def test_shapes(packed):
    assert unpacked(packed) == JSON
    assert unpacked(memoryview(packed), len(JSON)) == JSON


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(JSON)[:-9],
        gzip.compress(JSON) + b"more",
        gzip.compress(JSON) + gzip.compress(JSON)[:-1],
        gzip.compress(b"") * 100_000,
        gzip.compress(bytes(5000)) * 3,
    ],
    ids=["cut off", "something behind it", "second cut off", "many members", "too much together"],
)
def test_damage(packed):
    assert unpacked(packed, 12_000) is None


@settings(max_examples=examples(50))
@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), st.integers(0, 3))
def test_members_are_joined_within_the_limit(parts, zeros):
    whole, packed = b"".join(parts), b"".join(map(gzip.compress, parts)) + b"\0" * zeros
    assert unpacked(packed, len(whole)) == whole
    assert unpacked(packed, len(whole) - 1) is None
