"""Messages of a hostile exchange through the tables' declarations: both implementations make the same rows."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.fuzz.implementations import rows
from wsrec.decode.scalars import INT64_MAX, INT64_MIN

CHANNELS = [
    ("binance", "trade"),
    ("binance", "depth@100ms"),
    ("okx", "books"),
    ("kraken", "book"),
    ("bitfinex", "book"),
]
hostile = st.sampled_from(
    ["\x1b[2J", "\0", "a" * 1001, "\ud800", "9" * 101, "1e9999", "-0", "0x10", "\uff11", "inf", "nan"]
)
numbers = st.integers() | st.floats() | st.sampled_from([INT64_MAX, INT64_MIN, INT64_MAX + 1, 1e300, 10**400])
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | numbers.map(str) | st.text(max_size=20) | hostile,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*"eEsptqmbaU", "data", "ts"]), inner, max_size=4)
    ),
)
levels = st.lists(st.lists(numbers.map(str) | values, max_size=4), max_size=3)
KEYS = [*"eEsptqmTbaUu", "data", "bids", "asks", "type", "action", "ts", "seqId", "stream", "checksum", "symbol"]
bodies = st.dictionaries(st.sampled_from(KEYS), values | levels, max_size=9)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Something like a message of an exchange, whole or spoiled."""
    body: Any = draw(bodies)
    if draw(st.booleans()):
        body = draw(bodies) | {"data": draw(st.sampled_from([body, [body], [body, body]]))}
    data = bytearray(json.dumps(body).encode("utf-8", "surrogatepass"))
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize(("feed", "channel"), CHANNELS)
class TestTableRows:
    @settings(deadline=None, max_examples=examples(60))
    @given(payloads=st.lists(messages() | st.binary(max_size=200), min_size=1, max_size=12))
    @example(payloads=[b"[" * 100_000, b'{"data":' * 50_000])
    @example(payloads=[b'{"p":' + b"1" * 100_000 + b',"q":"' + b"1" * 100_000 + b'"}'])
    @example(payloads=[b'{"b":[' + b'["1","2"],' * 20_000 + b'["1","2"]],"a":[]}', b""])
    def test_the_same_rows_or_none(self, feed, channel, payloads):
        try:
            rows(feed, channel, payloads)
        except pa.ArrowException as error:
            pytest.fail(f"{payloads}: {error}")
