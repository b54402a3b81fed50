from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import LONG
from tests.real_messages import Rows, read, rows
from wsrec.decode.compiled_reader import Scanner
from wsrec.decode.reader import PythonFieldReader
from wsrec.decode.scalars import INT64_MAX, INT64_MIN, UINT64_MAX
from wsrec.feed.channel import Channel
from wsrec.feed.fields import Extract, Fields, Match, TimePlace
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import ConnectionSequence, Resets
from wsrec.feed.sockets import Socket
from wsrec.feed.values import TimeUnit
from wsrec.plan.target import feed_of_url

SPOT, USDM = find_feed("binance"), find_feed("binance-usdm")


@pytest.fixture(scope="session")
def one(field_reader):
    """What one message says, but for resets, read by each implementation."""

    def read_one(message, feed=USDM):
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        (row,) = rows(read(field_reader(feed), [payload]))
        return row[:-1]

    return read_one


@pytest.fixture(scope="session")
def timed(one):
    """What is read of a time."""

    def read_time(value, unit):
        return one({"c": "x", "t": value}, feed_of_places(channel=("c",), exchange_time=("t",), time_unit=unit))[2]

    return read_time


def feed_of_places(**places) -> Feed:
    return Feed(name="places", description="", sockets={"main": Socket(url="ws://x")}, fields=Fields(**places))


def in_python(feed, payloads) -> Rows:
    """What is right: what the reader in Python says."""
    reader = PythonFieldReader(feed)
    return [reader.read_message(payload) for payload in payloads]


def stream(name, **data):
    return {"stream": name, "data": data}


class TestBinance:
    def test_trade(self, one):
        message = stream("btcusdt@trade", e="trade", E=1723161256322, s="BTCUSDT", t=7)
        assert one(message) == ("trade", "BTCUSDT", 1723161256322000000, 7, None, None)

    def test_aggregate_trade(self, one):
        assert one(stream("btcusdt@aggTrade", E=1, s="BTCUSDT", a=5, t=9))[3] == 5

    def test_depth_names_its_predecessor(self, one):
        message = stream("btcusdt@depth@0ms", E=1, s="BTCUSDT", U=3, u=5, pu=2, b=[["1", "2"]], a=[])
        assert one(message) == ("depth@0ms", "BTCUSDT", 1000000, 5, 3, 2)

    def test_spot_book_ticker_has_neither_event_nor_time(self, one):
        message = stream("btcusdt@bookTicker", u=4, s="BTCUSDT", b="1", B="2", a="3", A="4")
        assert one(message, SPOT) == ("bookTicker", "BTCUSDT", None, 4, None, None)

    def test_partial_depth_takes_its_symbol_from_the_stream(self, one):
        message = stream("btcusdt@depth5@100ms", lastUpdateId=8, bids=[], asks=[])
        assert one(message, SPOT) == ("depth5@100ms", "BTCUSDT", None, 8, None, None)

    def test_liquidation_keeps_its_symbol_deeper(self, one):
        assert one(stream("btcusdt@forceOrder", E=1, o={"s": "BTCUSDT"}))[:3] == ("forceOrder", "BTCUSDT", 1000000)

    def test_stream_of_all_symbols_keeps_its_name(self, one):
        assert one(stream("!ticker@arr") | {"data": [{"s": "BTCUSDT"}]}) == ("!ticker@arr", *[None] * 5)

    def test_without_stream_the_event_names_the_channel(self, one):
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
    def test_messages_without_the_combined_wrapper(self, one, single, file, expected):
        assert one(single(file)) == expected

    def test_acknowledgement_says_nothing(self, one):
        assert one(b'{"result":null,"id":1}') == (None,) * 6

    def test_spot_session_is_read_whole(self, field_reader, spot_session):
        columns = read(field_reader(SPOT), spot_session)
        assert columns.channel.null_count == columns.symbol.null_count == 0
        assert set(columns.channel.to_pylist()) == {"depth@100ms", "bookTicker", "kline_1m", "aggTrade"}


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
    def test_is_exact_to_the_nanosecond(self, timed, value, unit, expected):
        assert timed(value, unit) == expected

    @pytest.mark.parametrize(
        ("value", "unit"),
        [
            (True, "ms"),
            ("soon", "ms"),
            ("2021-13-41T00:00:00Z", "iso"),
            (None, "iso"),
            ([], "s"),
        ],
    )
    def test_nonsense_is_none(self, timed, value, unit):
        assert timed(value, unit) is None

    @pytest.mark.parametrize(
        ("value", "unit", "expected"),
        [
            (INT64_MAX, "ms", INT64_MAX),
            (-INT64_MAX, "us", INT64_MIN),
            (1763000000000000, "ms", INT64_MAX),
            ("9999-12-31T23:59:59Z", "iso", INT64_MAX),
            ("0001-01-01T00:00:00Z", "iso", INT64_MIN),
            (1e300, "s", INT64_MAX),
            ("9999999999.5", "s", INT64_MAX),
            (0, "ms", 0),
            (-1, "ms", -1_000_000),
        ],
    )
    def test_an_impossible_time_is_returned_to_be_reported(self, timed, value, unit, expected):
        assert timed(value, unit) == expected

    @pytest.mark.parametrize("odd", [0, -1, 1763000000000000, None, "none"])
    def test_where_there_is_another_place_it_goes_on_to_that(self, one, odd):
        feed = feed_of_places(channel=("c",), exchange_time=("t", TimePlace(path="u", unit="s")), time_unit="ms")
        assert one({"c": "x", "t": odd, "u": 1684930165}, feed)[2] == 1684930165000000000


