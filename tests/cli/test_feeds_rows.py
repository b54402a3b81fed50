"""`wsrec feeds check FEED MESSAGES`: the rows of the tables, or why there are none, for who declares them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from wsrec.cli.feeds import feeds
from wsrec.feed.feed_template import feed_template
from wsrec.feed.load import catalogue, find_feed

FULL = re.sub(r"^( *)# (?=\s*(tables:|  ))", r"\1", feed_template("made-up").partition("channels:")[2], flags=re.M)
TS = 1_795_352_400_123
TRADE = {"id": 77, "px": "61234.50", "qty": "0.02", "side": "B", "t": TS - 3}
TRADES = {
    "topic": "trades.BTC-USDT",
    "ts": TS,
    "data": {"symbol": "BTC-USDT", "trades": [TRADE, {**TRADE, "id": 78, "side": "S", "px": "61234.60"}]},
}
BOOK = {
    "topic": "book.BTC-USDT",
    "type": "snapshot",
    "ts": TS,
    "data": {"symbol": "BTC-USDT", "seq": 5, "bids": [["61234.5", "1"]], "asks": [["61234.6", "0.5"]]},
}


class MadeUp:
    """A made-up exchange whose feed is the template, with its example of tables."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "made-up.yaml"
        self.folder = folder
        self.write(feed_template("made-up").partition("channels:")[0] + "channels:" + FULL)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.write(text.replace(old, new))

    def check(self, *messages: Any, code: int = 0, options: tuple[str, ...] = ()) -> Result:
        names = []
        for number, message in enumerate(messages):
            names.append(str(self.folder / f"{number}.json"))
            Path(names[-1]).write_text(message if isinstance(message, str) else json.dumps(message))
        found = CliRunner().invoke(feeds, ["check", str(self.file), *names, *options])
        assert found.exit_code == code, found.output
        return found


@pytest.fixture
def exchange(tmp_path: Path) -> MadeUp:
    return MadeUp(tmp_path)


class TestRows:
    def test_a_block_a_message_with_what_its_rows_share_first(self, exchange: MadeUp) -> None:
        output = exchange.check(TRADES).stdout
        assert output.partition("\n\n")[2].splitlines() == [
            "0.json: trades, 2 rows",
            "  exchange_time  2026-11-22 13:00:00.123",
            "  symbol         BTC-USDT",
            "  trade_time     2026-11-22 13:00:00.120",
            "  size           0.02",
            "  size_unit      base",
            "  trade_id  side  price",
            "  77        buy   61234.50",
            "  78        sell  61234.60",
        ]

    def test_of_several_tables_and_symbols(self, exchange: MadeUp) -> None:
        quote = '      - {table: quotes, rows: "data.trades[]", symbol: id, columns: {bid_price: px}}\n'
        exchange.change("    tables:\n      - table: trades\n", f"    tables:\n{quote}      - table: trades\n")
        output = exchange.check(TRADES).stdout
        assert "0.json: quotes, 2 rows" in output
        assert "  symbol  bid_price\n  77      61234.50\n  78      61234.60\n" in output
        assert "0.json: trades, 2 rows" in output

    def test_json_has_all_of_them_with_the_exchanges_digits(self, exchange: MadeUp) -> None:
        many = {**BOOK, "data": {**BOOK["data"], "bids": [[f"{n}.0", "1"] for n in range(1, 60)]}}
        trades, book = json.loads(exchange.check(TRADES, many, options=("--json",)).stdout)["messages"]
        assert trades["tables"]["trades"][0] == {
            "exchange_time": TS * 1_000_000,
            "symbol": "BTC-USDT",
            "trade_id": "77",
            "price": "61234.50",
            "size": "0.02",
            "size_unit": "base",
            "side": "buy",
            "trade_time": (TS - 3) * 1_000_000,
        }
        assert len(book["tables"]["book_changes"]) == 61
        assert (book["left_out"], book["skipped"]) == ([], None)

    def test_long_ones_are_cut_in_the_text(self, exchange: MadeUp) -> None:
        many = {**BOOK, "data": {**BOOK["data"], "bids": [[f"{n}.0", "1"] for n in range(1, 60)]}}
        output = exchange.check(many, *[TRADES] * 5).stdout
        assert "0.json: book_changes, 61 rows" in output
        assert "  and 49 more rows; --json prints all of them" in output
        assert output.count(": trades, 2 rows") == 3
        assert "and 2 more messages that make the same tables; --json prints all of them" in output

    def test_a_feed_without_tables_has_no_blocks(self, exchange: MadeUp) -> None:
        exchange.write(feed_template("made-up"))
        assert exchange.check(TRADES).stdout.count("\n") == 3


