"""Handover check: compares the first number of a new connection with the last of the one that it replaces.

Numbers are compared where they run over a symbol and every one of them comes (`next`, `touching`, `previous`): then the
first on the new connection must not lie beyond what may follow the last on the old one. It may lie before it, as both
were open. Numbers of a connection are its own, and a message that begins anew, or does not name the one before it, says
nothing of what was before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple


class First(NamedTuple):
    """The first message of a stream on a connection.

    Attributes:
        found: the number that follows, or names, the one before it; None where it says nothing of what was before.
        row: its `seq`.

    """

    found: int | None
    row: int


class _Last(NamedTuple):
    conn: int
    number: int


class Unjoined(NamedTuple):
    """Numbers that do not join: those of a stream (its key without the connection) from an old connection to a new."""

    stream: int
    old: int
    new: int
    last: int
    first: First


class Joints:
    """First and last numbers of the connections that take turns.

    Args:
        turns: the connections that do.

    """

    def __init__(self, turns: Collection[int]) -> None:
        self._turns = frozenset(turns)
        self._first: dict[int, dict[int, First]] = {}
        # each stream's last number, and the connection that brought it; and the same for what has not come yet
        self._ended: dict[int, dict[int, _Last]] = {}
        self._awaited: dict[int, dict[int, _Last]] = {}

    def of(self, conn: int) -> bool:
        """Whether a connection takes turns with another."""
        return conn in self._turns

    def begins(self, conn: int, stream: int, first: First) -> Unjoined | None:
        """A stream's first message on a connection has come; what it does not join, where that is known by now."""
        self._first.setdefault(conn, {})[stream] = first
        last = self._awaited.get(conn, {}).pop(stream, None)
        return None if last is None else _held(Unjoined(stream, last.conn, conn, last.number, first))

    def ends(self, conn: int, last: Mapping[int, int]) -> None:
        """A connection has ended, with these last numbers."""
        self._first.pop(conn, None)
        # streams without a message here continue from the previous one
        left = self._awaited.pop(conn, {})
        if conn in self._turns:
            self._ended[conn] = {**left, **{stream: _Last(conn, number) for stream, number in last.items()}}

    def replaced(self, old: int, new: int) -> Iterator[Unjoined]:
        """One connection has taken the place of another, which has ended."""
        first, awaited = self._first.get(new, {}), dict[int, _Last]()
        for stream, last in self._ended.pop(old, {}).items():
            if (came := first.get(stream)) is None:
                awaited[stream] = last
            elif (found := _held(Unjoined(stream, last.conn, new, last.number, came))) is not None:
                yield found
        self._awaited[new] = awaited

    def forget(self) -> None:
        """What came before is not known any more."""
        self._first.clear()
        self._ended.clear()
        self._awaited.clear()


def _held(joint: Unjoined) -> Unjoined | None:
    found = joint.first.found
    return joint if found is not None and found > joint.last else None
