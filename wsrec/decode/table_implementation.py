"""Table reader selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os

from wsrec.decode.compiled_table_reader import CompiledTableReader, RowScanner
from wsrec.decode.table_blocks import PythonTableReader

COMPILED = RowScanner is not None and not os.environ.get("WSREC_PURE")
TableReader: type[CompiledTableReader | PythonTableReader] = CompiledTableReader if COMPILED else PythonTableReader
"""The reader class in use."""
