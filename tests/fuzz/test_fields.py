"""Messages of a hostile exchange through the field paths: values of the right kind, or none; never an exception."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.decode.implementation import FieldReader
from wsrec.decode.places import NAME_MAX
from wsrec.decode.scalars import INT64_MAX, INT64_MIN, UINT64_MAX
from wsrec.feed.load import find_feed
from wsrec.monitor.sequence import SequenceChecker

FEEDS = [find_feed(name) for name in ("binance", "binance-usdm")]
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([INT64_MAX, INT64_MIN, INT64_MAX + 1, UINT64_MAX, 3.0, 1e300, 10**400])
)
hostile = st.sampled_from(
    ["../../etc/passwd", "\x1b[2J", "\0", "<script>", "a" * NAME_MAX, "a" * (NAME_MAX + 1), "\ud800"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20) | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list("esEuUtabpn")), inner, max_size=4),
)
streams = st.sampled_from(["btcusdt@trade", "btcusdt@depth@100ms", "x@aggTrade", "!bookTicker", "@", "a@" * 200])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Something like a message of the exchange, whole or spoiled."""
    body = draw(st.dictionaries(st.sampled_from(["e", "s", "E", "u", "U", "pu", "t", "a"]), values, max_size=8))
    text = json.dumps({"stream": draw(streams | values), "data": body} if draw(st.booleans()) else body)
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
class TestFields:
    @settings(deadline=None, max_examples=examples(200))
    @given(payloads=st.lists(messages() | st.binary(max_size=200), max_size=20))
    @example(payloads=[b"[" * 100_000])
    @example(payloads=[b'{"stream":"a@trade","data":' + b'{"s":' * 50_000])
    @example(payloads=[b"1" * 100_000, b'"' + b"a" * 100_000 + b'"'])
    def test_values_or_none(self, feed, payloads):
        columns = FieldReader(feed).read(pa.array(payloads, pa.large_binary()), np.ones(len(payloads), np.bool_))
        assert len(columns.channel) == len(payloads)
        for name in ("channel", "symbol"):
            for value in getattr(columns, name).cast(pa.string()).to_pylist():
                assert value is None or 0 < len(value) <= NAME_MAX
        kinds = (pa.int64(), pa.uint64(), pa.decimal128(20), pa.decimal128(20))
        for name, kind in zip(("exchange_time", "exchange_seq", "seq_first", "seq_previous"), kinds, strict=True):
            assert getattr(columns, name).type == kind
        conns = np.zeros(len(payloads), np.uint16)
        for gap in SequenceChecker(feed).check(conns, columns).gaps:
            assert 0 <= gap.index < len(payloads)
