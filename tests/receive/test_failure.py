"""wsrec.receive.failure: each way to fail has a name, a hint, and is tried again or not."""

from __future__ import annotations

import asyncio
import errno
import gzip
import re
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
import trustme
from websockets.exceptions import InvalidURI
from websockets.frames import CloseCode

import wsrec
from tests.receive.test_receiver import RawExchange, request
from wsrec.net.proxy import parse_proxy
from wsrec.receive.backoff import Backoff
from wsrec.receive.failure import ClosedByExchangeError, PingTimeoutError, StepTimeoutError, explain
from wsrec.receive.tls import NoTlsError
from wsrec.wire.errors import HandshakeError, HandshakeRefused, ProtocolError


def unverified() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


FAILURES = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns", "cannot resolve 'x.test'", "spelling"),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "dns", "'x.test': Temporary failure", "resolv.conf"),
    (StepTimeoutError("the TLS handshake"), "timeout", "did not answer the TLS handshake in time", "another host"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused", "x.test:443 refused", "server is running"),
    (TimeoutError(), "timeout", "did not answer in time", "firewall"),
    (TimeoutError(errno.ETIMEDOUT, "timed out"), "timeout", "did not answer in time", "firewall"),
    (PingTimeoutError("no data for 30.1 s"), "timeout", "no data for 30.1 s", "firewall"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "unreachable", "Network is unreachable", "network"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable", "No route to host", "network"),
    (OSError(errno.EMFILE, "Too many open files"), "system", "Too many open files", "ulimit -n"),
    (
        PermissionError(errno.EPERM, "Operation not permitted"),
        "system",
        "not permitted",
        "firewall or the service manager",
    ),
    (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), "system", "Cannot assign", "out of local addresses or ports"),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "lost", "reset by peer", "network"),
    (ConnectionResetError("the connection ended"), "lost", "the connection ended", "network"),
    (ConnectionAbortedError("the server does not read"), "lost", "the server does not read", "network"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), "lost", "Broken pipe", "network"),
    (ssl.SSLError(1, "[SSL: INTERNAL_ERROR] internal error"), "tls", "TLS failed", "speaks TLS"),
    (HandshakeError("the answer is not HTTP"), "handshake", "not HTTP", "WebSocket endpoint"),
    (ProtocolError(CloseCode.PROTOCOL_ERROR, "a masked frame"), "protocol", "closing with 1002", "report"),
    (ProtocolError(CloseCode.MESSAGE_TOO_BIG, "too much"), "protocol", "closing with 1009", "raise --max-message"),
    (RuntimeError("odd"), "lost", "RuntimeError: odd", "report"),
]


class TestExplain:
    @pytest.mark.parametrize(("error", "cause", "message", "hint"), FAILURES, ids=lambda value: str(value)[:30])
    def test_what_is_tried_again(self, error, cause, message, hint):
        failure = explain(error, "x.test", 443)
        assert failure.cause == cause
        assert message in failure.message
        assert hint in failure.hint
        assert not failure.permanent

    @pytest.mark.parametrize(
        ("host", "at", "where"),
        [
            ("x.test", ("192.0.2.1",), "x.test:443 (192.0.2.1)"),
            ("x.test", ("192.0.2.1", "2001:db8::1"), "x.test:443 (192.0.2.1, 2001:db8::1)"),
            ("x.test", (), "x.test:443"),
            ("192.0.2.1", ("192.0.2.1",), "192.0.2.1:443"),
            ("::1", ("::1",), "[::1]:443"),
        ],
    )
    def test_it_names_the_addresses_that_a_name_stands_for(self, host, at, where):
        assert explain(TimeoutError(), host, 443, at).message == f"{where} did not answer in time"

    def test_a_certificate_is_permanent_and_names_the_option(self):
        failure = explain(unverified(), "x.test", 443)
        assert (failure.cause, failure.permanent) == ("certificate", True)
        assert "self-signed certificate" in failure.message
        assert "--ca-file" in failure.hint

    def test_a_url_that_is_none_is_permanent(self):
        failure = explain(InvalidURI("http://x", "scheme isn't ws or wss"), "x", 80)
        assert failure.permanent
        assert "wss://" in failure.hint


