"""Errors of standard output, told apart from all other errors of the operating system, whichever command prints."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from wsrec import stand_ins


class StdoutError(OSError):
    """Standard output cannot be written, for example because its disk is full."""


class ReaderGoneError(StdoutError):
    """Whoever read standard output, such as `head`, wants no more of it."""


class _Watched:
    """A text stream whose errors are `StdoutError`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _as_stdout_error():
            return self._stream.write(text)

    def flush(self) -> None:
        with _as_stdout_error():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Raise `StdoutError` for errors of standard output; it and standard error take any text."""
    stand_ins.prepare(sys.stderr)
    stand_ins.prepare(sys.stdout)
    stream: TextIO | None = sys.stdout
    # none: the process was started without
    if stream is None:
        yield
        return
    sys.stdout = cast(TextIO, _Watched(stream))
    try:
        yield
    finally:
        sys.stdout = stream


def give_up(stream: TextIO) -> None:
    """Drop what a stream still holds: Python writes it at exit, and would fail once more, with a status of its own."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


@contextlib.contextmanager
def _as_stdout_error() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError(error.errno, error.strerror) from error
    except OSError as error:
        raise StdoutError(error.errno, error.strerror) from error
