"""The arguments of the reading API: columns, times and chosen values, checked and in one form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from numbers import Integral

import pyarrow as pa

Instant = datetime | str | int
"""A time: an aware datetime, an ISO 8601 text with an offset (``2026-11-22T13:00Z``), or ns since the epoch."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def schema_of(columns: Sequence[str] | None, schema: pa.Schema, derived: Sequence[pa.Field]) -> pa.Schema:
    """The schema of the requested columns, in their order.

    Args:
        columns: their names; None: all of `schema`.
        schema: the columns that there are.
        derived: more columns, which only come by name.

    Raises:
        ValueError: none is requested, or an unknown one, or one twice; or `columns` is a text.
        TypeError: a name is no text.

    """
    if columns is None:
        return schema
    if isinstance(columns, str):
        raise ValueError(f"columns takes a list of names, not {columns!r}")
    columns = list(columns)
    if not columns:
        what = "name at least one (`seq` to count rows), or omit it for all columns"
        raise ValueError(f"columns is empty: {what}")
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"columns takes names (str), not {name!r}")
    known = {field.name: field for field in [*schema, *derived]}
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise ValueError(f"no column {unknown[0]!r}; there are {', '.join(known)}")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"columns has {twice!r} twice: name each once")
    return pa.schema([known[name] for name in columns])


def named_values(**wanted: str | Collection[str] | None) -> dict[str, list[str]]:
    """The requested values by argument, without arguments that are None.

    Raises:
        TypeError: a value is neither a text nor a collection of texts.

    """
    found = {}
    for name, values in wanted.items():
        if values is None:
            continue
        listed = [values] if isinstance(values, str) or not isinstance(values, Iterable) else list(values)
        for value in listed:
            if not isinstance(value, str):
                raise TypeError(f"{name} takes a str or several, not {value!r}")
        found[name] = listed
    return found


def check_closed(name: str, among: dict[str, list[str]], allowed: Collection[str]) -> None:
    """Refuse a value that no row can have.

    Raises:
        ValueError: there is such a value.

    """
    for value in among.get(name, ()):
        if value not in allowed:
            raise ValueError(f"{name} takes {', '.join(allowed)}; not {value!r}")


def instant_ns(name: str, moment: Instant | None) -> int | None:
    """A time in ns since the epoch.

    Args:
        name: the argument's name.
        moment: its value.

    Raises:
        TypeError: it has another type.
        ValueError: it is not a valid time, or has no offset from UTC.

    """
    if moment is None:
        return None
    if isinstance(moment, Integral) and not isinstance(moment, bool):
        # also numpy's integers
        return int(moment)
    if not isinstance(moment, str | datetime):
        takes = "an aware datetime, an ISO 8601 text, or whole ns since the epoch (int)"
        raise TypeError(f"{name} takes {takes}, not {moment!r}")
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            raise ValueError(
                f"{name}: {moment!r} is not a valid time: write it as 2026-11-22T13:00:00Z, or as ns"
            ) from error
    if moment.tzinfo is None:
        raise ValueError(f"{name}: {moment} has no offset from UTC: write it with one (Z), or as ns since the epoch")
    whole = moment.astimezone(UTC)
    seconds = int((whole.replace(microsecond=0) - _EPOCH).total_seconds())
    return seconds * 1_000_000_000 + whole.microsecond * 1_000
