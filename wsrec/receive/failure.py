"""Failure diagnosis: translates an exception into a cause, a message and a hint for the operator.

The hint depends on where the failure happened: a firewall is no help for a server on this machine, nor is checking the
network for an exchange that announces a restart.
"""

from __future__ import annotations

import errno
import html
import re
import socket
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from websockets.exceptions import InvalidURI
from websockets.frames import CloseCode

from wsrec.feed.rate_limited import is_limited
from wsrec.net.proxy import Proxy, host_and_port, is_here, is_private
from wsrec.net.retry import LIMITED, LONGEST, capped
from wsrec.net.tunnel import ProxyError
from wsrec.receive.tls import NoTlsError
from wsrec.receive.token import TokenError
from wsrec.wire.errors import HandshakeError, HandshakeRefused, NoAnswerError, ProtocolError


class Failure(NamedTuple):
    """One failed attempt or lost connection.

    Attributes:
        cause: `token`, `dns`, `refused`, `unreachable`, `system` (a resource limit or permission of this machine),
            `timeout`, `certificate`, `tls`, `handshake`, `http`, `limited` (HTTP 418 and 429, from the token's server
            or a proxy too, or a close for rate limiting), `closed` (by the exchange, with a code), `protocol`, `lost`,
            `silent` (delivers nothing of what another connection does), or `proxy`: at the proxy, or behind it
            according to the proxy.
        message: what happened, in one line.
        hint: what to do about it.
        permanent: whether retrying cannot help.
        retry_after: seconds that the server asked to wait, at most an hour.
        body: the server's full text, of which the message has the beginning; None if the message has all of it.
        of_token: whether the token's server failed, not the WebSocket's.
        status: HTTP status of a refusal.

    """

    cause: str
    message: str
    hint: str
    permanent: bool = False
    retry_after: float | None = None
    body: str | None = None
    of_token: bool = False
    status: int | None = None


