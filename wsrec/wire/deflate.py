"""permessage-deflate (RFC 7692): what is offered, what was agreed, and messages inflated.

The hot path never inflates: it records the RSV1 bit. `websockets` negotiates, and compresses what we send; what arrives
is inflated here, whole messages only, and never to more than the caller allows.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import CloseCode

from wsrec.wire.errors import ProtocolError

# what the sender took off the end of the message (section 7.2.2)
_TAIL = b"\x00\x00\xff\xff"
# a last block without content: after a message that is whole, the stream ends here and nowhere else
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"
_WINDOW = 1 << 15
# What is given to zlib and taken from it at once: it keeps a copy of what it did not come to
_PIECE = 1 << 16


def offer(*, context_takeover: bool) -> ClientPerMessageDeflateFactory:
    """What the handshake offers.

    Args:
        context_takeover: whether the server may compress a message with the ones before it in mind. Without, each
            message inflates by itself, and a server that cannot do that has to decline (section 7.1.1.1).

    """
    return ClientPerMessageDeflateFactory(
        server_no_context_takeover=not context_takeover,
        compress_settings={"memLevel": 5},
    )


def agreed(protocol: ClientProtocol) -> PerMessageDeflate | None:
    """The extension that the server took up, None where messages come uncompressed."""
    for extension in protocol.extensions:
        if isinstance(extension, PerMessageDeflate):
            return extension
    return None


def describe(extension: PerMessageDeflate | None) -> str | None:
    """What was agreed, as a `Sec-WebSocket-Extensions` header says it; None where nothing was."""
    if extension is None:
        return None
    words = ["permessage-deflate"]
    words += ["server_no_context_takeover"] * extension.remote_no_context_takeover
    words += ["client_no_context_takeover"] * extension.local_no_context_takeover
    words += [f"server_max_window_bits={extension.remote_max_window_bits}"] * (extension.remote_max_window_bits < 15)
    words += [f"client_max_window_bits={extension.local_max_window_bits}"] * (extension.local_max_window_bits < 15)
    return "; ".join(words)


class Inflater:
    """Inflates the compressed messages of one connection, in their order; or, without context takeover, any of them.

    Args:
        context_takeover: whether a message may refer to those before it.

    """

    def __init__(self, *, context_takeover: bool) -> None:
        self._context_takeover = context_takeover
        self._added = _TAIL if context_takeover else _TAIL + _LAST_BLOCK
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def inflate(self, data: bytes | memoryview, limit: int) -> bytes:
        """The message whose whole compressed payload is `data`.

        Args:
            data: the payloads of its frames, joined.
            limit: bytes that it may inflate to.

        Raises:
            ProtocolError: 1007 where it is no whole compressed message, 1009 where it is larger than `limit`.

        """
        if not self._context_takeover:
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        stream = self._stream
        try:
            # a byte more than allowed, so that all output was seen when it stops short of that
            message = _decompressed(stream, data, self._added, limit + 1)
        except zlib.error as error:
            raise ProtocolError(
                CloseCode.INVALID_DATA, f"a compressed message that does not inflate: {error}"
            ) from error
        if len(message) > limit:
            raise ProtocolError(
                CloseCode.MESSAGE_TOO_BIG, f"a message of more than {limit} bytes when inflated (raise --max-message)"
            )
        # behind a last block may be what was added here, and before that the octet that section 7.2.3.4 adds
        if stream.unused_data.removeprefix(b"\0") not in (b"", self._added, self._added.removeprefix(b"\0")):
            raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message with more behind its last block")
        if self._context_takeover:
            if stream.eof:
                # a last block in the middle of a connection (section 7.2.3.4); what follows may refer to this message
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS, message[-_WINDOW:])
        elif not stream.eof:
            raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message that was cut off")
        return message


def _decompressed(stream: zlib._Decompress, data: bytes | memoryview, added: bytes, limit: int) -> bytes:
    """What compressed data and what is added to it become, up to `limit` bytes, with little memory besides.

    Raises:
        zlib.error: it is not compressed so.

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
            # what is behind the last block
            stream.decompress(b"".join(pieces), 1)
            break
        following = next(pieces, None)
        if following is None:
            break
        rest = following
    return bytes(whole)
