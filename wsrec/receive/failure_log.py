"""What is told of connections that could not be made or were lost: an event of each, and lines that are folded.

An exchange that is down refuses every attempt of every connection, mostly with the same page. So the whole of what it
says is in the event of the first attempt alone that it answers so, until a connection to it is open again; and a log
has the first few lines of a kind, then one a minute that counts the rest. What is of one kind, the server's words have
no part in: they may be others each time.
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
"""Seconds after which a body that has changed is told again; and in which `MOST` are told of a host at most."""

MOST: Final = 8
"""See `INTERVAL`."""


@dataclass
class _Host:
    """What was told of what a host says: how many bodies since when; by the kind of failure, when, and its hash."""

    since: float
    count: int = 0
    told: dict[str, tuple[float, int]] = field(default_factory=dict)


class FailureLog:
    """Tells of the failures of a receiver's connections.

    Args:
        producer: takes the events.
        folded: takes the lines.
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
        again = "not tried again" if wait is None else f"trying again in {wait:.1f} s"
        what = f"{'connections lost' if was_open else 'failed attempts to connect'} ({kind})"
        # many targets of one host fail together; one that is given up says so itself
        of = None if wait is None else host
        self._folded.warn(plan.feed, what, f"{failure.message}; {again}", failure.hint, conn=plan.conn, of=of)

    def opened(self, host: str) -> None:
        """A connection to this host is open: what it says when it refuses the next one is new."""
        if host in self._hosts:
            self._hosts[host].told.clear()

    def _is_new(self, host: str, kind: str, body: str) -> bool:
        """Whether a body is to be told: the first of its kind, or one that has changed since long ago."""
        now = self._clock()
        state = self._hosts.setdefault(host, _Host(now))
        if now - state.since >= INTERVAL:
            state.since, state.count = now, 0
        if kind in state.told:
            when, known = state.told[kind]
            if now - when < INTERVAL or hash(body) == known:
                return False
        if state.count >= MOST:
            return False
        state.count += 1
        state.told[kind] = now, hash(body)
        return True

    def due(self) -> None:
        """Pass on the counts whose interval is over; to be called about once a second."""
        self._folded.due()

    def flush(self) -> None:
        """Pass on every count now: nothing comes after this."""
        self._folded.flush()