class ClosedByExchangeError(ConnectionResetError):
    """The exchange closed an open connection with a code and a reason (RFC 6455 section 7.4)."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"the exchange closed the connection: {code} {words}".rstrip())
        self.code = code
        self.limited = code in (CloseCode.TRY_AGAIN_LATER, 4418, 4429) or is_limited(words)


class ResetInHandshakeError(ConnectionResetError):
    """The connection was reset instead of an answer to the opening handshake."""


class StepTimeoutError(TimeoutError):
    """An address accepted the connection and did not answer the next step; the text names the step."""


class PingTimeoutError(TimeoutError):
    """An open connection delivered nothing for long, and a ping was not answered."""


_TITLE = re.compile(r"<(title|h1)[^>]*>([^<]+)<", re.IGNORECASE)
_SHOWN = 200

_REGION = "the exchange refuses this address or region; try its other hosts, or record from elsewhere"
_PAGE_HINT = "check the path of the URL; a proxy, or a network that requires a login, answers with a page of its own"
_HTTP_HINTS = {
    400: "check the URL, and the subscription where it is part of it",
    401: "this URL requires credentials",
    403: _REGION,
    404: "check the path of the URL",
    407: "a proxy requires credentials",
    410: "the exchange has retired this address: look for its successor",
    418: "the exchange has banned this address for a while; wait, and open fewer connections",
    426: "this URL requires another protocol: check its path",
    429: "too many connection attempts: open fewer, or wait",
    451: "the exchange does not serve this region; record from elsewhere",
    502: "the exchange's servers cannot reach each other; retrying",
    503: "the exchange is overloaded or in maintenance; retrying",
    504: "the exchange's servers cannot reach each other; retrying",
    511: "the network requires a login: log in with a browser",
}
_LATER = frozenset({408, 418, 425, 429})

_MAYBE_TLS = "; if the port speaks TLS, use wss://"
_IF_RARE = "nothing to do if this is rare"
_LIMITED_HINT = "open fewer connections, subscribe to less on each, or wait"
_SENT_HINT = "the exchange rejects what was sent: check `subscribe` and `keep_alive` of the feed, or --subscribe"
_ASKED_HINT = "the exchange rejects the subscriptions: check symbols, channels and the feed's `subscribe`"
_CLOSE_HINTS = {
    1000: f"{_IF_RARE}: exchanges close connections once a day; if it happens at once, check the subscriptions",
    1001: f"{_IF_RARE}: that server is going down, or the client was idle for too long (`keep_alive` of the feed)",
    1002: _SENT_HINT,
    1003: _SENT_HINT,
    1007: _SENT_HINT,
    1008: _ASKED_HINT,
    1009: "the message sent is too large: lower `batch` or `max_bytes` of the feed's `subscribe`",
    1011: f"{_IF_RARE}: the exchange's server failed; if it happens at once, check the subscriptions",
    1012: "the exchange is restarting that server: nothing to do, wsrec keeps reconnecting",
    1014: "the exchange's servers cannot reach each other: nothing to do, wsrec keeps reconnecting",
}
_OWN_CODE_HINT = "this code is specific to the exchange: see its documentation"

# OpenSSL's reasons for an answer that is not TLS
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_DAMAGED = frozenset({"DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "BAD_RECORD_TYPE", "UNEXPECTED_RECORD"})
# verify(1openssl)
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
_NEVER_OFF = ". Verification cannot be switched off"

_SYSTEM_HINTS = {
    errno.EMFILE: "raise the limit of open files: `ulimit -n`, LimitNOFILE in a systemd unit",
    errno.ENFILE: "raise the system's limit of open files: `sysctl fs.file-max`",
    errno.ENOBUFS: "the kernel is out of memory for sockets: see `free` and `sysctl net.ipv4.tcp_mem`",
    errno.ENOMEM: "the kernel is out of memory for sockets: see `free` and `sysctl net.ipv4.tcp_mem`",
    errno.EADDRNOTAVAIL: "this machine has run out of local addresses or ports: see `ip address` and `ss -s`",
    errno.EPERM: "a firewall or the service manager of this machine forbids it",
    errno.EACCES: "a firewall or the service manager of this machine forbids it",
}


class _Place(NamedTuple):
    """What is known of the other end.

    Attributes:
        where: host, port, addresses and proxy, for messages.
        host, secure, proxy: as of `explain`.
        here: whether it is on this machine.
        private: whether it is in a private network.

    """

    where: str
    host: str
    secure: bool | None
    proxy: Proxy | None
    here: bool
    private: bool


def explain(
    error: Exception,
    host: str,
    port: int,
    at: Sequence[str] = (),
    *,
    secure: bool | None = None,
    proxy: Proxy | None = None,
) -> Failure:
    """Diagnose an exception raised while connecting to `host`, or while connected to it.

    Args:
        error: the exception.
        host: as in the URL, without brackets.
        port: as in the URL.
        at: the addresses concerned.
        secure: whether by `wss://`; None if unknown.
        proxy: the proxy in use; the addresses are its own then.

    """
    where = host_and_port(host, port)
    if proxy is not None:
        where += f" through the proxy {proxy.public}"
    elif at and tuple(at) != (host,):
        where += f" ({', '.join(at)})"
    here = proxy is None and all(map(is_here, at or (host,)))
    private = proxy is None and all(map(is_private, at or (host,)))
    at_server = _Place(where, host, secure, proxy, here, private)
    # each knows the errors of one layer; the order matters, since most of them are also an OSError
    for explained in (_explain_handshake, _explain_tls, _explain_name, _explain_timeout, _explain_end, _explain_system):
        failure = explained(error, at_server)
        if failure is not None:
            return failure
    return Failure("lost", f"{where}: {type(error).__name__}: {error}", "report this line")


def _explain_handshake(error: Exception, at: _Place) -> Failure | None:
    """Errors of the proxy, the opening handshake, the token and the WebSocket protocol."""
    match error:
        case ProxyError():
            cause = "limited" if error.limited else "proxy"
            return Failure(cause, str(error), error.hint, error.permanent, capped(error.retry_after))
        case HandshakeRefused():
            return _refused(error, at.where, secure=at.secure, here=at.here)
        case TokenError():
            hint = "check `token` of the feed's socket, and that the exchange serves this address; retrying"
            if error.limited:
                hint = "too many token requests: open fewer connections, or wait"
            cause = "limited" if error.limited else "token"
            return Failure(cause, str(error), hint, retry_after=capped(error.retry_after), of_token=True)
        case HandshakeError():
            # a server that answers in HTTP does not speak TLS
            also = _MAYBE_TLS if at.secure is False and isinstance(error, NoAnswerError) else ""
            hint = error.hint or f"check that the URL is a WebSocket endpoint{also}"
            return Failure("handshake", f"{at.where}: {error}", hint + _proxy_answer_note(at.proxy))
        case InvalidURI():
            return Failure(
                "handshake", f"not a WebSocket URL: {error.msg}", "use the form wss://host:port/path", permanent=True
            )
        case ProtocolError():
            # the limit is ours, not the exchange's fault
            hint = "raise --max-message" if error.code == CloseCode.MESSAGE_TOO_BIG else "report it to the exchange"
            return Failure("protocol", f"{at.where} sent {error} (closing with {int(error.code)})", hint)
        case _:
            return None


def _explain_tls(error: Exception, at: _Place) -> Failure | None:
    """Errors of TLS."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = getattr(error, "verify_message", None) or str(error)
            hint = _certificate_hint(getattr(error, "verify_code", None))
            return Failure("certificate", f"{at.where}: certificate not verified: {reason}", hint, permanent=True)
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or str(error)
            return Failure("tls", f"{at.where}: TLS failed: {reason}", _tls_hint(reason, at.proxy, private=at.private))
        case NoTlsError():
            return Failure("tls", f"{at.where}: {error}", _tls_hint("", at.proxy, private=at.private))
        case _:
            return None


