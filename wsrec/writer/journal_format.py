"""The journal: the durable truth of what was received, until its Parquet has landed.

One Arrow IPC stream a file, one record batch (`batch.JOURNAL_SCHEMA`) for each batch taken from the rings: the slots as
they were, frames and events alike. Everything in the Parquet files is made from it, by the same code when the writer
runs, which reads its own journal behind its end, and when a journal that was left behind is recovered.

Each record batch has in its custom metadata

    wsrec.first   the slot ring's count of its first slot, decimal: where counts do not join, slots are lost
    wsrec.xxh3    `Batch.checksum`, hexadecimal: what a disk gives back wrong is not believed
    wsrec.key     the same in all batches of a journal and in no other, random: where a batch begins is found by it,
                  behind anything, and nothing that an exchange sends is taken for one

A batch whose checksum fails is left out and those behind it are read. Where Arrow's framing of messages is torn
(https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format) the next batch is looked for.

What could not be synced (fdatasync(2)) is not on the disk, and Linux forgets that it was to be written. So a journal
whose sync failed is not appended to any more: what it was given since the last sync that succeeded is written anew, to
a file beside it that goes on where that ended (`wsrec.from`, in the metadata of its schema: how many bytes of the
journal count).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsrec.format.folders import matching

JOURNAL_VERSION = b"4"

JOB_KEY = b"wsrec.job"
VERSION_KEY = b"wsrec.journal_version"
FROM_KEY = b"wsrec.from"
FIRST_KEY = b"wsrec.first"
CHECKSUM_KEY = b"wsrec.xxh3"
KEY_KEY = b"wsrec.key"


class Span(NamedTuple):
    """Where a batch stands in its journal, and what it is.

    Attributes:
        start, stop: its first byte, and the one behind it.
        first, next: the count of its first slot, and of the slot that follows the last one.
        checksum: see `Batch.checksum`.

    """

    start: int
    stop: int
    first: int
    next: int
    checksum: int


def journal_path(folder: Path, number: int) -> Path:
    """Where the journal of this number stands."""
    return folder / f"journal-{number:06d}.arrows"


def rewritten_path(journal: Path) -> Path:
    """Where that stands which was written anew of a journal."""
    return journal.with_name(f"rewritten-{journal.stem.partition('-')[2]}.arrows")


def journals(folder: Path) -> list[Path]:
    """The journals of a session, in order; of one that is gone, something may still stand beside it.

    Raises:
        OSError: the folder cannot be read.

    """
    found = {*matching(folder, "journal-*.arrows")}
    for path in matching(folder, "rewritten-*.arrows"):
        found.add(path.with_name(f"journal-{path.stem.partition('-')[2]}.arrows"))
    return sorted(path for path in found if not path.is_symlink())


def files_of(journal: Path) -> list[Path]:
    """The files that a journal is in."""
    return [path for path in (journal, rewritten_path(journal)) if path.exists()]


def delete(journal: Path) -> None:
    """Delete a journal.

    Raises:
        OSError: it could not be deleted.

    """
    for path in files_of(journal):
        path.unlink()
    # it may have come meanwhile, from who looks whether the journal is still there (`Journal.rewrite`)
    rewritten_path(journal).unlink(missing_ok=True)
