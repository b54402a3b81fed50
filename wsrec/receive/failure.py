"""Why a connection could not be made or was lost, in words for the operator: the cause, and what cures it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from websockets.exceptions import InvalidURI
from websockets.frames import CloseCode

from wsrec.feed.limited import is_limited
from wsrec.http.retry import LIMITED, LONGEST, capped
from wsrec.receive.token import TokenError
from wsrec.wire.errors import HandshakeError, HandshakeRefused, ProtocolError


class Failure(NamedTuple):
    """One failed attempt.

    Attributes:
        cause: `token`, `dns`, `refused`, `unreachable`, `timeout`, `certificate`, `tls`, `handshake`, `http`,
            `limited` (HTTP 418 and 429, of the token's server too, or a close that says so), `protocol` or `lost`.
        message: what happened.
        cure: what to do about it.
        permanent: whether trying again cannot help.
        retry_after: seconds that the server asked to wait, an hour at most.
        of_token: whether it was the token's server that failed, and not the WebSocket's.

    """

    cause: str
    message: str
    cure: str
    permanent: bool = False
    retry_after: float | None = None
    of_token: bool = False


class ClosedByExchangeError(ConnectionResetError):
    """The exchange closed an open connection, with a code and its words (RFC 6455 section 7.4)."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"the exchange closed the connection: {code} {words}".rstrip())
        self.limited = is_limited(words)


class NotInTimeError(TimeoutError):
    """An address that accepted the connection did not answer what came next; the text says what that was."""


class NobodyThereError(TimeoutError):
    """An open connection brought nothing for long, and a ping was not answered."""


_HTTP_CURES = {
    401: "the exchange wants credentials for this URL",
    403: "the exchange turns this address or region down; try its other hosts, or record from elsewhere",
    404: "check the path of the URL",
    418: "the exchange has banned this address for a while; wait, and open fewer connections",
    429: "too many connection attempts: open fewer, or wait",
    451: "the exchange does not serve this region; record from elsewhere",
}
_LATER = frozenset({408, 418, 425, 429})


def explain(error: Exception, host: str, port: int, at: Sequence[str] = ()) -> Failure:
    """The failure behind an exception raised while connecting to `host` or while connected to it.

    Args:
        error: what was raised.
        host: as the URL has it, without brackets.
        port: as the URL has it.
        at: the addresses that it is about.

    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if at and tuple(at) != (host,):
        where += f" ({', '.join(at)})"
    match error:
        case HandshakeRefused():
            return _refused(error, where)
        case TokenError():
            cure = "check `token` of the feed's socket, and that the exchange serves this address; it is tried again"
            if error.limited:
                cure = "too many tokens are asked for: open fewer connections, or wait"
            cause = "limited" if error.limited else "token"
            return Failure(cause, str(error), cure, retry_after=capped(error.retry_after), of_token=True)
        case HandshakeError():
            return Failure("handshake", f"{where}: {error}", "check that the URL is a WebSocket endpoint")
        case InvalidURI():
            return Failure(
                "handshake", f"no WebSocket URL: {error.msg}", "write it as wss://host:port/path", permanent=True
            )
        case ProtocolError():
            # the limit is ours: the exchange did nothing wrong
            cure = "raise --max-message" if error.code == CloseCode.MESSAGE_TOO_BIG else "report it to the exchange"
            return Failure("protocol", f"{where} sent {error} (closing with {int(error.code)})", cure)
        case ssl.SSLCertVerificationError():
            reason = getattr(error, "verify_message", None) or str(error)
            cure = (
                "for a private CA give its PEM with --ca-file; if the name or date is wrong, "
                "check the URL and this machine's clock. Verification is never switched off"
            )
            return Failure("certificate", f"{where}: certificate not verified: {reason}", cure, permanent=True)
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or str(error)
            return Failure("tls", f"{where}: TLS failed: {reason}", "check that the port speaks TLS (wss://)")
        case socket.gaierror(errno=socket.EAI_AGAIN):
            # no answer, or none that means anything: the name may well be right
            cure = "check DNS: /etc/resolv.conf, and the way to the name servers there"
            return Failure("dns", f"cannot resolve {host!r}: {error.strerror}", cure)
        case socket.gaierror():
            return Failure(
                "dns", f"cannot resolve {host!r}: {error.strerror}", "check the spelling of the host, and DNS"
            )
        case ConnectionRefusedError():
            return Failure(
                "refused", f"{where} refused the connection", "check host and port, and that the server runs"
            )
        case NobodyThereError():
            return Failure("timeout", f"{where}: {error}", "check the network, a firewall or a proxy between")
        case NotInTimeError():
            cure = "try another host of the exchange; a firewall or a proxy between may have accepted the connection"
            return Failure("timeout", f"{where} did not answer {error} in time", cure)
        case TimeoutError():
            return Failure(
                "timeout", f"{where} did not answer in time", "check the network, a firewall or a proxy between"
            )
        case ClosedByExchangeError(limited=True):
            return Failure("limited", f"{where}: {error}", "open fewer connections, ask for less on each, or wait")
        case ConnectionError():
            return Failure(
                "lost", f"{where}: {error.strerror or error}", "nothing to do if it is rare; else check the network"
            )
        case OSError():
            return Failure("unreachable", f"{where}: {error.strerror or error}", "check the network and the host")
        case _:
            return Failure("lost", f"{where}: {type(error).__name__}: {error}", "report it with this line")


def _words(body: str) -> str:
    """What a body says for a terminal: of a page of HTML its title, if that has come."""
    body = body.strip()
    if not body.startswith("<"):
        return body
    title = re.search(r"<title[^>]*>([^<]+)<", body, re.IGNORECASE)
    return f"a page, {' '.join(title[1].split())}" if title else "a page"


def _refused(error: HandshakeRefused, where: str) -> Failure:
    """What an answer other than 101 means."""
    said = _words(error.body)
    body = f": {said}" if said else ""
    message = f"{where} answered {error}{body}"
    later = error.status in _LATER or error.status >= 500
    cure = _HTTP_CURES.get(error.status, "the server is in trouble; it is tried again" if later else "check the URL")
    if 300 <= error.status < 400:
        message += f", a redirect to {error.location or 'nowhere'}"
        cure = "redirects are never followed: if the exchange has moved, put the new address into the feed or the URL"
    wait = error.retry_after
    if wait is not None and wait > LONGEST:
        message += f"; it asks for a wait of {wait:.0f} s, {LONGEST:.0f} s are waited"
        wait = LONGEST
    cause = "limited" if error.status in LIMITED else "http"
    return Failure(cause, message, cure, not later, wait)
