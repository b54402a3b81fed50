"""Functions on threads of their own, each on a processor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def together(*functions: tuple[int | None, Callable[[], Any]]) -> list[Any]:
    """Run functions at the same time, each on its processor (None: not pinned), and return what they return.

    Raises:
        Exception: the first one that a function raised.

    """
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def run(index: int, cpu: int | None, function: Callable[[], Any]) -> None:
        if cpu is not None:
            with suppress(OSError):
                # of this thread alone
                os.sched_setaffinity(0, {cpu})
        try:
            results[index] = function()
        except Exception as error:  # noqa: BLE001 - raised where the functions were given
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i, *what), daemon=True) for i, what in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
