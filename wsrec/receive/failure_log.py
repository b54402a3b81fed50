"""Failure reporting: an event for each failed or lost connection, and log lines folded by kind.

An exchange that is down refuses every attempt of every connection, usually with the same page. So the full body is only
recorded with the first such refusal, until a connection to the host is open again; and the log has the first few lines
of a kind, then one a minute with the count of the rest. The kind does not depend on the server's text, which may differ
each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from wsrec import ipc
from wsrec.log_folding import FoldedWarnings
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.failure import Failure
from wsrec.receive.producer import Producer
from wsrec.ring.events import EventKind

INTERVAL: Final = 600.0
"""Seconds until a changed body is recorded again; also the window of `MOST`."""

MOST: Final = 8
"""Bodies recorded per host and `INTERVAL`."""


@dataclass
class _Host:
    """Bodies recorded for a host: their number since `since`; by kind of failure the time and hash of the last."""

    since: float
    count: int = 0
    reported: dict[str, tuple[float, int]] = field(default_factory=dict)


class FailureLog:
    """Reports the failures of a receiver's connections.

    Args:
        producer: takes the events.
        folded: takes the log lines.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        producer: Producer,
        folded: FoldedWarnings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._producer = producer
        self._folded = folded or FoldedWarnings(ipc.error)
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def report(
        self, plan: ConnectionPlan, host: str, failure: Failure, wait: float | None, *, was_open: bool, **detail: Any
    ) -> None:
        """Report a failure.

        Args:
            plan: the connection's plan.
            host: the host that it was, or should have been, connected to.
            failure: the diagnosis.
            wait: seconds until the next attempt; None if there is none.
            was_open: whether an open connection was lost; otherwise an attempt failed.
            detail: further details of the event.

        """
        kind = failure.cause if failure.status is None else f"{failure.cause} {failure.status}"
        if failure.body is not None and self._is_new(host, kind, failure.body):
            detail["body"] = failure.body
        self._producer.event(
            EventKind.CONNECT_FAILED,
            conn=plan.conn,
            cause=failure.cause,
            message=failure.message,
            hint=failure.hint,
            retry_s=wait,
            **detail,
        )
        again = "not retrying" if wait is None else f"retrying in {wait:.1f} s"
        what = f"{'connections lost' if was_open else 'failed attempts to connect'} ({kind})"
        # many targets of one host fail together; one that will not be retried gets a line of its own
        of = None if wait is None else host
        self._folded.warn(
            plan.feed,
            what,
            f"{failure.message}; {again}",
            failure.hint,
            conn=plan.conn,
            of=of,
            kind=EventKind.DISCONNECT if was_open else EventKind.CONNECT_FAILED,
            detail={"cause": failure.cause, "retry_s": wait},
        )

    def opened(self, host: str) -> None:
        """A connection to this host is open: the next refusal's body is recorded again."""
        if host in self._hosts:
            self._hosts[host].reported.clear()

    def _is_new(self, host: str, kind: str, body: str) -> bool:
        """True if a body is to be recorded: the first of its kind, or one that has changed after `INTERVAL`."""
        now = self._clock()
        state = self._hosts.setdefault(host, _Host(now))
        if now - state.since >= INTERVAL:
            state.since, state.count = now, 0
        if kind in state.reported:
            when, known = state.reported[kind]
            if now - when < INTERVAL or hash(body) == known:
                return False
        if state.count >= MOST:
            return False
        state.count += 1
        state.reported[kind] = now, hash(body)
        return True

    def due(self) -> None:
        """Emit the counts whose interval is over; call about once a second."""
        self._folded.due()

    def flush(self) -> None:
        """Emit all counts now, at the end."""
        self._folded.flush()