class TestHttp:
    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 451])
    def test_permanent(self, status):
        failure = explain(HandshakeRefused(status, "No", None, ""), "x.test", 443)
        assert (failure.cause, failure.permanent) == ("http", True)
        assert failure.hint

    def test_a_redirect_is_not_followed_and_reported(self):
        failure = explain(HandshakeRefused(302, "Found", None, "", "evil.test"), "x.test", 443)
        assert failure.permanent
        assert "a redirect to evil.test" in failure.message
        assert "never followed" in failure.hint

    @pytest.mark.parametrize("status", [418, 429])
    def test_a_rate_limited_attempt_waits_minutes_unless_a_time_is_given(self, status):
        for wait, least in ((None, 60), (7.0, 7)):
            failure = explain(HandshakeRefused(status, "Slow Down", wait, ""), "x.test", 443)
            assert least <= Backoff().next(failure.retry_after, failure.cause) < least * 2 + 1

    @pytest.mark.parametrize("status", [418, 429])
    def test_too_often_has_a_cause_of_its_own(self, status):
        assert explain(HandshakeRefused(status, "Slow Down", None, ""), "x.test", 443).cause == "limited"

    @pytest.mark.parametrize("wait", [86_400.0, 1e300, float("inf")])
    def test_an_absurd_wait_is_cut_and_reported(self, wait):
        failure = explain(HandshakeRefused(429, "Slow Down", wait, ""), "x.test", 443)
        assert failure.retry_after == 3600
        assert "waiting 3600 s" in failure.message

    @pytest.mark.parametrize("status", [408, 418, 425, 429, 500, 502, 503, 504, 522])
    def test_tried_again(self, status):
        assert not explain(HandshakeRefused(status, "Later", None, ""), "x.test", 443).permanent

    def test_names_status_and_body(self):
        failure = explain(HandshakeRefused(403, "Forbidden", None, " restricted location \n"), "x.test", 443)
        assert failure.message == "x.test:443 answered HTTP 403 Forbidden: restricted location"
        assert "region" in failure.hint

    @pytest.mark.parametrize("head", ["<!DOCTYPE html>", " <HTML lang=en>", "<?xml version='1.0'?><html>"])
    def test_of_a_page_only_its_title_is_reported(self, head):
        page = f"{head}<head><title> Access  denied </title></head><body>{'x' * 900}"
        failure = explain(HandshakeRefused(403, "Forbidden", None, page), "x.test", 443)
        assert failure.message == "x.test:443 answered HTTP 403 Forbidden: a page, Access denied"
        bare = explain(HandshakeRefused(403, "Forbidden", None, head + "<body>" + "x" * 900), "x.test", 443)
        assert bare.message == "x.test:443 answered HTTP 403 Forbidden: a page"

    def test_hands_on_how_long_to_wait(self):
        assert explain(HandshakeRefused(429, "Slow Down", 30.0, ""), "x.test", 443).retry_after == 30.0


class TestBody:
    @pytest.mark.parametrize(
        ("body", "shown", "whole"),
        [
            ("", "", None),
            (" nope \n", ": nope", None),
            ('{"code":-1003}', ': {"code":-1003}', None),
            ("first\nsecond", ": first", "first\nsecond"),
            ("\n\nfirst " + "x" * 9000, ": first " + "x" * 193 + "\u2026", "\n\nfirst " + "x" * 9000),
            ("<html><body><H1 a>Stop &amp; go</H1>", ": a page, Stop & go", "<html><body><H1 a>Stop &amp; go</H1>"),
            ("<title>&#x202e;a</title>", ": a page", "<title>&#x202e;a</title>"),
            (
                "<title>" + "y" * 900 + "</title>",
                ": a page, " + "y" * 191 + "\u2026",
                "<title>" + "y" * 900 + "</title>",
            ),
        ],
        ids=["none", "a line", "json", "lines", "a long line", "heading", "escape", "a long title"],
    )
    def test_its_beginning_is_shown_and_all_of_it_kept(self, body, shown, whole):
        failure = explain(HandshakeRefused(503, "Down", None, body), "x.test", 443)
        assert failure.message == f"x.test:443 answered HTTP 503 Down{shown}"
        assert failure.body == whole


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (1008, "Too many requests", "limited"),
        (1013, "rate limit", "limited"),
        (4029, "throttled", "limited"),
        (1008, "connections limit reached", "limited"),
        (1008, "Connection limit has been hit", "limited"),
        (4429, "", "limited"),
        (1013, "", "limited"),
        (1013, "try again later", "limited"),
        (1008, "policy violation", "closed"),
        (1008, "invalid channel", "closed"),
        (1001, "", "closed"),
        (1012, "Service Restart", "closed"),
    ],
)
def test_a_close_that_says_that_we_come_too_often_is_limited(code, words, cause):
    failure = explain(ClosedByExchangeError(code, words), "x.test", 443)
    assert failure.cause == cause
    assert f"{code} {words}".rstrip() in failure.message
    assert Backoff().next(failure.retry_after, failure.cause) >= (60 if cause == "limited" else 0)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (1000, "once a day"),
        (1001, "keep_alive"),
        (1003, "--subscribe"),
        (1008, "symbols, channels"),
        (1009, "max_bytes"),
        (1011, "server failed"),
        (1012, "restarting"),
        (1013, "or wait"),
        (4001, "its documentation"),
        (1005, "if this is rare"),
    ],
)
def test_each_code_of_a_close_has_a_hint_of_its_own(code, hint):
    failure = explain(ClosedByExchangeError(code, "some words"), "x.test", 443)
    assert hint in failure.hint
    assert "network" not in failure.hint


