"""What an export for another tool wrote and what it left out, each with its count: nothing is dropped silently."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from wsrec.feed.table_columns import Table
from wsrec.units import clean

TableRows = Iterable[tuple[Table, pa.RecordBatch]]
"""Rows of the tables with the columns of `wsrec.tables.schema`: of each session and table in order of `seq`, `item`."""

HISTORY = "sent again on subscribing, or a second copy from an overlapping connection (state `history`)"
"""Reason for rows that every tool would count twice."""


class ExportError(Exception):
    """Rows do not fit the tool, and only the user can say what is to be done: the message says what."""


@dataclass
class Outcome:
    """The result of an export.

    Attributes:
        files: the written files.
        written: rows or events written, by what they are.
        left_out: rows that were not written, by table and reason.
        notes: what the user must know of the files: shifted or rounded times, assumed ones, units.

    """

    files: list[Path] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def leave_out(self, table: str, reason: str, rows: int) -> None:
        """Count rows that are not written."""
        if rows:
            self.left_out[table, reason] += rows

    def lines(self) -> Iterator[str]:
        """The result in words, a line each: what was written, what was left out and why, the notes."""
        for name, rows in self.written.items():
            yield f"{name}: {rows:,} written"
        for (table, reason), rows in self.left_out.items():
            yield f"{table}: {rows:,} left out: {reason}"
        yield from self.notes


def file_safe(name: str) -> str:
    """A feed or symbol as part of a file name: other characters than letters, digits and `-_+.:@` as `%` and hex."""
    safe = re.sub(r"[^\w\-+.:@]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)
    safe = re.sub(r"^\.", "%2E", safe)
    if len(safe.encode()) > _LONGEST_NAME:
        raise ExportError(f"symbol {clean(name, 60)!r}: too long for a file name; leave it out with --symbols")
    return safe


# of 255 bytes, room for the rest of the name
_LONGEST_NAME = 150
