"""A command in a terminal of its own, as a person's shell starts it, and what its screen shows (by pyte)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence

import pyte

# the terminal becomes the session's before the command runs
_RUN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class _Screen(pyte.Screen):
    """Keeps the ordinary screen while the alternate one (DECSET 1049) is shown, which pyte does not know."""

    alternate = False
    entered = left = 0

    def set_mode(self, *modes: int, private: bool = False) -> None:
        if private and 1049 in modes:
            self.alternate, self.entered = True, self.entered + 1
        super().set_mode(*modes, private=private)

    def reset_mode(self, *modes: int, private: bool = False) -> None:
        if private and 1049 in modes:
            self.alternate, self.left = False, self.left + 1
            self.reset()
        super().reset_mode(*modes, private=private)


class OwnTerminal:
    """A process whose standard streams are a terminal of this size; a context manager that ends it."""

    def __init__(self, command: Sequence[object], columns: int = 80, lines: int = 24) -> None:
        self.fd, slave = pty.openpty()
        self._size(columns, lines)
        self.screen = _Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, *map(str, command)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # a shell or an editor may have exported what was true once
            env={**os.environ, "TERM": "xterm-256color", "LINES": "24", "COLUMNS": "80"},
        )
        self.settings = termios.tcgetattr(slave)
        os.close(slave)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> OwnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join(10)
        os.close(self.fd)

    @property
    def lines(self) -> list[str]:
        """What the screen shows."""
        with self._lock:
            return list(self.screen.display)

    @property
    def text(self) -> str:
        """The same, as one text."""
        return "\n".join(self.lines)

    def type(self, typed: str) -> None:
        """Type on the keyboard."""
        os.write(self.fd, typed.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as a window's border does; the kernel sends SIGWINCH."""
        with self._lock:
            self.screen.resize(lines, columns)
            self._size(columns, lines)

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.text
            time.sleep(0.02)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        # EIO: no process has it open any more
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 1 << 16):
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)
