"""Messages set aside: one that cannot be turned into a row, kept byte for byte in a file of its own."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from wsrec.format.folders import sync_folder
from wsrec.format.layout import aside_folder
from wsrec.writer.disk import NewFile
from wsrec.writer.output import make_folder


def keep_aside(out: Path, session: str, data: memoryview) -> tuple[str, str]:
    """Write a payload to `.wsrec/aside`, durably.

    Returns:
        The file, relative to the output folder, and its SHA-256.

    Raises:
        OSError: the disk is full or failed.

    """
    folder = aside_folder(out)
    make_folder(folder)
    path = folder / f"message-{session}-{time.time_ns()}"
    file = NewFile(path)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    sync_folder(folder)
    return str(path.relative_to(out)), hashlib.sha256(data).hexdigest()
