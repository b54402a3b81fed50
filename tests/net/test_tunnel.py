"""Tunnels through a proxy: the requests to it, and the meaning of its answers, whatever they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable

import pytest
import uvloop

from tests.proxies import HOST, PASSWORD, USER
from wsrec.net.proxy import Proxy, parse_proxy
from wsrec.net.tunnel import ProxyError, open_tunnel_blocking, proxy_errors, through

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def blocking(proxy: Proxy, host: str, port: int) -> socket.socket:
    sock = socket.create_connection((proxy.host, proxy.port), timeout=20)
    open_tunnel_blocking(sock, proxy, host, port, lambda: 20.0)
    return sock


def on_loop(proxy: Proxy, host: str, port: int) -> socket.socket:
    async def run() -> socket.socket:
        sock = socket.create_connection((proxy.host, proxy.port), timeout=20)
        sock.setblocking(False)
        async with asyncio.timeout(60):
            await through(sock, proxy, host, port)
        sock.settimeout(20)
        return sock

    return uvloop.run(run())


@pytest.fixture(params=[blocking, on_loop])
def way(request) -> Callable[[Proxy, str, int], socket.socket]:
    return request.param


def all_of(sock: socket.socket) -> bytes:
    with sock:
        return b"".join(iter(lambda: sock.recv(3), b""))


class TestHttp:
    @pytest.mark.parametrize(
        "answer",
        [
            OK,
            b"HTTP%/1.0 2%00\r\n\r%\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n%HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.0 200 OK\n\n",
            b"HTTP/1.1 299 fine\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
        ],
        ids=["plain", "in pieces", "announced", "bare line feeds", "long head"],
    )
    def test_leaves_every_byte_behind_the_answer(self, way, scripted_proxy, answer):
        proxy = scripted_proxy(answer=lambda head: answer + b"of the exchange")
        assert all_of(way(parse_proxy(proxy.url), HOST, 443)) == b"of the exchange"

    def test_asks_by_name_and_with_credentials(self, way, scripted_proxy):
        proxy = scripted_proxy(answer=lambda head: OK)
        way(parse_proxy(f"http://{USER}:p%C3%A9%3A@127.0.0.1:{proxy.port}"), HOST, 9443).close()
        way(parse_proxy(proxy.url), "fd00::1", 9443).close()
        first, second = proxy.requested
        assert first.startswith(f"CONNECT {HOST}:9443 HTTP/1.1\r\nHost: {HOST}:9443\r\n")
        assert first.endswith(f"{USER}:pé:")
        assert second.startswith("CONNECT [fd00::1]:9443 HTTP/1.1\r\n")
        assert "Proxy-Authorization" not in second

    @pytest.mark.parametrize(
        ("answer", "words", "permanent"),
        [
            ("407 Proxy Authentication Required", "rejects this user name and password: 407 Proxy", True),
            ("401 Unauthorized", "rejects this user name and password: 401 Unauthorized", True),
            ("403 Filtered", "does not allow a connection to exchange.behind-the-proxy.test:443: 403 Filtered", True),
            ("405 Method Not Allowed", "does not allow a connection to exchange.behind-the-proxy.test:443: 405", True),
            ("302 Found", "does not allow a connection to exchange.behind-the-proxy.test:443: 302", True),
            ("429 Slowly", "reports too many requests: 429 Slowly", False),
            ("418 I'm a teapot", "reports too many requests: 418", False),
            ("500 Unable to connect", "cannot reach exchange.behind-the-proxy.test:443: 500 Unable to connect", False),
            ("502 Bad Gateway", "cannot reach exchange.behind-the-proxy.test:443: 502", False),
            ("504 Gateway Timeout", "cannot reach exchange.behind-the-proxy.test:443: 504", False),
        ],
    )
    def test_reports_whose_fault_it_is(self, way, scripted_proxy, answer, words, permanent):
        proxy = scripted_proxy(answer=lambda head: f"HTTP/1.1 {answer}\r\nContent-Length: 3\r\n\r\nabc".encode())
        with pytest.raises(ProxyError) as caught:
            way(parse_proxy(f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}"), HOST, 443)
        assert str(caught.value).startswith(f"the proxy {proxy.url} {words}")
        assert caught.value.permanent is permanent
        assert caught.value.hint

    @pytest.mark.parametrize(
        ("answer", "limited", "seconds"),
        [
            ("429 Slowly\r\nRetry-After: 100", True, 100),
            ("429 Slowly\r\nX: y\r\nretry-after:\t 7 ", True, 7),
            ("429 Slowly\r\nRetry-After: 0", True, None),
            ("429 Slowly", True, None),
            ("503 No\r\nRetry-After: 100", False, 100),
            ("503 No\r\nX-Retry-After: 100", False, None),
        ],
    )
    def test_says_when_to_come_again(self, way, scripted_proxy, answer, limited, seconds):
        proxy = scripted_proxy(answer=lambda head: f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())
        with pytest.raises(ProxyError) as caught:
            way(parse_proxy(proxy.url), HOST, 443)
        assert (caught.value.limited, caught.value.retry_after) == (limited, seconds)

    def test_says_that_credentials_are_wanted(self, way, scripted_proxy):
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 407 No\r\n\r\n")
        with pytest.raises(ProxyError, match="requires a user name and a password: 407 No") as caught:
            way(parse_proxy(proxy.url, "HTTPS_PROXY"), HOST, 443)
        assert caught.value.hint == "put USER:PASSWORD@ before the host in HTTPS_PROXY"

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"", "closed the connection without an answer"),
            (b"HTTP/1.1 200 OK\r\nX: y\r\n", "closed the connection without an answer"),
            (b"SSH-2.0-OpenSSH_9\r\n", "is not a HTTP proxy"),
            (b"HTTP/1.1 2OO OK\r\n\r\n", "is not a HTTP proxy"),
            (b"HTTP/2 200 OK\r\n\r\n", "is not a HTTP proxy"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "a head of more than 65536 bytes"),
            (b"HTTP/1.1 100 Go on\r\n\r\n" * 4000, "a head of more than 65536 bytes"),
        ],
        ids=["silence", "half a head", "ssh", "letters", "http2", "long head", "announcements"],
    )
    def test_survives_what_is_no_answer(self, way, scripted_proxy, answer, words):
        proxy = scripted_proxy(answer=lambda head: answer)
        with pytest.raises(ProxyError, match=words):
            way(parse_proxy(proxy.url), HOST, 443)

    def test_repeats_neither_credentials_nor_control_bytes(self, way, scripted_proxy):
        def echo(head: str) -> bytes:
            return f"HTTP/1.1 407 {head.partition('Basic ')[2].partition(chr(13))[0]} \r\n\r\n".encode()

        for answer in (echo, lambda head: f"HTTP/1.1 403 no {PASSWORD}!\r\n\r\n".encode()):
            proxy = scripted_proxy(answer=answer)
            with pytest.raises(ProxyError) as caught:
                way(parse_proxy(f"http://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}"), HOST, 443)
            assert str(caught.value).endswith((": 407", ": 403"))
        proxy = scripted_proxy(answer=lambda head: b"HTTP/1.1 403 \x1b[31mred" + b"x" * 500 + b"\r\n\r\n")
        with pytest.raises(ProxyError) as caught:
            way(parse_proxy(proxy.url), HOST, 443)
        assert "\N{REPLACEMENT CHARACTER}[31mred" in str(caught.value)
        assert len(str(caught.value)) < 250


class Socks:
    """A SOCKS5 proxy that answers with given bytes, each once something came, whatever that was."""

    def __init__(self, *answers: bytes) -> None:
        self.came: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._answers = answers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, _ = self._listening.accept()
        with client, self._listening, contextlib.suppress(OSError):
            for answer in self._answers:
                self.came.append(client.recv(4096))
                client.sendall(answer)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)


REACHED = b"\5\0\0\1\x7f\0\0\1\x01\xbb"


class TestSocks:
    @pytest.mark.parametrize(
        "reached", [REACHED, b"\5\0\0\4" + bytes(18), b"\5\0\0\3\3abc\0\1"], ids=["v4", "v6", "name"]
    )
    def test_leaves_every_byte_behind_the_answer(self, way, reached):
        proxy = Socks(b"\5\0", reached + b"of the exchange")
        assert all_of(way(parse_proxy(f"socks5://127.0.0.1:{proxy.port}"), HOST, 443)) == b"of the exchange"
        assert proxy.came == [b"\5\1\0", b"\5\1\0\3" + bytes([len(HOST)]) + HOST.encode() + b"\1\xbb"]

    def test_asks_with_credentials_and_by_address(self, way):
        proxy = Socks(b"\5\2", b"\1\0", REACHED)
        way(parse_proxy(f"socks5h://us:p%C3%A9@127.0.0.1:{proxy.port}"), "10.0.0.1", 443).close()
        assert proxy.came == [b"\5\2\0\2", b"\1\2us\3p\xc3\xa9", b"\5\1\0\1\x0a\0\0\1\1\xbb"]

    @pytest.mark.parametrize(
        ("answers", "words", "permanent"),
        [
            ((b"\5\xff",), "rejects this user name and password", True),
            ((b"\5\2", b"\1\1"), "rejects this user name and password: status 1", True),
            ((b"\5\0", b"\5\1"), "cannot reach exchange.behind-the-proxy.test:443: general failure", False),
            (
                (b"\5\0", b"\5\2"),
                "does not allow a connection to exchange.behind-the-proxy.test:443: 2 not allowed",
                True,
            ),
            ((b"\5\0", b"\5\4\0\1"), "cannot reach exchange.behind-the-proxy.test:443: host unreachable", False),
            ((b"\5\0", b"\5\5"), "cannot reach exchange.behind-the-proxy.test:443: connection refused", False),
            ((b"\5\0", b"\5\x63"), "cannot reach exchange.behind-the-proxy.test:443: code 99", False),
            ((b"HTTP/1.1 400",), "is not a SOCKS5 proxy", False),
            ((b"\5\3",), "is not a SOCKS5 proxy", False),
            ((b"\5\0", b"\4\0"), "is not a SOCKS5 proxy", False),
            ((b"\5",), "closed the connection without an answer", False),
            ((b"\5\0", b"\5\0\0\1\x7f"), "closed the connection without an answer", False),
        ],
    )
    def test_reports_whose_fault_it_is(self, way, answers, words, permanent):
        proxy = Socks(*answers)
        with pytest.raises(ProxyError) as caught:
            way(parse_proxy(f"socks5h://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}"), HOST, 443)
        assert words in str(caught.value)
        assert f"socks5h://127.0.0.1:{proxy.port}" in str(caught.value)
        assert caught.value.permanent is permanent

    def test_a_name_that_is_too_long_is_reported(self, way):
        proxy = Socks(b"\5\0", b"")
        with pytest.raises(ProxyError, match="longer than SOCKS5 allows"):
            way(parse_proxy(f"socks5h://127.0.0.1:{proxy.port}"), f"{'x.' * 200}com", 443)


class TestTheProxyItself:
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (ConnectionRefusedError(111, "Connection refused"), "refused the connection"),
            (TimeoutError(), "did not answer in time"),
            (OSError(113, "No route to host"), "cannot be used: No route to host"),
        ],
    )
    def test_is_blamed_for_what_is_its_own(self, error, words):
        with pytest.raises(ProxyError) as caught, proxy_errors(parse_proxy("http://u:S3CR3T@proxy:1", "ALL_PROXY")):
            raise error
        assert str(caught.value) == f"the proxy http://proxy:1 {words}"
        assert caught.value.hint == "check that the proxy runs, and its address: ALL_PROXY"

    @pytest.mark.parametrize(
        ("code", "hint"), [(socket.EAI_NONAME, "check its spelling in ALL_PROXY"), (socket.EAI_AGAIN, "check DNS")]
    )
    def test_of_a_name_that_is_not_found_the_look_up_is_reported(self, code, hint):
        with pytest.raises(ProxyError) as caught, proxy_errors(parse_proxy("http://proxy:1", "ALL_PROXY")):
            raise socket.gaierror(code, "no answer")
        assert str(caught.value) == "the proxy http://proxy:1 cannot be resolved: no answer"
        assert hint in caught.value.hint

    def test_is_not_blamed_for_what_this_machine_has_run_out_of(self):
        with pytest.raises(OSError, match="Too many open files") as caught, proxy_errors(parse_proxy("http://proxy:1")):
            raise OSError(errno.EMFILE, "Too many open files")
        assert not isinstance(caught.value, ProxyError)

    def test_a_socket_that_failed_is_closed(self):
        proxy = Socks(b"\5\xff")
        sock = socket.create_connection(("127.0.0.1", proxy.port))
        with pytest.raises(ProxyError):
            open_tunnel_blocking(sock, parse_proxy("socks5://p:1"), HOST, 1, lambda: 20.0)
        assert sock.fileno() == -1
