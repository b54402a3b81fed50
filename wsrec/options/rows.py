"""Declarations of the options that choose rows of a capture, as several commands have them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wsrec.options.option import Option
from wsrec.options.time_types import Instant
from wsrec.options.value_types import Names

Since = Annotated[
    int | None, Option("Only rows that arrived at or after this time.", Instant(), metavar="TIME", in_run=False)
]
Until = Annotated[
    int | None, Option("Only rows that arrived before this time.", Instant(), metavar="TIME", in_run=False)
]


class RowFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a capture are reported on."""

    since: Since = None
    until: Until = None
    channel: Annotated[
        tuple[str, ...],
        Option(
            "Only these: the exchange's own names, or `trades`, `book`, `bbo`, `ticker`.",
            Names(),
            short="c",
            metavar="CH,...",
            default="all",
            in_run=False,
        ),
    ] = ()
    symbol: Annotated[
        tuple[str, ...],
        Option(
            "Only these, as the exchange writes them or as BTC/USDT.",
            Names(),
            short="s",
            metavar="SYM,...",
            default="all",
            in_run=False,
        ),
    ] = ()
