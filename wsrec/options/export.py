"""Declarations of the options of `wsrec export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from wsrec.options.option import Option
from wsrec.options.rows import Since, Until
from wsrec.options.value_types import Choice, Duration, File, Folder, Names, Number


class Format(StrEnum):
    """Format of exported files; the value is their suffix."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"
    """Arrow IPC file."""


class TimeUnit(StrEnum):
    """Unit of exported times."""

    NS = "ns"
    US = "us"


class Numbers(StrEnum):
    """How numbers are stored."""

    FLOAT = "float"
    """float64: correctly rounded from the digits as written."""
    DECIMAL = "decimal"
    """decimal128(38, 18), of rates decimal128(38, 24): exact, or refused."""


class ColumnNames(StrEnum):
    """Whose names the columns have."""

    WSREC = "wsrec"
    TARDIS = "tardis"
    """tardis.dev's, where it has one; times are then in microseconds."""


class Tool(StrEnum):
    """A tool whose own files are written."""

    HFTBACKTEST = "hftbacktest"
    NAUTILUS = "nautilus"
    TARDIS = "tardis"


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of the tables are wanted."""

    since: Since = None
    until: Until = None
    symbols: Annotated[
        tuple[str, ...],
        Option(
            "Only these, as the exchange writes them or as BTC/USDT.",
            Names(),
            metavar="SYM,...",
            default="all",
            in_run=False,
        ),
    ] = ()
    channels: Annotated[
        tuple[str, ...],
        Option(
            "Only these: the exchange's own names, or `trades`, `book`, `bbo`, `ticker` for the channel listed as "
            "that by `wsrec feeds show`.",
            Names(),
            metavar="CH,...",
            default="all",
            in_run=False,
        ),
    ] = ()


class ExportOptions(Rows, frozen=True, kw_only=True):
    """What is exported, and how."""

    tables: Annotated[
        tuple[str, ...],
        Option(
            "Which: `trades`, `quotes`, `book_changes`, `book_snapshots`, `tickers`, `derivative_ticker`, "
            "`liquidations`, `candles`, `gaps`.",
            Names(),
            metavar="TABLE,...",
            default="all, or those that the tool usually takes",
            in_run=False,
        ),
    ] = ()
    out: Annotated[
        Path | None,
        Option(
            "Folder for the files.",
            Folder(),
            short="o",
            default="`tables` in the capture; of `--to` one here, named after the tool",
            in_run=False,
        ),
    ] = None
    format: Annotated[Format, Option("Format of the files.", Choice(Format), in_run=False)] = Format.PARQUET
    time: Annotated[
        TimeUnit, Option("Unit of times; `us` cuts what is below, and says how often.", Choice(TimeUnit), in_run=False)
    ] = TimeUnit.NS
    numbers: Annotated[
        Numbers,
        Option(
            "Prices and sizes as `float` (64 bits, correctly rounded), or as `decimal`: exact, or an error.",
            Choice(Numbers),
            in_run=False,
        ),
    ] = Numbers.FLOAT
    names: Annotated[
        ColumnNames,
        Option("Names of columns; with `tardis` times are in microseconds.", Choice(ColumnNames), in_run=False),
    ] = ColumnNames.WSREC
    to: Annotated[
        Tool | None,
        Option(
            "Write another tool's files: events of `hftbacktest`, a catalogue of `nautilus`_trader, or CSV files like "
            "those of `tardis`.dev.",
            Choice(Tool),
            excludes="format",
            in_run=False,
        ),
    ] = None
    exchange_offset: Annotated[
        float | None,
        Option(
            "With `--to`: a row without a time of the exchange happened this long before it arrived.",
            Duration(),
            metavar="TIME",
            in_run=False,
        ),
    ] = None
    clock_shift: Annotated[
        int | None,
        Option(
            "With `--to hftbacktest`: all local times are this much later (ns): several exports have one clock.",
            Number(0, 10**17),
            metavar="NS",
            default="what the rows of the export need, as it prints",
            in_run=False,
        ),
    ] = None
    feed: Annotated[
        str | None,
        Option(
            "A feed's YAML file whose `tables` take the place of those of the catalogue.",
            File("a feed's YAML file"),
            metavar="FILE",
            in_run=False,
        ),
    ] = None
