"""Single keys from the terminal, for the live view: read as they are typed, without an echo, without waiting.

The terminal's settings are those of termios(3)'s non-canonical mode with signals on, so Ctrl-C and Ctrl-Z stay what
they are. A terminal is read only while this process is in its foreground: a background process that reads is stopped
by the kernel (SIGTTIN), and so is one that changes the settings (SIGTTOU).
"""

from __future__ import annotations

import contextlib
import os
import re
import termios
from typing import Any, TextIO

# of a key that sends more than a character: CSI and SS3 sequences of the cursor keys and the pages
_SEQUENCES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[F": "end",
}
_KEY = re.compile(r"\x1b(?:\[[0-9;]*[@-~]|O[@-~])|.", re.DOTALL)
# places in what tcgetattr() returns
_LFLAG, _CC = 3, 6


def is_foreground(fd: int) -> bool:
    """Whether this process is in the foreground of a terminal, or the terminal is not that of its session."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        # ENOTTY: no job control (tcgetpgrp(3))
        return True


class Keys:
    """The keyboard of a terminal.

    Args:
        stream: standard input.

    Attributes:
        fd: its descriptor; -1 if it is no terminal: then there are no keys.

    """

    def __init__(self, stream: TextIO | None) -> None:
        self.fd = -1
        self._before: list[Any] | None = None
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if stream is not None and os.isatty(stream.fileno()):
                self.fd = stream.fileno()

    def grab(self) -> bool:
        """Take the keys as they are typed, from now on; returns whether that is new."""
        if self.fd >= 0 and self._before is None and is_foreground(self.fd):
            with contextlib.suppress(termios.error):
                before, after = termios.tcgetattr(self.fd), termios.tcgetattr(self.fd)
                after[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
                after[_CC][termios.VMIN], after[_CC][termios.VTIME] = 1, 0
                # not TCSADRAIN, which would wait for a terminal that is stopped
                termios.tcsetattr(self.fd, termios.TCSANOW, after)
                self._before = before
                return True
        return False

    def release(self) -> None:
        """Give the terminal its own settings back."""
        before, self._before = self._before, None
        if before is not None and is_foreground(self.fd):
            with contextlib.suppress(termios.error):
                # unread keys are not for the shell
                termios.tcflush(self.fd, termios.TCIFLUSH)
                termios.tcsetattr(self.fd, termios.TCSANOW, before)

    def read(self) -> list[str]:
        """The keys that were typed: characters, and `up`, `down`, `page up`, `page down`, `home` and `end`.

        Call it when the descriptor is readable; it may wait otherwise. At the terminal's end `fd` becomes -1.
        """
        try:
            typed = os.read(self.fd, 256).decode(errors="replace")
        except OSError:
            typed = ""
        if not typed:
            self.fd = -1
        keys = (_SEQUENCES.get(key, key) for key in _KEY.findall(typed))
        return [key for key in keys if not key.startswith("\x1b")]
