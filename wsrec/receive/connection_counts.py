"""Counts of each connection on the status page, by the receiver: whether it is open, bytes, reconnections."""

from __future__ import annotations

from collections.abc import Sequence

from wsrec.receive.reconnector import Reconnector
from wsrec.receive.sides import Counts
from wsrec.ring.status import StatusPage


class ConnectionCounts:
    """Writes the rows of a receiver's planned connections.

    Args:
        page: the page; it has the totals of the receivers before this one.
        connections: in the order of the rows.

    """

    def __init__(self, page: StatusPage, connections: Sequence[Reconnector]) -> None:
        self._page = page
        self._connections = connections
        names = ("frames", "bytes", "stalls", "reconnects", "opened", "last_read")
        self._before = [[int(row[name]) for name in names] for row in page.connections["receiver"]]

    def put(self, row: int, counts: Counts) -> None:
        """Write the row of a connection, with its counts so far."""
        connection = self._connections[row]
        sides = connection.sides
        before = self._before[row]
        active = sides.active or sides.last_active
        opened = max([side.opened_at for side in sides.all])
        read = max([side.last_event for side in sides.all])
        # both are 0 while nothing is open
        before[4], before[5] = opened or before[4], max(read, before[5])
        self._page.put_received(
            row,
            sides.connected,
            active.plan.conn,
            before[4],
            before[5],
            before[0] + counts.frames,
            before[1] + counts.bytes,
            before[2] + counts.stalls,
            before[3] + counts.reconnects,
        )
