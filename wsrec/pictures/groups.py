"""Distributions by channel or connection, as percentile curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from wsrec.arrays import values
from wsrec.format import grouped
from wsrec.format.columns import words
from wsrec.histogram import Histogram, Int64s
from wsrec.pictures.model import PERCENTILES, Curve
from wsrec.report.signed import SignedHistogram
from wsrec.units import plural

_MOST = 256
_SHOWN = 12

Name = str | int | None
Rows = npt.NDArray[np.intp]


class Groups:
    """Durations by name.

    Beyond 256 names they are merged: all but the first ones in order, so that the order of files does not matter.
    """

    def __init__(self) -> None:
        self._histograms: dict[Name, Histogram] = {}
        self._others = Histogram()
        self._is_full = False

    def add_words(self, batch: Any, name: str, ns: Int64s, rows: Rows | None) -> None:
        """Count durations (ns) by a column of words of their rows; None: all rows."""
        codes, known = words(batch, name)
        self._add(codes if rows is None else codes[rows], known, ns)

    def add_numbers(self, batch: Any, name: str, ns: Int64s, rows: Rows | None) -> None:
        """Count durations (ns) by a column of small numbers of their rows; None: all rows."""
        numbers = values(batch.column(name))
        self._add(numbers if rows is None else numbers[rows], range(1 << 16), ns)

    def _add(self, codes: npt.NDArray[np.integer], names: Any, ns: Int64s) -> None:
        used = np.bincount(codes).nonzero()[0].tolist()
        self._keep({names[code] for code in used})
        number_of = {name: number for number, name in enumerate(self._histograms, 1)}
        group_of = np.zeros(used[-1] + 1, np.uint16)
        for code in used:
            group_of[code] = number_of.get(names[code], 0)
        grouped.add([self._others, *self._histograms.values()], ns, group_of[codes])

    def _keep(self, names: Iterable[Name]) -> None:
        new: set[Name] = {*names} - self._histograms.keys()
        if not new:
            return
        every = sorted({*self._histograms, *new}, key=_order)
        for name in every[_MOST:]:
            self._is_full = True
            beyond = self._histograms.pop(name, None)
            if beyond is not None:
                self._others.merge(beyond)
        for name in every[:_MOST]:
            self._histograms.setdefault(name, Histogram())

    def merge(self, other: Groups) -> None:
        """Add the durations of another."""
        self._keep(other._histograms)
        self._others.merge(other._others)
        self._is_full |= other._is_full
        for name, histogram in other._histograms.items():
            self._histograms.get(name, self._others).merge(histogram)

    def curves(self, named: Callable[[Any], str | None]) -> list[Curve]:
        """The curve of each, by descending count; of all but the first 12 together."""
        found = [(named(name), each) for name, each in self._histograms.items()]
        return curves(found, self._others, is_full=self._is_full)


def _order(name: Name) -> tuple[bool, str | int]:
    return name is not None, 0 if name is None else name


Durations = TypeVar("Durations", Histogram, SignedHistogram)


def curves(found: list[tuple[str | None, Durations]], others: Durations, *, is_full: bool) -> list[Curve]:
    """Curves by descending count, of all but the first 12 together.

    Args:
        found: distributions and what they are of.
        others: what is merged already.
        is_full: whether there may be something in it.

    """
    order: list[tuple[str | None, Durations]] = sorted(
        (each for each in found if each[1].count), key=lambda each: (-each[1].count, each[0] is not None, each[0] or "")
    )
    shown: list[tuple[str | None, Durations]] = order[:_SHOWN]
    rest: list[tuple[str | None, Durations]] = order[_SHOWN:]
    drawn: list[Curve] = [curve(name, each) for name, each in shown]
    if len(rest) == 1 and not is_full:
        return [*drawn, *(curve(name, each) for name, each in rest)]
    if rest or is_full:
        merged = type(others)()
        for each in (others, *(each for _, each in rest)):
            merged.merge(each)  # type: ignore[arg-type]
        name = f"more than {plural(len(rest), 'other')}" if is_full else plural(len(rest), "other")
        drawn.append(curve(name, merged, others=max(len(rest), 1)))
    return drawn


def curve(name: str | None, durations: Histogram | SignedHistogram, others: int = 0) -> Curve:
    """The percentiles of durations, of which there is one at least."""
    count, least, most = durations.count, durations.min, durations.max
    assert least is not None
    assert most is not None
    return Curve(
        name=name,
        others=others,
        count=count,
        values=[durations.quantile(at / 100) if count * (100 - at) >= 100 else None for at in PERCENTILES],
        min=least,
        max=most,
    )