class TestIntegers:
    """Every way in which JSON may write an integer, and no other number (RFC 8259, section 6)."""

    FEED = feed_of_places(channel=("c",)).model_copy(
        update={
            "channels": {
                "x": Channel(topic="x", exchange_seq=("n",), seq_first=("n",), seq_previous=("n",), sequence="next")
            }
        }
    )

    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ("3", 3),
            ("3.0", 3),
            ("3.000", 3),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("1.5e1", 15),
            ("30e-1", 3),
            ("-0", 0),
            ("-0.0", 0),
            ("9007199254740993.0", 9007199254740993),
            ("9223372036854775807", INT64_MAX),
            ("9223372036854775808", 1 << 63),
            ("9223372036854775808.0", 1 << 63),
            ("18446744073709551615", UINT64_MAX),
            ("1.8446744073709551615e19", UINT64_MAX),
            ("18446744073709551616", None),
            ("-18446744073709551615", None),
            ("1e400", None),
            ("1e9999", None),
            ("0.99999999999999999", None),
            ("1.5", None),
            ("9" * 5000, None),
        ],
    )
    @pytest.mark.parametrize("quote", ["", '"'])
    def test_is_read_exactly(self, one, text, number, quote):
        assert one(f'{{"c":"x","n":{quote}{text}{quote}}}'.encode(), self.FEED)[3:] == (number,) * 3

    @pytest.mark.parametrize("text", ["-5", "-5.0", "-9223372036854775808", '"-5"'])
    def test_below_0_is_no_sequence_number_and_may_name_the_one_before(self, one, text):
        number = int(float(text.strip('"')))
        assert one(f'{{"c":"x","n":{text}}}'.encode(), self.FEED)[3:] == (None, number, number)

    @pytest.mark.parametrize(
        "text", ['""', '" 12 "', '"1_0"', '"0x10"', '"١٢"', '"1."', '".5"', '"1e"', '"e1"', "true"]
    )
    def test_other_texts_are_none(self, one, text):
        assert one(f'{{"c":"x","n":{text}}}'.encode(), self.FEED)[3:] == (None,) * 3


