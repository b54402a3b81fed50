"""wsrec.decode.table_rows: rows as declared, and nothing guessed where a message is not as declared."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.feeds import parse_feed
from wsrec.decode.table_rows import NO_DECLARATION, NOT_JSON, Message, Outcome, TableRowReader
from wsrec.feed.errors import ConfigError
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table


def feed_of(*tables: dict[str, Any]) -> Feed:
    feed = {
        "name": "example",
        "description": "an example",
        "sockets": {"main": {"url": "wss://example.com/ws"}},
        "subscribe": {"message": "{topics}"},
        "limits": {"streams_per_connection": 10, "connects": 10, "connects_interval": 60},
        "fields": {"channel": ["c"], "symbol": ["s"], "time_unit": "ms"},
        "channels": {"data": {"topic": "data", "tables": [copy.deepcopy(table) for table in tables]}},
    }
    return parse_feed(yaml.safe_dump(feed).encode(), "example.yaml")


def outcome(message: Any, *tables: dict[str, Any], symbol: str | None = "X") -> Outcome:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    return TableRowReader(feed_of(*tables)).read(Message(text, "data", symbol))


def rows(message: Any, *tables: dict[str, Any]) -> list[dict[str, Any]]:
    made = outcome(message, *tables)
    assert made.left_out == []
    return [row for _, each in made.rows for row in each]


TRADES = {"table": "trades", "columns": {"price": "p", "size": "q"}}
BOOK = {"table": "book_changes", "bids": "b", "asks": "a", "level": ["price", "size"]}


class TestNumbers:
    def test_digits_stay_as_they_were_written(self) -> None:
        text = b'{"p": 61804.70000000, "q": "6.22e-08"}'
        assert rows(text, TRADES) == [{"symbol": "X", "price": "61804.70000000", "size": "6.22e-08"}]

    def test_a_number_beyond_64_bits_keeps_its_digits(self) -> None:
        digits = "2256988199713362498636402962673176823712345"
        made = rows(f'{{"p": 1, "q": {digits}}}'.encode(), TRADES)
        assert made[0]["size"] == digits

    @pytest.mark.parametrize("bad", ['"0.-10000"', '"NaN"', '"1,5"', "true", "[1]", '"1e9999"'])
    def test_what_is_no_number_is_left_out_with_its_reason(self, bad: str) -> None:
        made = outcome(f'{{"p": 1, "q": {bad}}}'.encode(), TRADES)
        assert made.rows == []
        assert [table for table, _ in made.left_out] == [Table.TRADES]
        assert made.left_out[0][1].startswith("size: found")

    def test_a_sign_becomes_the_side(self) -> None:
        side = {"path": "q", "positive": "buy", "negative": "sell"}
        signed = {**TRADES, "columns": {"price": "p", "size": {"path": "q", "absolute": True}, "side": side}}
        assert [rows({"p": "1", "q": q}, signed)[0]["side"] for q in ("5", "-5")] == ["buy", "sell"]
        assert rows({"p": "1", "q": "-5"}, signed)[0]["size"] == "5"


class TestTimes:
    @pytest.mark.parametrize(
        ("unit", "value", "nanoseconds"),
        [
            ("ms", 1700000000123, 1_700_000_000_123_000_000),
            ("ms", "1619093543708.2642", 1_619_093_543_708_264_200),
            ("s", "1700000000", 1_700_000_000_000_000_000),
            ("iso", "2021-04-17T16:43:30.244075Z", 1_618_677_810_244_075_000),
            ("ms", 0, None),
            ("iso", "0001-01-01T00:00:00.000000Z", None),
            ("iso", "1970-01-01T00:00:00Z", None),
            ("ms", 123456785, 123_456_785_000_000),
            ("ms", "", None),
        ],
    )
    def test_in_the_unit_of_the_column_and_none_where_the_venue_has_none(
        self, unit: str, value: Any, nanoseconds: int | None
    ) -> None:
        columns = {"price": "p", "size": "q", "trade_time": {"path": "t", "unit": unit}}
        made = rows({"p": 1, "q": 1, "t": value}, {**TRADES, "columns": columns})
        assert made[0].get("trade_time") == nanoseconds

    @pytest.mark.parametrize("scale", [10**6, 10**3, 1])
    def test_by_the_size_of_the_number(self, scale: int) -> None:
        columns = {"price": "p", "size": "q", "trade_time": {"path": "t", "by_size": True}}
        made = rows({"p": 1, "q": 1, "t": 1_700_000_000_123_000_000 // scale}, {**TRADES, "columns": columns})
        assert made[0]["trade_time"] == 1_700_000_000_123_000_000


SIDE = {"path": "s", "words": {"B": "buy", "S": "sell", "": None}}


class TestWords:
    def test_a_word_that_is_not_declared_is_refused_not_guessed(self) -> None:
        declared = {**TRADES, "columns": {"price": "p", "size": "q", "side": SIDE}}
        assert rows({"p": 1, "q": 1, "s": "B"}, declared)[0]["side"] == "buy"
        assert "side" not in rows({"p": 1, "q": 1, "s": ""}, declared)[0]
        made = outcome({"p": 1, "q": 1, "s": "BUY"}, declared)
        assert made.rows == []
        assert made.left_out == [(Table.TRADES, "side: found the word 'BUY', which is not declared at `s`")]

    def test_flags_by_the_exchange_s_word(self) -> None:
        declared = {**TRADES, "flags": [{"path": "X", "words": {"MARKET": None, "ADL": "adl", 1: "elp"}}]}
        made = [rows({"p": 1, "q": 1, "X": word}, declared)[0].get("flags") for word in ("MARKET", "ADL", 1, None)]
        assert made == [None, ["adl"], ["elp"], None]
        refused = outcome({"p": 1, "q": 1, "X": "RPI"}, declared)
        assert refused.rows == []
        assert refused.left_out == [(Table.TRADES, "flags: found the word 'RPI', which is not declared at `X`")]

    def test_yaml_booleans_are_words(self) -> None:
        side = {"path": "m", "words": {True: "sell", False: "buy"}}
        declared = {**TRADES, "columns": {"price": "p", "size": "q", "side": side}}
        assert rows({"p": 1, "q": 1, "m": True}, declared)[0]["side"] == "sell"

    def test_a_column_with_certain_words_takes_one_as_itself(self) -> None:
        declared = {**TRADES, "columns": {"price": "p", "size": "q", "size_unit": "contracts"}}
        assert rows({"p": 1, "q": 1}, declared)[0]["size_unit"] == "contracts"


class TestPlaces:
    def test_rows_in_rows_know_what_is_around_them(self) -> None:
        declared = {
            **TRADES,
            "rows": "events[].trades[]",
            "symbol": "s",
            "columns": {"price": "p", "size": "q", "trade_time": "$.events[].t", "trade_id": "$.id"},
        }
        message = {
            "id": 7,
            "events": [
                {"t": 1700000000001, "trades": [{"s": "A", "p": 1, "q": 1}, {"s": "B", "p": 2, "q": 1}]},
                {"trades": [{"s": "C", "p": 3, "q": 1}], "t": 1700000000002},
            ],
        }
        made = rows(message, declared)
        assert [(row["symbol"], row["trade_time"] % 1_000_000_000, row["trade_id"]) for row in made] == [
            *(("A", 1_000_000, "7"), ("B", 1_000_000, "7"), ("C", 2_000_000, "7"))
        ]

    def test_keys_of_an_object_can_be_symbols(self) -> None:
        declared = {**TRADES, "rows": "markets[]", "symbol": "$key"}
        made = rows({"markets": {"A": {"p": 1, "q": 2}, "B": {"p": 3, "q": 4}}}, declared)
        assert [(row["symbol"], row["price"]) for row in made] == [("A", "1"), ("B", "3")]

    def test_a_text_is_split(self) -> None:
        declared = {**TRADES, "rows": "change", "split": ",", "columns": {"price": "[0]", "size": "[2]"}}
        assert rows({"change": "0.215,sell,10"}, declared)[0]["size"] == "10"

    def test_the_first_place_of_rows_that_is_there(self) -> None:
        declared = {**TRADES, "rows": ["data", "$"]}
        assert rows({"data": {"p": 1, "q": 2}}, declared) == rows({"p": 1, "q": 2}, declared)

    def test_the_first_cell_that_has_a_value(self) -> None:
        declared = {**TRADES, "columns": {"price": ["p", "price"], "size": "q"}}
        assert rows({"price": 5, "q": 2}, declared)[0]["price"] == "5"

    def test_a_rest_snapshot_has_declarations_of_its_own(self) -> None:
        rest = {**BOOK, "source": "rest", "snapshot": True}
        reader = TableRowReader(feed_of(BOOK, rest))
        text = b'{"b": [["1", "2"]], "a": []}'
        (streamed,) = dict(reader.read(Message(text, "data", "X")).rows)[Table.BOOK_CHANGES]
        fetched = dict(reader.read(Message(text, "data", "X", is_rest=True)).rows)[Table.BOOK_CHANGES]
        assert streamed["action"] == "set"
        assert [row["action"] for row in fetched] == ["clear", "set"]


class TestBooks:
    def test_bids_before_asks_and_zero_deletes(self) -> None:
        made = rows({"a": [["3", "0.00"]], "b": [["1", "2"], ["0.5", "0"]]}, BOOK)
        assert [(row["side"], row["price"], row["action"], row["last"]) for row in made] == [
            *(("bid", "1", "set", False), ("bid", "0.5", "delete", False), ("ask", "3", "delete", True))
        ]

    @pytest.mark.parametrize("message", [{"snap": 1, "b": [], "a": []}, {"snap": 1}])
    def test_an_empty_snapshot_leaves_its_mark(self, message: Any) -> None:
        declared = {**BOOK, "snapshot": {"path": "snap", "equals": 1, "otherwise": 0}}
        (clear,) = rows(message, declared)
        assert (clear["action"], clear["is_snapshot"], clear["last"]) == ("clear", True, True)

    def test_an_empty_snapshot_beside_others_leaves_its_mark(self) -> None:
        declared = {
            "table": "book_changes",
            "rows": "events[].updates[]",
            "symbol": "$.events[].product",
            "snapshot": {"path": "$.events[].type", "equals": "snapshot", "otherwise": "update"},
            "columns": {"side": {"path": "side", "words": {"bid": "bid"}}, "price": "p", "size": "q"},
        }
        full = {"type": "snapshot", "product": "A", "updates": [{"side": "bid", "p": 1, "q": 2}]}
        empty = {"type": "snapshot", "product": "B", "updates": []}
        other = {"type": "update", "product": "C", "updates": []}
        made = rows({"events": [full, empty, other]}, declared)
        assert [(row["symbol"], row["action"], row["last"]) for row in made] == [
            *(("A", "clear", False), ("A", "set", True), ("B", "clear", True))
        ]

    def test_levels_with_their_side_in_them(self) -> None:
        declared = {
            "table": "book_changes",
            "rows": "data[]",
            "symbol": ["s", "$.filter"],
            "snapshot": {"path": "$.action", "equals": "partial", "otherwise": ["update", "delete"]},
            "delete": {"path": "$.action", "equals": "delete", "otherwise": ["partial", "update"]},
            "begins": "snapshot",
            "columns": {
                "side": {"path": "side", "words": {"Buy": "bid", "Sell": "ask"}},
                "price": {"path": "p", "remembered_by": "id"},
                "size": "q",
                "level_id": "id",
            },
        }
        reader = TableRowReader(feed_of(declared))

        def read(message: Any) -> Outcome:
            return reader.read(Message(json.dumps(message).encode(), "data"))

        early = read({"action": "update", "data": [{"s": "A", "id": 1, "side": "Buy", "q": 5}]})
        assert (early.rows, early.left_out) == ([], [(Table.BOOK_CHANGES, "before the first snapshot")])
        partial = {"action": "partial", "data": [{"s": "A", "id": 1, "side": "Buy", "q": 5, "p": 10}]}
        assert [row["action"] for row in read(partial).rows[0][1]] == ["clear", "set"]
        ((_, (update,)),) = read({"action": "update", "data": [{"s": "A", "id": 1, "side": "Sell", "q": 6}]}).rows
        assert (update["price"], update["side"], update["size"]) == ("10", "ask", "6")
        ((_, (delete,)),) = read({"action": "delete", "data": [{"s": "A", "id": 1, "side": "Sell"}]}).rows
        assert (delete["action"], delete["size"], delete["price"]) == ("delete", "0", "10")
        ((_, (empty,)),) = read({"action": "partial", "data": [], "filter": "A"}).rows
        assert (empty["action"], empty["symbol"]) == ("clear", "A")
        forgotten = read({"action": "update", "data": [{"s": "A", "id": 1, "side": "Buy", "q": 5}]})
        assert "price" in forgotten.left_out[0][1]

    def test_the_first_of_a_connection_as_the_snapshot(self) -> None:
        reader = TableRowReader(feed_of({**BOOK, "snapshot": "first"}))
        message = Message(b'{"b": [["1", "2"]], "a": []}', "data", "X")
        count = [len(reader.read(message).rows[0][1]) for _ in range(2)]
        reader.disconnected(0)
        assert [*count, len(reader.read(message).rows[0][1])] == [2, 1, 2]

    def test_a_bad_level_is_left_out_and_the_others_stay(self) -> None:
        made = outcome({"b": [["1", "0.-10000"], ["2", "3"]], "a": []}, BOOK)
        assert [row["price"] for row in made.rows[0][1]] == ["2"]
        assert made.left_out == [(Table.BOOK_CHANGES, "size: found '0.-10000', which is no number, at `[1]`")]


BOTH_SIDES = {
    # Bybit until 2023: a snapshot, then what changed of the two best prices; a level of size 0 went
    f"{side}_{name}": [
        {"path": f"{side[0]}[0][{index}]", "when": {"path": f"{side[0]}[0][1]", "zero": False}, "remembered_by": "s"},
        {"path": f"{side[0]}[1][{index}]", "when": {"path": f"{side[0]}[1][1]", "zero": False}},
        {"value": 0, "when": {"path": f"{side[0]}[0]"}},
        {"value": 0, "when": {"path": "type", "equals": "snapshot"}},
    ]
    for side in ("bid", "ask")
    for index, name in enumerate(("price", "size"))
}


class TestMemory:
    """What a message lacks, from those before it."""

    @staticmethod
    def reader() -> TableRowReader:
        return TableRowReader(feed_of({"table": "quotes", "columns": BOTH_SIDES}))

    @staticmethod
    def quote(reader: TableRowReader, bids: Any, asks: Any, kind: str = "delta", symbol: str = "X") -> Any:
        message = json.dumps({"type": kind, "s": symbol, "b": bids, "a": asks}).encode()
        made = reader.read(Message(message, "data", symbol))
        if not made.rows:
            return made.left_out
        [(_, [row])] = made.rows
        return [row.get(f"{side}_{name}") for side in ("bid", "ask") for name in ("price", "size")]

    def test_a_side_that_did_not_change_is_the_one_before(self) -> None:
        reader = self.reader()
        assert self.quote(reader, [["10", "1"]], [["11", "2"]], "snapshot") == ["10", "1", "11", "2"]
        assert self.quote(reader, [["10", "3"]], []) == ["10", "3", "11", "2"]
        assert self.quote(reader, [], [["11", "0"], ["12", "4"]]) == ["10", "3", "12", "4"]
        assert self.quote(reader, [["10", "0"]], []) == [None, None, "12", "4"]
        assert self.quote(reader, [], [["12", "5"]]) == [None, None, "12", "5"]
        assert self.quote(reader, [["9", "1"]], [], "snapshot") == ["9", "1", None, None]

    def test_without_one_before_the_row_is_left_out(self) -> None:
        reader = self.reader()
        self.quote(reader, [["10", "1"]], [["11", "2"]], "snapshot")
        [(table, reason)] = self.quote(reader, [], [["5", "1"]], symbol="Y")
        assert table is Table.QUOTES
        assert reason.startswith("bid_price: found none, and none before it")
        reader.disconnected(0)
        [(_, reason)] = self.quote(reader, [["10", "3"]], [])
        assert reason.startswith("ask_price: found none, and none before it")


class TestLeftOut:
    def test_a_null_row_and_a_side_that_is_no_array_have_their_reasons(self) -> None:
        made = outcome({"data": [None, {"p": 1, "q": 2}]}, {**TRADES, "rows": "data[]"})
        assert (len(made.rows[0][1]), made.left_out) == (1, [(Table.TRADES, "found null at `data[]`")])
        made = outcome({"b": [["1", "2"]], "a": {"3": "4"}}, BOOK)
        assert (len(made.rows[0][1]), made.left_out) == (1, [(Table.BOOK_CHANGES, "found no array at `a`")])

    def test_an_empty_snapshot_keeps_its_place_among_the_others(self) -> None:
        declared = {
            "table": "book_changes",
            "rows": "e[].u[]",
            "snapshot": {"path": "$.e[].t", "equals": "snapshot", "otherwise": "update"},
            "columns": {"side": {"path": "s", "words": {"b": "bid"}}, "price": "p", "size": "q"},
        }
        events = [{"t": "snapshot", "u": []}, {"t": "update", "u": [{"s": "b", "p": 3, "q": 1}]}]
        assert [row["action"] for row in rows({"e": events}, declared)] == ["clear", "set"]

    def test_each_with_its_reason(self) -> None:
        conditioned = {**TRADES, "when": {"path": "type", "equals": "fill"}}
        assert outcome({"type": "x"}, conditioned).left_out == [(None, NO_DECLARATION)]
        assert outcome(b"pong", conditioned).left_out == [(None, NOT_JSON)]
        assert outcome({"p": 1}, TRADES).left_out == [(Table.TRADES, "found no size at `q`")]
        assert outcome({"p": 1, "q": 1}, TRADES, symbol=None).left_out == [(Table.TRADES, "found no symbol")]

    @pytest.mark.parametrize("way", ["data", "data[]", "data.rows", "data[].rows[]"])
    @pytest.mark.parametrize("message", [{}, {"data": None}, {"data": "x"}, {"data": 5}, {"data": {"rows": True}}])
    def test_a_message_without_its_rows_says_so(self, way: str, message: Any) -> None:
        for declared in ({"table": "quotes"}, {**BOOK, "snapshot": True}):
            made = outcome(message, {**declared, "rows": way})
            if (way, message) != ("data", {"data": {"rows": True}}):
                assert (made.rows, [reason.split(" at ")[0] for _, reason in made.left_out]) in (
                    ([], ["found nothing"]),
                    ([], ["found neither an object nor an array"]),
                )

    def test_an_empty_array_says_nothing(self) -> None:
        assert outcome({"data": []}, {**TRADES, "rows": "data[]"}) == Outcome([], [])

    def test_a_message_can_be_skipped_with_its_reason(self) -> None:
        skip = {"skip": "repeats te", "when": {"path": "type", "equals": "tu"}}
        assert outcome({"type": "tu", "p": 1, "q": 1}, TRADES, skip) == Outcome([], [], "repeats te")
        missing = {**skip, "missing": True}
        assert outcome({"type": "tu", "p": 1, "q": 1}, TRADES, missing) == Outcome([], [(None, "repeats te")])

    def test_a_ticker_that_says_nothing_makes_no_row(self) -> None:
        ticker = {"table": "tickers", "columns": {"last_price": "last", "volume_24h": "v", "volume_unit": "base"}}
        assert outcome({"bid": 1}, ticker) == Outcome([], [])

    def test_no_quote_on_a_side_has_neither_price_nor_size(self) -> None:
        quotes = {"table": "quotes", "columns": {"bid_price": "b", "bid_size": "B", "ask_price": "a", "ask_size": "A"}}
        assert rows({"b": "0", "B": "3", "a": "", "A": "0"}, quotes) == [{"symbol": "X"}]


class TestMistakes:
    @pytest.mark.parametrize(
        ("table", "expected"),
        [
            (
                {"table": "trades", "columns": {"prize": "p"}},
                "found 'prize', expected a column of trades: trade_time, ",
            ),
            ({"table": "trade", "columns": {}}, "tables"),
            ({"table": "gaps"}, "made from the events"),
            ({"table": "trades", "level": ["price", "size"]}, "expected a book's table"),
            ({"table": "book_changes", "bids": "b"}, "expected level beside them"),
            ({"columns": {}}, "expected one of them"),
            ({"table": "trades", "flags": [{"flag": "ad", "when": {"path": "x"}}]}, "expected one of snapshot, block"),
            ({"table": "trades", "flags": [{"path": "x", "words": {"a": "ad"}}]}, "expected one of snapshot, block"),
            ({"table": "trades", "flags": [{"flag": "adl"}]}, "expected both or neither"),
            ({"table": "trades", "flags": [{"path": "x"}]}, "expected both or neither"),
            ({"table": "trades", "flags": [{"words": {"a": "adl"}}]}, "expected one of them"),
            ({"table": "trades", "columns": {"price": {"path": "p", "value": "1"}}}, "expected one of them"),
        ],
    )
    def test_are_named(self, table: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError, match=r"example\.yaml:\d+") as found:
            feed_of(table)
        assert expected in str(found.value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abpqs"), inner, max_size=5),
    max_leaves=12,
)


@given(_json)
def test_never_raises_whatever_a_message_contains(message: Any) -> None:
    outcome(message, TRADES, BOOK, {"table": "quotes", "rows": "[][]", "columns": {"bid_price": "b"}})
