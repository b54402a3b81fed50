"""Sharding: a stable share of the symbols for each of several recorders, by rendezvous hashing.

Each shard draws a number for each symbol, and the highest draw gets it. An additional shard takes its share evenly from
all others, and nothing else moves. (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.)
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple


class Shard(NamedTuple):
    """One of several equal shares.

    Attributes:
        number: from 1.
        of: the number of shares.

    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `3/16`.

        Raises:
            ValueError: not of that form, or there is no such share.

        """
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip(), re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not shard.of:
            raise ValueError("expected NUMBER/OF, as in 3/16")
        if not 1 <= shard.number <= shard.of:
            raise ValueError(f"expected NUMBER/OF with a NUMBER from 1 to {shard.of}")
        return shard

    def includes(self, name: str) -> bool:
        """True if this share includes the symbol."""
        return max(range(1, self.of + 1), key=lambda number: (_weight(name, number), number)) == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def _weight(name: str, number: int) -> bytes:
    return hashlib.blake2b(f"{number}/{name}".encode(), digest_size=8).digest()