@pytest.mark.parametrize("host", ["localhost", "demo.localhost", "127.0.0.1", "127.9.9.9", "::1"])
@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        StepTimeoutError("the TLS handshake"),
        PingTimeoutError("no data for 30.1 s"),
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ConnectionResetError("the connection ended"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_on_this_machine_no_hint_is_about_the_network(host, error):
    hint = explain(error, host, 9443).hint
    assert not re.search("network|firewall|proxy|host", hint)
    assert "server" in hint


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
        ssl.SSLError(1, "[SSL: INTERNAL_ERROR] internal error"),
        NoTlsError("the server closed the connection during the TLS handshake"),
        HandshakeError("the answer is not HTTP: b'hello'", "check the port: another service answers there"),
    ],
    ids=str,
)
def test_who_answers_through_a_proxy_may_be_the_proxy(error):
    for word in re.findall(r"SSL: (\w+)", str(error)):
        error.reason = word
    failure = explain(error, "x.test", 443, secure=True, proxy=parse_proxy("http://p:1", "HTTPS_PROXY"))
    assert not re.search(r"\bws://", failure.hint)
    assert "the proxy may be answering instead of the exchange: HTTPS_PROXY" in failure.hint
    assert "through the proxy http://p:1" in failure.message


@pytest.mark.parametrize("status", [403, 451])
def test_a_server_on_this_machine_knows_no_region(status):
    failure = explain(HandshakeRefused(status, "No", None, ""), "127.0.0.1", 9443)
    assert not re.search("region|elsewhere", failure.hint)
    assert "server" in failure.hint


@pytest.mark.parametrize(
    ("host", "plain"),
    [("127.0.0.1", True), ("10.1.2.3", True), ("fd00::1", True), ("8.8.8.8", False), ("x.test", False)],
)
def test_only_in_a_private_network_a_hint_is_to_do_without_tls(host, plain):
    for error in (StepTimeoutError("the TLS handshake"), NoTlsError("closed")):
        assert ("ws://" in explain(error, host, 443, secure=True).hint) is plain
    assert "ws://" not in explain(StepTimeoutError("the WebSocket handshake"), host, 443, secure=True).hint


