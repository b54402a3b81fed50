"""Record reader selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wsrec.tls.records import RecordReader as PythonRecordReader

if TYPE_CHECKING:
    CompiledRecordReader: type[PythonRecordReader] | None
else:
    try:
        from wsrec.tls._records import RecordReader as CompiledRecordReader
    except ImportError:
        CompiledRecordReader = None

COMPILED = CompiledRecordReader is not None and not os.environ.get("WSREC_PURE")
RecordReader: type[PythonRecordReader] = (
    CompiledRecordReader if COMPILED and CompiledRecordReader is not None else PythonRecordReader
)
