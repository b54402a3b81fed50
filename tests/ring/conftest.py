"""Shared memory for the ring tests, closed at the end of each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest


@pytest.fixture
def owned() -> Iterator[Callable[[int], int]]:
    """Takes a descriptor, gives it back, and closes it after the test."""
    descriptors: list[int] = []

    def own(fd: int) -> int:
        descriptors.append(fd)
        return fd

    yield own
    for fd in descriptors:
        with suppress(OSError):
            os.close(fd)


@pytest.fixture
def other_process() -> Callable[..., str]:
    """Runs code in another process that inherits the descriptors, as `sys.argv[1:]`; returns what it prints."""

    def run(code: str, *descriptors: int) -> str:
        result = subprocess.run(
            [sys.executable, "-P", "-c", code, *map(str, descriptors)],
            pass_fds=descriptors,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run
