from __future__ import annotations

import re

import pytest

from wsrec.feed.load import catalogue
from wsrec.feed.schema import NAME_PATTERN, ConfigError
from wsrec.feed.target import resolve


class TestFeed:
    def test_needs_nothing_else(self):
        target = resolve("binance")
        assert target.symbols == ("BTCUSDT", "ETHUSDT")
        assert target.channels == ("trade", "depth@100ms", "bookTicker")

    def test_takes_common_and_own_names(self):
        target = resolve("binance", ("btc/usdt", "BTCUSDT"), ("trades", "trade", "kline_1m"))
        assert (target.symbols, target.channels) == (("BTCUSDT",), ("trade", "kline_1m"))

    def test_unknown_channel_names_the_known(self):
        with pytest.raises(ConfigError, match="no channel 'x': expected trades, book, bbo, ticker or a name"):
            resolve("binance", channels=("x",))

    def test_subscribe_is_for_urls(self):
        with pytest.raises(ConfigError, match="use --symbols and --channels"):
            resolve("binance", subscribe=("x",))


class TestFile:
    def test_is_a_path(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_bytes(catalogue()["binance"].read_bytes())
        assert resolve(str(path)).feed.name == "binance"

    def test_that_is_missing_says_so(self):
        with pytest.raises(ConfigError, match=r"my\.yaml: No such file"):
            resolve("my.yaml")

    def test_without_default_symbols_asks_for_some(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_text(catalogue()["binance"].read_text().replace("default_symbols: [BTCUSDT, ETHUSDT]\n", ""))
        with pytest.raises(ConfigError, match="--symbols BTCUSDT"):
            resolve(str(path))


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("wss://Stream.Example.com:9443/x?a=b", "stream.example.com"),
            ("ws://127.0.0.1:1/", "127.0.0.1"),
            ("ws://[::1]/", "1"),
            ("ws://user:pw@h_st/", "h-st"),
        ],
    )
    def test_is_named_after_its_host(self, url, name):
        target = resolve(url, subscribe=("a", "b"))
        assert (target.feed.name, target.subscribe) == (name, ("a", "b"))
        assert re.match(NAME_PATTERN, target.feed.name)

    @pytest.mark.parametrize("option", [{"symbols": ("A",)}, {"channels": ("trades",)}])
    def test_symbols_and_channels_need_a_feed(self, option):
        with pytest.raises(ConfigError, match="--subscribe TEXT"):
            resolve("wss://h/", **option)

    @pytest.mark.parametrize("url", ["ws://", "wss://h/#x", "ws://h:999999/", "ws://[", "ws://a b/", "wss://h/\x07"])
    def test_bad_one(self, url):
        with pytest.raises(ConfigError, match="expected ws://HOST/PATH"):
            resolve(url)

    def test_of_another_kind_is_not_repeated(self):
        with pytest.raises(ConfigError, match="begins with ws:// or wss://") as caught:
            resolve("https://h/?token=secret")
        assert "secret" not in str(caught.value)
