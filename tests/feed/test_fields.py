from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.fields import INT64_MAX, INT64_MIN, FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed, Fields, Socket
from wsrec.feed.target import feed_of_url

SPOT, USDM = find_feed("binance"), find_feed("binance-usdm")


def one(message, feed=USDM):
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    columns = FieldReader(feed).read([payload])
    assert {len(column) for column in columns} == {1}
    return tuple(column[0] for column in columns)


def stream(name, **data):
    return {"stream": name, "data": data}


def timed(value, unit):
    fields = Fields(channel=("c",), exchange_time=("t",), time_unit=unit)
    feed = Feed(name="timed", description="", sockets={"main": Socket(url="ws://x")}, fields=fields)
    return one({"c": "x", "t": value}, feed)[2]


class TestBinance:
    def test_trade(self):
        message = stream("btcusdt@trade", e="trade", E=1723161256322, s="BTCUSDT", t=7)
        assert one(message) == ("trade", "BTCUSDT", 1723161256322000000, 7, None, None)

    def test_aggregate_trade(self):
        assert one(stream("btcusdt@aggTrade", E=1, s="BTCUSDT", a=5, t=9))[3] == 5

    def test_depth_names_its_predecessor(self):
        message = stream("btcusdt@depth@0ms", E=1, s="BTCUSDT", U=3, u=5, pu=2, b=[["1", "2"]], a=[])
        assert one(message) == ("depth@0ms", "BTCUSDT", 1000000, 5, 3, 2)

    def test_spot_book_ticker_has_neither_event_nor_time(self):
        message = stream("btcusdt@bookTicker", u=4, s="BTCUSDT", b="1", B="2", a="3", A="4")
        assert one(message, SPOT) == ("bookTicker", "BTCUSDT", None, 4, None, None)

    def test_partial_depth_takes_its_symbol_from_the_stream(self):
        message = stream("btcusdt@depth5@100ms", lastUpdateId=8, bids=[], asks=[])
        assert one(message, SPOT) == ("depth5@100ms", "BTCUSDT", None, 8, None, None)

    def test_liquidation_keeps_its_symbol_deeper(self):
        assert one(stream("btcusdt@forceOrder", E=1, o={"s": "BTCUSDT"}))[:3] == ("forceOrder", "BTCUSDT", 1000000)

    def test_stream_of_all_symbols_keeps_its_name(self):
        assert one(stream("!ticker@arr") | {"data": [{"s": "BTCUSDT"}]}) == ("!ticker@arr", *[None] * 5)

    def test_without_stream_the_event_names_the_channel(self):
        assert one({"data": {"e": "trade", "s": "X", "t": 1}})[:2] == ("trade", "X")

    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            ("trade_stream.json", ("trade", "BTCUSDT", 123456789000000, 5933014, None, None)),
            ("agg_trade_stream.json", ("aggTrade", "BTCUSDT", 123456789000000, 5933014, None, None)),
            ("depth_update_stream.json", ("depthUpdate", "BTCUSDT", 123456789000000, 160, 157, 149)),
            ("book_ticker_stream.json", ("bookTicker", "BNBUSDT", 1568014460893000000, 400900217, None, None)),
        ],
    )
    def test_messages_without_the_combined_wrapper(self, single, file, expected):
        assert one(single(file)) == expected

    def test_acknowledgement_says_nothing(self):
        assert one(b'{"result":null,"id":1}') == (None,) * 6

    def test_both_ways_read_the_recording_alike(self, usdm_recording):
        payloads = usdm_recording[:3000]
        slow = FieldReader(USDM)
        slow._head = None
        assert FieldReader(USDM).read(payloads) == slow.read(payloads)

    def test_spot_session_is_read_whole(self, spot_session):
        columns = FieldReader(SPOT).read(spot_session)
        assert None not in columns.channel
        assert None not in columns.symbol
        assert set(columns.channel) == {"depth@100ms", "bookTicker", "kline_1m", "aggTrade"}


