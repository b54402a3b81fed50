"""Places: paths into arrays, conditions, joined texts, ids of a connection; every implementation the same."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.effort import examples
from tests.real_messages import read, rows
from wsrec.decode.compiled_reader import CompiledFieldReader
from wsrec.decode.reader import PythonFieldReader
from wsrec.decode.scalars import INT64_MIN
from wsrec.feed.packed import INFLATED_MAX
from wsrec.feed.schema import Feed

ASKING = {
    "subscribe": {"message": '{"a":{topics}}', "batch": 1},
    "limits": {"streams_per_connection": 1, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "symbols": {"pattern": ".+", "words": "x", "example": "X", "case": "keep"},
}


def feed_of(channels=None, **fields) -> Feed:
    """A feed with these fields; `channels` by name, each without its topic."""
    named = {name: {"topic": f"{name} {{symbol}}", **channel} for name, channel in (channels or {}).items()}
    described = {"name": "places", "description": "", "sockets": {"main": {"url": "ws://x"}}, "fields": fields}
    return Feed.model_validate({**described, **({**ASKING, "channels": named} if named else {})})


@pytest.fixture
def one(field_reader):
    """What one message says, by each implementation."""

    def read_one(feed, message):
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        (row,) = rows(read(field_reader(feed), [payload]))
        return row

    return read_one


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "message", "expected"),
        [
            ("data[0].s", {"data": [{"s": "A"}, {"s": "B"}]}, "A"),
            ("data[1].s", {"data": [{"s": "A"}, {"s": "B"}]}, "B"),
            ("data[-1].s", {"data": [{"s": "A"}, {"s": "B"}]}, "B"),
            ("data[2].s", {"data": [{"s": "A"}, {"s": "B"}]}, None),
            ("data[].s", {"data": [{}, {"s": None}, {"s": "B"}, {"s": "C"}]}, "B"),
            ("data[].s", {"data": [{"s": 1}, {"s": "B"}]}, None),
            ("data[].s", {"data": {"x": {"s": "A"}}}, "A"),
            ("data[0].s", {"data": {"0": {"s": "A"}}}, None),
            ("data.s", {"data": [{"s": "A"}]}, None),
            ("[2]", ["x", 7, "A"], "A"),
            ("[2][0].s", ["x", 7, [{"s": "A"}]], "A"),
            ("[-2]", ["x", "A", 9], "A"),
            ("[][].s", [[{}], [{}, {"s": "A"}]], "A"),
            ("markets.{}", {"markets": {"A": {}, "B": {}}}, "A"),
            ('data."a.b"', {"data": {"a.b": "A"}}, "A"),
            ("err-code", {"err-code": "A"}, "A"),
            ('"$s"', {"$s": "A"}, "A"),
        ],
    )
    def test_leads_to_a_value(self, one, path, message, expected):
        assert one(feed_of(channel=[path]), message)[0] == expected

    @pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "a[", "a[x]", "a[99999]", "{}.a", "a.{}.b", "$A", "a b"])
    def test_bad_ones_are_refused(self, path):
        with pytest.raises(ValidationError):
            feed_of(channel=[path])

    def test_of_several_numbers_the_last_is_the_number_and_the_first_begins_the_range(self, one):
        channel = {"exchange_seq": ["d[].n"], "seq_first": ["d[].n"], "seq_previous": ["d[].p"], "sequence": "touching"}
        feed = feed_of({"t": channel}, channel=["c"], exchange_time=["d[].t"])
        message = {"c": "t", "d": [{"t": 5, "p": 1}, {"n": 4, "p": 2}, {"n": "6", "t": 7}, {"n": None}]}
        assert one(feed, message)[2:6] == (5_000_000, 6, 4, 1)

    def test_a_position_is_one_of_each_as_well(self, one):
        channel = {"exchange_seq": ["d[].n"], "seq_first": ["d[0].n"], "seq_previous": ["d[1].n"]}
        feed = feed_of({"t": channel}, channel=["c"], symbol=["d[].s.x"], exchange_time=["d[0].s.t"])
        message = {"c": "t", "d": [{"n": 1, "s": {"t": 9}}, {"n": 2, "s": {"x": "A"}}, {"n": 3}]}
        assert one(feed, message)[1:6] == ("A", 9_000_000, 3, 1, 2)


class TestNames:
    def test_groups_are_joined(self, one):
        place = {"path": "c", "capture": r"^(\w+)\.[^.]+(\..+)?$"}
        assert one(feed_of(channel=[place]), {"c": "book.BTC-PERPETUAL.100ms"})[0] == "book.100ms"
        assert one(feed_of(channel=[place]), {"c": "quote.BTC-PERPETUAL"})[0] == "quote"

    def test_a_map_says_what_texts_stand_for(self, one):
        feed = feed_of(channel=[{"path": "e", "map": {"depthUpdate": "depth"}}, "other"])
        assert one(feed, {"e": "depthUpdate"})[0] == "depth"
        assert one(feed, {"e": "x", "other": "y"})[0] == "y"

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ({"channel": "book", "type": "snapshot"}, "book/snapshot"),
            ({"channel": "book", "type": 5}, "book/5"),
            ({"channel": "book", "type": -5}, "book/-5"),
            ({"channel": "book", "type": True}, "book/true"),
            ({"channel": "book", "type": 1.5}, None),
            ({"channel": "book", "type": None}, None),
            ({"channel": "book", "type": {}}, None),
            ({"channel": "{type}", "type": "{channel}"}, "{type}/{channel}"),
            ({"channel": "x" * 100, "type": "y" * 100}, None),
        ],
    )
    def test_texts_are_joined(self, one, message, expected):
        assert one(feed_of(channel=[{"join": "{channel}/{type}"}]), message)[0] == expected

    def test_keys_distinguish_messages_without_a_name(self, one):
        places = [
            {"path": "e", "map": {"depthUpdate": "depth"}},
            {"value": "trade", "needs": ["t", "p"]},
            {"value": "bookTicker", "needs": ["b", "B"]},
        ]
        feed = feed_of(channel=places)
        assert one(feed, {"e": "depthUpdate", "b": [], "a": []})[0] == "depth"
        assert one(feed, {"t": 5, "p": "1.5", "m": True})[0] == "trade"
        assert one(feed, {"b": "1", "B": "2"})[0] == "bookTicker"
        assert one(feed, {"t": None, "p": "1"})[0] is None

    def test_conditions_compare_texts_numbers_and_truth(self, one):
        feed = feed_of(
            channel=[
                {"value": "heartbeat", "where": {"[1]": "hb"}},
                {"value": "failure", "where": {"success": False}},
                {"path": "c", "where": {"code": [0, 1], "action": ["snapshot", "update"]}},
            ]
        )
        assert one(feed, [5, "hb"])[0] == "heartbeat"
        assert one(feed, {"success": False})[0] == "failure"
        assert one(feed, {"c": "book", "code": 0, "action": "update"})[0] == "book"
        assert one(feed, {"c": "book", "code": "1", "action": "update"})[0] == "book"
        assert one(feed, {"c": "book", "code": 2, "action": "update"})[0] is None

    def test_many_values_of_a_needed_key_are_one_case(self, field_reader):
        feed = feed_of(channel=[{"value": "trade", "needs": ["t"]}])
        payloads = [b'{"t":%d}' % number for number in range(5000)]
        reader = field_reader(feed)
        assert set(read(reader, payloads).channel.to_pylist()) == {"trade"}
        if isinstance(reader, CompiledFieldReader):
            assert reader._tables._scanner.known == 1

    def test_messages_that_are_no_json_have_names(self, one):
        feed = feed_of(channel=["c"], texts={"pong": "pong"})
        assert one(feed, b"pong")[0] == "pong"
        assert one(feed, b"Websocket connection established.")[0] is None
        assert one(feed, b"pong" * 10_000)[0] is None


class TestSymbolsInRows:
    """A message of several rows has a symbol only where they all have the same one."""

    feed = feed_of(channel=["c"], symbol=["data[].s", "topic"])

    @pytest.mark.parametrize(
        ("rows_", "expected"),
        [
            ([{"s": "A"}], "A"),
            ([{"s": "A"}, {"s": "A"}, {"s": "A"}], "A"),
            ([{"s": "A"}, {}, {"s": None}, {"s": "A"}], "A"),
            ([{"s": "A"}, {"s": "B"}], None),
            ([{"s": "A"}, {"s": "B"}, {"s": "A"}], None),
            ([{"s": "A"}, {"s": "AB"}], None),
            ([{"s": "A"}, {"s": 1}], None),
            ([{"s": "1"}, {"s": 1}], None),
            ([{"s": "A"}, {"s": {}}], None),
            ({"x": {"s": "A"}, "y": {"s": "A"}}, "A"),
            ({"x": {"s": "A"}, "y": {"s": "B"}}, None),
        ],
    )
    def test_differ_or_do_not(self, one, rows_, expected):
        assert one(self.feed, {"c": "x", "data": rows_})[1] == expected

    def test_where_they_differ_the_next_place_counts(self, one):
        assert one(self.feed, {"c": "x", "data": [{"s": "A"}, {"s": "B"}], "topic": "T"})[1] == "T"

    def test_an_escape_is_the_same_letter(self, one):
        assert one(self.feed, b'{"c":"x","data":[{"s":"A/B"},{"s":"A\\/B"}]}')[1] == "A/B"

    def test_each_message_is_judged_by_itself(self, field_reader):
        payloads = [b'{"data":[{"s":"A"},{"s":"%c"}]}' % letter for letter in b"ABABAA"]
        assert read(field_reader(self.feed), payloads).symbol.to_pylist() == ["A", None, "A", None, "A", "A"]

    def test_keys_of_an_object(self, one):
        feed = feed_of(channel=["c"], symbol=["markets.{}"])
        assert one(feed, {"markets": {"A": {}}})[1] == "A"
        assert one(feed, {"markets": {"A": {}, "B": {}}})[1] is None

    def test_texts_that_are_joined(self, one):
        feed = feed_of(channel=["c"], symbol=[{"join": "{d[].b}-{d[].n}"}])
        assert one(feed, {"d": [{"b": "A", "n": 1}, {"b": "A", "n": 1}]})[1] == "A-1"
        assert one(feed, {"d": [{"b": "A", "n": 1}, {"b": "A", "n": 2}]})[1] is None
        assert one(feed, b'{"d":[{"b":"A","n":0},{"b":"A","n":-0}]}')[1] == "A-0"

    def test_the_channel_is_the_first_rows(self, one):
        assert one(feed_of(channel=["d[].c"], symbol=["d[].c"]), {"d": [{"c": "A"}, {"c": "B"}]})[:2] == ("A", None)


class TestTimes:
    def test_units_of_channels_and_places(self, one):
        channels = {
            "ns": {"time_unit": "ns"},
            "place": {"exchange_time": ["x", {"path": "y", "unit": "us"}]},
            "iso": {"exchange_time": [{"path": "i", "unit": "iso"}]},
        }
        feed = feed_of(channels, channel=["c"], exchange_time=["t"])
        assert one(feed, {"c": "other", "t": 5})[2] == 5_000_000
        assert one(feed, {"c": "ns", "t": "1633998512063356901"})[2] == 1633998512063356901
        assert one(feed, {"c": "place", "y": 5})[2] == 5_000
        assert one(feed, {"c": "iso", "i": "2021-10-12T00:28:32.063356901Z"})[2] == 1633998512063356901
        assert one(feed, {"c": "iso", "i": "0001-01-01T00:00:00.000000Z"})[2] == INT64_MIN

    def test_text_without_a_zone_is_of_the_places(self, one):
        feed = feed_of(channel=["c"], exchange_time=[{"path": "list[].t", "unit": "iso", "offset": "+09:00"}])
        assert one(feed, {"list": [{"t": "2021-10-12 09:28:32.063356"}]})[2] == 1633998512063356000
        assert one(feed, {"list": [{"t": "2021-10-12 00:28:32.063356Z"}]})[2] == 1633998512063356000

    def test_ids_of_more_than_64_bits_leave_the_rest(self, one):
        feed = feed_of({"t": {"exchange_seq": ["d[].n"]}}, channel=["c"], exchange_time=["t"])
        message = b'{"c":"t","d":[{"id":123456789012345678901234567890,"n":9007199254740993}],"t":5}'
        assert one(feed, message)[2:4] == (5_000_000, 9007199254740993)
        assert one(feed, b'{"c":"t","d":[{"n":123456789012345678901234567890}]}')[3] is None


BITFINEX = feed_of(
    {"trades": {"exchange_seq": ["[-2]"], "exchange_time": ["[-1]"]}},
    channel=["event", {"path": "[1]", "map": {"hb": "heartbeat"}}, "$channel"],
    symbol=["$symbol", "symbol"],
    exchange_time=["[-1]"],
    ids={
        "where": {"event": "subscribed"},
        "id": "chanId",
        "names": {"channel": ["channel"], "symbol": ["symbol", "key"]},
        "at": "[0]",
    },
)
ACK = b'{"event":"subscribed","channel":"trades","chanId":17,"symbol":"tBTCUSD"}'
TRADE = b'[17,"te",[401597395,1574694478808,0.005,7245.3],9,1574694478809]'


class TestIds:
    def test_stand_for_what_was_announced(self, field_reader):
        reader = field_reader(BITFINEX)
        assert rows(read(reader, [TRADE]))[0][:2] == (None, None)
        announced, trade, heartbeat, unknown = rows(
            read(reader, [ACK, TRADE, b'[17,"hb",10,1574694478810]', b"[18,[1,2]]"])
        )
        assert announced[:2] == ("subscribed", "tBTCUSD")
        assert trade[:4] == ("trades", "tBTCUSD", 1574694478809000000, 9)
        assert heartbeat[:3] == ("heartbeat", "tBTCUSD", 1574694478810000000)
        assert unknown[:2] == (None, None)

    def test_belong_to_their_connection_and_end_with_it(self, field_reader):
        reader = field_reader(BITFINEX)

        def channel(conn, *payloads):
            readable = np.ones(len(payloads), np.bool_)
            conns = np.full(len(payloads), conn, np.uint16)
            return reader.read(pa.array(payloads, pa.large_binary()), readable, conns).channel[-1].as_py()

        assert channel(3, ACK, TRADE) == "trades"
        assert channel(4, TRADE) is None
        assert channel(3, TRADE) == "trades"
        reader.disconnected(3)
        assert channel(3, TRADE) is None

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ValidationError, match=r"found \$channel, expected one of fields\.ids\.names"):
            feed_of(channel=["$channel"])

    def test_endless_announcements_are_not_all_remembered(self, field_reader):
        reader = field_reader(BITFINEX)
        payloads = [ACK.replace(b"17", b"%d" % number) for number in range(10_000)]
        assert read(reader, payloads).channel.null_count == 0
        assert rows(read(reader, [b'[9999,"te",[],1,2]']))[0][0] is None


class TestBinary:
    feed = feed_of(channel=["ch"], binary="gzip")

    def read(self, field_reader, feed, payloads, binary):
        columns = field_reader(feed).read(
            pa.array(payloads, pa.large_binary()), np.ones(len(payloads), np.bool_), None, np.array(binary)
        )
        return columns.channel.to_pylist()

    def test_gzip_holds_json(self, field_reader):
        payloads = [gzip.compress(b'{"ch":"a"}'), b'{"ch":"text"}', gzip.compress(b'{"ch":"b"}')]
        assert self.read(field_reader, self.feed, payloads, [True, False, True]) == ["a", "text", "b"]

    def test_each_is_read_as_what_it_is(self, field_reader):
        """Exchanges change how they compress, and do not always keep to the kind of frame that they say."""
        raw, large = zlib.compressobj(wbits=-15), b'{"ch":"l","x":"' + bytes(range(48, 91)) * 100 + b'"}'
        payloads = {
            gzip.compress(b'{"ch":"in text"}'): (False, "in text"),
            b'{"ch":"plain"}': (True, "plain"),
            b'[{"ch":"list"}]': (True, None),
            raw.compress(b'{"ch":"raw"}') + raw.flush(): (True, "raw"),
            zlib.compress(b'{"ch":"zlib"}'): (True, "zlib"),
            zlib.compress(large): (True, "l"),
            zlib.compress(large)[2:-4]: (True, "l"),
            b"\x08\x96\x01": (True, None),
            b'{"ch":"text"}': (False, "text"),
        }
        binary, expected = zip(*payloads.values(), strict=True)
        assert self.read(field_reader, self.feed, list(payloads), binary) == list(expected)

    def test_damaged_and_endless_ones_say_nothing(self, field_reader):
        bomb = gzip.compress(b'{"ch":"a","x":"' + b" " * INFLATED_MAX + b'"}')
        whole = gzip.compress(b'{"ch":"a"}')
        payloads = [bomb, whole[:-5], whole + b"x", b"", b"\x1f\x8b", whole]
        assert self.read(field_reader, self.feed, payloads, [True] * 6) == [None] * 5 + ["a"]

    def test_opaque_ones_are_not_read(self, field_reader):
        feed = feed_of(channel=["ch"], binary="opaque")
        payloads = [b'{"ch":"a"}', b'{"ch":"a"}']
        assert self.read(field_reader, feed, payloads, [True, False]) == [None, "a"]

    def test_protobuf_is_read_by_its_types(self, field_reader):
        schema = {"message": "M", "types": {"M": {"ch": "string = 1", "d": "repeated D = 2"}, "D": {"n": "int64 = 1"}}}
        feed = feed_of({"a": {"exchange_seq": ["d[].n"]}}, channel=["ch"], binary="protobuf", binary_schema=schema)
        payloads = [b"\x0a\x01a\x12\x02\x08\x07\x12\x02\x08\x08", b"\x0a\x09a", b'{"ch":"a"}', b"\x0a\x01a"]
        columns = field_reader(feed).read(
            pa.array(payloads, pa.large_binary()), np.ones(4, np.bool_), None, np.array([True, True, False, True])
        )
        assert columns.channel.to_pylist() == ["a", None, "a", "a"]
        assert columns.exchange_seq.to_pylist() == [8, None, None, None]

    @pytest.mark.parametrize("keys", [{"binary": "protobuf"}, {"binary_schema": {"message": "M", "types": {"M": {}}}}])
    def test_protobuf_needs_its_types(self, keys):
        with pytest.raises(ValueError, match="expected both"):
            feed_of(channel=["ch"], **keys)

    def test_json_is_read_as_text_is(self, field_reader):
        assert self.read(field_reader, feed_of(channel=["ch"]), [b'{"ch":"a"}'], [True]) == ["a"]


MIXED = [
    feed_of(
        {
            "x": {"exchange_seq": ["d[].n", "n"], "seq_first": ["d[0].n", "d[].s"], "seq_previous": ["a[][1]"]},
            "y": {"exchange_seq": ["a[0].d[].n"], "symbol": ["d[].s", "d.s", "a[].d.s"], "time_unit": "us"},
            "z": {"exchange_seq": ["[2]"], "exchange_time": [{"path": "d[0].t", "unit": "iso"}, "d[1].t"]},
        },
        channel=["c", "[1]", "d[0].c", {"join": "{d[].c}{n}"}, {"value": "y", "needs": ["d[].n"]}],
        symbol=[
            "s",
            "d[].s",
            "d.{}",
            "a[-1].s",
            {"path": "d[1].s", "where": {"d[0].s": ["x", 1, True]}},
            "[0]",
            "[].s",
        ],
        exchange_time=["t", "d[].t", "a[0][0]", {"path": "n", "unit": "iso", "offset": "+09:00"}, "[-1].t"],
        texts={"pong": "pong"},
    ),
    feed_of(
        {"x": {"exchange_seq": ["d.s[0].n"], "seq_first": ["d.s[].n"], "seq_previous": ["d[][0].n"]}},
        channel=[
            {"join": "{c}{d.s[].c}"},
            {"path": "c", "map": {"x": "x", "y": "x"}},
            {"path": "a[2]", "needs": ["n"]},
            {"value": "x", "where": {"t": "x"}},
        ],
        symbol=[
            {"value": "S", "where": {"n": [1, "x", False], "d[].n": [2, "y"]}},
            {"join": "{d[].s}{d[].n}"},
            "a[].s",
            "d.s",
        ],
        exchange_time=[{"path": "d.s[].t", "unit": "s"}, {"path": "d[].t", "unit": "iso"}],
        time_unit="ns",
    ),
]
WORDS = """ "x" "y" "z" "" 1 2 -0 -7 "12" 1.5 1e3 true false null 123456789012345678901 "0001-01-01T00:00:00Z"
"2021-10-12T00:28:32.5Z" "\\u0078" "a\\nb" """
SCALARS = st.sampled_from([*WORDS.split(), f'"{"q" * 129}"'])
KEYS = st.sampled_from(["c", "d", "n", "s", "t", "a", "c", "d"])
SPACE = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def members(draw, inner):
    pairs = draw(st.lists(st.tuples(KEYS, SPACE, inner, SPACE), max_size=5))
    return "{" + ",".join(f'{before}"{key}"{after}:{before}{value}{after}' for key, before, value, after in pairs) + "}"


@st.composite
def elements(draw, inner):
    return "[" + ",".join(draw(SPACE) + each + draw(SPACE) for each in draw(st.lists(inner, max_size=4))) + "]"


ANY = st.recursive(SCALARS, lambda inner: members(inner) | elements(inner) | members(inner), max_leaves=16)


class TestCompiledLikePython:
    @settings(deadline=None, max_examples=examples(150))
    @given(texts=st.lists(members(ANY) | elements(ANY) | st.just("pong"), max_size=8))
    def test_any_structure(self, compiled_reader, texts):
        payloads = [text.encode() for text in texts]
        for feed in MIXED:
            python = PythonFieldReader(feed)
            assert rows(read(compiled_reader(feed), payloads)) == [python.read_message(payload) for payload in payloads]

    def test_these_feeds_are_scanned(self, compiled_reader):
        for feed in MIXED:
            assert compiled_reader(feed)._tables is not None
