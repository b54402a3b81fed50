"""The opening handshake (RFC 6455 section 4.1), without I/O: `websockets` writes the request and checks the answer.

The answer's bytes are fed in as they arrive, in the ring. `feed` tells how many of them were the handshake's, so that
frames which came in the same read stay where they are, with their stamps.
"""

from __future__ import annotations

import http
import re
from collections.abc import Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.uri import parse_uri

from wsrec.wire.errors import CompressionRefused, HandshakeError, HandshakeRefused

# Each line and the number of lines have the library's limits; this bounds what one head may take of the ring
MAX_HEAD = 64 << 10
_BODY_SHOWN = 500
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r\n")


class Handshake:
    """The client's side of one opening handshake.

    Args:
        url: `ws://` or `wss://`.
        headers: request headers beyond the standard ones; they replace those of the same name.
        compression: what to offer (`wsrec.wire.deflate.offer`); without it the server may not compress.

    Attributes:
        protocol: the `websockets` protocol, which goes on to serialise the frames that we send.
        complete: whether the server has accepted.

    Raises:
        websockets.exceptions.InvalidURI: the URL is no WebSocket URL.

    """

    def __init__(
        self, url: str, headers: Mapping[str, str], compression: ClientPerMessageDeflateFactory | None = None
    ) -> None:
        self.protocol = ClientProtocol(parse_uri(url), extensions=None if compression is None else [compression])
        self.complete = False
        self._headers = headers
        self._head = bytearray()
        self._in_body = False

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
            self.protocol.receive_data(bytes(data))
            self._check()
            return len(data)
        before = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(before - 3, 0))
        if end < 0:
            if len(self._head) > MAX_HEAD:
                raise HandshakeError(f"the answer's head is larger than {MAX_HEAD} bytes")
            # lets the library refuse at once what is no HTTP, instead of waiting for an end of the head
            if not b"HTTP/1.1 ".startswith(self._head[:9]):
                raise HandshakeError(f"the answer is no HTTP: {bytes(self._head[:40])!r}")
            return len(data)
        consumed = end + 4 - before
        self.protocol.receive_data(bytes(self._head[: end + 4]))
        self._check(bytes(data[consumed:]))
        if self.complete:
            return consumed
        self._in_body = True
        return consumed + self.feed(data[consumed:])

    def eof(self) -> None:
        """Take the end of the stream before the handshake was complete.

        Raises:
            HandshakeRefused: a refusal whose body ends with the stream.
            HandshakeError: the connection was closed before a valid answer.

        """
        if not self._head:
            raise HandshakeError("the server closed the connection without an answer")
        self.protocol.receive_eof()
        self._check()
        raise HandshakeError("the server closed the connection in the middle of its answer")

    def _check(self, behind: bytes = b"") -> None:
        """Raise what the library found, if anything; `behind` is what came behind the head with the head's end."""
        error = self.protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            response = error.response
            body = bytes(response.body or b"").decode("utf-8", "replace")
            raise HandshakeRefused(
                response.status_code,
                response.reason_phrase,
                _seconds(response.headers.get("Retry-After")),
                body[:_BODY_SHOWN],
            )
        if isinstance(error, NegotiationError) and self.protocol.available_extensions and "extension" in str(error):
            raise CompressionRefused(f"the server's compression is not what was offered: {error}") from error
        if error is not None:
            if not self._in_body and (refused := _refusal(bytes(self._head), behind)) is not None:
                raise refused from error
            cause = error.__cause__ if not isinstance(error, InvalidHandshake) or error.__cause__ else error
            raise HandshakeError(str(cause or error)) from error
        self.complete = bool(self.protocol.events_received())


def _refusal(head: bytes, body: bytes) -> HandshakeRefused | None:
    """The refusal in a head that the library does not take, as one with a control byte in its reason phrase."""
    found = _STATUS_LINE.match(head)
    # without its end it may be the beginning of a good answer
    if found is None or not head.partition(b"\r\n\r\n")[1] or int(found[1]) == http.HTTPStatus.SWITCHING_PROTOCOLS:
        return None
    reason = (found[2] or b"").decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in reason)
    return HandshakeRefused(int(found[1]), shown, None, body.decode("utf-8", "replace")[:_BODY_SHOWN])


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