class TestBrokenFields:
    """A field that is broken costs that field, and no other of its message."""

    @pytest.mark.parametrize("broken", ["NaN", "Infinity", "-Infinity", "9" * 5000, "1e99999999999999999999"])
    @pytest.mark.parametrize("key", ["E", "other"])
    def test_a_number_that_is_none(self, one, broken, key):
        own = '"E":1723161256322,' if key == "other" else ""
        message = f'{{"e":"trade",{own}"{key}": {broken} ,"s":"NaN","t":7,"p":[{broken}, "1"]}}'
        time = 1723161256322000000 if own else None
        assert one(message.encode()) == ("trade", "NaN", time, 7, None, None)

    def test_half_a_pair_of_utf_16(self, one):
        message = rb'{"e":"trade","s":"\ud83dUSDT","\udfff":1,"x":["\ud83d\ude80\\ud83d", "\ud83d\ud83d"],"t":14}'
        assert one(message) == ("trade", None, None, 14, None, None)

    @pytest.mark.parametrize("broken", ["nan", "NaNs", "+1", "01", "Infinit", "--Infinity", '"\\x"', '"\\u12"'])
    def test_what_is_no_json_at_all_says_nothing(self, one, broken):
        assert one(f'{{"e":"trade","t":7,"p":{broken}}}'.encode()) == (None,) * 6


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
            b'{"data":{"e":"trade","t":' + b"9" * 5000 + b"}}",
            b'{"e":"trade","E":1e99999999999999999999999999}',
        ],
    )
    def test_never_raises(self, one, payload):
        assert one(payload)[2:] == (None,) * 4

    @pytest.mark.parametrize("number", [UINT64_MAX + 1, -1, INT64_MIN - 1, 1.5, "x", None, [], {}, True])
    def test_a_number_that_is_none_leaves_the_rest(self, one, number):
        assert one(stream("x@trade", e="trade", E=1, s="X", t=number)) == ("trade", "X", 1000000, None, None, None)

    def test_overlong_names_are_none(self, one):
        assert one(stream("x@trade", E=1, s="X" * 10_000, t=1)) == ("trade", None, 1000000, 1, None, None)

    def test_endless_names_are_forgotten(self, field_reader, monkeypatch):
        monkeypatch.setattr("wsrec.decode.compiled_reader._KNOWN_MAX", 10)
        monkeypatch.setattr("wsrec.decode.reader._KNOWN_MAX", 10)
        reader = field_reader(USDM)
        for start in range(0, 100, 5):
            payloads = [json.dumps(stream(f"x@{n}", s=f"S{n}")).encode() for n in range(start, start + 5)]
            columns = read(reader, payloads)
            assert rows(columns) == in_python(USDM, payloads)
            assert len(columns.channel.dictionary) <= 15

    @settings(deadline=None)
    @given(st.data())
    def test_any_json_in_the_right_places(self, one, data):
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
            assert all(n is None or INT64_MIN <= n <= UINT64_MAX for n in numbers)


class TestBatch:
    def test_what_is_not_to_be_read_is_null(self, field_reader):
        payloads = [json.dumps(stream("x@trade", s="X", t=n)).encode() for n in range(20)]
        readable = np.arange(20) % 3 == 0
        columns = field_reader(USDM).read(pa.array(payloads, pa.large_binary()), readable)
        assert columns.exchange_seq.to_pylist() == [n if n % 3 == 0 else None for n in range(20)]
        assert columns.channel.null_count == columns.symbol.null_count == 13

    def test_a_part_of_an_array_is_read_where_it_lies(self, field_reader):
        payloads = pa.array([json.dumps(stream("x@trade", s="X", t=n)).encode() for n in range(20)], pa.large_binary())
        columns = field_reader(USDM).read(payloads[7:12], np.ones(5, np.bool_))
        assert columns.exchange_seq.to_pylist() == [7, 8, 9, 10, 11]

    def test_names_keep_their_codes(self, field_reader):
        reader = field_reader(USDM)
        for n in range(3):
            columns = read(reader, [json.dumps(stream("x@trade", s=f"S{i}")).encode() for i in range(n, n + 3)])
            assert columns.symbol.to_pylist() == [f"S{i}" for i in range(n, n + 3)]

    def test_nothing_gives_nothing(self, field_reader):
        assert rows(read(field_reader(USDM), [])) == []

    def test_without_fields_all_is_null(self, field_reader):
        reader = field_reader(feed_of_url("ws://localhost/"))
        for count in (2, 1, 5):
            assert rows(read(reader, [b'{"s":"X"}'] * count)) == [(*(None,) * 6, False)] * count


