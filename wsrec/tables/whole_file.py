"""A file that appears when it is complete, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsrec.format.folders import replaceable
from wsrec.tables.claimed import claim

UNFINISHED = ".unfinished"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to another name beside it, which the file has until the `with` block ends; a file of its name is replaced.

    Raises:
        BlockingIOError: another process is writing it.
        OSError: it cannot be made or renamed, or is a pipe, a device or a folder.

    """
    replaceable(path)
    unfinished = path.with_name(f".{path.stem}{UNFINISHED}{path.suffix}")

    def make() -> Path:
        # what a killed process left is taken over
        unfinished.touch()
        return unfinished

    _, fd = claim(make)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
        os.close(fd)
