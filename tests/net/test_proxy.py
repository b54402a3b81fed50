"""Which proxy holds for an address, and what its own address may look like."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.net.proxy import ProxyRules, is_exempt, parse_proxy

WSS, HTTPS, WS, HTTP = (
    "wss://api.exchange.com/ws",
    "https://api.exchange.com/t",
    "ws://api.exchange.com/",
    "http://a.com",
)


class TestTheAddressOfAProxy:
    @pytest.mark.parametrize(
        ("text", "public", "user"),
        [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", None),
            ("http://Proxy.Corp:3128/", "http://proxy.corp:3128", None),
            ("proxy.corp:3128", "http://proxy.corp:3128", None),
            ("http://proxy", "http://proxy:80", None),
            ("socks5h://[::1]:1080", "socks5h://[::1]:1080", None),
            ("socks5://10.0.0.1", "socks5h://10.0.0.1:1080", None),
            ("HTTP://u:p@proxy:1", "http://proxy:1", ("u", "p")),
            ("http://me@proxy:1", "http://proxy:1", ("me", "")),
            ("user:pa@ss@proxy:1", "http://proxy:1", ("user", "pa@ss")),
            ("socks5://a%3Ab:p%2Fw%20%C3%A9@proxy:1", "socks5h://proxy:1", ("a:b", "p/w é")),
        ],
    )
    def test_is_read_as_curl_does(self, text, public, user):
        proxy = parse_proxy(text)
        assert proxy.public == public
        assert (proxy.username and (proxy.username, proxy.password)) == user

    def test_hides_its_credentials(self):
        proxy = parse_proxy("http://S3CR3Tuser:S3CR3T@proxy:1")
        assert "S3CR3T" not in f"{proxy!r} {proxy.public}"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "http://",
            "ftp://proxy:1",
            "https://u:S3CR3T@proxy:443",
            "socks4://u:S3CR3T@proxy:1080",
            "http://u:S3CR3T/x@proxy:3128",
            "http://u:S3CR3T#x@proxy:3128",
            "http://u:S3CR3T@proxy:0",
            "http://u:S3CR3T@\u2024:1",
            "http://u:S3CR3T@proxy:99999",
            "http://u:S3CR3T@proxy:3128/path",
            "http://u:S3CR3T@proxy:3128?q",
            "http://u:S3CR3T x@proxy",
            "http://a%3Ab:S3CR3T@proxy:1",
            "http://u:S3CR3T%0D%0AX:y@proxy:1",
            "socks5://:S3CR3T@proxy:1",
            f"socks5://u:S3CR3T{'x' * 255}@proxy:1",
            "http://u:S3CR3T@[::1:80",
            f"http://u:S3CR3T@{'x' * 64}.com:80",
        ],
    )
    def test_an_invalid_one_is_reported_without_its_content(self, text):
        with pytest.raises(ValueError, match=r"expected|not allow") as caught:
            parse_proxy(text)
        assert "S3CR3T" not in str(caught.value)
        assert caught.value.__cause__ is None

    @given(st.text(max_size=60), st.sampled_from(["", "http://", "socks5://", "http://u:p@"]))
    def test_any_text_is_one_or_a_complaint(self, text, begin):
        try:
            proxy = parse_proxy(begin + text)
        except ValueError:
            return
        assert proxy.host
        assert 0 < proxy.port < 65536
        assert parse_proxy(proxy.public).public == proxy.public


def rules(**environment: str) -> ProxyRules:
    return ProxyRules.of_environment(environment)


def chosen(rules: ProxyRules, url: str) -> str | None:
    proxy = rules.of(url)
    return None if proxy is None else proxy.host


class TestTheChoice:
    @pytest.mark.parametrize(
        ("environment", "expected"),
        [
            ({}, (None, None, None, None)),
            ({"HTTPS_PROXY": "s:1"}, ("s", "s", None, None)),
            ({"https_proxy": "s:1"}, ("s", "s", None, None)),
            ({"HTTP_PROXY": "h:1"}, (None, None, "h", "h")),
            ({"http_proxy": "h:1"}, (None, None, "h", "h")),
            ({"ALL_PROXY": "a:1"}, ("a", "a", "a", "a")),
            ({"all_proxy": "a:1", "HTTPS_PROXY": "s:1", "HTTP_PROXY": "h:1"}, ("s", "s", "h", "h")),
            ({"WSS_PROXY": "w:1", "ws_proxy": "v:1", "ALL_PROXY": "a:1"}, ("w", "a", "v", "a")),
            ({"HTTPS_PROXY": "S:1", "https_proxy": "s:1"}, ("s", "s", None, None)),
            ({"HTTPS_PROXY": "s:1", "https_proxy": ""}, (None, None, None, None)),
            ({"HTTP_PROXY": "h:1", "REQUEST_METHOD": "GET"}, (None, None, None, None)),
            ({"http_proxy": "h:1", "REQUEST_METHOD": "GET"}, (None, None, "h", "h")),
            ({"ALL_PROXY": "a:1", "NO_PROXY": "exchange.com"}, (None, None, None, "a")),
            ({"ALL_PROXY": "a:1", "no_proxy": "*"}, (None, None, None, None)),
        ],
    )
    def test_of_the_environment_is_curls(self, environment, expected):
        assert tuple(chosen(rules(**environment), url) for url in (WSS, HTTPS, WS, HTTP)) == expected

    def test_goes_from_options_over_the_feed_to_the_environment(self):
        environment = {"HTTPS_PROXY": "environment:1", "NO_PROXY": "*"}
        plain = ProxyRules.of_environment(environment)
        option = ProxyRules.of_environment(environment, given="option:1")
        none = ProxyRules.of_environment(environment, none=True, given="option:1")
        assert chosen(plain, WSS) is None
        assert chosen(plain.for_feed("feed:1", "mine"), WSS) == "feed"
        assert chosen(option.for_feed("feed:1", "mine"), WSS) == "option"
        assert chosen(none.for_feed("feed:1", "mine"), WSS) is None
        assert plain.for_feed(None, "mine") == plain

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"])
    def test_of_this_machine_is_none_of_the_environments(self, host):
        url = f"wss://{host}:9443/ws"
        assert chosen(rules(HTTPS_PROXY="s:1"), url) is None
        assert rules(HTTPS_PROXY="s:1").passed_over(url) == "HTTPS_PROXY"
        assert rules(HTTPS_PROXY="s:1", NO_PROXY="*").passed_over(url) is None
        assert rules(HTTPS_PROXY="s:1").passed_over(WSS) is None
        assert chosen(ProxyRules(given="s:1"), url) == "s"

    def test_names_what_holds_no_address(self):
        for found, name in (
            (rules(all_proxy="https://u:S3CR3T@p"), "all_proxy"),
            (ProxyRules(given="ftp://u:S3CR3T@p"), "--proxy"),
            (ProxyRules().for_feed("ftp://u:S3CR3T@p", "mine"), "`proxy` of mine"),
        ):
            with pytest.raises(ValueError, match=f"^{name}: ") as caught:
                found.of(WSS)
            assert "S3CR3T" not in str(caught.value)
        # what does not hold is not complained about
        assert rules(all_proxy="https://p").of("wss://localhost/") is None

    def test_crosses_a_process_border(self):
        found = ProxyRules.of_environment({"HTTPS_PROXY": "s:1", "no_proxy": "a,b"}, given="x:1")
        assert msgspec.json.decode(msgspec.json.encode(found), type=ProxyRules) == found


class TestNoProxy:
    @pytest.mark.parametrize(
        ("no_proxy", "host", "exempt"),
        [
            ("exchange.com", "exchange.com", True),
            ("exchange.com", "api.exchange.com", True),
            (".exchange.com", "api.exchange.com", True),
            (".exchange.com", "exchange.com", True),
            ("*.exchange.com", "api.exchange.com", True),
            ("exchange.com", "myexchange.com", False),
            ("exchange.com", "exchange.com.evil.net", False),
            ("a.com, exchange.com", "exchange.com", True),
            ("a.com exchange.com", "exchange.com", True),
            ("EXCHANGE.com", "exchange.COM", True),
            ("exchange.com", "exchange.com.", True),
            ("exchange.com:9443", "exchange.com", True),
            ("exchange.com:443", "exchange.com", False),
            ("*", "exchange.com", True),
            ("*", "10.1.2.3", True),
            ("", "exchange.com", False),
            (",,", "exchange.com", False),
            (".", "exchange.com", False),
            ("10.1.2.3", "10.1.2.3", True),
            ("10.1.2.3:9443", "10.1.2.3", True),
            ("10.1.2.3:1", "10.1.2.3", False),
            ("1.2.3", "10.1.2.3", False),
            ("2.3", "10.1.2.3", False),
            ("10.0.0.0/8", "10.1.2.3", True),
            ("10.0.0.0/8", "11.1.2.3", False),
            ("10.1.2.3/8", "10.9.9.9", True),
            ("10.0.0.0/8", "ten.com", False),
            ("10.0.0.0/99", "10.1.2.3", False),
            ("fd00::/8", "fd12::1", True),
            ("fd00::/8", "10.1.2.3", False),
            ("fd12::1", "fd12:0:0::1", True),
            ("[fd12::1]", "fd12::1", True),
            ("[fd12::1]:9443", "fd12::1", True),
            ("[fd12::1]:1", "fd12::1", False),
        ],
    )
    def test_takes_out_what_curl_and_go_take_out(self, no_proxy, host, exempt):
        assert is_exempt(host, 9443, no_proxy) is exempt

    @given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
    def test_a_network_takes_out_its_addresses_and_no_others(self, network, length, host):
        inside = int(network) >> (32 - length) == int(host) >> (32 - length)
        assert is_exempt(str(host), 443, f"a.com,{network}/{length}") is inside

    @given(st.text(max_size=40), st.text(alphabet="abc.:[]/*0123456789", max_size=20))
    def test_no_text_is_too_much_for_it(self, no_proxy, host):
        assert is_exempt(host, 1, no_proxy) in (True, False)
