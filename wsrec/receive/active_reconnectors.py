"""The reconnectors of a receiver that may still succeed, shared by all of them."""

from __future__ import annotations

import asyncio
import contextlib


class ActiveReconnectors:
    """Which connections of a receiver may still succeed: it ends only once all are refused permanently.

    Args:
        alone: whether there is no other receiver that may be recording.

    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._trying: set[object] = set()
        self._over = asyncio.Event()

    @property
    def all_exhausted(self) -> bool:
        """True if every connection was refused permanently, or has ended."""
        return not self._trying

    @property
    def over(self) -> bool:
        """True once retrying is pointless for all."""
        return self._over.is_set()

    def register(self, reconnector: object) -> None:
        """Mark a connection as one that may succeed."""
        self._trying.add(reconnector)

    def give_up(self, reconnector: object) -> bool:
        """Mark a connection as refused or ended; returns True if that leaves none."""
        self._trying.discard(reconnector)
        if self._alone and self.all_exhausted:
            self._over.set()
        return self.over

    async def wait(self, seconds: float) -> None:
        """Wait, at most until retrying is pointless."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
