"""Book selection: the compiled one if it was built and WSREC_PURE is not set, else the Python one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wsrec.order_books.book import Book as PythonBook

if TYPE_CHECKING:
    CompiledBook: Any
else:
    try:
        from wsrec.order_books._book import Book as CompiledBook
    except ImportError:
        CompiledBook = None

COMPILED = CompiledBook is not None and not os.environ.get("WSREC_PURE")
Book: type[PythonBook] = CompiledBook if COMPILED else PythonBook
"""The class in use."""
