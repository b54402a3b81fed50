"""The opening handshake (RFC 6455 section 4.1), without I/O: `websockets` writes the request and checks the answer.

The answer's bytes are fed in from the ring as they arrive. `feed` returns how many of them belong to the handshake, so
that frames of the same read stay in place, with their timestamps.

Proxies and load balancers produce answers that the library rejects: informational responses first (RFC 9110 section
15.2), header lines beyond its limits in length or number, folded or repeated ones. So it is given the final response,
reduced to the headers that matter, in a form that it accepts. RFC 6455 also requires a client to fail on some harmless
deviations (an unrequested subprotocol or compression); a recorder accepts those.
"""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from wsrec.net.retry import retry_after as retry_seconds
from wsrec.units import plural
from wsrec.wire import deflate
from wsrec.wire.errors import CompressionRefused, HandshakeError, HandshakeRefused, NoAnswerError

# Limit of the head in the ring, informational responses included
MAX_HEAD = 64 << 10
# Largest part of a refusal's body that is read
MAX_BODY = 64 << 10
_HOST_SHOWN = 255
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
# RFC 9112 section 2.2: a line may end in LF alone
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FOLDED = re.compile(rb"\r\n[ \t]+")
_EMPTY = re.compile(rb"sec-websocket-(?:extensions|protocol)[ \t]*:[ \t]*", re.IGNORECASE)
_EXTENSIONS = re.compile(rb"sec-websocket-extensions[ \t]*:[ \t]*permessage-deflate[ \t]*(?:;|$)", re.IGNORECASE)
_SUBPROTOCOL = re.compile(rb"sec-websocket-protocol[ \t]*:", re.IGNORECASE)
# A TLS alert record (RFC 8446 section 5.1): the answer of a TLS server to an unencrypted request
_TLS_ALERT = b"\x15"
_REASON_SHOWN = 500
_PROTOCOL = "sec-websocket-protocol"
_RELEVANT_HEADERS = re.compile(
    rb"(?:upgrade|connection|sec-websocket-(?:accept|extensions|protocol)|content-length|transfer-encoding"
    rb"|retry-after|location)[ \t]*:",
    re.IGNORECASE,
)


class Handshake:
    """The client's side of one opening handshake.

    Args:
        url: `ws://` or `wss://`.
        headers: additional request headers; they replace standard ones of the same name.
        compression: the offer (`wsrec.wire.deflate.offer`); None offers no compression.

    Attributes:
        protocol: the `websockets` protocol, used afterwards to serialise the frames to send.
        complete: whether the server has accepted.
        compression: the negotiated extension; None without compression, and before the server has accepted.
        is_unsolicited: whether the server compresses although that was not offered.

    Raises:
        websockets.exceptions.InvalidURI: not a WebSocket URL.

    """

    def __init__(
        self, url: str, headers: Mapping[str, str], compression: ClientPerMessageDeflateFactory | None = None
    ) -> None:
        requested = [text for name, value in headers.items() if name.lower() == _PROTOCOL for text in value.split(",")]
        self.protocol = ClientProtocol(
            parse_uri(url),
            extensions=None if compression is None else [compression],
            subprotocols=[Subprotocol(text.strip()) for text in requested] or None,
        )
        self.complete = False
        self.compression: PerMessageDeflate | None = None
        self.is_unsolicited = False
        self._offered = compression is not None
        self._headers = headers
        self._head = bytearray()
        self._body = bytearray()
        self._in_body = False
        self._announced = 0

    def request(self) -> bytes:
        """The bytes of the handshake request."""
        request = self.protocol.connect()
        for name, value in self._headers.items():
            if name in request.headers:
                del request.headers[name]
            request.headers[name] = value
        self.protocol.send_request(request)
        return b"".join(self.protocol.data_to_send())

    def feed(self, data: memoryview) -> int:
        """Process bytes of the answer; returns how many of them belong to the handshake.

        Raises:
            HandshakeRefused: the server answered with a status other than 101.
            CompressionRefused: it accepted compression with parameters that were not offered.
            HandshakeError: its answer is invalid.

        """
        if self._in_body:
            return self._feed_body(data)
        consumed = 0
        while (head := self._next_head(data[consumed:])) is not None:
            length, answer = head
            consumed += length
            if _is_announcement(answer):
                self._announced += len(answer)
                continue
            self._head[:] = self._normalised(answer)
            self.protocol.receive_data(bytes(self._head))
            self._check(bytes(data[consumed:]))
            if self.complete:
                return consumed
            self._in_body = True
            return consumed + self._feed_body(data[consumed:])
        return len(data)

    def _next_head(self, data: memoryview) -> tuple[int, bytes] | None:
        """The head that ends in `data`, preceded by the number of these bytes in it; None if it is incomplete."""
        before = len(self._head)
        self._head += data
        found = _END_OF_HEAD.search(self._head, max(before - 2, 0))
        end = found.end() if found else len(self._head)
        if self._announced + end > MAX_HEAD:
            raise HandshakeError(f"the answer's head is larger than {MAX_HEAD} bytes")
        if found:
            head = bytes(self._head[:end])
            self._head.clear()
            return end - before, head
        # fail at once instead of waiting for an end of the head
        if self._head.startswith(_TLS_ALERT):
            raise HandshakeError("the port speaks TLS", "use wss:// instead of ws://")
        if not b"HTTP/1.1 ".startswith(self._head[:7] + re.sub(rb"^[0-9]", b"1", self._head[7:9])):
            raise HandshakeError(
                f"the answer is not HTTP: {bytes(self._head[:40])!r}", "check the port: another service answers there"
            )
        return None

    def _normalised(self, head: bytes) -> bytes:
        """The head in a form that the library accepts: irrelevant lines dropped, unfolded, without duplicates."""
        found = _STATUS_LINE.match(head := re.sub(rb"\r?\n", b"\r\n", head))
        if found is None:
            return head
        status, reason = found.groups(b"")
        given = _FOLDED.sub(b" ", head[found.end() - 2 : -2])[2:].split(b"\r\n")
        lines = [line for line in given if _RELEVANT_HEADERS.match(line) and not _EMPTY.fullmatch(line)]
        if self.protocol.available_subprotocols is None:
            lines = [line for line in lines if not _SUBPROTOCOL.match(line)]
        if not self._offered and sum(map(bool, map(_EXTENSIONS.match, lines))):
            self.is_unsolicited = True
            self.protocol.available_extensions = [deflate.offer(context_takeover=True)]
        lines = list({line.lower() if line[:8].lower() == b"upgrade:" else line: line for line in lines}.values())
        return b"\r\n".join([b" ".join((b"HTTP/1.1", status, reason[:_REASON_SHOWN])), *lines, b"", b""])

    def _feed_body(self, data: memoryview) -> int:
        self._body += data
        self.protocol.receive_data(bytes(data))
        self._check()
        if len(self._body) > MAX_BODY:
            self.give_up()
        return len(data)

    def eof(self) -> None:
        """Process the end of the stream before the handshake is complete.

        Raises:
            HandshakeRefused: a refusal whose body ends with the stream.
            HandshakeError: the connection was closed before a complete answer.

        """
        if not self._head:
            raise NoAnswerError("the server closed the connection without an answer")
        self.protocol.receive_eof()
        self._check()
        raise HandshakeError("the server closed the connection in the middle of its answer")

    def give_up(self) -> None:
        """Stop waiting for the end of the answer.

        Raises:
            HandshakeRefused: the head is complete and is a refusal.

        """
        if self._in_body and (refused := _refusal(bytes(self._head), bytes(self._body))) is not None:
            raise refused

    def _check(self, behind: bytes = b"") -> None:
        """Raise the library's error, if any; `behind` holds the bytes after the head from the same read."""
        error = self.protocol.handshake_exc
        _cut_tracebacks(error)
        if isinstance(error, InvalidStatus):
            response = error.response
            body = bytes(response.body or b"")
            # a header may be repeated
            retry_after, location = (
                next(iter(response.headers.get_all(name)), None) for name in ("Retry-After", "Location")
            )
            raise _refused(response.status_code, response.reason_phrase, retry_after, location, body)
        if isinstance(error, NegotiationError) and self.protocol.available_extensions and "extension" in str(error):
            raise CompressionRefused(f"the server's compression parameters were not offered: {error}") from error
        if error is not None:
            if not self._in_body and (refused := _refusal(bytes(self._head), behind)) is not None:
                raise refused from error
            cause = error.__cause__ if not isinstance(error, InvalidHandshake) or error.__cause__ else error
            raise HandshakeError(str(cause or error)) from error
        self.complete = bool(self.protocol.events_received())
        if self.complete:
            self.compression = deflate.agreed(self.protocol)
            if self.is_unsolicited:
                # a server that ignores the negotiation may send anything: leave its messages compressed
                self.protocol.extensions = []