OTHER = feed_of_places(
    channel=("stream", "arg.channel", "channel", "topic", "type", Extract(path="method", capture="^(.)")),
    symbol=(
        Extract(path="stream", capture="^([^@]+)@", case="upper", optional=True),
        "data.s",
        "product_id",
        "arg.instId",
        Extract(path="topic", capture=r"([^.]+)$"),
    ),
    exchange_time=("data.E", "ts", "timestamp", "time", "data.b", "E"),
)


def in_unit(unit):
    return OTHER.model_copy(update={"fields": OTHER.fields.model_copy(update={"time_unit": unit})})


BEGINNING = Resets(messages=(Match(path="data.e", match="trade"), Match(path="type", match="BTCUSDT")))
COUNTED = OTHER.model_copy(
    update={
        "sequence": ConnectionSequence(exchange_seq=("u", "data.u"), resets=BEGINNING),
        "channels": {"btcusdt@depth@0ms": Channel(topic="x")},
    }
)


def flat(*messages):
    resets = Resets(messages=messages)
    trade = Channel(topic="x", exchange_seq=("u",), sequence="next", resets=resets)
    return feed_of_places(channel=("type",), symbol=("s",)).model_copy(update={"channels": {"trade": trade}})


FLAT = flat(Match(path="e", match="trade"))
TWICE = flat(Match(path="e", match="trade"), Match(path="data.e", match="x"))
TRUE = flat(Match(path="e", match=True), Match(path="data.e", match=1))
FEEDS = [SPOT, USDM, COUNTED, FLAT, TWICE, TRUE, *(in_unit(unit) for unit in TimeUnit)]
SPACE = st.sampled_from(["", "", "", "", " ", "\n", "\r\n\t "])
STRINGS = st.one_of(
    st.sampled_from(["trade", "x@trade", "btcusdt@depth@0ms", "depthUpdate", "BTCUSDT", "!ticker@arr", "X" * 129]),
    st.from_regex(r"-?[0-9]{1,21}(\.[0-9]{1,21})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["true", "1", "18446744073709551615", "7.000"]),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.text(max_size=20),
).map(lambda text: json.dumps(text, ensure_ascii=bool(len(text) % 2)))
ODD = st.sampled_from(
    [
        *("01", "+1", "1.", ".5", "-", "-0", "1e5", "1E-3", "30e-1", "1e99999", "5.00", "nul", "NaN", "-Infinity"),
        *('"\\x"', '"\\u00e9"', '"\x7f"', '"\\ud83d"'),
    ]
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(1 << 65), 1 << 65),
    st.integers((1 << 63) - 2, 1 << 64),
    st.floats(),
    st.decimals(allow_nan=False),
).map(str)
WANTED = "stream data e E s t u U pu a o ts arg channel topic type time b timestamp instId product_id method"
KEYS = st.sampled_from([*WANTED.split(), "lastUpdateId", "", "\u20ac", "da\\u0074a", "str\\/eam"])


@st.composite
def objects(draw, values):
    """The text of an object that has wanted keys, some of them twice."""
    pairs = [
        f'{draw(SPACE)}"{draw(KEYS)}"{draw(SPACE)}:{draw(SPACE)}{draw(values)}{draw(SPACE)}'
        for _ in range(draw(st.integers(0, 6)))
    ]
    return "{" + ",".join(pairs) + "}"


