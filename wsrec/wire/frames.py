"""Frame headers (RFC 6455 section 5.2), parsed in place in the ring.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
    |I|S|S|S|  (4)  |A|     (7)     |             (16/64)           |
    |N|V|V|V|       |S|             |   (if payload len==126/127)   |
    +-+-+-+-+-------+-+-------------+ - - - - - - - - - - - - - - - +

`parse_header` parses one header and is stateless; `MessageRules` checks it against the frames before it. Each costs the
hot path one call per frame, and the second is skipped for nearly all frames: unfragmented text messages.

Payload lengths in a longer form than needed are accepted, as `websockets` and most clients do: refusing them would cut
off a feed whose data is unambiguous.
"""

from __future__ import annotations

import codecs

from websockets.frames import CloseCode, Opcode

from wsrec.wire.errors import ProtocolError

FIN = 0x80
RSV1 = 0x40
RSV = 0x70
OPCODE = 0x0F
WHOLE_TEXT = FIN | Opcode.TEXT.value

CONTINUATION = Opcode.CONT.value
TEXT = Opcode.TEXT.value
BINARY = Opcode.BINARY.value
CLOSE = Opcode.CLOSE.value
PING = Opcode.PING.value
PONG = Opcode.PONG.value

_utf8_decoder = codecs.getincrementaldecoder("utf-8")
# Frame limit of a message: one for each 64 bytes of `max_message`, so that tiny or empty fragments cannot go on for
# ever
_FRAGMENT = 64
_FRAGMENTS = 4096
_KNOWN = frozenset(opcode.value for opcode in Opcode)
MAX_CONTROL = 125


def parse_header(view: memoryview, at: int, available: int) -> tuple[int, int, int] | None:
    """Parse the frame header at `at`, of which `available` bytes have arrived.

    Returns:
            The first byte (FIN, RSV, opcode), the payload's length and the header's length in bytes; None if the header
            is incomplete.

    Raises:
        ProtocolError: the frame is masked (section 5.1), or its length has the highest bit set (section 5.2).

    """
    if available < 2:
        return None
    length = view[at + 1]
    if length < 126:
        return view[at], length, 2
    if length == 126:
        if available < 4:
            return None
        return view[at], view[at + 2] << 8 | view[at + 3], 4
    if length == 127:
        if available < 10:
            return None
        length = int.from_bytes(view[at + 2 : at + 10], "big")
        if length >> 63:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a payload length with its highest bit set")
        return view[at], length, 10
    raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a masked frame from the server")


class MessageRules:
    """The rules that depend on earlier frames (sections 5.4 and 5.5), and the limits on a message's size.

    Args:
        max_message: bytes; a larger message is refused with 1009, and so is one of more than `max_frames` frames.
        compression: whether an extension that uses RSV1 was negotiated (RFC 7692 section 6).
        validate_text: refuse text that is not UTF-8 with 1007 (section 8.1), as early as possible. The recorder
        does not: it keeps what was sent.

    Attributes:
        compression: as above; may be set until the first frame arrives, once the handshake is complete.
        open: True while a fragmented message is incomplete.
        max_frames: frames allowed in a message: one for each 64 bytes of `max_message`, at least 4,096. Bounds the
            overhead per message.

    """

    __slots__ = (
        "_count",
        "_decoder",
        "_size",
        "_text",
        "compression",
        "max_frames",
        "max_message",
        "open",
        "validate_text",
    )

    def __init__(self, max_message: int, *, compression: bool = False, validate_text: bool = False) -> None:
        self.max_message = max_message
        self.validate_text = validate_text
        self.max_frames = max(max_message // _FRAGMENT, _FRAGMENTS)
        self.open = False
        self._count = 0
        self._size = 0
        self._text = False
        self.compression = compression
        self._decoder = _utf8_decoder()

    def check(self, first: int, length: int) -> None:
        """Check a header without changing state; may be repeated.

        Raises:
            ProtocolError: with the close code of section 7.4.1.

        """
        opcode = first & OPCODE
        if first & RSV and not (self.compression and first & RSV == RSV1 and opcode in (TEXT, BINARY)):
            raise ProtocolError(
                CloseCode.PROTOCOL_ERROR, f"reserved bits {(first & RSV) >> 4:03b} without an extension"
            )
        if opcode not in _KNOWN:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode:#x}")
        if opcode >= CLOSE:
            if not first & FIN:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a fragmented control frame")
            if length > MAX_CONTROL:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"a control frame of {length} bytes, more than 125")
            return
        if opcode == CONTINUATION and not self.open:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a continuation frame without a message to continue")
        if opcode != CONTINUATION and self.open:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a new message inside a fragmented one")
        if self._size + length > self.max_message:
            raise ProtocolError(
                CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_message} bytes (raise --max-message)"
            )
        if self._count >= self.max_frames:
            raise ProtocolError(
                CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_frames} frames (raise --max-message)"
            )

    def advance(self, first: int, length: int) -> None:
        """Account for a frame that passed `check` and is complete (or whose parts begin to be handed off)."""
        if first & OPCODE >= CLOSE:
            return
        self._text = self.is_text(first)
        self.open = not first & FIN
        self._size = self._size + length if self.open else 0
        self._count = self._count + 1 if self.open else 0

    def is_text(self, first: int) -> bool:
        """True if a data frame, or a part of one, belongs to an uncompressed text message."""
        opcode = first & OPCODE
        return not first & RSV1 if opcode == TEXT else opcode == CONTINUATION and self._text

    def check_text(self, payload: memoryview, *, final: bool) -> None:
        """Validate the next bytes of a text message; `final` for its last.

        Raises:
            ProtocolError: the bytes so far are not, and cannot become, valid UTF-8.

        """
        try:
            self._decoder.decode(payload, final)
        except UnicodeDecodeError as error:
            raise ProtocolError(CloseCode.INVALID_DATA, f"text that is not UTF-8: {error.reason}") from None
