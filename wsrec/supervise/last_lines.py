"""The last lines of a command that ends before it needs a `View`, which takes long to import."""

from __future__ import annotations

import os
import sys

from wsrec.options.record import LogFormat
from wsrec.supervise.log_lines import form_of, last_line
from wsrec.supervise.outlet import Outlet


class LastLines:
    """Shows them on standard error, in the same form as a `View`.

    Args:
        log_format: the form of the lines; None: the one that fits standard error.

    Attributes:
        outlet: writes them.

    """

    def __init__(self, log_format: LogFormat | None = None) -> None:
        self.outlet = Outlet(sys.stderr, self._show)
        self._form = log_format or form_of(sys.stderr)

    def conclude(self, *words: str, style: str = "red") -> None:
        """Show the last lines, for a failure, and wait until everything is written, for a limited time."""
        for word in words:
            self.outlet.put(last_line(word, "error" if style else "info", self._form), style, last=True)
        self.outlet.close()

    def _show(self, text: str, style: str) -> None:
        is_coloured = style and self._form is LogFormat.TEXT and self.outlet.sink.isatty()
        if is_coloured and not os.environ.get("NO_COLOR"):
            text = f"\x1b[31m{text}\x1b[0m"
        self.outlet.sink.write(f"{text}\n")
