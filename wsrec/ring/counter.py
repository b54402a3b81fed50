"""A 64-bit counter in shared memory, written by one process and read by another.

Publication order is what the rings rest on: a reader that sees the counter must see what was written before it.
x86-64 keeps stores in order (Intel SDM vol. 3A 8.2.2), and an aligned 8-byte copy is one store, so a plain write does.
Other processors may reorder; there each write is preceded, and each read followed, by the acquire and release that a
lock carries (pthread mutexes and semaphores synchronise memory: POSIX.1-2017 4.12).
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
        line: the cache line in it that is this counter's.

    Attributes:
        words, index: where the word is, for the compiled hot path, which reads and writes it by itself.

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
