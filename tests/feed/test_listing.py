from __future__ import annotations

import json
import re
import time

import pytest

from tests.feeds import parse_feed
from tests.tables.full_disk import full_disk
from wsrec.feed.errors import ConfigError
from wsrec.feed.listing import all_symbols, cached
from wsrec.plan.target import resolve

ANSWER = {
    "data": {
        "list": [
            {"name": "BTC-USDT", "state": "live", "on": True},
            {"name": "ETH-USDT", "state": "live", "on": True},
            {"name": "OLD-USDT", "state": "gone", "on": True},
            {"name": "OFF-USDT", "state": "live", "on": False},
            {"name": "no symbol", "state": "live", "on": True},
            {"state": "live", "on": True},
        ]
    }
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, ca_file):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    return tmp_path / "cache" / "wsrec" / "symbols"


def yaml(url, more="items: data.list, symbol: name, where: {state: live, 'on': [true, other]}"):
    return f"""
name: x
description: d
sockets: {{m: {{url: "wss://h/ws"}}}}
symbols:
  pattern: '[A-Z]+-[A-Z]+'
  words: two words
  example: BTC-USDT
  pair: "{{base}}-{{quote}}"
  currencies: {{XBT: BTC}}
  listing: {{url: "{url}/symbols", {more}}}
subscribe: {{message: '{{"args":{{topics}}}}'}}
limits: {{connects: 10, connects_interval: 1}}
channels: {{t: {{topic: "t:{{symbol}}", default: true}}}}
"""


def feed(*args):
    return parse_feed(yaml(*args).encode(), "f.yaml")


class TestListing:
    def test_what_is_traded_is_listed_once_a_day(self, https):
        server = https(lambda path: ANSWER)
        known = feed(server.url)
        assert cached(known) is None
        for _ in range(2):
            assert all_symbols(known).symbols == ("BTC-USDT", "ETH-USDT")
        assert server.requested == [("GET", "/symbols", b"")]
        assert str(cached(known)) == "2 symbols, listed just now"

    @pytest.mark.parametrize(
        ("answer", "more"),
        [
            (["BTC-USDT", "ETH-USDT"], ""),
            ([["BTC-USDT", "ETH-USDT"]], "items: '[0]'"),
            ({"r": {"a": {"s": "XBT/USDT"}, "b": {"s": "ETH/USDT"}}}, "items: r, symbol: s"),
            (["BTC", "ETH"], "write: '{symbol}-USDT'"),
        ],
    )
    def test_forms(self, https, answer, more):
        assert all_symbols(feed(https(lambda path: answer).url, more)).symbols == ("BTC-USDT", "ETH-USDT")

    def test_by_post(self, https):
        server = https(lambda path: ["BTC-USDT"])
        all_symbols(feed(server.url, 'body: \'{"type":"meta"}\''))
        assert server.requested == [("POST", "/symbols", b'{"type":"meta"}')]

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ((503, {}, b""), "localhost:[0-9]+ answered HTTP 503"),
            ((302, {"Location": "https://localhost/x"}, b""), "answered HTTP 302, a redirect"),
            ((200, {}, b"<html>"), "Expecting value"),
            ((200, {}, b"[" * 100_000), "not a list of symbols"),
            ({"data": 5}, "no array at data.list"),
            ({"data": {"list": []}}, "no symbol of the answer matches"),
        ],
    )
    def test_trouble_says_what_to_do(self, https, answer, expected):
        with pytest.raises(ConfigError, match=expected) as caught:
            all_symbols(feed(https(lambda path: answer).url))
        assert "--symbols @FILE" in str(caught.value)

    @pytest.mark.parametrize(
        ("header", "when"),
        [({"Retry-After": "300"}, "in 5 minutes"), ({}, "in 2 minutes"), ({"Retry-After": "0"}, "in 2 minutes")],
        ids=["stated", "not stated", "at once"],
    )
    def test_asked_too_often_it_says_when_to_come_again_and_asks_no_more(self, https, header, when):
        server = https(lambda path: (429, header, b""))
        host = server.url.partition("//")[2]
        with pytest.raises(ConfigError, match=f"{host} answered HTTP 429 Too Many Requests; try again {when}"):
            all_symbols(feed(server.url))
        with pytest.raises(ConfigError, match=f"{host} has refused earlier requests as too many; try again"):
            all_symbols(feed(server.url))
        assert len(server.requested) == 1

    def test_offline(self):
        with pytest.raises(
            ConfigError, match=r"x: the exchange's symbols cannot be listed: localhost:1 refused the connection"
        ):
            all_symbols(feed("https://localhost:1"))

    def test_a_certificate_that_is_not_to_be_trusted(self, https, monkeypatch):
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ConfigError, match="certificate not verified"):
            all_symbols(feed(https(lambda path: ANSWER).url))

    def test_a_full_disk_leaves_nothing_behind(self, https, cache):
        known = feed(https(lambda path: ANSWER).url)
        with full_disk(10):
            assert all_symbols(known).symbols == ("BTC-USDT", "ETH-USDT")
        assert list(cache.iterdir()) == []

    def test_offline_an_old_list_is_better_than_none(self, https, cache):
        server = https(lambda path: ANSWER)
        known = feed(server.url)
        all_symbols(known)
        server.stop()
        (file,) = cache.iterdir()
        file.write_text(json.dumps({**json.loads(file.read_text()), "time": time.time() - 3 * 86400}))
        listed = all_symbols(known)
        assert listed.symbols == ("BTC-USDT", "ETH-USDT")
        assert str(listed).startswith("2 symbols, listed 3 days ago (localhost:")

    @pytest.mark.parametrize("data", [b"", b"[]", b'{"time":"x","symbols":[5]}', b"\xff", b"[" * 100_000])
    def test_a_broken_cache_is_requested_anew(self, https, cache, data):
        known = feed(https(lambda path: ANSWER).url)
        all_symbols(known)
        (file,) = cache.iterdir()
        file.write_bytes(data)
        assert all_symbols(known).symbols == ("BTC-USDT", "ETH-USDT")

    def test_a_cache_that_cannot_be_written_is_no_reason_not_to_record(self, https, monkeypatch, ca_file):
        monkeypatch.setenv("XDG_CACHE_HOME", str(ca_file))
        assert all_symbols(feed(https(lambda path: ANSWER).url)).symbols


