"""Errors of reading a capture: what is damaged or absent, and what cannot be read, of which nothing is known."""

from __future__ import annotations

from pathlib import Path

from wsrec.format.folders import cannot_read
from wsrec.format.version import FORMAT_VERSION


class CaptureError(Exception):
    """A file or folder cannot be read as a capture; the message names it and the hint."""


class UnreadableError(CaptureError):
    """The system does not let a file or folder be read (no permission, a disk that fails), or it is of another version.

    Nothing is known of it: it is neither damaged nor sound.
    """

    def __init__(self, path: str | Path, error: OSError) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {cannot_read(error)}")


class OtherVersionError(UnreadableError):
    """A file is of another version of the format: nothing is known of it, and nothing is wrong with it.

    Args:
        path: the file.
        version: the version that it states; None where it states none, as before version 5.
        line: the line of it that states it; None where it is of the whole file.

    """

    def __init__(self, path: str | Path, version: str | None, line: int | None = None) -> None:
        self.path = Path(path)
        where = path if line is None else f"{path}:{line}"
        stated = "it states no format version, as before version 5" if version is None else "it is of format version "
        what = f"{stated}{(version or '')[:20]}, this wsrec reads version {FORMAT_VERSION}"
        Exception.__init__(self, f"{where}: {what}; the wsrec that wrote it reads it; nothing was changed")