def array(texts):
    return f"[{','.join(texts)}]"


TEXTS = st.recursive(
    st.one_of(STRINGS, STRINGS, NUMBERS, st.sampled_from(["null", "true", "false", "[]", "{}", "[ ]"]), ODD),
    lambda inner: st.one_of(objects(inner), objects(inner), st.lists(inner, max_size=3).map(array)),
    max_leaves=12,
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 20),
        st.sampled_from(["flip", "delete", "insert", "cut"]),
        st.binary(min_size=1, max_size=1)
        | st.sampled_from([*b'"\\{}[],: \n0-.e\x00\x7f\x80'.decode("latin-1")]).map(lambda c: c.encode("latin-1"))
        | st.sampled_from(["\u20ac".encode(), b"\xed\xa0\x80", b'"s":"X",', b'"E":1,', b"\\n", b"\\u0041", b"9" * 20]),
    ),
    max_size=4,
)


def changed(message, changes):
    for place, how, what in changes:
        at = place % (len(message) + 1)
        cut = {"flip": at + 1, "delete": at + len(what), "insert": at, "cut": len(message)}[how]
        message = message[:at] + (b"" if how in ("delete", "cut") else what) + message[cut:]
    return message


@pytest.fixture(scope="session")
def real_message(usdm_recording, spot_session, other_exchanges):
    """A real message by number."""
    real = [*usdm_recording[:200], *spot_session[:200], *other_exchanges]
    return lambda number: real[number % len(real)]


class TestResets:
    @pytest.mark.parametrize("kind", ["trade", "x", 1, None, ["trade"]])
    def test_a_message_that_begins_anew(self, field_reader, kind):
        payloads = [json.dumps({"type": "trade", "u": 5, "e": kind}).encode(), b'{"type":"trade","u":6}']
        first, second = rows(read(field_reader(FLAT), payloads))
        assert (first[3], first[6]) == (5, kind == "trade")
        assert (second[3], second[6]) == (6, False)

    @pytest.mark.parametrize(
        ("value", "anew"), [("true", True), ('"true"', True), ("false", False), ("1", False), ("null", False)]
    )
    def test_true_makes_it_begin_anew(self, field_reader, value, anew):
        payloads = [f'{{"type":"trade","u":5,"e":{value}}}'.encode(), b'{"type":"trade","u":6}']
        first, second = rows(read(field_reader(TRUE), payloads))
        assert (first[3], first[6], second[6]) == (5, anew, False)

    @pytest.mark.parametrize(("value", "anew"), [("1", True), ('"1"', True), ("1.0", False), ("true", False)])
    def test_a_number_makes_it_begin_anew(self, field_reader, value, anew):
        payload = f'{{"type":"trade","u":5,"data":{{"e":{value}}}}}'.encode()
        assert rows(read(field_reader(TRUE), [payload]))[0][6] is anew

    def test_a_connections_numbers_are_in_messages_of_any_channel(self, field_reader):
        payloads = [b'{"u":1}', b'{"type":"unheard","u":2}', b'{"stream":"btcusdt@depth@0ms","data":{"u":3}}', b"[4]"]
        assert [row[3] for row in rows(read(field_reader(COUNTED), payloads))] == [1, 2, 3, None]


