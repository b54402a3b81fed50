"""wsrec.receive.failure: each way to fail has a name, a cure, and is tried again or not."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from websockets.exceptions import InvalidURI
from websockets.frames import CloseCode

from wsrec.receive.backoff import Backoff
from wsrec.receive.failure import ClosedByExchangeError, NobodyThereError, NotInTimeError, explain
from wsrec.wire.errors import HandshakeError, HandshakeRefused, ProtocolError


def unverified() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


FAILURES = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns", "cannot resolve 'x.test'", "spelling"),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "dns", "'x.test': Temporary failure", "resolv.conf"),
    (NotInTimeError("the TLS handshake"), "timeout", "did not answer the TLS handshake in time", "another host"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "refused", "x.test:443 refused", "server runs"),
    (TimeoutError(), "timeout", "did not answer in time", "firewall"),
    (TimeoutError(errno.ETIMEDOUT, "timed out"), "timeout", "did not answer in time", "firewall"),
    (NobodyThereError("nothing came for 30.1 s"), "timeout", "nothing came for 30.1 s", "firewall"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "unreachable", "Network is unreachable", "network"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable", "No route to host", "network"),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "lost", "reset by peer", "network"),
    (ConnectionResetError("the connection ended"), "lost", "the connection ended", "network"),
    (ConnectionAbortedError("the server does not read"), "lost", "the server does not read", "network"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), "lost", "Broken pipe", "network"),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "tls", "TLS failed", "wss://"),
    (HandshakeError("the answer is no HTTP"), "handshake", "no HTTP", "WebSocket endpoint"),
    (ProtocolError(CloseCode.PROTOCOL_ERROR, "a masked frame"), "protocol", "closing with 1002", "report"),
    (ProtocolError(CloseCode.MESSAGE_TOO_BIG, "too much"), "protocol", "closing with 1009", "raise --max-message"),
    (RuntimeError("odd"), "lost", "RuntimeError: odd", "report"),
]


class TestExplain:
    @pytest.mark.parametrize(("error", "cause", "message", "cure"), FAILURES, ids=lambda value: str(value)[:30])
    def test_what_is_tried_again(self, error, cause, message, cure):
        failure = explain(error, "x.test", 443)
        assert failure.cause == cause
        assert message in failure.message
        assert cure in failure.cure
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
        assert "--ca-file" in failure.cure

    def test_a_url_that_is_none_is_permanent(self):
        failure = explain(InvalidURI("http://x", "scheme isn't ws or wss"), "x", 80)
        assert failure.permanent
        assert "wss://" in failure.cure


class TestHttp:
    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 451])
    def test_permanent(self, status):
        failure = explain(HandshakeRefused(status, "No", None, ""), "x.test", 443)
        assert (failure.cause, failure.permanent) == ("http", True)
        assert failure.cure

    def test_a_redirect_is_not_followed_and_told(self):
        failure = explain(HandshakeRefused(302, "Found", None, "", "evil.test"), "x.test", 443)
        assert failure.permanent
        assert "a redirect to evil.test" in failure.message
        assert "never followed" in failure.cure

    @pytest.mark.parametrize("status", [418, 429])
    def test_too_often_has_a_cause_of_its_own(self, status):
        assert explain(HandshakeRefused(status, "Slow Down", None, ""), "x.test", 443).cause == "limited"

    @pytest.mark.parametrize("wait", [86_400.0, 1e300, float("inf")])
    def test_an_absurd_wait_is_cut_and_told(self, wait):
        failure = explain(HandshakeRefused(429, "Slow Down", wait, ""), "x.test", 443)
        assert failure.retry_after == 3600
        assert "3600 s are waited" in failure.message

    @pytest.mark.parametrize("status", [408, 418, 425, 429, 500, 502, 503, 504, 522])
    def test_tried_again(self, status):
        assert not explain(HandshakeRefused(status, "Later", None, ""), "x.test", 443).permanent

    def test_names_status_and_body(self):
        failure = explain(HandshakeRefused(403, "Forbidden", None, " restricted location \n"), "x.test", 443)
        assert failure.message == "x.test:443 answered HTTP 403 Forbidden: restricted location"
        assert "region" in failure.cure

    @pytest.mark.parametrize("head", ["<!DOCTYPE html>", " <HTML lang=en>", "<?xml version='1.0'?><html>"])
    def test_of_a_page_only_its_title_is_told(self, head):
        page = f"{head}<head><title> Access  denied </title></head><body>{'x' * 900}"
        failure = explain(HandshakeRefused(403, "Forbidden", None, page), "x.test", 443)
        assert failure.message == "x.test:443 answered HTTP 403 Forbidden: a page, Access denied"
        bare = explain(HandshakeRefused(403, "Forbidden", None, head + "<body>" + "x" * 900), "x.test", 443)
        assert bare.message == "x.test:443 answered HTTP 403 Forbidden: a page"

    def test_hands_on_how_long_to_wait(self):
        assert explain(HandshakeRefused(429, "Slow Down", 30.0, ""), "x.test", 443).retry_after == 30.0


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (1008, "Too many requests", "limited"),
        (1013, "rate limit", "limited"),
        (4029, "throttled", "limited"),
        (1008, "policy violation", "lost"),
        (1001, "", "lost"),
    ],
)
def test_a_close_that_says_that_we_come_too_often_is_limited(code, words, cause):
    failure = explain(ClosedByExchangeError(code, words), "x.test", 443)
    assert failure.cause == cause
    assert f"{code} {words}".rstrip() in failure.message
    assert Backoff().next(failure.retry_after, failure.cause) >= (60 if cause == "limited" else 0)
