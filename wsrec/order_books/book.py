"""An order book in memory, made from level changes. The readable version of `_book.pyx`.

Levels are found by their price as a double: prices of up to 15 digits are distinct doubles. A side is ordered from its
worst to its best level, so that the frequent changes near the best price move little. What a peer sends decides how
long a side gets, up to a limit; then the book is `overfull` until it is cleared.

`book_implementation.Book` is the version in use.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import NamedTuple

from wsrec.order_books.level_changes import ASK, BID, CLEAR, NO_SIDE, SET, LevelChanges

LEVELS_MAX = 1 << 20
"""Most levels of a side; no exchange sends a tenth of them."""


class Levels(NamedTuple):
    """One side of a book.

    Attributes:
        prices, sizes: of each level, the best one first.
        counts: orders at each level; -1 where unknown.

    """

    prices: list[float]
    sizes: list[float]
    counts: list[int]


class Book:
    """An order book.

    Args:
        depth: levels of each side that the subscription covers: after each message those behind are dropped, because
            the exchange does not update them any more. 0: all.
        most: most levels of a side.

    Attributes:
        crossed: whether the best bid was at or above the best ask after the last message.
        overfull: whether a side had more than `most` levels since the book was cleared: some are not in it.

    """

    def __init__(self, depth: int = 0, most: int = LEVELS_MAX) -> None:
        self._depth, self._most = depth, most
        self.clear()

    def clear(self) -> None:
        """Remove all levels."""
        self._sides = (_Side(1.0), _Side(-1.0))
        self.crossed = self.overfull = False

    def __len__(self) -> int:
        return sum(len(side.order) for side in self._sides)

    def apply(self, changes: LevelChanges, start: int, stop: int) -> list[int]:
        """Apply rows `start` to `stop` in order.

        Returns:
            The last rows of the messages after which `crossed` was another than before.

        """
        part = slice(start, stop)
        turns = []
        columns = zip(*(column[part].tolist() for column in changes), strict=True)
        for row, (action, side, price, size, count, named, last) in enumerate(columns, start):
            if action == CLEAR:
                crossed = self.crossed
                self.clear()
                self.crossed = crossed
            elif not math.isnan(price):
                self._change(action, side, price, size, count, named=named)
            if last:
                for of in self._sides:
                    of.cut(self._depth)
                bids, asks = self._sides
                crossed = bool(bids.order and asks.order) and bids.order[-1] >= -asks.order[-1]
                if crossed != self.crossed:
                    self.crossed = crossed
                    turns.append(row)
        return turns

    def _change(self, action: int, side: int, price: float, size: float, count: int, *, named: bool) -> None:
        if action == SET and size > 0:
            if side == NO_SIDE:
                return
            if named:
                # an id changes sides
                self._sides[1 - side].remove(price)
            if not self._sides[side].put(price, size, count, self._most):
                self.overfull = True
            return
        for of in (BID, ASK) if side == NO_SIDE else (side,):
            self._sides[of].remove(price)

    def levels(self, count: int = 0) -> tuple[Levels, Levels]:
        """The best levels of bids and asks; 0: all."""
        bids, asks = (side.best(count) for side in self._sides)
        return bids, asks


class _Side:
    """One side.

    Args:
        sign: 1 if the highest price is the best one, -1 if the lowest is.

    Attributes:
        order: the prices times the sign, ascending.

    """

    def __init__(self, sign: float) -> None:
        self.order: list[float] = []
        self._sign = sign
        self._of: dict[float, tuple[float, int]] = {}

    def put(self, price: float, size: float, count: int, most: int) -> bool:
        key = price * self._sign
        if key not in self._of:
            if len(self.order) >= most:
                return False
            insort(self.order, key)
        self._of[key] = size, count
        return True

    def remove(self, price: float) -> None:
        key = price * self._sign
        if self._of.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]

    def cut(self, depth: int) -> None:
        if depth and len(self.order) > depth:
            for key in self.order[:-depth]:
                del self._of[key]
            del self.order[:-depth]

    def best(self, count: int) -> Levels:
        keys = self.order[-count:][::-1] if count else self.order[::-1]
        found = [self._of[key] for key in keys]
        return Levels([key * self._sign for key in keys], [size for size, _ in found], [count for _, count in found])
