"""The field reader that runs: the compiled one where it was built, else (or with WSREC_PURE=1) the one in Python."""

from __future__ import annotations

import os

from wsrec.decode.compiled_reader import CompiledFieldReader, Scanner
from wsrec.decode.reader import PythonFieldReader

COMPILED = Scanner is not None and not os.environ.get("WSREC_PURE")
FieldReader: type[CompiledFieldReader | PythonFieldReader] = CompiledFieldReader if COMPILED else PythonFieldReader
"""The one that runs."""