class TestServers:
    """Real ones, whose answer is not what the URL promised."""

    def failure(self, url: str, ca_file: str | None = None):
        async def attempt() -> Exception:
            try:
                await wsrec.connect(url, on_message=print, ca_file=ca_file)
            except Exception as error:  # noqa: BLE001 (whatever it is, it is explained)
                return error
            raise AssertionError("it connected")

        parts = urlsplit(url)
        return explain(asyncio.run(attempt()), "x.test", parts.port, secure=parts.scheme == "wss")

    def test_plain_to_a_port_that_speaks_tls(self, exchange):
        url = exchange(lambda connection: connection.wait_closed(), tls=True).url
        failure = self.failure(url.replace("wss://", "ws://"))
        assert failure.cause == "handshake"
        assert "use wss://" in failure.hint

    def test_tls_to_a_port_that_does_not_speak_it(self, exchange):
        url = exchange(lambda connection: connection.wait_closed()).url
        failure = self.failure(url.replace("ws://", "wss://"))
        assert failure.cause == "tls"
        # no hint is to do without TLS to a host of the internet
        assert "speaks TLS" in failure.hint
        assert "ws://" not in failure.hint

    @pytest.mark.parametrize(
        "change",
        [
            (b"Accept: ", b"Accept: AAA"),
            (b"101 ", b"1011 "),
            (b"HTTP/1.1", b"HTTP/2"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x-bogus\r\n\r\n"),
            (b"\r\n\r\n", b"\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"),
        ],
        ids=["accept", "1011", "HTTP/2", "extension", "64 KiB"],
    )
    def test_what_answers_in_http_speaks_no_tls(self, change):
        def serve(sock: socket.socket) -> None:
            sock.sendall(b"".join(request(sock).data_to_send()).replace(*change))

        with RawExchange(serve) as server:
            failure = self.failure(server.url)
        assert failure.cause == "handshake"
        assert "wss://" not in failure.hint

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            (b'{\n  "code": -1,\n  "msg": "no"\n}\n', '{ "code": -1, "msg": "no" }'),
            (gzip.compress(b"<html>" + bytes(range(97, 122)) * 40), "a body of 66 bytes that is not text"),
            ("<title>Down</title>".encode("utf-16"), "a body of 40 bytes that is not text"),
            ("wegen Wartungsarbeiten geschlossen: später".encode("latin-1"), "wegen Wartungsarbeiten"),
        ],
        ids=["json", "gzip", "utf-16", "latin-1"],
    )
    def test_the_body_of_a_refusal_is_shown_as_what_it_is(self, body, shown):
        def serve(sock: socket.socket) -> None:
            request(sock)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        with RawExchange(serve) as server:
            failure = self.failure(server.url)
        shown = shown.replace("66", str(len(body)))
        assert f"HTTP 403 Forbidden: {shown}" in failure.message

    @pytest.mark.parametrize(
        ("answer", "message", "hint"),
        [
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n<title>plain HTTP request to HTTPS port</title>",
                "a page",
                "use wss://",
            ),
            (b"HTTP/1.1 200 OK\r\n\r\n<html><title>Log in</title>", "200 OK: a page, Log in", "requires a login"),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://portal.test/?s3cret\r\nContent-Length: 0\r\n\r\n",
                "a redirect to portal.test",
                "requires a login",
            ),
            (b"HTTP/1.0 511 Log In\r\n\r\n", "HTTP 511 Log In", "log in"),
            (b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n", "HTTP 407", "a proxy requires credentials"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP: b'SSH", "another service answers"),
            (b"", "closed the connection without an answer", "use wss://"),
        ],
        ids=["400", "200", "302", "511", "407", "ssh", "nothing"],
    )
    def test_answers_of_others(self, answer, message, hint):
        def serve(sock: socket.socket) -> None:
            request(sock)
            sock.sendall(answer)

        with RawExchange(serve) as server:
            failure = self.failure(server.url)
        assert message in failure.message
        assert hint in failure.hint
        assert "s3cret" not in str(failure)

    @pytest.mark.parametrize(
        ("names", "options", "hint"),
        [
            (["127.0.0.2", "other.test"], {}, "check the host of the URL"),
            (["127.0.0.1"], {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "this machine's clock; if that is right"),
            (["127.0.0.1"], {"not_before": datetime(2060, 1, 1, tzinfo=UTC)}, "the certificate is not valid yet"),
        ],
        ids=["other host", "expired", "not yet"],
    )
    def test_a_certificate_says_what_is_wrong_with_it(self, tmp_path, names, options, hint):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names, **options).configure_cert(context)

        def serve(sock: socket.socket) -> None:
            context.wrap_socket(sock, server_side=True)

        with RawExchange(serve) as server:
            url = server.url.replace("ws://", "wss://")
            known, unknown = self.failure(url, str(tmp_path / "ca.pem")), self.failure(url)
        assert (known.cause, known.permanent) == ("certificate", True)
        assert hint in known.hint
        assert "--ca-file" in unknown.hint
