"""What no declaration names is refused or counted, by both readers: words, signs, zeros, times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.decode.table_readers import SCHEMAS, read
from tests.decode.test_table_rows import BOOK, TRADES, feed_of
from wsrec.decode.compiled_table_reader import CompiledTableReader, RowScanner
from wsrec.decode.table_blocks import LeftOut, PythonTableReader
from wsrec.feed.errors import ConfigError
from wsrec.feed.table_columns import Table

SNAPSHOT = {"path": "$.action", "equals": "snapshot", "otherwise": "update"}
_FREE = {"p": "0.00", "q": "2"}
_LEVELS = {"b": [["0", "1"], ["2", "3"]]}


@pytest.fixture(params=["python", "compiled"])
def reader(request: pytest.FixtureRequest) -> Any:
    if request.param == "compiled" and RowScanner is None:
        pytest.skip("the compiled table reader was not built here: no compiler")
    return PythonTableReader if request.param == "python" else CompiledTableReader


class Made:
    """What a reader makes of one message."""

    def __init__(self, reader: Any, message: Any, *tables: dict[str, Any]) -> None:
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        made, left_out, _ = read(reader(feed_of(*tables), SCHEMAS), [text], "data")
        self.rows = {table: [row for _, row in rows] for table, rows in made.items()}
        self.left_out: list[LeftOut] = left_out

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.left_out if not each.is_null]

    @property
    def nulls(self) -> list[str]:
        return [each.reason for each in self.left_out if each.is_null]


class TestWords:
    @pytest.mark.parametrize(
        ("action", "found"),
        [("weird", "the word 'weird'"), (7, "the word '7'"), ([], "an array"), ({}, "an object"), (None, "nothing")],
    )
    def test_of_a_book_another_one_is_no_update(self, reader: Any, action: Any, found: str) -> None:
        made = Made(reader, {"action": action, "b": [["1", "2"]], "a": []}, {**BOOK, "snapshot": SNAPSHOT})
        assert made.rows == {}
        assert made.left_out == [LeftOut(0, Table.BOOK_CHANGES, f"found {found}, which is not declared at `$.action`")]

    @pytest.mark.parametrize(("action", "rows"), [("snapshot", 2), ("update", 1)])
    def test_the_declared_ones_are_as_declared(self, reader: Any, action: str, rows: int) -> None:
        made = Made(reader, {"action": action, "b": [["1", "2"]]}, {**BOOK, "snapshot": SNAPSHOT})
        assert len(made.rows[Table.BOOK_CHANGES]) == rows
        assert made.left_out == []

    def test_an_empty_book_with_another_one_is_no_empty_update(self, reader: Any) -> None:
        declared = {**BOOK, "rows": "data[]", "snapshot": SNAPSHOT}
        assert len(Made(reader, {"action": "weird", "data": []}, declared).reasons) == 1
        assert Made(reader, {"action": "update", "data": []}, declared).left_out == []

    @pytest.mark.parametrize(("full", "rows"), [(True, 2), (False, 1), (None, 1)])
    def test_one_may_be_absent_where_it_is_declared(self, reader: Any, full: bool | None, rows: int) -> None:
        full_or_none = {"path": "full", "equals": True, "otherwise": [False, None]}
        made = Made(reader, {"full": full, "b": [["1", "2"]]}, {**BOOK, "snapshot": full_or_none})
        assert len(made.rows[Table.BOOK_CHANGES]) == rows
        assert Made(reader, {"full": "yes", "b": [["1", "2"]]}, {**BOOK, "snapshot": full_or_none}).rows == {}

    def test_of_a_deletion_another_one_leaves_its_level_out(self, reader: Any) -> None:
        delete = {"path": "[0]", "equals": "delete", "otherwise": ["new", "change"]}
        declared = {**BOOK, "level": ["_", "price", "size"], "delete": delete}
        made = Made(reader, {"b": [["new", "1", "2"], ["weird", "3", "4"], ["delete", "5", "6"]]}, declared)
        assert [row["action"] for row in made.rows[Table.BOOK_CHANGES]] == ["set", "delete"]
        assert made.reasons == ["found the word 'weird', which is not declared at `[0]`"]

    def test_of_the_choice_of_rows_another_one_is_not_passed_over(self, reader: Any) -> None:
        forced = {"path": "type", "equals": "forced", "otherwise": "plain"}
        declared = {**TRADES, "table": "liquidations", "rows": "d[]", "where": forced}
        rows = [{"type": word, "p": "1", "q": "2"} for word in ("forced", "plain", "weird")]
        made = Made(reader, {"d": rows}, declared)
        assert len(made.rows[Table.LIQUIDATIONS]) == 1
        assert made.reasons == ["found the word 'weird', which is not declared at `type`"]

    def test_a_level_that_is_set_has_a_side(self, reader: Any) -> None:
        columns = {"side": {"path": "s", "words": {"B": "bid"}}, "price": "p", "size": "q"}
        declared = {"table": "book_changes", "columns": columns}
        assert Made(reader, {"p": "1", "q": "2"}, declared).reasons == ["found no side at `s`"]
        assert Made(reader, {"p": "1", "q": "0"}, declared).left_out == []


class TestDeclarationsNameAllWords:
    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({"snapshot": {"path": "a", "equals": "snapshot"}}, "without otherwise"),
            ({"delete": {"path": "a", "equals": "delete"}}, "without otherwise"),
            ({"where": {"path": "a", "equals": "x"}}, "without otherwise"),
            ({"where": {"path": "a", "differs": "x"}}, "expected equals with otherwise"),
            ({"where": {"path": "a", "otherwise": "x"}}, "expected equals beside it"),
            ({"when": {"path": "a", "equals": "x", "otherwise": "y"}}, "refused anyway"),
        ],
    )
    def test_so_that_none_is_guessed(self, changed: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError, match=expected):
            feed_of({**BOOK, **changed})

    def test_those_of_flags_too(self) -> None:
        with pytest.raises(ConfigError, match="expected path and words"):
            feed_of({**TRADES, "flags": [{"flag": "snapshot", "when": {"path": "a", "equals": "snapshot"}}]})


class TestSizes:
    @pytest.mark.parametrize("size", ['"-3"', "-3", '"-0.5"', "-1e-8"])
    def test_below_zero_are_refused(self, reader: Any, size: str) -> None:
        made = Made(reader, f'{{"p": 1, "q": {size}}}'.encode(), TRADES)
        assert made.rows == {}
        assert [reason.startswith("size: found") and "below zero" in reason for reason in made.reasons] == [True]

    def test_a_level_below_zero_is_left_out(self, reader: Any) -> None:
        made = Made(reader, {"b": [["1", "-2"], ["3", "4"]]}, BOOK)
        assert [row["price"] for row in made.rows[Table.BOOK_CHANGES]] == [3.0]
        assert len(made.reasons) == 1

    @pytest.mark.parametrize(
        ("column", "table"), [("bid_size", "quotes"), ("volume", "candles"), ("open_interest", "")]
    )
    def test_so_are_those_of_other_tables(self, reader: Any, column: str, table: str) -> None:
        made = Made(reader, {"v": "-1"}, {"table": table or "derivative_ticker", "columns": {column: "v"}})
        assert (made.rows, len(made.reasons)) == ({}, 1)

    @pytest.mark.parametrize(("column", "table"), [("count", "trades"), ("trades", "candles")])
    def test_so_are_counts(self, reader: Any, column: str, table: str) -> None:
        declared = {
            **TRADES,
            "table": table,
            "columns": {**(TRADES["columns"] if table == "trades" else {}), column: "n"},
        }
        made = Made(reader, {"p": 1, "q": 2, "n": -1}, declared)
        assert (made.rows, len(made.reasons)) == ({}, 1)

    def test_zero_has_no_sign(self, reader: Any) -> None:
        made = Made(reader, {"p": "1", "q": "-0.0"}, TRADES)
        assert str(made.rows[Table.TRADES][0]["size"]) == "0.0"

    def test_a_price_may_be_below_zero(self, reader: Any) -> None:
        assert Made(reader, {"p": "-1", "q": "2"}, TRADES).left_out == []

    @pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "inf", "nan", "null", "0x10"])
    def test_words_are_no_numbers(self, reader: Any, word: str) -> None:
        for message in ({"p": "1", "q": word}, {"p": word, "q": "1"}):
            made = Made(reader, message, TRADES)
            assert (made.rows, len(made.reasons)) == ({}, 1)

    def test_a_listed_level_has_price_and_size(self, reader: Any) -> None:
        declared = {**BOOK, "table": "book_snapshots"}
        made = Made(reader, {"b": [["1"], [None, "2"], ["3", "4"], ["5", "-6"], ["0", "7"]], "a": []}, declared)
        assert made.rows[Table.BOOK_SNAPSHOTS][0]["bid_prices"] == [3.0]
        assert len(made.reasons) == 4


class TestZeroPrices:
    def test_are_refused_unless_they_are_declared(self, reader: Any) -> None:
        assert Made(reader, _FREE, TRADES).reasons == ["found a price of 0 at `p`"]
        made = Made(reader, _LEVELS, BOOK)
        assert [row["price"] for row in made.rows[Table.BOOK_CHANGES]] == [2.0]
        assert made.reasons == ["found a price of 0 at `[0]`"]

    def test_can_be_declared_as_none(self, reader: Any) -> None:
        assert Made(reader, _FREE, {**TRADES, "zero_price": "no trade"}).reasons == ["no trade"]
        assert Made(reader, _LEVELS, {**BOOK, "zero_price": "no level"}).reasons == ["no level"]

    def test_can_be_declared_as_prices(self, reader: Any) -> None:
        assert Made(reader, _FREE, {**TRADES, "zero_price": True}).left_out == []
        made = Made(reader, _LEVELS, {**BOOK, "zero_price": True})
        assert [row["price"] for row in made.rows[Table.BOOK_CHANGES]] == [0.0, 2.0]


class TestTimes:
    def made(self, reader: Any, time: str, **cell: str) -> Made:
        columns = {"price": "p", "size": "q", "trade_time": {"path": "t", **cell}}
        return Made(reader, f'{{"p": 1, "q": 2, "t": {time}}}'.encode(), {**TRADES, "columns": columns})

    @pytest.mark.parametrize(
        ("time", "unit", "what"),
        [
            ("9223372036855", "ms", "beyond 64 bits"),
            ('"99999999999999999999"', "ns", "beyond 64 bits"),
            ("-1", "ms", "before 1970"),
            ('"-1700000000000"', "ms", "before 1970"),
            ('"1969-12-31T23:59:59Z"', "iso", "before 1970"),
            ('"1801-01-01T00:00:00Z"', "iso", "before 1970"),
            ('"2262-04-12T00:00:00Z"', "iso", "beyond 64 bits"),
            ('"9999-12-31T23:59:59Z"', "iso", "beyond 64 bits"),
        ],
    )
    def test_that_cannot_be_are_null_and_counted(self, reader: Any, time: str, unit: str, what: str) -> None:
        made = self.made(reader, time, unit=unit)
        assert "trade_time" not in made.rows[Table.TRADES][0]
        assert made.reasons == []
        assert [reason.startswith("trade_time: found") and what in reason for reason in made.nulls] == [True]

    @pytest.mark.parametrize(
        ("time", "unit"),
        [
            ("0", "ms"),
            ('""', "ms"),
            ("1000", "s"),
            ("-62135596800000", "ms"),
            ('"0001-01-01T00:00:00Z"', "iso"),
            ('"1970-01-01T00:00:00.000Z"', "iso"),
        ],
    )
    def test_that_stand_for_none_are_null_alone(self, reader: Any, time: str, unit: str) -> None:
        made = self.made(reader, time, unit=unit)
        assert "trade_time" not in made.rows[Table.TRADES][0]
        assert made.left_out == []

    def test_of_a_row_that_is_refused_are_not_counted(self, reader: Any) -> None:
        made = Made(
            reader, {"p": "x", "q": 2, "t": -1}, {**TRADES, "columns": {"price": "p", "size": "q", "trade_time": "t"}}
        )
        assert (len(made.reasons), made.nulls) == (1, [])

    def test_of_a_row_with_nothing_else_are_counted(self, reader: Any) -> None:
        declared = {"table": "derivative_ticker", "columns": {"next_funding_time": "t"}}
        assert len(Made(reader, {"t": -1}, declared).nulls) == 1

    def test_of_a_snapshot_are_counted_once(self, reader: Any) -> None:
        declared = {**BOOK, "snapshot": True, "columns": {"transact_time": "t"}}
        made = Made(reader, {"t": -1, "b": [["1", "2"], ["3", "4"]]}, declared)
        assert (len(made.rows[Table.BOOK_CHANGES]), len(made.nulls)) == (3, 1)

    def test_of_several_places_only_those_of_no_value_are_counted(self, reader: Any) -> None:
        columns = {"price": "p", "size": "q", "trade_time": ["t", "u"]}
        declared = {**TRADES, "columns": columns}
        assert Made(reader, {"p": 1, "q": 2, "t": -1, "u": 1_700_000_000_000}, declared).nulls == []
        assert len(Made(reader, {"p": 1, "q": 2, "t": -1, "u": -1}, declared).nulls) == 2

    def test_a_text_without_what_is_looked_for_is_counted(self, reader: Any) -> None:
        interval = {"path": "n", "capture": "^([^_]+)_"}
        declared = {"table": "candles", "columns": {"interval": interval, "open": "o"}}
        assert Made(reader, {"n": "1m_BTC", "o": 1}, declared).left_out == []
        made = Made(reader, {"n": "BTC", "o": 1}, declared)
        assert (len(made.rows[Table.CANDLES]), len(made.nulls)) == (1, 1)

    def test_numbers_beyond_64_bits_are_refused(self, reader: Any) -> None:
        declared = {**BOOK, "columns": {"update_id": "u"}}
        made = Made(reader, {"u": 2**63, "b": [["1", "2"]]}, declared)
        assert (made.rows, len(made.reasons)) == ({}, 1)
