"""Payloads as an Arrow array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def large_binary(payloads: Sequence[bytes | memoryview]) -> pa.Array:
    """A `large_binary` array of payloads, copied once; of one alone nothing is copied.

    `pa.array` never lets go of a memoryview (pyarrow 26 does not release the buffer that it asked for): every batch
    with a message in parts, or one that was inflated, would stay in memory for good.

    """
    offsets = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
    data = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(payloads), buffers)
