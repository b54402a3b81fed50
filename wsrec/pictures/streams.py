"""When each stream, a channel and symbol, had messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.format.columns import words
from wsrec.histogram import Int64s
from wsrec.pictures.model import Coverage, Stream
from wsrec.pictures.time_steps import SHORTEST, Placed, excess, summed

COLUMNS = ("channel", "symbol")
"""What `Streams.add` needs of a batch."""
STEPS = 150
"""Steps of time at most."""

_MOST = 4096
_SHOWN = 200
_WAITING = 16
# numbers that are counted in an array of all
_DENSE = 1 << 20
_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max

Name = tuple[str | None, str | None]


class Streams:
    """The messages of each stream.

    Beyond 4,096 streams, the first ones by name are told apart, so that the order of files does not matter.
    """

    def __init__(self) -> None:
        self._level = 0
        self._messages = 0
        self._gaps: Counter[Name] = Counter()
        self._gap_count = 0
        self._is_full = False
        self._of: dict[Name, _Stream] = {}

    def add(self, batch: Any, placed: Placed, by: int, recv_time: Int64s) -> None:
        """Count messages.

        Args:
            batch: of `COLUMNS`.
            placed: where its rows are.
            by: how often the length of those steps is doubled for the steps here.
            recv_time: of each (ns).

        """
        self._coarsen(placed.level + by)
        channel, channels = words(batch, "channel")
        symbol, symbols = words(batch, "symbol")
        stream = channel.astype(np.int64) * len(symbols) + symbol
        steps = np.unique(placed.steps >> by)
        place = np.searchsorted(steps, placed.steps >> by)[placed.place]
        self._messages += len(stream)
        codes, of_row = _distinct(stream, len(channels) * len(symbols))
        first, last = np.full(len(codes), _GREATEST), np.full(len(codes), _LEAST)
        np.minimum.at(first, of_row, recv_time)
        np.maximum.at(last, of_row, recv_time)
        cells, counts = _counted(of_row * len(steps) + place, len(codes) * len(steps))
        row, column = np.divmod(cells, len(steps))
        begins = np.searchsorted(row, np.arange(len(codes) + 1)).tolist()
        names = [(channels[code // len(symbols)], symbols[code % len(symbols)]) for code in codes.tolist()]
        self._keep(names)
        for at, name in enumerate(names):
            of = self._of.get(name)
            if of is not None:
                mine = slice(begins[at], begins[at + 1])
                of.add(steps[column[mine]], counts[mine], int(first[at]), int(last[at]))

    def add_gaps(self, gaps: Mapping[Name, int]) -> None:
        """Count events `gap` by the stream that they name."""
        self._gaps.update(gaps)
        self._gap_count += sum(gaps.values())
        self._keep_gaps()

    def merge(self, other: Streams, level: int) -> None:
        """Add the messages of another, in steps of a level that is not below that of either."""
        self._coarsen(level)
        other._coarsen(level)
        self._messages += other._messages
        self._gaps.update(other._gaps)
        self._gap_count += other._gap_count
        self._keep_gaps()
        self._is_full |= other._is_full
        self._keep(other._of)
        for name, of in other._of.items():
            if name in self._of:
                of.settled()
                self._of[name].add(of.steps, of.counts, of.first, of.last)

    def _keep(self, names: Iterable[Name]) -> None:
        new = {*names} - self._of.keys()
        if not new:
            return
        every = {*self._of, *new}
        if len(every) > _MOST:
            self._is_full = True
            every = {*sorted(every, key=_order)[:_MOST]}
            self._of = {name: of for name, of in self._of.items() if name in every}
            new &= every
        self._of |= {name: _Stream() for name in new}

    def _keep_gaps(self) -> None:
        if len(self._gaps) > _MOST:
            self._gaps = Counter({name: self._gaps[name] for name in sorted(self._gaps, key=_order)[:_MOST]})

    def _coarsen(self, level: int) -> None:
        if level > self._level:
            for of in self._of.values():
                of.coarsen(level - self._level)
            self._level = level

    def coverage(self, used: Int64s, level: int) -> Coverage | None:
        """When the streams had messages; None without any.

        Args:
            used, level: the steps of time that are in use.

        """
        if not self._messages:
            return None
        by = excess(used, STEPS)
        self._coarsen(level + by)
        width = SHORTEST << (level + by)
        order = sorted(self._of, key=lambda name: (-self._gaps[name], -self._of[name].messages, _order(name)))
        shown = [(name, self._of[name]) for name in order[:_SHOWN]]
        return Coverage(
            width=width,
            streams=[
                Stream(
                    channel=channel,
                    symbol=symbol,
                    messages=of.messages,
                    first=of.first,
                    last=of.last,
                    gaps=self._gaps[channel, symbol],
                    begins=(of.settled().steps * width).tolist(),
                    counts=of.counts.tolist(),
                )
                for (channel, symbol), of in shown
            ],
            others=len(order) - len(shown) + self._is_full,
            other_messages=self._messages - sum(of.messages for _, of in shown),
            other_gaps=self._gap_count - sum(self._gaps[name] for name, _ in shown),
            known=not self._is_full,
        )


class _Stream:
    __slots__ = ("counts", "first", "last", "messages", "steps", "waiting")

    def __init__(self) -> None:
        self.messages = 0
        self.first, self.last = _GREATEST, _LEAST
        self.steps: Int64s = np.zeros(0, np.int64)
        self.counts: Int64s = np.zeros(0, np.int64)
        self.waiting: list[tuple[Int64s, Int64s]] = []

    def add(self, steps: Int64s, counts: Int64s, first: int, last: int) -> None:
        self.messages += int(counts.sum())
        self.first, self.last = min(self.first, first), max(self.last, last)
        self.waiting.append((steps, counts))
        if len(self.waiting) > _WAITING:
            self.settled()

    def settled(self) -> _Stream:
        found = [(self.steps, self.counts), *self.waiting]
        self.steps, self.counts = summed(
            np.concatenate([steps for steps, _ in found]), np.concatenate([counts for _, counts in found])
        )
        self.waiting = []
        return self

    def coarsen(self, by: int) -> None:
        self.waiting.append((self.steps, self.counts))
        self.waiting = [(steps >> by, counts) for steps, counts in self.waiting]
        self.steps, self.counts = self.steps[:0], self.counts[:0]
        self.settled()


def _order(name: Name) -> tuple[bool, str, bool, str]:
    channel, symbol = name
    return channel is not None, channel or "", symbol is not None, symbol or ""


def _distinct(numbers: Int64s, most: int) -> tuple[Int64s, npt.NDArray[np.intp]]:
    """The different numbers of an array below `most`, ascending, and of each element its index among them."""
    if most > _DENSE:
        codes, of_row = np.unique(numbers, return_inverse=True)
        return codes, of_row
    codes = np.bincount(numbers).nonzero()[0]
    table = np.zeros(int(codes[-1]) + 1, np.intp)
    table[codes] = np.arange(len(codes))
    return codes, table[numbers]


def _counted(numbers: npt.NDArray[np.integer], most: int) -> tuple[Int64s, Int64s]:
    """The different numbers of an array below `most`, ascending, and how often each is there."""
    if most > _DENSE:
        found, counts = np.unique(numbers, return_counts=True)
        return found, counts
    every = np.bincount(numbers)
    used = every.nonzero()[0]
    return used, every[used]


def counts_of_streams(batch: Any) -> dict[Name, int]:
    """How many rows each stream has in a batch of `COLUMNS`."""
    if not batch.num_rows:
        return {}
    channel, channels = words(batch, "channel")
    symbol, symbols = words(batch, "symbol")
    codes, counts = _counted(channel.astype(np.int64) * len(symbols) + symbol, len(channels) * len(symbols))
    names = [(channels[code // len(symbols)], symbols[code % len(symbols)]) for code in codes.tolist()]
    return dict(zip(names, counts.tolist(), strict=True))
