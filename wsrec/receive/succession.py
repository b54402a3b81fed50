"""Handover check: compares the messages of a connection with those of its successor.

A connection that answers and then delivers nothing must not replace one that works: a broken server behind the load
balancer may answer handshake, subscriptions and pings. What the old connection delivers after the new one has
subscribed, the new one has to deliver as well. In a quiet market neither delivers anything, which says nothing against
the new one.
"""

from __future__ import annotations

from wsrec.host.clock import now
from wsrec.receive.connection import Connection

# The new one may have this many times fewer messages if it is unknown whether they are more than responses
_FAIR = 4
# After this many messages of the old one, a new one without any has failed: that is no coincidence
_MANY = 20
# If the old one ends: this many messages without any on the new one count as missing, even just after its start
_SOME = 4
# A message is expected within so many times the mean interval
_MEAN_INTERVALS = 8


class HandoverComparison:
    """Compares two open connections with the same subscriptions, once the new one has subscribed to everything.

    Args:
        old: the active one; None if there is none any more.
        new: its successor.
        slack: seconds that a subscription may take to start, and that one server may be behind another.

    Attributes:
        subscribed_at: when the new one had subscribed to everything, on the loop's clock; None before.
        old_messages: messages of the old one that the new one has to deliver too.
        first_old_message_at: when the first of them had arrived, on the loop's clock.
        timeout: seconds within which a message is expected, from the old one's rate; None if it had none.

    """

    def __init__(self, old: Connection | None, new: Connection, slack: float) -> None:
        self.subscribed_at: float | None = None
        self.old_messages = 0
        self.first_old_message_at: float | None = None
        self.timeout: float | None = None
        self._old = old
        self._new = new
        self._slack = slack
        self._stalls = new.stalls
        # the old one's count when the new one had subscribed, and its messages since
        self._old_at_subscribing: int | None = None
        self._beside = 0
        # counts at the start of the comparison; the new one's is earlier, since it may be ahead of the old one
        self._old_from: int | None = None
        self._new_from: int | None = None

    def look(self, moment: float) -> None:
        """Update the comparison; `moment` is on the loop's clock."""
        # pings are not data
        self._new.look_for_pings()
        old = self._old if self._old is not None and self._old.connected else None
        if old is not None and old.proved:
            distance = (now() - old.opened_at) / 1e9 / old.data
            self.timeout = max(_MEAN_INTERVALS * distance, 2 * old.idle_for)
        if self.subscribed_at is None:
            if not self._new.subscribed:
                return
            self.subscribed_at = moment
        if self._new_from is None and moment >= self.subscribed_at + self._slack:
            self._new_from = self._new.data
        if old is not None:
            self._look_at(old, moment, self.subscribed_at + 2 * self._slack)

    def _look_at(self, old: Connection, moment: float, counts_from: float) -> None:
        if self._old_at_subscribing is None:
            self._old_at_subscribing = old.data
        self._beside = max(self._beside, old.data - self._old_at_subscribing)
        if moment < counts_from:
            return
        if self._old_from is None:
            self._old_from = old.data
        self.old_messages = max(self.old_messages, old.data - self._old_from)
        if self.old_messages and self.first_old_message_at is None:
            self.first_old_message_at = moment

    @property
    def serves(self) -> bool:
        """True if the new one delivers data, not just responses."""
        return self._new.proved or (self._delivers and self.old_messages <= _FAIR * self._new.data)

    @property
    def is_behind(self) -> bool:
        """True if the old one, which has ended, delivered data that the new one did not."""
        return (self.old_messages > 0 or self._beside >= _SOME) and not self.serves

    def is_silent(self, moment: float, *, due: bool, timeout: float) -> bool:
        """True if the new one has failed: it delivers nothing of what the old one does.

        Args:
            moment: now, on the loop's clock.
            due: whether the new one is to take over now.
            timeout: seconds that it has if the old one delivers much.

        """
        if (
            self.subscribed_at is None
            or self.first_old_message_at is None
            or moment < self.first_old_message_at + self._slack
        ):
            return False
        if not due and (self.old_messages < _MANY or moment < self.subscribed_at + timeout):
            return False
        return not (self._delivers and self.serves)

    @property
    def _delivers(self) -> bool:
        """True if the new one delivered anything after all should have started, or could not be read fast enough."""
        if self._new.stalls > self._stalls:
            return True
        return self._new_from is not None and self._new.data > self._new_from
