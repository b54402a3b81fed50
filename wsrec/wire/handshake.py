"""The opening handshake (RFC 6455 section 4.1), without I/O: `websockets` writes the request and checks the answer.

The answer's bytes are fed in as they arrive, in the ring. `feed` tells how many of them were the handshake's, so that
frames which came in the same read stay where they are, with their stamps.

Proxies and load balancers put around the answer what the library does not take: answers that only announce it (RFC 9110
section 15.2), lines longer or more than its limits, folded or repeated ones. So it is given the answer itself, and of
its head what it looks at, as it takes it. Where RFC 6455 has a client give up although nothing is in doubt (a
subprotocol or compression that nobody asked for), a recorder records.
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
from wsrec.wire import deflate
from wsrec.wire.errors import CompressionRefused, HandshakeError, HandshakeRefused, NoAnswerError

# What the head may take of the ring, with those of the answers that only announce it
MAX_HEAD = 64 << 10
# What is read of a refusal's body before it counts as read
MAX_BODY = 64 << 10
_HOST_SHOWN = 255
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
# RFC 9112 section 2.2: a line may end in LF alone
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_FOLDED = re.compile(rb"\r\n[ \t]+")
_EMPTY = re.compile(rb"sec-websocket-(?:extensions|protocol)[ \t]*:[ \t]*", re.IGNORECASE)
_EXTENSIONS = re.compile(rb"sec-websocket-extensions[ \t]*:[ \t]*permessage-deflate[ \t]*(?:;|$)", re.IGNORECASE)
_SUBPROTOCOL = re.compile(rb"sec-websocket-protocol[ \t]*:", re.IGNORECASE)
# A record of alerts (RFC 8446 section 5.1): a server's answer to a request that is not encrypted
_TLS_ALERT = b"\x15"
_REASON_SHOWN = 500
_PROTOCOL = "sec-websocket-protocol"
_LOOKED_AT = re.compile(
    rb"(?:upgrade|connection|sec-websocket-(?:accept|extensions|protocol)|content-length|transfer-encoding"
    rb"|retry-after|location)[ \t]*:",
    re.IGNORECASE,
)


class Handshake:
    """The client's side of one opening handshake.

    Args:
        url: `ws://` or `wss://`.
        headers: request headers beyond the standard ones; they replace those of the same name.
        compression: what to offer (`wsrec.wire.deflate.offer`); without it the server may not compress.

    Attributes:
        protocol: the `websockets` protocol, which goes on to serialise the frames that we send.
        complete: whether the server has accepted.
        compression: what it compresses by; None where messages come as they are, and before it has accepted.
        is_unasked: whether it compresses although that was not offered.

    Raises:
        websockets.exceptions.InvalidURI: the URL is no WebSocket URL.

    """

    def __init__(
        self, url: str, headers: Mapping[str, str], compression: ClientPerMessageDeflateFactory | None = None
    ) -> None:
        asked = [text for name, value in headers.items() if name.lower() == _PROTOCOL for text in value.split(",")]
        self.protocol = ClientProtocol(
            parse_uri(url),
            extensions=None if compression is None else [compression],
            subprotocols=[Subprotocol(text.strip()) for text in asked] or None,
        )
        self.complete = False
        self.compression: PerMessageDeflate | None = None
        self.is_unasked = False
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
        """Take bytes of the answer and return how many of them belong to the handshake.

        Raises:
            HandshakeRefused: the server answered with a status other than 101.
            CompressionRefused: it agreed to a compression that was not offered.
            HandshakeError: what it answered is no valid answer.

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
            self._head[:] = self._as_taken(answer)
            self.protocol.receive_data(bytes(self._head))
            self._check(bytes(data[consumed:]))
            if self.complete:
                return consumed
            self._in_body = True
            return consumed + self._feed_body(data[consumed:])
        return len(data)

    def _next_head(self, data: memoryview) -> tuple[int, bytes] | None:
        """The head that ends in `data`, with how many of these bytes are its; None until more has come."""
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
        # refused at once, instead of waiting for an end of the head
        if self._head.startswith(_TLS_ALERT):
            raise HandshakeError("the port speaks TLS", "write wss:// in place of ws://")
        if not b"HTTP/1.1 ".startswith(self._head[:7] + re.sub(rb"^[0-9]", b"1", self._head[7:9])):
            raise HandshakeError(
                f"the answer is no HTTP: {bytes(self._head[:40])!r}", "check the port: something else answers there"
            )
        return None

    def _as_taken(self, head: bytes) -> bytes:
        """A head as the library takes it: without the lines that nobody looks at, unfolded, none twice."""
        found = _STATUS_LINE.match(head := re.sub(rb"\r?\n", b"\r\n", head))
        if found is None:
            return head
        status, reason = found.groups(b"")
        given = _FOLDED.sub(b" ", head[found.end() - 2 : -2])[2:].split(b"\r\n")
        lines = [line for line in given if _LOOKED_AT.match(line) and not _EMPTY.fullmatch(line)]
        if self.protocol.available_subprotocols is None:
            lines = [line for line in lines if not _SUBPROTOCOL.match(line)]
        if not self._offered and sum(map(bool, map(_EXTENSIONS.match, lines))):
            self.is_unasked = True
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
        """Take the end of the stream before the handshake was complete.

        Raises:
            HandshakeRefused: a refusal whose body ends with the stream.
            HandshakeError: the connection was closed before a valid answer.

        """
        if not self._head:
            raise NoAnswerError("the server closed the connection without an answer")
        self.protocol.receive_eof()
        self._check()
        raise HandshakeError("the server closed the connection in the middle of its answer")

    def give_up(self) -> None:
        """Wait no longer for the end of the answer.

        Raises:
            HandshakeRefused: its head is there, and is a refusal.

        """
        if self._in_body and (refused := _refusal(bytes(self._head), bytes(self._body))) is not None:
            raise refused

    def _check(self, behind: bytes = b"") -> None:
        """Raise what the library found, if anything; `behind` is what came behind the head with the head's end."""
        error = self.protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            response = error.response
            body = bytes(response.body or b"")
            # a server may repeat a header
            retry_after, location = (
                next(iter(response.headers.get_all(name)), None) for name in ("Retry-After", "Location")
            )
            raise _refused(response.status_code, response.reason_phrase, retry_after, location, body)
        if isinstance(error, NegotiationError) and self.protocol.available_extensions and "extension" in str(error):
            raise CompressionRefused(f"the server's compression is not what was offered: {error}") from error
        if error is not None:
            if not self._in_body and (refused := _refusal(bytes(self._head), behind)) is not None:
                raise refused from error
            cause = error.__cause__ if not isinstance(error, InvalidHandshake) or error.__cause__ else error
            raise HandshakeError(str(cause or error)) from error
        self.complete = bool(self.protocol.events_received())
        if self.complete:
            self.compression = deflate.agreed(self.protocol)
            if self.is_unasked:
                # who does not keep to what was agreed may not read what is compressed
                self.protocol.extensions = []


