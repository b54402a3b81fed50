"""What a connection and the one that is to take its place bring side by side.

One that answers what it is asked and then brings nothing must not take the place of one that works: a mute server
behind the balancer answers handshake, subscriptions and pings. What the old one brought once the new one was subscribed
the new one has to bring as well. In a quiet market neither brings anything, and that says nothing against the new one.
"""

from __future__ import annotations

from wsrec.host.clock import now
from wsrec.receive.connection import Connection

# How many times as much the old one may bring as the new one of which it is not known whether it brings but answers
_FAIR = 4
# So many messages of the old one are no accident: the new one need not be waited for any longer
_MANY = 20
# So many, of which the new one had brought none when the old one ended, are missing though it may just have begun
_SOME = 4
# One message in so many times the mean distance is to be expected, in a market that goes on as before
_DISTANCES = 8


class SideBySide:
    """Compares two open connections of the same subscriptions, from where the new one has asked for everything.

    Args:
        old: the one that is active; None where there is none any more.
        new: the one that is to take its place.
        slack: seconds that a subscription may take to begin, and one server may be behind another.

    Attributes:
        spoken_at: when all had been asked for on the new one, on the loop's clock; None before.
        brought: messages of the old one that the new one has to bring too.
        brought_at: when the first of them had come, on the loop's clock.
        patience: seconds within which a message is to be expected, by what the old one had brought; None where it had
            brought none.

    """

    def __init__(self, old: Connection | None, new: Connection, slack: float) -> None:
        self.spoken_at: float | None = None
        self.brought = 0
        self.brought_at: float | None = None
        self.patience: float | None = None
        self._old = old
        self._new = new
        self._slack = slack
        self._stalls = new.stalls
        # what had come when all was asked for, and what the old one has brought since
        self._asked_from: int | None = None
        self._beside = 0
        # what had come when it began to count; of the new one earlier, which may be ahead of the old one
        self._old_from: int | None = None
        self._new_from: int | None = None

    def look(self, moment: float) -> None:
        """See what has come by now, on the loop's clock."""
        # they are no data
        self._new.look_for_pings()
        old = self._old if self._old is not None and self._old.connected else None
        if old is not None and old.proved:
            distance = (now() - old.opened_at) / 1e9 / old.data
            self.patience = max(_DISTANCES * distance, 2 * old.quiet_for)
        if self.spoken_at is None:
            if not self._new.subscribed:
                return
            self.spoken_at = moment
        if self._new_from is None and moment >= self.spoken_at + self._slack:
            self._new_from = self._new.data
        if old is not None:
            self._look_at(old, moment, self.spoken_at + 2 * self._slack)

    def _look_at(self, old: Connection, moment: float, counts_from: float) -> None:
        if self._asked_from is None:
            self._asked_from = old.data
        self._beside = max(self._beside, old.data - self._asked_from)
        if moment < counts_from:
            return
        if self._old_from is None:
            self._old_from = old.data
        self.brought = max(self.brought, old.data - self._old_from)
        if self.brought and self.brought_at is None:
            self.brought_at = moment

    @property
    def serves(self) -> bool:
        """Whether the new one brings data, and not but answers to what it was asked."""
        return self._new.proved or (self._goes_on and self.brought <= _FAIR * self._new.data)

    @property
    def owes(self) -> bool:
        """Whether the old one, which has ended, brought data that the new one did not."""
        return (self.brought > 0 or self._beside >= _SOME) and not self.serves

    def is_mute(self, moment: float, *, due: bool, patience: float) -> bool:
        """Whether the new one has failed: it brings nothing of what the old one does.

        Args:
            moment: now, on the loop's clock.
            due: whether the new one is to take over now.
            patience: seconds that it has, where the old one brings much.

        """
        if self.spoken_at is None or self.brought_at is None or moment < self.brought_at + self._slack:
            return False
        if not due and (self.brought < _MANY or moment < self.spoken_at + patience):
            return False
        return not (self._goes_on and self.serves)

    @property
    def _goes_on(self) -> bool:
        """Whether something came of the new one since all should have begun on it, or could not be read fast enough."""
        if self._new.stalls > self._stalls:
            return True
        return self._new_from is not None and self._new.data > self._new_from
