"""Errors of reading a capture: damaged or missing files, and files that cannot be read and are thus unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsrec.format.folders import cannot_read
from wsrec.format.version import FORMAT_VERSION

EXIT_UNREADABLE = 66
"""Exit status of every reading command if something cannot be read and is therefore unknown (EX_NOINPUT)."""
EXIT_NOTHING = 3
"""Exit status of every reading command if a folder holds no capture, or an empty one."""

NO_CAPTURE = "holds no capture; name an output folder of `wsrec record`, or a file or folder in one"


class CaptureError(Exception):
    """A file or folder cannot be read as a capture; the message names it and a hint."""


class NoCaptureError(CaptureError):
    """A folder exists, but holds no capture, or none of whose files is finished."""


class NoSymbolError(CaptureError):
    """A capture has no symbol of that name; the message names some of those that it has."""


class UnreadableError(CaptureError):
    """The system refuses to read a file or folder (no permission, an I/O error), or it has another format version.

    Nothing is known about it: it is neither damaged nor sound.
    """

    def __init__(self, path: str | Path, error: OSError) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {cannot_read(error)}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: workers hand it on."""
        return Exception.__new__, (type(self), str(self)), self.__dict__


class OtherVersionError(UnreadableError):
    """A file has another version of the format: nothing is known about its content, and nothing is wrong with it.

    Args:
        path: the file.
        version: its version, a text before version 6; None if it has none, as files before version 5.
        line: the line with that version; None for a whole file.

    """

    def __init__(self, path: str | Path, version: int | str | None, line: int | None = None) -> None:
        self.path = Path(path)
        where = path if line is None else f"{path}:{line}"
        stated = "it has no format version, as before version 5" if version is None else "it has format version "
        what = f"{stated}{'' if version is None else str(version)[:20]}, this wsrec reads version {FORMAT_VERSION}"
        Exception.__init__(self, f"{where}: {what}; use the wsrec that wrote it; it was not changed")


def first_line(error: Exception) -> str:
    """The first line of an error; Arrow's errors continue with a stack trace."""
    return (str(error).splitlines() or [type(error).__name__])[0]
