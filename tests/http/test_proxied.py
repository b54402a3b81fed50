"""Requests through a proxy: TLS is with the host beyond it, and anyone who fails is the one that is named."""

from __future__ import annotations

import time

import pytest

from tests.proxies import HOST, PASSWORD, USER
from tests.supervise.test_proxies import port_of
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch
from wsrec.http.proxied import connect_via
from wsrec.net.proxy import parse_proxy
from wsrec.net.trust import tls_context
from wsrec.net.tunnel import ProxyError


@pytest.fixture
def ask(ca_file):
    def ask(url: str, proxy: str, seconds: float = 20.0) -> bytes:
        connect = connect_via(parse_proxy(proxy, "HTTPS_PROXY"))
        return fetch(url, context=tls_context(str(ca_file)), limit=1 << 16, timeout=seconds, connect=connect)

    return ask


class TestThroughAProxy:
    def test_the_name_is_the_proxys_to_look_up(self, ask, scripted_proxy, https):
        proxy, server = scripted_proxy(), https(lambda path: [path])
        given = proxy.url.replace("//", f"//{USER}:{PASSWORD}@")
        assert ask(f"https://{HOST}:{port_of(server)}/a?b", given) == b'["/a?b"]'
        assert proxy.hosts == [HOST]

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 407 No\r\n\r\n", "requires a user name and a password: 407 No; put USER:PASSWORD@"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", f"cannot reach {HOST}:443: 502 Bad Gateway; "),
            (b"", "closed the connection without an answer; "),
            (b"HTTP/1.1 200 " + b"a%" * 100, "did not answer"),
        ],
        ids=["password", "beyond", "silence", "drips"],
    )
    def test_what_goes_wrong_at_it_is_its_own(self, ask, scripted_proxy, answer, words):
        proxy = scripted_proxy(answer=lambda head: answer)
        began = time.monotonic()
        with pytest.raises(HttpError) as caught:
            ask(f"https://{HOST}/", proxy.url, 0.7 if b"%" in answer else 20.0)
        assert time.monotonic() - began < 10
        assert str(caught.value).startswith(f"{HOST}: the proxy {proxy.url} {words}")
        assert caught.value.cause == "proxy"
        assert isinstance(caught.value.__cause__, ProxyError)

    def test_what_it_says_in_the_hosts_place_is_reported(self, ask, scripted_proxy):
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 200 OK\r\n\r\nhello, world")
        with pytest.raises(HttpError, match="TLS failed: WRONG_VERSION_NUMBER") as caught:
            ask(f"https://{HOST}/", proxy.url)
        words = f"through the proxy {proxy.url}, which may answer in the host's place: HTTPS_PROXY"
        assert words in str(caught.value)

    @pytest.mark.parametrize(("status", "cause"), [(429, "limited"), (503, "proxy")])
    def test_it_says_when_to_come_again(self, ask, scripted_proxy, status, cause):
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 %d No\r\nRetry-After: 77\r\n\r\n" % status)
        with pytest.raises(HttpError) as caught:
            ask(f"https://{HOST}/", proxy.url)
        assert (caught.value.cause, caught.value.retry_after) == (cause, 77)

    def test_one_that_is_not_there_is_named(self, ask, refusing_port):
        port = refusing_port
        with pytest.raises(HttpError, match=f"the proxy http://127.0.0.1:{port} refused the connection; check that"):
            ask(f"https://{HOST}/", f"http://127.0.0.1:{port}")

    def test_what_goes_wrong_beyond_it_is_the_hosts(self, ask, scripted_proxy, https):
        proxy, server = scripted_proxy(names={"other.test": "127.0.0.1"}), https(lambda path: [path])
        with pytest.raises(HttpError, match=r"other.test.* certificate not verified: Hostname mismatch") as caught:
            ask(f"https://other.test:{port_of(server)}/", proxy.url)
        assert caught.value.cause == "certificate"
