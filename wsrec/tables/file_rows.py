"""The rows of a session's files: where files are missing, and from where on which writer checked them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from wsrec.format.capture_file import CaptureFile


class FileRows(NamedTuple):
    """The rows of a messages file.

    Attributes:
        number: the file's number in its session.
        first_seq, last_seq: `seq` of its first and last row.
        first_time, last_time: their `recv_time` (ns since the epoch).
        checked_from: as in its metadata.
        has_events: whether it has an events file, here or elsewhere.
        begin: hand-off of its first row (ns on the stage clock), where rows are missing before it; else None.

    """

    number: int
    first_seq: int
    last_seq: int
    first_time: int | None
    last_time: int | None
    checked_from: int = 0
    has_events: bool = True
    begin: int | None = None

    @classmethod
    def of(cls, files: Iterable[CaptureFile]) -> list[FileRows]:
        """Those of files that have any, in order.

        Raises:
            CaptureError: a file with rows missing before it is damaged.

        """
        found = list[FileRows]()
        for each in sorted(files, key=lambda file: file.number):
            if each.first_seq is None or each.last_seq is None:
                continue
            follows = not found or each.first_seq == found[-1].last_seq + 1
            begin = None if follows else first_handoff(each)
            times = each.first_time, each.last_time
            about = each.checked_from, each.events > 0
            found.append(cls(each.number, each.first_seq, each.last_seq, *times, *about, begin))
        return found


def first_handoff(file: CaptureFile) -> int | None:
    """Hand-off of a file's first row (ns on the stage clock); None without rows.

    Raises:
        CaptureError: the file is damaged.

    """
    first = next(file.batches(["handoff_monotonic"], most=1), None)
    return None if first is None else int(first["handoff_monotonic"][0].as_py())


class Resumption(NamedTuple):
    """A file from which on a new writer checked the rows, which knew only some of the files before.

    Attributes:
        file: the file's number.
        seq: `seq` of its first row.
        known_from: `seq` of the first row that the checks know.

    What came before the session's first file that is here is not known either; nor is what a file without events tells.

    """

    file: int
    seq: int
    known_from: int


def resumptions(files: Sequence[FileRows]) -> Iterator[Resumption]:
    """Where a new writer began to check, of those whose rows are read."""
    if files and files[0].first_seq:
        # its beginning is not here
        yield Resumption(files[0].number, files[0].first_seq, files[0].first_seq)
    before = files[0].checked_from if files else 0
    for each in files:
        if each.checked_from != before and each.checked_from:
            known = next((file for file in files if file.number >= each.checked_from), each)
            yield Resumption(each.number, each.first_seq, min(known.first_seq, each.first_seq))
        before = each.checked_from
