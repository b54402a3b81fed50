"""permessage-deflate (RFC 7692): the offer, the negotiated parameters, and bounded decompression of whole messages.

The hot path never inflates: it records the RSV1 bit. `websockets` negotiates, and compresses what is sent; received
messages are inflated here, whole ones only, and never beyond the caller's limit.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import CloseCode

from wsrec.wire.errors import ProtocolError

# removed by the sender from the end of each message (section 7.2.2)
_TAIL = b"\x00\x00\xff\xff"
# an empty final block: appended to a complete message, it is the only place where the stream may end
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"
_WINDOW = 1 << 15
# Bytes passed to zlib at a time: it copies all input that it has not consumed
_PIECE = 1 << 16


def offer(*, context_takeover: bool) -> ClientPerMessageDeflateFactory:
    """The extension to offer in the handshake.

    Args:
        context_takeover: whether the server may compress a message with reference to earlier ones. Without, each
            message inflates by itself, and a server that cannot do that has to decline (section 7.1.1.1).

    """
    return ClientPerMessageDeflateFactory(
        server_no_context_takeover=not context_takeover,
        compress_settings={"memLevel": 5},
    )


def agreed(protocol: ClientProtocol) -> PerMessageDeflate | None:
    """The negotiated extension; None if messages are not compressed."""
    for extension in protocol.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension
    return None


def describe(extension: PerMessageDeflate | None) -> str | None:
    """The negotiated parameters in the form of a `Sec-WebSocket-Extensions` header; None without compression."""
    if extension is None:
        return None
    words = ["permessage-deflate"]
    words += ["server_no_context_takeover"] * extension.remote_no_context_takeover
    words += ["client_no_context_takeover"] * extension.local_no_context_takeover
    words += [f"server_max_window_bits={extension.remote_max_window_bits}"] * (extension.remote_max_window_bits < 15)
    words += [f"client_max_window_bits={extension.local_max_window_bits}"] * (extension.local_max_window_bits < 15)
    return "; ".join(words)


class Inflater:
    """Inflates the compressed messages of one connection: in order, or in any order without context takeover.

    Args:
        context_takeover: whether a message may refer to earlier ones.

    """

    def __init__(self, *, context_takeover: bool) -> None:
        self._context_takeover = context_takeover
        self._added = _TAIL if context_takeover else _TAIL + _LAST_BLOCK
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def inflate(self, data: bytes | memoryview, limit: int) -> bytes:
        """The message whose whole compressed payload is `data`.

        Args:
            data: the joined payloads of the message's frames.
            limit: largest inflated size in bytes.

        Raises:
            ProtocolError: 1007 if it is not a complete compressed message, 1009 if it inflates to more than
                `limit`.

        """
        if not self._context_takeover:
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        stream = self._stream
        try:
            # one byte over the limit: a shorter result shows that the output is complete
            message = _decompressed(stream, data, self._added, limit + 1)
        except zlib.error as error:
            raise ProtocolError(
                CloseCode.INVALID_DATA, f"a compressed message that does not inflate: {error}"
            ) from error
        if len(message) > limit:
            raise ProtocolError(
                CloseCode.MESSAGE_TOO_BIG, f"a message of more than {limit} bytes when inflated (raise --max-message)"
            )
        # a final block may be followed by the bytes appended above, and before them by the octet of section 7.2.3.4
        if stream.unused_data.removeprefix(b"\0") not in (b"", self._added, self._added.removeprefix(b"\0")):
            raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message with more behind its last block")
        if self._context_takeover:
            if stream.eof:
                # a final block in mid-connection (section 7.2.3.4); later messages may still refer to this one
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS, message[-_WINDOW:])
        elif not stream.eof:
            raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message that was cut off")
        return message


def _decompressed(stream: zlib._Decompress, data: bytes | memoryview, added: bytes, limit: int) -> bytes:
    """Decompress `data` followed by `added`, up to `limit` bytes, with little extra memory.

    Raises:
        zlib.error: invalid compressed data.

    """
    if len(data) < _PIECE:
        message = stream.decompress(b"".join((data, added)), min(limit, _PIECE))
        if len(message) < _PIECE:
            return message
        pieces: Iterator[bytes] = iter(())
        whole = bytearray(message)
    else:
        starts = range(0, len(data), _PIECE)
        pieces = itertools.chain((bytes(data[at : at + _PIECE]) for at in starts), (added,))
        whole = bytearray()
    rest = stream.unconsumed_tail
    while len(whole) < limit:
        piece = stream.decompress(rest, min(limit - len(whole), _PIECE))
        whole += piece
        rest = stream.unconsumed_tail
        if rest or piece:
            continue
        if stream.eof:
            # anything behind the final block
            stream.decompress(b"".join(pieces), 1)
            break
        following = next(pieces, None)
        if following is None:
            break
        rest = following
    return bytes(whole)
