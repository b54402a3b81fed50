"""Mirrored byte ring: holds the bytes received from a socket until the writer has journalled them.

One producer receives into the ring and moves `head`; one consumer reads it and moves `tail`. Both are 64-bit counts of
bytes since the ring was made, which never wrap; the position in the ring is the count and `mask`. Because the pages are
mapped twice (`mirror`), any run of up to `capacity` bytes is one contiguous slice of `view`.

Shared memory, one page of header and then the ring:

    line 0   magic, version, capacity (bytes)
    line 1   head: bytes received, written by the producer
    line 2   tail: bytes released, written by the consumer
    line 3   complete_until: ns on the stage clock, written by the producer: nothing is missing before it.
             0 before the connection, `ENDED` after its end. Read by recovery after the producer's death
"""

from __future__ import annotations

from wsrec.ring.counter import Counter
from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words

DEFAULT_CAPACITY = 8 << 20
# a smaller ring could not hold an incomplete frame and the space for a read (`receive.hotpath`)
MIN_RING = 64 << 10
ENDED = (1 << 64) - 1

_MAGIC = int.from_bytes(b"wsrbytes", "little")
_VERSION = 1


def check_capacity(capacity: int) -> int:
    """Return `capacity` (bytes) if it is valid for a byte ring.

    Raises:
        ValueError: it is not a power of two, or less than a page.

    """
    if capacity < PAGE or capacity & (capacity - 1):
        raise ValueError(f"a ring's size is a power of two of at least {PAGE} bytes, not {capacity}")
    return capacity


class ByteRing:
    """One side's view of a byte ring in shared memory.

    Args:
        fd: shared memory made by `create`.
        populate: whether to fault in all pages at once, instead of one by one on use.

    Attributes:
        view: 2 * capacity writable bytes, the ring twice.
        capacity: size in bytes.
        mask: capacity - 1.
        head: the producer's counter.
        tail: the consumer's counter.
        complete_until: the producer's watermark: nothing is missing before it.

    Raises:
        ValueError: the shared memory is not a byte ring of this version.

    """

    def __init__(self, fd: int, *, populate: bool = True) -> None:
        words = map_words(fd, PAGE)
        if (words[0], words[1]) != (_MAGIC, _VERSION):
            raise ValueError("the shared memory is not a byte ring of this version of wsrec")
        self.capacity = check_capacity(words[2])
        self.mask = self.capacity - 1
        self.view = map_mirrored(fd, PAGE, self.capacity, populate=populate)
        self.head = Counter(words, 1)
        self.tail = Counter(words, 2)
        self.complete_until = Counter(words, 3)

    @staticmethod
    def create(name: str, capacity: int = DEFAULT_CAPACITY) -> int:
        """Create the shared memory of an empty ring of `capacity` bytes and return its descriptor."""
        fd = create_shared(name, PAGE + check_capacity(capacity))
        words = map_words(fd, PAGE)
        words[0], words[1], words[2] = _MAGIC, _VERSION, capacity
        return fd

    def room(self, head: int) -> int:
        """Bytes that a producer at `head` can write before it would pass the consumer."""
        return self.capacity - (head - self.tail.read())

    def slice(self, offset: int, length: int) -> memoryview:
        """The contiguous view of `length` bytes from the count `offset`."""
        start = offset & self.mask
        return self.view[start : start + length]
