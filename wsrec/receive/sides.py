"""The connections that take turns: an active one and, where it is replaceable, its standby."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from wsrec import ipc
from wsrec.net.addresses import AddressHistory
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.connection import Connection
from wsrec.receive.pong_responder import PingSource
from wsrec.ring.bytering import ByteRing


class Side(NamedTuple):
    """One of the connections that take turns: its plan and its ring."""

    plan: ConnectionPlan
    ring: ByteRing


class Counts(NamedTuple):
    """Counters of a connection.

    Attributes:
        reads: non-empty reads.
        frames: frames published.
        bytes, discarded_bytes: bytes received, and those outside of complete frames.
        stalls: number of times that a full ring stopped reading.
        reconnects: number of reconnections.

    """

    reads: int
    frames: int
    bytes: int
    discarded_bytes: int
    stalls: int
    reconnects: int


class Sides:
    """The connections that take turns, and which of them is active.

    Args:
        connections: the planned connection, and its standby if it has one.
        history: which of the host's addresses have failed.

    Attributes:
        all: as given.
        active: the one that is recorded; None while none is.
        last_active: the active one, or the one that was active last.

    """

    def __init__(self, connections: Sequence[Connection], history: AddressHistory) -> None:
        self.all = connections
        self.active: Connection | None = None
        self.last_active = connections[0]
        self._history = history

    @property
    def connected(self) -> bool:
        """True if a WebSocket is open."""
        return any(side.connected for side in self.all)

    @property
    def stalls(self) -> int:
        """Number of times that a full ring stopped reading."""
        return sum(side.stalls for side in self.all)

    def counts(self, reconnects: int) -> Counts:
        """Their counters so far, and how often they were reconnected."""
        first, *others = [side.totals for side in self.all]
        together = map(sum, zip(first, *others, strict=True)) if others else first
        return Counts._make([*together, reconnects])

    @property
    def ping_sources(self) -> dict[int, PingSource]:
        """The connections with application-level pings, by number."""
        answers = self.all[0].plan.answers
        return {side.plan.conn: PingSource(answers, side.ring, side.answer, side.end) for side in self.all if answers}

    def find_pings_by(self, look: Callable[[], None]) -> None:
        """Call `look` before a connection is judged stale: a ping is not data."""
        for side in self.all:
            side.look_for_pings = look

    @property
    def numbers(self) -> list[int]:
        """The numbers of the connections."""
        return [side.plan.conn for side in self.all]

    def check_stamps(self) -> None:
        """Report a NIC whose clock is unrelated to the system's."""
        for side in self.all:
            side.check_stamps()

    def of(self, conn: int) -> Connection:
        """The connection of this number."""
        return next(side for side in self.all if side.plan.conn == conn)

    def beside(self, active: Connection) -> Connection:
        """The standby of the active connection, which has one."""
        return next(side for side in self.all if side is not active)

    @property
    def open(self) -> Connection | None:
        """A connection that is open and has not ended; None if there is none."""
        return next((side for side in self.all if side.connected and not side.ended), None)

    def elsewhere(self) -> bool:
        """True if there is an address that has not failed besides the active one."""
        active = self.active
        return active is not None and active.address is not None and self._history.has_alternative(active.address)

    def resubscribe(self, order: ipc.Resubscribe) -> None:
        """Make a connection resubscribe. Changed requests also apply to its standby."""
        for side in self.all:
            mine = side.plan.conn == order.conn
            if order.parts is not None:
                side.divide(order.topics, order.parts, order.reason, send=mine)
            elif mine:
                side.resubscribe(order.topics, order.reason)

    def publish_complete_until(self, complete_until: int, *, everywhere: bool) -> None:
        """Publish until when nothing is missing (monotonic, ns): in the ring of the last active side, or in all.

        It is for a receiver that may take over.
        """
        for side in self.all:
            side.ring.complete_until.publish(complete_until if everywhere or side is self.last_active else 0)

    def take_over(self, died: str) -> tuple[int, int, bool]:
        """Continue with the rings of a receiver that died; see `Connection.take_over`, of the side that was active."""
        left = [(side.take_over(died), side) for side in self.all]
        was_connected = any(was_connected for (_, _, was_connected), _ in left)
        (complete_until, event, _), self.last_active = max(left, key=lambda one: one[0][:2])
        return complete_until, event, was_connected
