"""Selection of `gather`: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from wsrec.writer.gather import gather as python_gather

if TYPE_CHECKING:
    compiled_gather: Callable[..., None] | None
else:
    try:
        from wsrec.writer._gather import gather as compiled_gather
    except ImportError:
        compiled_gather = None

COMPILED = compiled_gather is not None and not os.environ.get("WSREC_PURE")
gather = compiled_gather if COMPILED and compiled_gather is not None else python_gather
