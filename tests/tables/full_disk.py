"""A disk that is full for large files, as far as this process goes."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Within the `with` block, no file grows beyond `size` bytes: `File too large`."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python would take the beginning of a module's bytecode for all of it, from then on
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sys.dont_write_bytecode = writes
