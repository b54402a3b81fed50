"""Inflating of messages that an exchange compresses itself; the first bytes show the kind.

Exchanges change their compression, and send some messages uncompressed. JSON objects and arrays begin with `{` or `[`,
which neither gzip nor zlib does. Nor does deflate: the lowest three bits of both characters mean a last block of fixed
codes, and such a block of text begins with another byte.
"""

from __future__ import annotations

import zlib

INFLATED_MAX = 16 << 20
"""Largest inflated size of a message (bytes) whose fields are read."""
GZIP = b"\x1f\x8b"
"""The first bytes of gzip (RFC 1952), which no text has."""
# limit of gzip members in a message (RFC 1952 section 2.2): the data after each is copied
_MEMBERS_MAX = 16
_ZLIB = 8
_ZLIB_MULTIPLE = 31


def unpacked(payload: bytes | memoryview, limit: int = INFLATED_MAX) -> bytes | memoryview | None:
    """The content of a message that may be gzip, zlib (RFC 1950) or raw deflate (RFC 1951); others unchanged.

    Args:
        payload: the whole message.
        limit: largest inflated size (bytes).

    Returns:
        None if it is damaged gzip, or larger than `limit`.

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
            # zeros after the last member are legal
            rest = inflater.unused_data.lstrip(b"\0") if is_gzip else inflater.unused_data
            if not rest:
                return data
    except zlib.error:
        return None
    return None
