from __future__ import annotations

import pytest

from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue, find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.samples import Sample, read_samples
from wsrec.plan.target import resolve


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
        with pytest.raises(ConfigError, match="or --symbols and --channels"):
            resolve("binance", subscribe=("x",))


class TestClosed:
    """A closed market: its captures are still read, but it cannot be recorded."""

    @pytest.mark.parametrize("wanted", [{}, {"symbols": ("all",)}, {"channels": ("no such",)}])
    def test_is_not_recorded(self, wanted):
        with pytest.raises(ConfigError, match=r"^bitmex closed on 2026-09-23: .+bitmex\.com"):
            resolve("bitmex", **wanted)

    def test_nor_is_a_copy_that_says_so(self, tmp_path):
        path = tmp_path / "my.yaml"
        text = catalogue()["binance"].read_text()
        path.write_text(f"{text}closed: {{date: '2026-01-31', reason: it was bought}}\n")
        with pytest.raises(ConfigError, match=r"^binance closed on 2026-01-31: it was bought"):
            resolve(str(path))

    @pytest.mark.parametrize("closed", ["yesterday", "{date: '2026-13-01', reason: x}", "{date: '2026-01-31'}"])
    def test_is_a_day_and_a_reason(self, tmp_path, closed):
        path = tmp_path / "my.yaml"
        path.write_text(f"{catalogue()['binance'].read_text()}closed: {closed}\n")
        with pytest.raises(ConfigError, match=r"my\.yaml:\d+: closed"):
            resolve(str(path))

    def test_its_messages_are_still_read(self):
        feed = find_feed("bitmex")
        message = (
            b'{"table":"trade","action":"insert","data":[{"symbol":"XBTUSD","timestamp":"2024-11-24T08:00:00.000Z"}]}'
        )
        (reading,) = read_samples(feed, [Sample("trade", message)])
        assert (reading.channel, reading.symbol) == ("trade", "XBTUSD")
        # as the metadata of a capture keep it
        assert Feed.model_validate(feed.public_config()) == feed


class TestFile:
    def test_is_a_path(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_bytes(catalogue()["binance"].read_bytes())
        assert resolve(str(path)).feed.name == "binance"

    def test_that_is_missing_says_so(self):
        with pytest.raises(ConfigError, match=r"my\.yaml', which does not exist"):
            resolve("my.yaml")

    def test_without_default_symbols_asks_for_some(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_text(catalogue()["binance"].read_text().replace("default_symbols: [BTCUSDT, ETHUSDT]\n", ""))
        with pytest.raises(ConfigError, match="--symbols BTCUSDT"):
            resolve(str(path))


class TestUrl:
    def test_is_sent_what_was_asked(self):
        assert resolve("wss://h/", subscribe=("a", "b")).subscribe == ("a", "b")

    @pytest.mark.parametrize("option", [{"symbols": ("A",)}, {"channels": ("trades",)}])
    def test_symbols_and_channels_need_a_feed(self, option):
        with pytest.raises(ConfigError, match="--subscribe TEXT"):
            resolve("wss://h/", **option)

    @pytest.mark.parametrize("url", ["ws://", "wss://h/#x", "ws://h:999999/", "ws://[", "ws://a b/", "wss://h/\x07"])
    def test_an_address_that_cannot_be_used_is_refused(self, url):
        with pytest.raises(ConfigError, match="expected ws://HOST/PATH"):
            resolve(url)

    def test_of_another_kind_is_not_repeated(self):
        with pytest.raises(ConfigError, match="begins with ws:// or wss://") as caught:
            resolve("https://h/?token=secret")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("target", ["a=demo", "a=binance"])
def test_what_has_a_name_of_its_own_is_given_no_other(target):
    with pytest.raises(ConfigError, match=f"NAME= is for URLs; {target[2:]} has a name of its own"):
        resolve(target)
