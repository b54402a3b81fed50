"""Names of bare URLs: each its own, the same in each run, and nothing secret in them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.feed.errors import ConfigError
from wsrec.feed.values import NAME_PATTERN
from wsrec.plan.naming import host_name, names_of
from wsrec.plan.target import Wanted, resolve, resolve_all


def names(*targets: str) -> list[str]:
    return [target.feed.name for target in resolve_all([Wanted(target=target) for target in targets])]


class TestHost:
    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("wss://Stream.Example.com:9443/x?a=b", "stream.example.com"),
            ("ws://127.0.0.1:1/", "127.0.0.1"),
            ("ws://user:pw@h_st/", "h-st"),
            ("ws://[::1]/", "ipv6-0-1"),
            ("ws://[::1]:8080/x", "ipv6-0-1"),
            ("ws://[0:0:0:0:0:0:0:1]/", "ipv6-0-1"),
            ("ws://[::]/", "ipv6-0"),
            ("ws://[2001:DB8::8:800]/", "ipv6-2001-db8-0-8-800"),
            ("ws://[fe80::1%25eth0]/", "ipv6-fe80-0-1"),
            ("wss://börse.example/", "xn--brse-5qa.example"),
        ],
    )
    def test_names_a_url_that_is_alone(self, url, name):
        assert (host_name(url), names(url)) == (name, [name])
        assert re.match(NAME_PATTERN, name)


class TestUrlsOfOneHost:
    def test_ports_distinguish_them(self):
        assert names("ws://h:1/", "ws://h:2/", "wss://other/") == ["h-1", "h-2", "other"]

    def test_so_do_the_ports_of_the_schemes(self):
        assert names("ws://h/", "wss://h/") == ["h-80", "h-443"]

    def test_paths_and_queries_are_counted_for_they_may_be_secret(self):
        assert names("wss://h/ws/btc", "wss://h/ws/eth?key=s3cret") == ["h", "h-2"]
        assert names("wss://h:1/a", "wss://h:1/b", "wss://h:2/a") == ["h-1", "h-1-2", "h-2"]

    def test_names_do_not_depend_on_the_order(self):
        urls = ["wss://h/a", "wss://h/b", "wss://h/b?c", "ws://h/a"]
        found = {frozenset(zip(order, names(*order), strict=True)) for order in itertools.permutations(urls)}
        assert len(found) == 1

    def test_a_name_that_another_target_has_is_not_taken(self):
        assert names("binance", "ws://binance/") == ["binance", "binance-2"]
        assert names("h=ws://g/", "ws://h/a", "ws://h/b") == ["h", "h-2", "h-3"]

    @settings(max_examples=examples(40))
    @given(st.lists(st.from_regex(r"wss?://[a-c.]{1,70}[a-c](:[1-9])?/[a-c]{0,2}", fullmatch=True), unique=True))
    def test_each_has_a_name_of_its_own_that_is_one(self, urls):
        found = names_of(urls, {"a", "b-2"})
        assert len({*found, "a", "b-2"}) == len(urls) + 2
        assert all(re.match(NAME_PATTERN, name) for name in found)
        assert dict(zip(urls[::-1], names_of(urls[::-1], {"a", "b-2"}), strict=True)) == dict(
            zip(urls, found, strict=True)
        )


class TestGivenNames:
    def test_stand_before_the_url(self):
        assert names("spot=wss://h/a?x=1", "perp.1=wss://h/b") == ["spot", "perp.1"]
        assert resolve("spot=wss://h/a?x=1").feed.sockets["main"].url == "wss://h/a?x=1"

    def test_the_same_url_may_be_recorded_under_two(self):
        assert names("a=wss://h/", "b=wss://h/") == ["a", "b"]

    @pytest.mark.parametrize("name", ["", "Spot", "a b", "../x", "-a", "a" * 65, "a/b"])
    def test_an_invalid_name_is_reported_without_the_url(self, name):
        with pytest.raises(ConfigError, match=r"expected a-z, 0-9, dots and dashes.*spot=wss://HOST/PATH") as caught:
            resolve(f"{name}=wss://h/s3cret")
        assert "s3cret" not in str(caught.value)

    def test_only_a_url_has_one(self):
        with pytest.raises(ConfigError, match="binance has a name of its own"):
            Wanted(target="binance", name="x").resolved()

    def test_a_run_config_has_a_key_for_it(self):
        wanted = Wanted(target="wss://h/", name="spot", where="run.yaml:3: feeds.1: ")
        assert wanted.resolved().feed.name == "spot"
        with pytest.raises(ConfigError, match=r"run\.yaml:3: feeds\.1: .*'spot' and 'perp'"):
            replace(wanted, target="perp=wss://h/").resolved()


class TestTwice:
    def test_the_same_url_is_refused_without_being_repeated(self):
        with pytest.raises(ConfigError, match=r"ws://h/\*\*\* is given twice: .*a=URL b=URL") as caught:
            names("ws://h/s3cret", "ws://g/", "ws://h/s3cret")
        assert "s3cret" not in str(caught.value)

    def test_so_is_the_same_name(self):
        with pytest.raises(ConfigError, match="two targets are both named a: give each URL its own"):
            names("a=ws://h/", "a=ws://g/")
        with pytest.raises(ConfigError, match=r"two targets are both named binance: .*--out"):
            names("binance", "binance")
        with pytest.raises(ConfigError, match="two targets are both named binance"):
            names("binance", "binance=ws://h/")

    def test_a_run_configs_error_names_the_line(self):
        twice = [Wanted(target="ws://h/", where=f"run.yaml:{line}: feeds.{line - 2}: ") for line in (2, 3)]
        with pytest.raises(ConfigError, match=r"^run\.yaml:3: feeds\.1: ws://h/ is given twice"):
            resolve_all(twice)
