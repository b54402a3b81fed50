"""Proof that a successor delivers what the active connection does, and the time from which it may take over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.attempts import ConnectionAttempts
from wsrec.receive.connection import Connection
from wsrec.receive.failure import Failure
from wsrec.receive.succession import HandoverComparison

# Time for the successor of a stale or busy connection to deliver data, once it has subscribed (s)
TIMEOUT = 5.0
_POLL = 0.02
# Overlap once all subscriptions have started: one of an exchange's servers may be behind another (s)
OVERLAP = 1.0
# Overlap after the last subscription if that is unknown: the longest time for a confirmation (s)
SETTLING = 10.0
# Longest wait for data if the old connection has ended and had delivered little (s)
LONGEST = 300.0
# It is closed with this share of the lifetime left, or so many seconds, if its successor delivers data, settled or not
_CUT_LEFT = 0.02
_CUT_LEFT_MOST = 5.0


class SuccessorProof:
    """Decides whether, and when, an open connection may become the active one.

    Args:
        plan: the planned connection.
        attempts: explains failures, and remembers them for the connection's address.
        history: which of the host's addresses have failed.
        is_stale: whether the active connection no longer delivers data.

    Attributes:
        proved_at: monotonic time (ns) at which the successor was known to deliver data; 0 before.
        doubted: whether a new connection must first deliver data: the last one delivered nothing of what was due.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        attempts: ConnectionAttempts,
        history: AddressHistory,
        is_stale: Callable[[], bool],
    ) -> None:
        self.proved_at = 0
        self.doubted = False
        # within how many seconds it must do so
        self._timeout = SETTLING
        # when the successor was known to have all subscriptions, on the loop's clock
        self._settled_at: float | None = None
        self._plan = plan
        self._attempts = attempts
        self._history = history
        self._is_stale = is_stale
        self._loop = asyncio.get_running_loop()

    def compare(self, old: Connection | None, new: Connection) -> HandoverComparison:
        """Begin a comparison of the active connection with its successor."""
        return HandoverComparison(old, new, OVERLAP)

    def begin(self) -> None:
        """Forget the previous successor."""
        self.proved_at, self._settled_at = 0, None

    def settled(self) -> None:
        """All subscriptions of the successor have started, or never will; repeated reports do not postpone it."""
        self._settled_at = self._loop.time() if self._settled_at is None else self._settled_at

    def old_ended(self, beside: HandoverComparison) -> None:
        """The active connection ended first: its last messages may be missing on the new one."""
        self._look(beside)
        self.doubted = self.doubted or beside.is_behind

    def expect(self, seconds: float | None) -> None:
        """Within how many seconds a message is expected; None if unknown."""
        if seconds is not None:
            self._timeout = max(SETTLING, min(seconds, LONGEST))

    def _look(self, beside: HandoverComparison) -> None:
        beside.look(self._loop.time())
        if beside.serves and not self.proved_at:
            self.proved_at = now()

    async def prove(self, old: Connection | None, new: Connection, beside: HandoverComparison) -> Failure | None:
        """Wait until a connection may take over; returns why it may not, or why it ended, None if it may."""
        while not new.ended:
            self._look(beside)
            if beside.subscribed_at is not None:
                moment = self._loop.time()
                if old is None:
                    due, silent = beside.serves, moment >= beside.subscribed_at + self._timeout
                else:
                    due = moment >= self._takes_over_at(old, beside, beside.subscribed_at)
                    silent = beside.is_silent(moment, due=due, timeout=TIMEOUT)
                if silent and not (old is None and due):
                    self.doubted = True
                    return self._silent_failure(new, moment - beside.subscribed_at, alone=old is None)
                if due:
                    return None
            await asyncio.sleep(_POLL)
        failure = self._attempts.explain(new.reason_of_end(), new)
        self._attempts.judge(new, proven=False)
        new.tear_down()
        return failure

    def _silent_failure(self, new: Connection, seconds: float, *, alone: bool) -> Failure:
        """The failure of a connection that delivers nothing and so does not take over."""
        if new.address is not None:
            self._history.failed(new.address, "silent")
        old_messages = "what the previous connection delivered" if alone else "what the open one delivers"
        what = f"{self._plan.public_url} responds, but has delivered nothing of {old_messages} for {seconds:.1f} s"
        meanwhile = "messages are lost meanwhile" if alone else "and the open one is kept"
        return Failure("silent", what, f"trying another connection, {meanwhile}; report it to the exchange")

    def _takes_over_at(self, old: Connection, beside: HandoverComparison, subscribed_at: float) -> float:
        """When the old one may be closed, on the loop's clock; the new one had subscribed at `subscribed_at`."""
        # at least one message of the old one must have had time to arrive on the new one
        judged = 0.0 if beside.first_old_message_at is None or beside.serves else beside.first_old_message_at + OVERLAP
        if self._is_stale():
            # the old one delivers nothing
            if not self.proved_at:
                return max(subscribed_at + TIMEOUT, judged)
            ago = (now() - self.proved_at) / 1e9
            return max(self._loop.time() - ago, subscribed_at) + OVERLAP
        due = max(subscribed_at + SETTLING, judged)
        if not self.proved_at:
            # nothing shows that it is better than a working one, which stays until the exchange ends it
            return due
        if self._settled_at is not None:
            due = min(due, max(self._settled_at, subscribed_at) + OVERLAP)
        if self._plan.lifetime is not None:
            left = self._plan.lifetime - min(self._plan.lifetime * _CUT_LEFT, _CUT_LEFT_MOST)
            # any closer to the last subscription, more could be missing than a cut by the exchange would cost
            cut = self._loop.time() + left - (now() - old.opened_at) / 1e9
            due = min(due, max(cut, subscribed_at + OVERLAP))
        return due
