"""Table reader selection: the Python one, until a compiled one is built."""

from __future__ import annotations

from wsrec.decode.table_blocks import PythonTableReader

TableReader = PythonTableReader
"""The reader class in use."""