def _is_announcement(head: bytes) -> bool:
    """Whether the answer itself is still to come (100 Continue, 103 Early Hints)."""
    found = _STATUS_LINE.match(head)
    return found is not None and found[1].startswith(b"1") and int(found[1]) != http.HTTPStatus.SWITCHING_PROTOCOLS


def _refusal(head: bytes, body: bytes) -> HandshakeRefused | None:
    """The refusal in a head whose body has no end, or that the library does not take: a control byte in its reason."""
    found = _STATUS_LINE.match(head)
    # without its end it may be the beginning of a good answer
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
    """A body as text that is printable but for its line breaks; in words where it is none (gzip, UTF-16)."""
    text = "\n".join(map(_printable, body.decode("utf-8", "replace").splitlines()))
    if text.count("\N{REPLACEMENT CHARACTER}") * 10 > len(text):
        return f"a body of {len(body):,} bytes that is no text"
    return text


def _printable(text: str) -> str:
    """What a server sent, as text that does nothing to a terminal; line breaks and tabs become spaces."""
    spaced = re.sub(r"[\t\r\n]", " ", text)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in spaced)


def _host(location: str | None) -> str | None:
    """Where a redirect would lead: what it says besides may hold secrets."""
    if location is None:
        return None
    try:
        host = urlsplit(location.strip()).hostname
    except ValueError:
        host = None
    return _printable(host or "another path of the same host")[:_HOST_SHOWN]
