"""Which allocator Arrow has in a process that reads captures: the one that gives freed memory back soonest.

Buffers come and go in several threads there, and Arrow's default (mimalloc) keeps nearly as much as is in use: 320 to
354 MB instead of 245 to 292 for a sorted file's block. Parquet's reader takes the allocator that Arrow begins with, so
it is chosen in the environment, before pyarrow is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_VARIABLE, _NAME = "ARROW_DEFAULT_MEMORY_POOL", "jemalloc"


def allocator() -> dict[str, str]:
    """The environment variable that chooses it, or what the user has chosen."""
    return {_VARIABLE: os.environ.get(_VARIABLE, _NAME)}


@contextlib.contextmanager
def chosen() -> Iterator[None]:
    """Choose it for this process, if Arrow begins in this context; afterwards the environment is as it was."""
    before = os.environ.get(_VARIABLE)
    os.environ.update(allocator())
    try:
        # Arrow is not imported here, as there may be nothing to read: it looks at the variable when it is
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