class TestReasons:
    def test_nothing_where_the_rows_should_be(self, exchange: MadeUp) -> None:
        exchange.change("data.trades[]", "data.deals[]")
        found = exchange.check(TRADES, BOOK, code=1)
        assert "0.json: no rows\n  left out: trades: found nothing at `data.deals[]`\n" in found.stdout
        assert "no rows from 1 of 2 messages, for the reasons above: see docs/reference/tables.md" in found.stderr

    def test_no_declaration_fits(self, exchange: MadeUp) -> None:
        exchange.change("      - table: trades\n", "      - table: trades\n        when: {path: kind, equals: fill}\n")
        output = exchange.check({**TRADES, "kind": "quote"}, code=1).stdout
        assert "left out: trades: `when` does not hold: found 'quote' at `kind`, expected fill" in output

    def test_a_word_that_is_not_declared(self, exchange: MadeUp) -> None:
        exchange.change("{B: buy, S: sell}", "{B: buy}")
        output = exchange.check(TRADES).stdout
        assert "0.json: trades, 1 row" in output
        assert "left out: trades: side: found the word 'S', which is not declared at `side`" in output

    def test_a_value_that_is_missing(self, exchange: MadeUp) -> None:
        exchange.change("price: px", "price: price")
        assert "left out: trades: found no price at `price`" in exchange.check(TRADES, code=1).stdout

    def test_a_column_that_stays_empty(self, exchange: MadeUp) -> None:
        exchange.change("size_unit: base\n", "size_unit: coins\n")
        assert "  size_unit: no value at `coins`; as a word: base, quote, contracts" in exchange.check(TRADES).stdout

    def test_a_channel_that_the_feed_does_not_have(self, exchange: MadeUp) -> None:
        exchange.change("capture: '^([^.]+)'", "capture: '^(.+)$'")
        output = exchange.check(TRADES, code=1).stdout
        assert "found the channel 'trades.BTC-USDT', expected `fields.channel` to give one of trades, book" in output

    def test_what_is_skipped_by_intent_is_no_failure(self, exchange: MadeUp) -> None:
        skip = "      - {skip: repeats the book, when: {path: kind, equals: copy}}\n"
        exchange.change("    tables:\n      - table: trades\n", f"    tables:\n{skip}      - table: trades\n")
        assert "0.json: no rows: repeats the book\n" in exchange.check({**TRADES, "kind": "copy"}).stdout

    def test_a_hostile_message_stays_text(self, exchange: MadeUp) -> None:
        hostile = {**TRADES, "data": {"symbol": "\x1b[31m", "trades": [{**TRADE, "side": "\x1b]0;x\a"}, TRADE]}}
        assert "\x1b" not in exchange.check(hostile).output


class TestMistakes:
    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("table: trades", "table: trade", "tables.0.table: found 'trade', expected trades, "),
            ("price: px", "prise: px", "tables.0.columns.prise: found 'prise', expected a column of trades: trade_"),
            ("        price: px\n", "", "tables.0.columns: found trades without price, expected its path"),
            ("data.trades[]", "data..trades[]", "tables.0.rows: found 'data..trades[]', expected a path from the row"),
            ("price: px", "price: $px", "tables.0.columns.price: found '$px', expected a path from the row"),
            ("S: sell", "S: sold", "tables.0.columns.side: found 'sold', expected one of buy, sell"),
            ("words: {", "word: {", "tables.0.columns.side.word: found an unknown key, did you mean `words`?"),
            ("trade_time: t", "trade_time: {path: t, unit: sec}", "trade_time.unit: found 'sec', expected s, ms, us"),
            ("equals: snapshot", "equal: snapshot", "tables.0.snapshot.equal: found an unknown key, did you mean `equ"),
            (
                "        bids: bids\n        asks: asks\n",
                "",
                "found book_changes without levels, expected bids and asks",
            ),
            ("level: [price, size]", "level: [price, sice]", "tables.0.level: found 'sice', expected a column of book"),
        ],
    )
    def test_name_the_line_the_key_and_the_cure(self, exchange: MadeUp, old: str, new: str, problem: str) -> None:
        if old.startswith("        price"):
            old, new = "          price: px\n", ""
        exchange.change(old, new)
        found = exchange.check(TRADES, code=2)
        (line,) = found.stderr.splitlines()
        assert problem in line
        number = int(re.search(r"made-up\.yaml:(\d+): channels\.", line)[1])  # type: ignore[index]
        written = exchange.file.read_text().splitlines()[number - 1]
        assert not new or new.split(":")[0].split("[")[0].strip() in written or "columns:" in written

    def test_a_list_or_a_channel(self, exchange: MadeUp) -> None:
        exchange.write(
            feed_template("made-up").replace("    common: trades\n", "    common: trades\n    tables: book\n")
        )
        assert "tables: found 'book', expected a list, or the name of a channel" in exchange.check(code=2).stderr


def test_snapshots_that_were_fetched_are_read_from_a_capture(tmp_path: Path) -> None:
    snapshot = {"lastUpdateId": 9, "bids": [["1.5", "2"]], "asks": []}
    columns = {
        "seq": [1, 2],
        "direction": ["rest", "rest"],
        "opcode": ["text", "text"],
        "text": [json.dumps(snapshot), "[]"],
        "data": pa.nulls(2, pa.binary()),
        "channel": ["depth@100ms", "instruments"],
        "symbol": ["BTCUSDT", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    found = CliRunner().invoke(feeds, ["check", str(catalogue()["binance"]), str(tmp_path / "x.parquet"), "--json"])
    (message,) = json.loads(found.stdout)["messages"]
    rows = message["tables"]["book_changes"]
    assert [(row["action"], row.get("price"), row["symbol"]) for row in rows] == [
        ("clear", None, "BTCUSDT"),
        ("set", "1.5", "BTCUSDT"),
    ]


@pytest.mark.parametrize("name", catalogue())
def test_show_names_the_tables_of_every_channel_that_declares_some(name: str) -> None:
    feed, output = find_feed(name), CliRunner().invoke(feeds, ["show", name]).stdout
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line}
    for key, channel in feed.channels.items():
        shared = feed.channels[channel.tables].tables if isinstance(channel.tables, str) else channel.tables
        for each in shared or ():
            if each.table is not None:
                assert str(each.table) in {word.strip(",") for word in lines[key]}, key


@pytest.mark.parametrize(("name", "key", "table"), [("binance-usdm", "kline_{interval}", "candles")])
def test_parametrised_channels_have_tables(name: str, key: str, table: str) -> None:
    assert find_feed(name).table_names(key) == [table]


def test_show_names_the_tables_of_a_channel() -> None:
    output = CliRunner().invoke(feeds, ["show", "binance"]).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("bookTicker ")]
    assert " quotes " in line