class TestCompiledLikePython:
    """Whatever comes, the compiled reader says what the one in Python says."""

    def test_recording(self, compiled_reader, usdm_recording):
        payloads = usdm_recording[:10_000]
        assert rows(read(compiled_reader(USDM), payloads)) == in_python(USDM, payloads)

    @pytest.mark.parametrize("feed", FEEDS)
    def test_other_exchanges(self, compiled_reader, other_exchanges, feed):
        assert rows(read(compiled_reader(feed), other_exchanges)) == in_python(feed, other_exchanges)

    @settings(deadline=None)
    @given(texts=st.lists(objects(TEXTS) | TEXTS, max_size=8))
    def test_any_json(self, compiled_reader, texts):
        payloads = [text.encode("utf-8", "surrogatepass") for text in texts]
        for feed in FEEDS:
            assert rows(read(compiled_reader(feed), payloads)) == in_python(feed, payloads)

    @settings(deadline=None)
    @given(changes=st.lists(st.tuples(st.integers(0, 1 << 20), CHANGES), min_size=1, max_size=8))
    def test_broken_messages(self, compiled_reader, real_message, changes):
        payloads = [changed(real_message(which), change) for which, change in changes]
        for feed in FEEDS:
            assert rows(read(compiled_reader(feed), payloads)) == in_python(feed, payloads)

    @settings(deadline=None)
    @given(texts=st.lists(STRINGS | NUMBERS | ODD, min_size=1), unit=st.sampled_from(TimeUnit))
    def test_times_and_numbers(self, compiled_reader, texts, unit):
        feed = in_unit(unit)
        payloads = [f'{{"type":"x","ts":{text}}}'.encode("utf-8", "surrogatepass") for text in texts]
        assert rows(read(compiled_reader(feed), payloads)) == in_python(feed, payloads)
        payloads = [f'{{"e":"trade","t":{text}}}'.encode("utf-8", "surrogatepass") for text in texts]
        assert rows(read(compiled_reader(USDM), payloads)) == in_python(USDM, payloads)


class TestGrammar:
    @pytest.mark.parametrize("depth", [62, 63, 64, 65, 200])
    @pytest.mark.parametrize(("opening", "inside", "closing"), [("[", "", "]"), ('{"b":', "1", "}")])
    def test_nesting(self, field_reader, depth, opening, inside, closing):
        deep = opening * depth + inside + closing * depth
        (row,) = rows(read(field_reader(USDM), [f'{{"e":"trade","t":1,"x":{deep}}}'.encode()]))
        assert row[3] == 1

    @pytest.mark.parametrize("length", range(40, 140))
    def test_strings_of_every_length_and_place(self, field_reader, length):
        payloads = [
            f'{{"e":"trade",{" " * (length % 7)}"p":"{"x" * length}","t":{length},"q":"{end}}}'.encode()
            for end in ('"', '\\""', '\u20ac"', '\\\\"', '\x01"', "")
        ]
        nothing = (*(None,) * 6, False)
        expected = [("trade", None, None, length, None, None, False)] * 4 + [nothing] * 2
        assert rows(read(field_reader(USDM), payloads)) == expected


def test_which_one_runs():
    ask = "from wsrec.decode.implementation import COMPILED, FieldReader; print(COMPILED, FieldReader.__name__)"

    def chosen(pure):
        environment = {**os.environ, "WSREC_PURE": pure}
        command = [sys.executable, "-P", "-c", ask]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert chosen("1") == "False PythonFieldReader"
    assert chosen("") == ("False PythonFieldReader" if Scanner is None else "True CompiledFieldReader")


def test_speed(field_reader, usdm_recording):
    """Shows the figures of the docstrings (`-k speed -s`); fails only on a gross change."""
    recording = usdm_recording if LONG else usdm_recording[:10_000]
    for kind in ("@bookTicker", "@trade", "@depth", ""):
        payloads = [payload for payload in recording if kind.encode() in payload[:40]]
        whole = pa.array(payloads, pa.large_binary())
        batches = [whole[start : start + 4000] for start in range(0, len(whole), 4000)]
        readable = np.ones(4000, np.bool_)
        reader = field_reader(USDM)
        best = float("inf")
        for _ in range(3):
            start = time.process_time_ns()
            for batch in batches:
                reader.read(batch, readable[: len(batch)])
            best = min(best, (time.process_time_ns() - start) / len(payloads))
        print(f"{field_reader.__name__} {kind or 'all'}: {best:.0f} ns a message")
        assert best < 100_000
