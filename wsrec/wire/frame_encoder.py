"""Control and sending side of an open connection: pongs, pings, the closing handshake (RFC 6455 sections 5.5 and 7).

Frames to send are serialised and masked by `websockets`; received frames never pass through it.
"""

from __future__ import annotations

from typing import NamedTuple

from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError as LibraryProtocolError
from websockets.frames import Close, CloseCode
from websockets.protocol import State

from wsrec.wire import frames
from wsrec.wire.errors import ProtocolError


class Sent(NamedTuple):
    """A frame to send: opcode and payload (before compression) for the record, and the bytes for the socket."""

    opcode: int
    payload: bytes
    wire: bytes


class FrameEncoder:
    """The client's side of an open connection.

    The methods that make frames return None once a close frame was sent or received: nothing may follow one
    (RFC 6455 section 5.5.1).

    Args:
        protocol: the `websockets` protocol after its handshake.

    Attributes:
        close_received: the server's close frame; None before it arrives.
        close_sent: our close frame; None before it is made.

    """

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self.close_received: Close | None = None
        self.close_sent: Close | None = None

    def on_control(self, opcode: int, payload: bytes) -> Sent | None:
        """Handle a received control frame; returns the response that the RFC requires: a pong, or the echo of a close.

        Raises:
            ProtocolError: a close frame with an invalid code, or a reason that is not UTF-8.

        """
        if opcode == frames.PING:
            return self.pong(payload)
        if opcode != frames.CLOSE:
            return None
        try:
            self.close_received = Close.parse(payload)
        except LibraryProtocolError as error:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, str(error)) from error
        except UnicodeDecodeError as error:
            raise ProtocolError(CloseCode.INVALID_DATA, "a close reason that is not UTF-8") from error
        return self.close(self.close_received.code, "")

    @property
    def is_open(self) -> bool:
        """True until a close frame was sent or received."""
        return self._protocol.state is State.OPEN

    def text(self, message: str) -> Sent | None:
        """A text message, compressed if that was negotiated (as binary messages are)."""
        if not self.is_open:
            return None
        payload = message.encode()
        self._protocol.send_text(payload)
        return self._sent(frames.TEXT, payload)

    def binary(self, payload: bytes) -> Sent | None:
        """A binary message."""
        if not self.is_open:
            return None
        self._protocol.send_binary(payload)
        return self._sent(frames.BINARY, payload)

    def ping(self, payload: bytes) -> Sent | None:
        """A ping of at most 125 bytes."""
        if not self.is_open:
            return None
        self._protocol.send_ping(payload)
        return self._sent(frames.PING, payload)

    def pong(self, payload: bytes) -> Sent | None:
        """A pong of at most 125 bytes."""
        if not self.is_open:
            return None
        self._protocol.send_pong(payload)
        return self._sent(frames.PONG, payload)

    def close(self, code: int, reason: str) -> Sent | None:
        """A close frame; None if one was sent before. Code 1005 makes a close frame without a code."""
        if not self.is_open:
            return None
        self.close_sent = Close(code, reason)
        if code == CloseCode.NO_STATUS_RCVD:
            self._protocol.send_close()
            return self._sent(frames.CLOSE, b"")
        self._protocol.send_close(code, reason)
        return self._sent(frames.CLOSE, self.close_sent.serialize())

    def _sent(self, opcode: int, payload: bytes) -> Sent:
        return Sent(opcode, payload, b"".join(self._protocol.data_to_send()))
