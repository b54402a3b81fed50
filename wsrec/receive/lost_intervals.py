"""Lost intervals: since when messages of a reconnector's connections are missing, and their events."""

from __future__ import annotations

from wsrec import ipc
from wsrec.host.clock import now
from wsrec.receive.connection import Connection
from wsrec.receive.producer import Producer
from wsrec.ring import loss_evidence
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since


class LostIntervals:
    """Since when messages are missing, and why.

    Args:
        producer: the receiver's slots.

    Attributes:
        since: since when no connection has been open; None while one is.
        why: the reason for the loss since then, if the first attempt had succeeded.
        stale_since: monotonic time (ns) since when the active connection is stale; None if it is not.
        stale_reason: why it counts as stale.

    """

    def __init__(self, producer: Producer) -> None:
        self.since: Since | None = None
        self.why = ""
        self.stale_since: int | None = None
        self.stale_reason = ""
        self._producer = producer

    @property
    def is_stale(self) -> bool:
        """True if the active connection no longer delivers data."""
        return self.stale_since is not None

    def begin(self, time: int, evidence: str) -> None:
        """Messages are missing since `time` (monotonic, ns), if they were not before."""
        if self.since is None:
            self.since = Since(time, evidence)

    def end_of_active(self, last: int) -> None:
        """The active connection has ended, and nothing can have been received after `last` (monotonic, ns)."""
        self.since, self.why = Since(last, loss_evidence.LAST_BYTE), ""
        if self.stale_since is not None:
            self.why = self.stale_reason
            # the idle time is measured anew after a pause of this process, so it may begin after the last byte
            if self.stale_since < last:
                self.since = Since(self.stale_since, loss_evidence.LAST_MESSAGE)
        self.stale_since = None

    def report_replaced(
        self, old: Connection, new: Connection, reason: str, since: int, until: int, *, proved: bool
    ) -> None:
        """Report that the connection `new` replaced `old`, and when both were open (monotonic, ns)."""
        self._producer.event(
            EventKind.REPLACED,
            conn=new.plan.conn,
            from_conn=old.plan.conn,
            to_conn=new.plan.conn,
            reason=reason,
            monotonic_from=since,
            monotonic_to=max(until, since),
            proved=proved,
        )
        message = f"connection {old.plan.conn} was replaced: {reason}"
        ipc.info(message, conn=new.plan.conn, kind=EventKind.REPLACED)

    def emit_unread(self, lost: Connection, since: int | None, known_to: str, until: int) -> None:
        """Emit what a closed connection left unread, if anything."""
        if since is not None:
            reason = "closed before all received data was read"
            self.emit(lost, Since(since, loss_evidence.LAST_BYTE), reason, known_to, until)

    def emit(self, lost: Connection, since: Since, reason: str, known_to: str, until: int) -> None:
        """Emit the event of an interval in which messages are missing."""
        self._producer.event(
            EventKind.LOST_INTERVAL,
            conn=lost.plan.conn,
            monotonic_from=since.time,
            monotonic_to=until,
            reason=reason,
            from_evidence=since.evidence,
            to_evidence=known_to,
            bound=since.bound,
        )

    def emit_unconnected(
        self, before: Connection, new: Connection, lost: Since, died: str | None, first_data: int | None
    ) -> None:
        """Emit the time without a connection.

        Args:
            before: the connection that was open before.
            new: the one that is open now.
            lost: since when none was.
            died: how the previous receiver ended, if that is why.
            first_data: when the new one delivered data (monotonic, ns), if it was doubted; None if it was not.

        """
        why = died or self.why
        if first_data is not None:
            self.emit(before, lost, why or "not connected, or without data", loss_evidence.FIRST_DATA, first_data)
        else:
            self.emit(before, lost, why or "not connected", loss_evidence.OPENED, new.opened_at)

    def emit_at_end(self, last_active: Connection, *, doubted: bool) -> None:
        """Emit what is lost until the session's end, if anything; `doubted`: a connection was open, without data."""
        if self.since is not None:
            reason = f"{self.why}; " if self.why else ""
            what = "no connection delivered data" if doubted else "not connected"
            reason += f"{what} before the session's end"
            self.emit(last_active, self.since, reason, loss_evidence.SESSION_END, now())
