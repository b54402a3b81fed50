"""What feeds want done about silence and gaps, on its way out of the writer.

While a writer brings home what another has left, it sees again what that one has seen, and acted upon. So wishes are
held back then, and only those are passed on that nothing has followed by the end.
"""

from __future__ import annotations

from wsrec.ipc import Renew, Resubscribe, Settled
from wsrec.ring.events import Event, EventKind
from wsrec.writer.feed_writer import Ask
from wsrec.writer.snapshots import SnapshotRequest

_Wish = Renew | Resubscribe | Settled | SnapshotRequest


class Wishes:
    """Passes wishes on, or holds them back.

    Args:
        ask: takes what is to be done now.

    """

    def __init__(self, ask: Ask) -> None:
        self._pass_on = ask
        self._held: list[_Wish] | None = None

    def ask(self, wish: _Wish) -> None:
        """Something is wanted."""
        if self._held is None:
            self._pass_on(wish)
        else:
            self._held = [*(held for held in self._held if not _same(held, wish)), wish]

    def hold(self) -> None:
        """Hold back what is wanted from now on."""
        self._held = []

    def happened(self, event: Event) -> None:
        """An event of the receiver, or of a snapshot: what was wanted before may be done with it."""
        if self._held:
            self._held = [wish for wish in self._held if wish.conn != event.conn or not _followed(wish, event)]

    def release(self) -> None:
        """Pass on what is still wanted, and from now on everything at once."""
        held, self._held = self._held or (), None
        for wish in held:
            self._pass_on(wish)


def _same(one: _Wish, other: _Wish) -> bool:
    if isinstance(one, SnapshotRequest) and isinstance(other, SnapshotRequest):
        return (one.conn, one.stream) == (other.conn, other.stream)
    if isinstance(one, Renew) and isinstance(other, Renew):
        return one.conn == other.conn
    return one == other


def _followed(wish: _Wish, event: Event) -> bool:
    """Whether an event of its connection did what was wanted, or made it pointless."""
    if event.kind is EventKind.DISCONNECT:
        return True
    if isinstance(wish, SnapshotRequest):
        about = event.detail.get("channel"), event.detail.get("symbol")
        return event.kind is EventKind.SNAPSHOT and about == (wish.channel, wish.symbol)
    if isinstance(wish, Resubscribe):
        if event.kind is not EventKind.SUBSCRIBE:
            return False
        if wish.parts is not None:
            return event.detail.get("request") in {part.number for part in wish.parts}
        return set(wish.topics) <= set(event.detail.get("topics", ()))
    return False
