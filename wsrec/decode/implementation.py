"""Field reader selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os

from wsrec.decode.compiled_reader import CompiledFieldReader, Scanner
from wsrec.decode.reader import PythonFieldReader

COMPILED = Scanner is not None and not os.environ.get("WSREC_PURE")
FieldReader: type[CompiledFieldReader | PythonFieldReader] = CompiledFieldReader if COMPILED else PythonFieldReader
"""The reader class in use."""
