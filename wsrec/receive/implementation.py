"""Hot path selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one.

Both behave alike: one test suite and a differential property test run on both.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wsrec.receive.hotpath import HotPath as PythonHotPath

if TYPE_CHECKING:
    CompiledHotPath: type[PythonHotPath] | None
else:
    try:
        from wsrec.receive._hotpath import HotPath as CompiledHotPath
    except ImportError:
        CompiledHotPath = None

COMPILED = CompiledHotPath is not None and not os.environ.get("WSREC_PURE")
HotPath: type[PythonHotPath] = CompiledHotPath if COMPILED and CompiledHotPath is not None else PythonHotPath
