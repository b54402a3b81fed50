"""Inflating of messages that an exchange compresses itself; the kind is told by the first bytes.

Exchanges change how they compress, and send one message or the other as it is. JSON of objects and arrays begins with
`{` or `[`, which neither gzip nor zlib does, nor deflate: the lowest three bits of both are those of a last block of
fixed codes, and such a block of text begins with another byte.
"""

from __future__ import annotations

import zlib

INFLATED_MAX = 16 << 20
"""Bytes that a message may inflate to for its fields to be read."""
GZIP = b"\x1f\x8b"
"""What gzip (RFC 1952) begins with, and no text."""
# Members of a message's gzip (RFC 1952 section 2.2): what is behind each is copied
_MEMBERS_MAX = 16
_ZLIB = 8
_ZLIB_MULTIPLE = 31


def unpacked(payload: bytes | memoryview, limit: int = INFLATED_MAX) -> bytes | memoryview | None:
    """What is in a message that may be gzip, zlib (RFC 1950) or raw deflate (RFC 1951): itself where it is neither.

    Args:
        payload: the whole message.
        limit: bytes that it may inflate to.

    Returns:
        None where it is gzip that is damaged, or more than `limit`.

    """
    begin = bytes(payload[:2])
    if begin == GZIP:
        return _inflated(payload, 16 + zlib.MAX_WBITS, limit)
    if begin[:1] in (b"", b"{", b"["):
        return payload
    if len(begin) > 1 and begin[0] & 0xF == _ZLIB and int.from_bytes(begin) % _ZLIB_MULTIPLE == 0:
        data = _inflated(payload, zlib.MAX_WBITS, limit)
        if data is not None:
            return data
    data = _inflated(payload, -zlib.MAX_WBITS, limit)
    return payload if data is None else data


def _inflated(payload: bytes | memoryview, window: int, limit: int) -> bytes | None:
    is_gzip = window > zlib.MAX_WBITS
    data, rest = b"", payload
    try:
        for _ in range(_MEMBERS_MAX if is_gzip else 1):
            inflater = zlib.decompressobj(window)
            data += inflater.decompress(rest, limit - len(data) + 1)
            if not inflater.eof or len(data) > limit:
                return None
            # zeros behind the last member are no damage
            rest = inflater.unused_data.lstrip(b"\0") if is_gzip else inflater.unused_data
            if not rest:
                return data
    except zlib.error:
        return None
    return None
