"""A terminal that shows log lines, or a whole screen and the lines behind it once that is left.

The screen is the terminal's alternate one: it leaves no trace, and what stood there before is there again afterwards.
A picture is cut to the screen's size and written in one piece over the last one, so no line wraps and no half picture
is seen; after a change of size the screen is cleared first.

What writes runs in the outlet's thread, which alone may wait for the terminal. Imported only if there is one: rich
takes a tenth of the start-up time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TextIO, cast

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.screen import Screen
from rich.text import Text

from wsrec.supervise.keys import is_foreground
from wsrec.supervise.outlet import Sink
from wsrec.units import plural

# lines of a long recording that are printed when the screen is left
_KEPT = 1000


class Terminal:
    """A terminal for log lines and pictures.

    Attributes:
        is_one: whether it can show a screen, by rich's judgement; environment variables may override that.

    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._console = Console(file=cast(TextIO, sink), highlight=False, soft_wrap=True)
        self.is_one = self._console.is_terminal and not self._console.is_dumb_terminal
        self._size: tuple[int, int] | None = None
        self._lines: deque[Text] = deque(maxlen=_KEPT)
        self._passed_over = 0

    @property
    def size(self) -> tuple[int, int]:
        """Its width and height, in characters: the terminal's own, because LINES and COLUMNS do not change with it."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._sink.fd)
            # a serial line, or a pseudo-terminal whose owner set none, has 0
            if columns and lines:
                return columns, lines
        return self._console.size

    @property
    def is_foreground(self) -> bool:
        """Whether it is this process's to draw on, and not another job's of the same shell."""
        return is_foreground(self._sink.fd)

    def print(self, text: str, style: str) -> None:
        """Print a line, or keep it until the screen is left."""
        line = Text(text, style=style)
        if self._size is None:
            self._console.print(line)
            return
        self._passed_over += len(self._lines) == _KEPT
        self._lines.append(line)

    def show(self, picture: RenderableType) -> None:
        """Show a picture on the whole screen."""
        console = self._console
        if self._size is None:
            console.set_alt_screen(True)
            console.show_cursor(False)
        size = self.size
        if self._size != size:
            self._size = console.size = ConsoleDimensions(*size)
            console.clear()
        with console.capture() as captured:
            console.print(Screen(picture), end="", soft_wrap=False)
        # DECSET 2026: a terminal that knows it shows what lies between at once; others ignore it
        console.file.write(f"\x1b[?2026h\x1b[H{captured.get()}\x1b[?2026l")

    def leave(self) -> None:
        """Leave the screen, and print the lines that were kept."""
        if self._size is None:
            return
        self._size = None
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)
        if self._passed_over:
            self._console.print(Text(f"({plural(self._passed_over, 'earlier line')} not repeated here)", style="dim"))
        for line in self._lines:
            self._console.print(line)
        self._lines.clear()
        self._passed_over = 0
