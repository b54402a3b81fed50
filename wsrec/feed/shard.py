"""A stable share of the symbols for each of several recorders: rendezvous hashing.

Every shard draws a number for a symbol, the highest one has it. One more shard takes its part from all the others, and
nothing moves between those. (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.)
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple


class Shard(NamedTuple):
    """One of several equal shares.

    Attributes:
        number: which, from 1.
        of: how many there are.

    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/16`.

        Raises:
            ValueError: it is no such thing.

        """
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError("expected a number and how many there are, as in 3/16")
        return cls(int(found[1]), int(found[2]))

    def has(self, name: str) -> bool:
        """Whether this share has the symbol."""
        return max(range(1, self.of + 1), key=lambda number: (_draw(name, number), number)) == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def _draw(name: str, number: int) -> bytes:
    return hashlib.blake2b(f"{number}/{name}".encode(), digest_size=8).digest()
