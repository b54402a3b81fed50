"""Selection of `gather` and `fill_stamps`: compiled if they were built and WSREC_PURE is not set, else Python."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsrec.writer.gather import gather as python_gather
from wsrec.writer.stamping import fill_stamps as python_fill_stamps

if TYPE_CHECKING:
    compiled_gather: Callable[..., None] | None
    compiled_fill_stamps: Callable[..., None] | None
else:
    try:
        from wsrec.writer._gather import gather as compiled_gather
    except ImportError:
        compiled_gather = None
    try:
        from wsrec.writer._stamping import fill_stamps as compiled_fill_stamps
    except ImportError:
        compiled_fill_stamps = None

_PURE = bool(os.environ.get("WSREC_PURE"))
COMPILED = compiled_gather is not None and not _PURE
gather = compiled_gather if COMPILED and compiled_gather is not None else python_gather
fill_stamps = python_fill_stamps if compiled_fill_stamps is None or _PURE else compiled_fill_stamps
