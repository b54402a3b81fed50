"""The option `--format` of the commands that print a table, and its forms besides the table for people.

`--json` is short for `--format json`. CSV has one table with a row for each thing and exact figures, whose units are
in the names of its columns; Markdown has the same table with figures for people.
"""

from __future__ import annotations

import csv
import functools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeVar, cast

import click
from click.core import ParameterSource

from wsrec import stand_ins
from wsrec.config.click_types import ChoiceParam
from wsrec.feed.errors import ConfigError
from wsrec.units import clean, duration, no_formula, size, utc

_F = TypeVar("_F", bound=Callable[..., Any])

_LONGEST = 10_000
_UNITS = {"ns": "_ns", "time": "_ns", "bytes": "_bytes"}


class OutputFormat(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    """for people"""
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class Column(NamedTuple):
    """A column of a listing.

    Attributes:
        name: its name, without its unit.
        kind: what its values are: text, counts, durations or times (both ns), or bytes.

    """

    name: str
    kind: Literal["text", "count", "ns", "time", "bytes"] = "text"


class Listing(NamedTuple):
    """A table with exact values.

    Attributes:
        columns: its columns.
        rows: its rows; None is no value.

    """

    columns: Sequence[Column]
    rows: Iterable[Sequence[str | float | None]]


def output_format(json_help: str) -> Callable[[_F], _F]:
    """Add `--format` and `--json` to a command, whose function takes `form`.

    Args:
        json_help: what the command prints as JSON.

    """

    def add(command: _F) -> _F:
        @functools.wraps(command)
        def run(*args: Any, json: bool, **values: Any) -> Any:
            form = values.pop("format") or OutputFormat.TABLE
            if json and is_json_first("format", form):
                form = OutputFormat.JSON
            return command(*args, form=form, **values)

        flag = click.option("--json", is_flag=True, help=f"{json_help} The same as --format json.")
        option = click.option(
            "--format",
            type=ChoiceParam(OutputFormat),
            help="table, json, csv or markdown. [default: table]",
        )
        return cast(_F, option(flag(run)))

    return add


def is_json_first(option: str, form: str | None) -> bool:
    """Whether `--json`, which is given, goes before the format of another option.

    Args:
        option: that option's name in the running command.
        form: its value.

    Raises:
        ConfigError: both have the same source, and differ.

    """
    ctx = click.get_current_context()
    order = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT)
    mine, others = (
        order.index(source) if (source := ctx.get_parameter_source(name)) in order else len(order)
        for name in ("json", option)
    )
    if mine == others and form not in (None, "json"):
        raise ConfigError(f"--format: found {form} beside --json, expected one of the two")
    return mine <= others


def print_listing(listing: Listing, form: OutputFormat) -> None:
    """Print a listing as CSV or Markdown; control characters of any text are escaped."""
    stand_ins.exact(sys.stdout)
    if form is OutputFormat.CSV:
        _print_csv(listing)
    else:
        _print_markdown(listing)


def _print_csv(listing: Listing) -> None:
    writer = csv.writer(_Lines(), lineterminator="\n")
    writer.writerow([each.name + _UNITS.get(each.kind, "") for each in listing.columns])
    for row in listing.rows:
        writer.writerow([no_formula(clean(cell, _LONGEST)) if isinstance(cell, str) else cell for cell in row])


class _Lines:
    """What the csv module writes to."""

    def write(self, text: str) -> None:
        click.echo(text, nl=False)


def _print_markdown(listing: Listing) -> None:
    click.echo(_line(_in_markdown(each.name) for each in listing.columns))
    click.echo(_line("---" if each.kind == "text" else "---:" for each in listing.columns))
    for row in listing.rows:
        click.echo(_line(_shown(cell, each.kind) for cell, each in zip(row, listing.columns, strict=True)))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(cell: str | float | None, kind: str) -> str:
    """A value for people."""
    if cell is None or isinstance(cell, str):
        return _in_markdown(cell or "")
    if kind == "ns":
        return duration(cell)
    if kind == "time":
        return utc(int(cell))
    return size(cell) if kind == "bytes" else f"{cell:,}"


def _in_markdown(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"[\\`*\[\]<|&~]", r"\\\g<0>", clean(text, _LONGEST))