def _explain_name(error: Exception, at: _Place) -> Failure | None:
    """Errors of the name's look-up, and a port that refuses."""
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            # no answer, or an unusable one: the name may well be correct
            hint = "check DNS: /etc/resolv.conf, and whether the name servers listed there can be reached"
            return Failure("dns", f"cannot resolve {at.host!r}: {error.strerror}", hint)
        case socket.gaierror():
            return Failure(
                "dns", f"cannot resolve {at.host!r}: {error.strerror}", "check the spelling of the host, and DNS"
            )
        case ConnectionRefusedError():
            hint = (
                "start the server, or check the port"
                if at.here
                else "check host and port, and that the server is running"
            )
            return Failure("refused", f"{at.where} refused the connection", hint)
        case _:
            return None


def _explain_timeout(error: Exception, at: _Place) -> Failure | None:
    """Answers that did not come in time."""
    match error:
        case PingTimeoutError():
            return Failure("timeout", f"{at.where}: {error}", _timeout_hint(here=at.here))
        case StepTimeoutError():
            hint = "try another host of the exchange; a firewall or a proxy in between may have accepted the connection"
            hint = _timeout_hint(here=True) if at.here else hint
            if at.secure and at.private and "TLS" in str(error):
                hint += "; if it does not speak TLS, use ws:// instead of wss://"
            return Failure("timeout", f"{at.where} did not answer {error} in time", hint)
        case TimeoutError():
            return Failure("timeout", f"{at.where} did not answer in time", _timeout_hint(here=at.here))
        case _:
            return None


def _explain_end(error: Exception, at: _Place) -> Failure | None:
    """Connections that ended."""
    match error:
        case ClosedByExchangeError(limited=True):
            return Failure("limited", f"{at.where}: {error}", _LIMITED_HINT)
        case ClosedByExchangeError():
            return Failure("closed", f"{at.where}: {error}", _close_hint(error.code))
        case ConnectionError():
            hint = f"{_IF_RARE}; otherwise check the server" if at.here else f"{_IF_RARE}; otherwise check the network"
            if at.secure is False and isinstance(error, ResetInHandshakeError):
                hint += _MAYBE_TLS
            if at.proxy is not None:
                hint += f", and the log of the proxy, which may have ended it: {at.proxy.source}"
            return Failure("lost", f"{at.where}: {error.strerror or error}", hint)
        case _:
            return None


def _explain_system(error: Exception, at: _Place) -> Failure | None:
    """Errors of this machine and its network."""
    match error:
        case OSError(errno=number) if number in _SYSTEM_HINTS:
            return Failure("system", f"{at.where}: {error.strerror or error}", _SYSTEM_HINTS[number])
        case OSError():
            return Failure("unreachable", f"{at.where}: {error.strerror or error}", "check the network and the host")
        case _:
            return None