class TestTargets:
    @pytest.fixture
    def file(self, tmp_path, https):
        path = tmp_path / "x.yaml"
        path.write_text(yaml(https(lambda path: ANSWER).url))
        return str(path)

    def test_all(self, file):
        target = resolve(file, ["all"])
        assert target.symbols == ("BTC-USDT", "ETH-USDT")
        assert str(target.listed) == "2 symbols, listed just now"

    def test_a_file(self, file, tmp_path):
        (tmp_path / "list").write_text("# mine\nbtc/usdt, SOL-USDT\n\nXBT/USDT #again\n")
        assert resolve(file, [f"@{tmp_path}/list", "ETH-USDT"]).symbols == ("BTC-USDT", "SOL-USDT", "ETH-USDT")

    @pytest.mark.parametrize(
        ("content", "expected"),
        [(b"BTC-USDT\n5\n", r"list:2: symbol '5'"), (b"#\n", "no symbols"), (b"\xff", "not UTF-8 text")],
    )
    def test_a_bad_file(self, file, tmp_path, content, expected):
        (tmp_path / "list").write_bytes(content)
        with pytest.raises(ConfigError, match=expected):
            resolve(file, [f"@{tmp_path}/list"])

    def test_no_file(self, file):
        with pytest.raises(ConfigError, match="found '@none', which does not exist"):
            resolve(file, ["@none"])

    def test_a_feed_without_a_listing(self, tmp_path):
        path = tmp_path / "y.yaml"
        path.write_text(re.sub("  listing:.*", "", yaml("https://h")))
        with pytest.raises(ConfigError, match=r"symbols\.listing.*--symbols @FILE"):
            resolve(str(path), ["all"])
