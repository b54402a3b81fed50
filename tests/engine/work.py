"""Functions that engines run in tests: workers import them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from wsrec.engine.work import Item


def read(item: Item) -> list[str]:
    """The texts of an item's files."""
    return [Path(file).read_text() for file in item.files]


def read_slowly_at_first(item: Item) -> list[str]:
    """The texts; that of `0` takes long, so that the others are done before it."""
    if item.files[0].endswith("/0"):
        time.sleep(0.3)
    return read(item)


def joined(one: list[str], other: list[str]) -> list[str]:
    """A merge that shows its order."""
    return one + other


def process(item: Item) -> int:
    """Which process does it."""
    time.sleep(0.05)
    return os.getpid()


def die(item: Item) -> None:
    """End as one that the kernel kills for its memory."""
    if item.files[0].endswith("/2"):
        os.kill(os.getpid(), signal.SIGKILL)


def wait(item: Item) -> None:
    """Show that it is being worked on, and never end."""
    Path(item.files[0]).write_text(str(os.getpid()))
    time.sleep(600)


def modules(item: Item) -> list[bool]:
    """Whether pandas may be imported, and whether the caller's variables are there."""
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError:
        return [False, "SECRET_KEY" in os.environ]
    return [True, "SECRET_KEY" in os.environ]