class TestTime:
    @pytest.mark.parametrize(
        ("value", "unit", "expected"),
        [
            (1633998512.0633569, "s", 1633998512063356900),
            ("1633998512.063356901", "s", 1633998512063356901),
            (1633998512, "s", 1633998512000000000),
            ("1633998512063", "ms", 1633998512063000000),
            (1633998512063356, "us", 1633998512063356000),
            (1633998512063356901, "ns", 1633998512063356901),
            ("2021-10-12T00:28:32.063356901Z", "iso", 1633998512063356901),
            ("2021-10-12T02:28:32.063356+02:00", "iso", 1633998512063356000),
            ("2021-10-12 00:28:32", "iso", 1633998512000000000),
            ("1969-12-31T23:59:59.999999999Z", "iso", -1),
        ],
    )
    def test_is_exact_to_the_nanosecond(self, value, unit, expected):
        assert timed(value, unit) == expected

    @pytest.mark.parametrize(
        ("value", "unit"),
        [
            (INT64_MAX, "ms"),
            (True, "ms"),
            ("soon", "ms"),
            ("9999-12-31T23:59:59Z", "iso"),
            ("2021-13-41T00:00:00Z", "iso"),
            ("0001-01-01T00:00:00+14:00", "iso"),
            (None, "iso"),
            ([], "s"),
            (1e300, "s"),
        ],
    )
    def test_nonsense_is_none(self, value, unit):
        assert timed(value, unit) is None


class TestHostileInput:
    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"pong",
            b"\xff\xfe",
            b"[" * 1_000_000,
            b'{"stream":' * 100_000,
            b'{"stream":"a@trade","data":' + b"[" * 100_000,
            b'{"stream":"\xff@trade","data":{}}',
            b'{"stream":"\\ud800@trade","data":{"s":"\\udfff"}}',
            b'{"stream":"a@trade","data":{"E":NaN,"t":1}}',
            b'{"data":{"e":"trade","t":' + b"9" * 5000 + b"}}",
            b'{"e":"trade","E":1e999999999}',
            b'{"e":"trade","E":1e99999999999999999999999999}',
        ],
    )
    def test_never_raises(self, payload):
        assert one(payload)[2:] == (None,) * 4

    @pytest.mark.parametrize("number", [INT64_MAX + 1, INT64_MIN - 1, 1.5, "x", None, [], {}, True])
    def test_a_number_that_is_none_leaves_the_rest(self, number):
        assert one(stream("x@trade", e="trade", E=1, s="X", t=number)) == ("trade", "X", 1000000, None, None, None)

    def test_overlong_names_are_none(self):
        assert one(stream("x@trade", E=1, s="X" * 10_000, t=1)) == ("trade", None, 1000000, 1, None, None)

    def test_endless_names_are_forgotten(self, monkeypatch):
        monkeypatch.setattr("wsrec.feed.fields._KNOWN_MAX", 10)
        reader = FieldReader(USDM)
        reader.read([json.dumps(stream(f"x@{n}")).encode() for n in range(100)])
        assert len(reader._known) <= 10

    @given(st.lists(st.binary(max_size=200)))
    def test_any_bytes(self, payloads):
        assert {len(column) for column in FieldReader(USDM).read(payloads)} == {len(payloads)}

    @given(st.data())
    def test_any_json_in_the_right_places(self, data):
        anything = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("sEtuo"), inner, max_size=3),
        )
        inner = st.dictionaries(st.sampled_from(["e", "E", "s", "t", "a", "u", "U", "pu", "o"]), anything)
        names = st.sampled_from(["x@trade", "x@depth@0ms", "x@bookTicker", "x@forceOrder", "x@aggTrade"])
        message = {"stream": data.draw(names | anything), "data": data.draw(inner | anything)}
        for feed in (SPOT, USDM):
            channel, symbol, *numbers = one(message, feed)
            assert all(text is None or text.encode() for text in (channel, symbol))
            assert all(n is None or INT64_MIN <= n <= INT64_MAX for n in numbers)


class TestFeedWithoutFields:
    def test_is_all_none(self):
        columns = FieldReader(feed_of_url("ws://localhost/")).read([b"1", b"2"])
        assert columns == ([None] * 2,) * 6

    def test_nothing_gives_nothing(self):
        assert FieldReader(USDM).read([]) == ([],) * 6


def test_speed(usdm_recording):
    """Shows the figures of FieldReader's docstring (`-k speed -s`); fails only on a gross change."""
    payloads = [memoryview(payload) for payload in usdm_recording]
    reader = FieldReader(USDM)
    best = float("inf")
    for _ in range(3):
        start = time.process_time_ns()
        for index in range(0, len(payloads), 1000):
            reader.read(payloads[index : index + 1000])
        best = min(best, (time.process_time_ns() - start) / len(payloads))
    print(f"FieldReader: {best:.0f} ns a message")
    assert best < 20_000