def _cut_tracebacks(error: BaseException | None) -> None:
    """Free the frames that an error kept by the library holds: they refer to the protocol, which refers to the error.

    From Python 3.12 on they refer to their callers, too. The receiver runs without the garbage collector.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _is_announcement(head: bytes) -> bool:
    """True for an informational response, which precedes the final one (100 Continue, 103 Early Hints)."""
    found = _STATUS_LINE.match(head)
    return found is not None and found[1].startswith(b"1") and int(found[1]) != http.HTTPStatus.SWITCHING_PROTOCOLS


def _refusal(head: bytes, body: bytes) -> HandshakeRefused | None:
    """A refusal that the library does not report: its body has no end, or its reason contains control bytes."""
    found = _STATUS_LINE.match(head)
    # an incomplete head may be the beginning of a valid answer
    if found is None or not head.partition(b"\r\n\r\n")[1] or int(found[1]) == http.HTTPStatus.SWITCHING_PROTOCOLS:
        return None
    try:
        headers = http.client.parse_headers(io.BytesIO(head[found.end() :]))
    except http.client.HTTPException:
        headers = http.client.HTTPMessage()
    reason = (found[2] or b"").decode("utf-8", "replace")
    return _refused(int(found[1]), reason, headers.get("Retry-After"), headers.get("Location"), body)


def _refused(status: int, reason: str, retry_after: str | None, location: str | None, body: bytes) -> HandshakeRefused:
    return HandshakeRefused(
        status,
        _printable(reason),
        retry_seconds(retry_after),
        _text(body[:MAX_BODY]),
        _host(location),
    )


def _text(body: bytes) -> str:
    """A body as printable text with line breaks; a description instead if it is not text (gzip, UTF-16)."""
    text = "\n".join(map(_printable, body.decode("utf-8", "replace").splitlines()))
    if text.count("\N{REPLACEMENT CHARACTER}") * 10 > len(text):
        return f"a body of {plural(len(body), 'byte')} that is not text"
    return text


def _printable(text: str) -> str:
    """Text from a server made harmless to a terminal; line breaks and tabs become spaces."""
    spaced = re.sub(r"[\t\r\n]", " ", text)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)


def _host(location: str | None) -> str | None:
    """The host of a redirect; the rest of the location may hold secrets."""
    if location is None:
        return None
    try:
        host = urlsplit(location.strip()).hostname
    except ValueError:
        host = None
    return _printable(host or "another path of the same host")[:_HOST_SHOWN]
