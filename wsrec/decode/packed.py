"""JSON text of a batch's messages, inflating payloads that the exchange itself compresses (`wsrec.feed.packed`)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import Flags, large_binary, views
from wsrec.feed.packed import GZIP, unpacked

# limit of the total inflated size of a batch's messages
_BATCH_MAX = 256 << 20


def json_of(kind: str, payload: pa.Array, readable: Flags, binary: Flags | None) -> tuple[pa.Array, Flags]:
    """The JSON in messages of a feed with binary ones of this kind (`fields.binary`), and a mask of readable ones."""
    if binary is None or kind == "json":
        return payload, readable
    wanted = readable & binary
    if kind == "opaque":
        return payload, readable & ~wanted
    wanted |= readable & pc.starts_with(payload, pattern=GZIP).to_numpy(zero_copy_only=False)
    if not wanted.any():
        return payload, readable
    readable = readable & ~wanted
    messages = [message if is_plain else b"" for message, is_plain in zip(views(payload), readable, strict=True)]
    left = _BATCH_MAX
    for row, message in zip(np.flatnonzero(wanted).tolist(), views(payload.filter(pa.array(wanted))), strict=True):
        data = unpacked(message) if left > 0 else None
        if data is not None:
            messages[row], readable[row] = data, True
            left -= len(data)
    return large_binary(messages), readable
