"""Progress of reading captures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with the bytes read so far and the bytes of all files."""


class Meter:
    """Counts bytes as they are read.

    Args:
        total: bytes of all files.
        progress: called with the progress; None for none.

    """

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._done = 0
        self._progress = progress

    def add(self, done: float) -> None:
        """Add bytes that were read."""
        self._done += int(done)
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def size_of(path: Path | None) -> int:
    """The size of a file in bytes; 0 if it is missing or may not be accessed."""
    try:
        return path.stat().st_size if path is not None else 0
    except OSError:
        return 0
