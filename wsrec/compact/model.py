"""What `wsrec compact` did, or would do: the structs that `--json` encodes. Sizes are in bytes, times in ns."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE


class CompactStatus(IntEnum):
    """Exit status of `wsrec compact`."""

    DONE = 0
    FAILED = 1
    NOTHING = EXIT_NOTHING
    UNREADABLE = EXIT_UNREADABLE
    HELD = 75


class Sorted(msgspec.Struct, frozen=True, kw_only=True):
    """The message files that were sorted, or would be.

    Attributes:
        files: their number.
        rows: their rows.
        bytes_before: their size before.
        bytes_after: after it; of a dry run by the files of the same feed that were sorted before, null without any.
        larger: how many of them are larger than before; null of a dry run.

    """

    files: int = 0
    rows: int = 0
    bytes_before: int = 0
    bytes_after: int | None = 0
    larger: int | None = 0


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """The files that were removed, or would be.

    Attributes:
        files: number of message and events files.
        rows: rows of the message files.
        bytes: their size.
        hours: number of hours that they were of.
        before: hours that end at or before this time are removed; null: none was requested.

    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    hours: int = 0
    before: int | None = None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was left as it is.

    Attributes:
        session: its id.
        files: number of its message files.
        why: the reason.

    """

    session: str
    files: int
    why: str


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in an output folder.

    Attributes:
        status: exit status.
        path: the folder.
        dry_run: whether nothing was changed.
        sorted: what was sorted.
        already: number of message files that had been sorted before.
        removed: what was removed.
        skipped: sessions that were left as they are.
        problems: files that were left as they are, and why.

    """

    status: int
    path: str
    dry_run: bool
    sorted: Sorted
    already: int
    removed: Removed
    skipped: list[Skipped]
    problems: list[str]
