"""JSON text of a batch's messages: of those that the exchange compresses itself, and of those in protobuf."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import Flags, large_binary, views
from wsrec.feed.fields import Fields
from wsrec.feed.packed import GZIP, unpacked

# limit of the total size of what a batch's messages contain
_BATCH_MAX = 256 << 20


def json_of(fields: Fields, payload: pa.Array, readable: Flags, binary: Flags | None) -> tuple[pa.Array, Flags]:
    """The JSON in messages of a feed with these `fields`, and a mask of readable ones."""
    if binary is None or fields.binary == "json":
        return payload, readable
    wanted = readable & binary
    if fields.binary == "opaque":
        return payload, readable & ~wanted
    content: Callable[[memoryview], bytes | memoryview | None] = unpacked
    if fields.binary_schema is not None:
        content = fields.binary_schema.reader.json
    else:
        wanted |= readable & pc.starts_with(payload, pattern=GZIP).to_numpy(zero_copy_only=False)
    if not wanted.any():
        return payload, readable
    readable = readable & ~wanted
    messages = [message if is_plain else b"" for message, is_plain in zip(views(payload), readable, strict=True)]
    left = _BATCH_MAX
    for row, message in zip(np.flatnonzero(wanted).tolist(), views(payload.filter(pa.array(wanted))), strict=True):
        data = content(message) if left > 0 else None
        if data is not None:
            messages[row], readable[row] = data, True
            left -= len(data)
    return large_binary(messages), readable
