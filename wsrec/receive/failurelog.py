"""What is told of connections that could not be made or were lost: an event of each, and lines that are folded.

An exchange that is down refuses every attempt of every connection, mostly with the same page. So the whole of what it
says is in the event of the first attempt alone that it answers so, until a connection to it is open again; and a log
has the first few lines of a kind, then one a minute that counts the rest.
"""

from __future__ import annotations

from typing import Any

from wsrec import child
from wsrec.feed.plan import ConnectionPlan
from wsrec.folding import FoldedWarnings
from wsrec.receive.failure import Failure
from wsrec.receive.producer import Producer
from wsrec.ring.events import EventKind


class FailureLog:
    """Tells of the failures of a receiver's connections.

    Args:
        producer: takes the events.
        folded: takes the lines.

    """

    def __init__(self, producer: Producer, folded: FoldedWarnings | None = None) -> None:
        self._producer = producer
        self._folded = folded or FoldedWarnings(child.error)
        self._bodies: set[tuple[str, str, str]] = set()

    def tell(
        self, plan: ConnectionPlan, host: str, failure: Failure, wait: float | None, *, was_open: bool, **detail: Any
    ) -> None:
        """Tell of a failure.

        Args:
            plan: of the connection.
            host: that it was to, or that it was connected to.
            failure: why.
            wait: seconds until the next attempt; None where there is none.
            was_open: whether it was open; else an attempt failed.
            detail: more for the event.

        """
        # what it answered, without words that may be others each time
        answer = (host, failure.cause, failure.message.partition(": ")[0])
        if failure.body is not None and answer not in self._bodies:
            self._bodies.add(answer)
            detail["body"] = failure.body
        self._producer.event(
            EventKind.CONNECT_FAILED,
            conn=plan.conn,
            cause=failure.cause,
            message=failure.message,
            cure=failure.cure,
            retry_s=wait,
            **detail,
        )
        again = "not tried again" if wait is None else f"trying again in {wait:.1f} s"
        what = f"{'connections lost' if was_open else 'failed attempts to connect'} ({failure.cause})"
        self._folded.warn(plan.feed, what, f"{failure.message}; {again}", failure.cure, conn=plan.conn)

    def opened(self, host: str) -> None:
        """A connection to this host is open: what it says when it refuses the next one is new."""
        self._bodies = {told for told in self._bodies if told[0] != host}

    def due(self) -> None:
        """Pass on the counts whose interval is over; to be called about once a second."""
        self._folded.due()

    def flush(self) -> None:
        """Pass on every count now: nothing comes after this."""
        self._folded.flush()