def _timeout_hint(*, here: bool) -> str:
    if here:
        return "the server on this machine does not answer: check it, or restart it"
    return "check the network, a firewall or a proxy in between"


def _close_hint(code: int) -> str:
    if code >= 3000:
        return _OWN_CODE_HINT
    return _CLOSE_HINTS.get(code, f"{_IF_RARE}; otherwise check the subscriptions")


def _proxy_answer_note(proxy: Proxy | None) -> str:
    return "" if proxy is None else f"; the proxy may be answering instead of the exchange: {proxy.source}"


def _tls_hint(reason: str, proxy: Proxy | None, *, private: bool) -> str:
    if proxy is not None and reason not in _DAMAGED:
        # the hint must not be to give up TLS because of a proxy's answer
        return "check that the port speaks TLS, and the log of the proxy" + _proxy_answer_note(proxy)
    if reason in _NO_TLS:
        also = ", or use ws:// instead of wss://" if private else "; another service answers there"
        return f"the port does not speak TLS: check it{also}"
    if reason in _DAMAGED:
        return f"{_IF_RARE}: bytes were changed in transit; otherwise check the network hardware"
    if "ALERT" in reason or "UNRECOGNIZED_NAME" in reason:
        return "the server rejected TLS: check the host name, and whether a proxy or firewall intercepts TLS"
    also = ", otherwise use ws://" if private else ""
    return f"check that the port speaks TLS{also}; an intercepting proxy or firewall breaks it, too"


def _certificate_hint(code: int | None) -> str:
    if code == _EXPIRED:
        return "check this machine's clock; if that is right, only the exchange can renew its certificate" + _NEVER_OFF
    if code == _NOT_YET:
        return "check this machine's clock: the certificate is not valid yet" + _NEVER_OFF
    if code in (_OTHER_HOST, _OTHER_ADDRESS):
        return "check the host of the URL: another host answers there" + _NEVER_OFF
    return (
        "for a private CA, pass its PEM file with --ca-file; "
        "a proxy, or a network that requires a login, presents a certificate of its own" + _NEVER_OFF
    )


def _summary_line(body: str) -> str:
    """One line of a response body for the terminal: title or heading of a page; otherwise the first line."""
    body = body.strip()
    if body.startswith("<"):
        found = _TITLE.search(body)
        words = " ".join(html.unescape(found[2]).split()) if found else ""
        line = f"a page, {words}" if words and words.isprintable() else "a page"
    elif body.startswith(("{", "[")):
        line = " ".join(body.split())
    else:
        line = body.partition("\n")[0].strip()
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}\N{HORIZONTAL ELLIPSIS}"


def _refused(error: HandshakeRefused, where: str, *, secure: bool | None, here: bool) -> Failure:
    """Diagnose an answer to the handshake other than 101."""
    stated = _summary_line(error.body)
    message = f"{where} answered {error}" + (f": {stated}" if stated else "")
    later = error.status in _LATER or error.status >= 500
    hint = _HTTP_HINTS.get(error.status, "the server has a problem; retrying" if later else "check the URL")
    if here and error.status in (403, 451):
        hint = "the server on this machine refuses it: check its configuration and its log"
    if 200 <= error.status < 300:
        hint = _PAGE_HINT
    elif 300 <= error.status < 400:
        message += f", a redirect to {error.location or 'nowhere'}"
        hint = (
            "redirects are never followed: if the exchange has moved, use its new address in the feed or the URL; "
            "a network that requires a login redirects, too"
        )
    elif error.status == 400 and secure is False and "https" in error.body.lower():
        hint = "the port speaks TLS: use wss:// instead of ws://"
    wait = error.retry_after
    if wait is not None and wait > LONGEST:
        message += f"; it asks to wait {wait:.0f} s, waiting {LONGEST:.0f} s"
        wait = LONGEST
    cause = "limited" if error.status in LIMITED else "http"
    body = error.body if error.body.strip() != stated else None
    return Failure(cause, message, hint, not later, wait, body, status=error.status)
