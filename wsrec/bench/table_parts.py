"""What all tables are made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from wsrec.bench.results import Quantiles
from wsrec.units import duration

_Round = TypeVar("_Round")


class Table(NamedTuple):
    """A table: a column of names, then columns of figures."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str


def median(rounds: Sequence[_Round], figure: Callable[[_Round], float]) -> float:
    """The median of a figure over rounds."""
    return statistics.median(map(figure, rounds))


def known_median(rounds: Sequence[_Round], figure: Callable[[_Round], float | None]) -> float | None:
    """The same of a figure that not every contestant has."""
    values = [value for one in rounds if (value := figure(one)) is not None]
    return statistics.median(values) if values else None


def quantile(rounds: Sequence[_Round], of: Callable[[_Round], Quantiles], name: str) -> str:
    """The median of a quantile of durations over rounds, for people."""
    return duration(median(rounds, lambda one: of(one)[name]))


def optional(value: float | None, form: str = ",.0f") -> str:
    """A figure, or a dash for none."""
    return "-" if value is None else format(value, form)


def ratio(value: float | None, ruler: float | None) -> str:
    """`value` in terms of `ruler`; a dash if one of them is missing."""
    return f"{value / ruler:.2f}" if ruler and value is not None else "-"
