"""Memory of batches and rows that stays with the process: a fresh page costs more than what is written to it."""

from __future__ import annotations

import contextlib
import ctypes

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The columns of three row groups
_KEPT_BYTES = 64 << 20
# Larger arrays get pages of 2 MiB from numpy, and are given back
_MAPPED_BYTES = 4 << 20


def keep_memory() -> None:
    """Have the C library keep freed memory for the next batch; does nothing where it is not glibc.

    By default it gives back what is free at the end of the heap, so that each row group faulted in its columns anew.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
