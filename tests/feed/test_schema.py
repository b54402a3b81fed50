from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.schema import Feed, feed_schema
from wsrec.feed.sockets import Socket, Token
from wsrec.feed.symbols import Symbols
from wsrec.plan.target import feed_of_url

ROOT = Path(__file__).parents[2]


class TestSchema:
    def test_file_for_editors_is_current(self):
        stored = json.loads((ROOT / "configs" / "feed.schema.json").read_text())
        assert stored == feed_schema(), "run: wsrec feeds schema > configs/feed.schema.json"

    def test_every_key_is_described_there_and_in_the_docs(self):
        schema = feed_schema()
        reference = ROOT / "docs" / "reference"
        page = (reference / "feeds.md").read_text() + (reference / "tables.md").read_text()
        for model in (schema, *schema["$defs"].values()):
            for key, value in model.get("properties", {}).items():
                assert f"| `{key}` | {value['description'].replace('|', chr(92) + '|')} |" in page, key


class TestPerpetuals:
    symbols = Symbols(
        pattern="[A-Z-]+",
        words="w",
        example="BTC-USDT-SWAP",
        pair="{quote}-{base}",
        perpetual="{base}-{quote}-SWAP",
        currencies={"BTC": "XBT"},
        names={"BTC/USD:BTC": "XBTUSD"},
    )

    @pytest.mark.parametrize(
        ("text", "symbol"),
        [
            ("eth/krw", "KRW-ETH"),
            ("BTC/KRW", "KRW-XBT"),
            ("ETH/USDT:USDT", "ETH-USDT-SWAP"),
            ("btc/usd:btc", "XBTUSD"),
            ("KRW-BTC", "KRW-BTC"),
        ],
    )
    def test_are_translated(self, text, symbol):
        assert self.symbols.normalise(text) == symbol

    def test_one_that_is_none_is_refused(self):
        with pytest.raises(ConfigError, match="or BTC/USDT or BTC/USDT:USDT"):
            self.symbols.normalise("a/b/c")


class TestChannels:
    def test_parameters_make_a_channel_each(self):
        table = find_feed("binance").channel_table
        assert table["kline_1M"].topic == "{symbol}@kline_1M"
        assert {"depth5", "depth20@100ms"} <= table.keys()

    def test_full_names_go_before_aliases(self):
        feed = find_feed("binance-usdm")
        assert feed.channel_by_any_name["depthUpdate"].topic == "{symbol}@depth@100ms"
        assert feed.channel_by_any_name["depth@0ms"].topic == "{symbol}@depth@0ms"

    def test_defaults_are_trades_book_and_bbo(self):
        for name in ("binance", "binance-usdm"):
            feed = find_feed(name)
            assert [feed.channel_table[c].common for c in feed.default_channels] == ["trades", "book", "bbo"]


class TestSymbols:
    symbols = find_feed("binance").symbols

    @pytest.mark.parametrize("text", ["BTCUSDT", "btcusdt", " BTC/USDT ", "btc/usdt"])
    def test_are_written_as_the_exchange_writes_them(self, text):
        assert self.symbols.normalise(text) == "BTCUSDT"

    @pytest.mark.parametrize("text", ["", "BTC-USDT", "B/T/C", "../x", "a\n", '","x'])
    def test_bad_one_names_pattern_and_example(self, text):
        with pytest.raises(ConfigError, match="letters and digits without a separator, as in BTCUSDT or BTC/USDT"):
            self.symbols.normalise(text)

    def test_catalogues_examples_fit_their_own_patterns(self):
        for name in catalogue():
            symbols = find_feed(name).symbols
            assert symbols is None or symbols.normalise(symbols.example) == symbols.example

    def test_pattern_has_to_compile(self):
        with pytest.raises(ValueError, match="regular expression"):
            Symbols(pattern="(", words="", example="")


class TestSecrets:
    def test_come_from_the_environment_when_planning(self, monkeypatch):
        socket = Socket(url="wss://h/?token=${T}", headers={"X-Key": "${T}"})
        monkeypatch.setenv("T", "a&b")
        assert socket.resolved_url() == "wss://h/?token=a%26b"
        assert socket.resolved_headers() == {"X-Key": "a&b"}

    def test_missing_one_is_named(self, monkeypatch):
        monkeypatch.delenv("T", raising=False)
        with pytest.raises(ConfigError, match="environment has no T"):
            Socket(url="wss://h/?token=${T}").resolved_url()

    def test_cannot_break_out_of_a_header(self, monkeypatch):
        monkeypatch.setenv("T", "a\r\nHost: evil")
        with pytest.raises(ConfigError, match="one line"):
            Socket(url="wss://h/", headers={"X-Key": "${T}"}).resolved_headers()

    def test_are_not_in_what_is_stored(self):
        feed = Feed(name="x", description="", sockets={"m": Socket(url="wss://u:pw@h/?token=s3", headers={"A": "s3"})})
        assert "s3" not in json.dumps(feed.public_config())
        assert "pw" not in json.dumps(feed.public_config())


TOKEN = Feed(
    name="x",
    description="",
    sockets={
        "m": Socket(url="wss://h/?token={token}", token=Token(url="https://h/?jwt=s3", token="a", endpoint="b[0]"))
    },
)


@pytest.mark.parametrize("feed", [*map(find_feed, catalogue()), feed_of_url("wss://u:p@[::1]:9/?token=1"), TOKEN])
def test_stored_config_reads_back(feed):
    assert Feed.model_validate(json.loads(json.dumps(feed.public_config()))) == feed.public()
