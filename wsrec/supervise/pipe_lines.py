"""Lines that another program writes into a pipe, as log lines: bounded in length and in number."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from wsrec.units import plural

_LONGEST = 2000
_AT_ONCE = 200
_INTERVAL = 60.0
_READ = 1 << 16


async def read_lines(descriptor: int, on_line: Callable[[str], None], *, most: int = _AT_ONCE) -> None:
    """Pass on each line from a pipe, until all of its writers have closed it; closes it.

    A line of more than 2,000 bytes is cut, and more than `most` lines a minute are only counted.

    Args:
        descriptor: the pipe.
        on_line: called with each line that is not empty.
        most: lines a minute that are passed on.

    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    lines = Lines(on_line, most)
    try:
        while data := await reader.read(_READ):
            lines.feed(data)
    finally:
        lines.end()
        transport.close()


class Lines:
    """Bytes to bounded lines.

    Args:
        on_line: called with each line that is not empty.
        most: lines a minute that are passed on; the others are counted.

    """

    def __init__(self, on_line: Callable[[str], None], most: int = _AT_ONCE) -> None:
        self._on_line = on_line
        self._most = most
        self._begun = b""
        self._until = 0.0
        self._passed = self._counted = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._begun + lines[0]
            self._begun = b""
        for line in lines:
            self._take(line)
        # the rest of a line that is too long is not kept
        self._begun = (self._begun + rest)[: _LONGEST + 1]

    def end(self) -> None:
        """No more bytes follow."""
        self._take(self._begun)
        self._begun = b""
        self._count()

    def _take(self, line: bytes) -> None:
        if not line:
            return
        now = time.monotonic()
        if now >= self._until:
            self._count()
            self._until, self._passed = now + _INTERVAL, 0
        if self._passed < self._most:
            self._passed += 1
            text = line[:_LONGEST].decode(errors="backslashreplace")
            self._on_line(text if len(line) <= _LONGEST else f"{text}…")
        else:
            self._counted += 1

    def _count(self) -> None:
        if self._counted:
            self._on_line(f"{plural(self._counted, 'more line was', 'more lines were')} not shown")
            self._counted = 0
