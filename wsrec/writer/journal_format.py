"""The journal format: the durable copy of received data until its Parquet files are finished.

A journal is one Arrow IPC stream with one record batch (`batch.JOURNAL_SCHEMA`; with `--segments`
`batch.SEGMENT_JOURNAL_SCHEMA`) for each batch taken from the rings: the slots as they were, with what the captured
segments say of them, frames and events alike. Everything in the Parquet files is made from it by the same code, both
in the running writer, which reads its own journal behind the end, and in the recovery of a journal.

The custom metadata of each record batch:

    wsrec.first   the slot ring's count of its first slot, decimal: a discontinuity shows lost slots
    wsrec.xxh3    `Batch.checksum`, hexadecimal: detects data that the disk returns damaged
    wsrec.key     random, the same in all batches of a journal and in no other: locates the start of a batch behind
                  damaged data, and cannot be forged by an exchange

A batch with a wrong checksum is skipped and the following ones are read. Where Arrow's message framing is torn
(https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format), the reader searches for the next
batch.

If a sync (fdatasync(2)) fails, the data is not on the disk, and Linux forgets that it must be written. So nothing more
is appended to such a journal: the data since the last successful sync is written again, to a file beside it that
continues where that sync ended (`wsrec.from` in the metadata of its schema: the number of valid bytes of the journal).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from wsrec.format.folders import matching

FROM_KEY = b"wsrec.from"
FIRST_KEY = b"wsrec.first"
CHECKSUM_KEY = b"wsrec.xxh3"
MARKER_KEY = b"wsrec.key"


class Span(NamedTuple):
    """The position of a batch in its journal, and its identity.

    Attributes:
        start, stop: offsets of its first byte, and of the byte behind it.
        first, next: the count of its first slot, and of the slot behind its last one.
        checksum: see `Batch.checksum`.

    """

    start: int
    stop: int
    first: int
    next: int
    checksum: int


def journal_path(folder: Path, number: int) -> Path:
    """Path of the journal of this number."""
    return folder / f"journal-{number:06d}.arrows"


def rewritten_path(journal: Path) -> Path:
    """Path of the file with the rewritten part of a journal."""
    return journal.with_name(f"rewritten-{journal.stem.partition('-')[2]}.arrows")


def journals(folder: Path) -> list[Path]:
    """The journals of a session, in order; of a missing one there may be a rewritten part.

    Raises:
        OSError: the folder cannot be read.

    """
    found = {*matching(folder, "journal-*.arrows")}
    for path in matching(folder, "rewritten-*.arrows"):
        found.add(path.with_name(f"journal-{path.stem.partition('-')[2]}.arrows"))
    return sorted(path for path in found if not path.is_symlink())


def files_of(journal: Path) -> list[Path]:
    """The existing files of a journal."""
    return [path for path in (journal, rewritten_path(journal)) if path.exists()]


def delete(journal: Path) -> None:
    """Delete a journal.

    Raises:
        OSError: it could not be deleted.

    """
    for path in files_of(journal):
        path.unlink()
    # it may have appeared meanwhile, from a rewrite that checks whether the journal still exists (`Journal.rewrite`)
    rewritten_path(journal).unlink(missing_ok=True)
