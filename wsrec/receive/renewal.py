"""Renewal: replaces the active connection when asked to, and before the exchange ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from wsrec.host.clock import now
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive import successor_proof
from wsrec.receive.connection import Connection

# Share of the lifetime left at a replacement, randomly up to twice that: not all connections at once
_LIFETIME_LEFT = 0.05


class Renewal:
    """The request to replace the active connection, and the plan to make one before its lifetime ends.

    Args:
        plan: the planned connection.
        renew: called with its number and the reason when a lifetime is about to end.

    Attributes:
        requested: set while the active connection is to be replaced.
        early: a replacement requested for a connection that is not active yet: its number, and the reason.

    """

    def __init__(self, plan: ConnectionPlan, renew: Callable[[int, str], None]) -> None:
        self.requested = asyncio.Event()
        self.early: tuple[int, str] | None = None
        self._plan = plan
        self._renew = renew
        self._reason = ""
        self._cut: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def request(self, reason: str) -> None:
        """Request a replacement of the active connection."""
        self._reason = reason
        self.requested.set()

    def take(self) -> str:
        """The reason of the request, which is then done."""
        reason = self._reason
        self.clear()
        return reason

    def take_early(self, conn: int) -> str | None:
        """The reason of a replacement requested before this connection was active; None if there was none."""
        early, self.early = self.early, None
        return early[1] if early is not None and early[0] == conn else None

    def schedule(self, new: Connection) -> None:
        """Plan to replace the connection, just opened, before its lifetime ends."""
        lifetime = self._plan.lifetime
        if lifetime is not None:
            spread = _LIFETIME_LEFT * (1 + random.random())  # noqa: S311 (spreads load, guards nothing)
            # however short the lifetime, leave time for the successor, which may have many subscriptions to send
            takes = (
                self._plan.subscribed_after
                - self._plan.start_after
                + successor_proof.SETTLING
                + successor_proof.TIMEOUT
            )
            early = max(lifetime * spread, min(lifetime / 2, takes))
            age = (now() - new.opened_at) / 1e9
            reason = f"the exchange ends connections after {lifetime:g} s"
            self._cut = self._loop.call_later(max(lifetime - early - age, 0.0), self._renew, new.plan.conn, reason)

    def clear(self) -> None:
        """Drop the request and the plan."""
        self._reason = ""
        self.requested.clear()
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
