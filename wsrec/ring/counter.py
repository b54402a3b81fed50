"""A 64-bit counter in shared memory, written by one process and read by another.

The rings rely on publication order: a reader that sees a count must also see the data written before it. x86-64 keeps
stores in order (Intel SDM vol. 3A 8.2.2), and an aligned 8-byte copy is one store, so a plain write is enough. Other
processors may reorder. There, each write is preceded and each read followed by locking and unlocking a lock, which
synchronises memory (pthread mutexes and semaphores: POSIX.1-2017 4.12).
"""

from __future__ import annotations

import platform
import threading

CACHE_LINE = 64
WORDS_PER_LINE = CACHE_LINE // 8

_STRONGLY_ORDERED = platform.machine().lower() in {"x86_64", "amd64", "i686"}
_lock = threading.Lock()


class Counter:
    """A monotonic count in its own cache line of a shared header.

    Args:
        words: the header, as 64-bit words.
        line: the cache line in it that holds this counter.

    Attributes:
        words, index: the location of the word, for the compiled hot path, which accesses it directly.

    """

    __slots__ = ("index", "words")

    def __init__(self, words: memoryview, line: int) -> None:
        self.words = words
        self.index = line * WORDS_PER_LINE

    if _STRONGLY_ORDERED:

        def publish(self, value: int) -> None:
            """Write the count, after everything this thread wrote before (release)."""
            self.words[self.index] = value

        def read(self) -> int:
            """Read the count, before anything this thread reads afterwards (acquire)."""
            return int(self.words[self.index])

    else:

        def publish(self, value: int) -> None:
            """Write the count, after everything this thread wrote before (release)."""
            with _lock:
                pass
            self.words[self.index] = value

        def read(self) -> int:
            """Read the count, before anything this thread reads afterwards (acquire)."""
            value = int(self.words[self.index])
            with _lock:
                pass
            return value
