"""Removes hours that are older than `--keep` says: a line in the manifest first, then the files.

Of a session its oldest pairs are removed, in order of their numbers, so that what remains is a session whose beginning
is missing, and is verified as such.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from wsrec.compact.inventory import Finished, FinishedPair, is_finished, size_of
from wsrec.compact.model import Removed
from wsrec.format import manifest
from wsrec.format.folders import sync_folder
from wsrec.format.layout import HOUR_NS, KINDS


def old_pairs(of: Finished, before: int) -> list[FinishedPair]:
    """The pairs of hours that end at or before a time (ns since the epoch), from each session's beginning on."""
    found = []
    for pairs in of.pairs.values():
        for pair in pairs:
            if pair.hour is None or (pair.hour + 1) * HOUR_NS > before:
                break
            found.append(pair)
    return found


def sizes(out: Path, pairs: Iterable[FinishedPair]) -> dict[tuple[str, str, int], list[int]]:
    """The sizes of the files of each pair."""
    return {pair.line.pair: [size_of(path) for path in pair.paths(out)] for pair in pairs}


def summary(pairs: Iterable[FinishedPair], sizes: dict[tuple[str, str, int], list[int]], before: int | None) -> Removed:
    """What the removal of these pairs removes, or has removed.

    Args:
        pairs: the pairs.
        sizes: of the files of at least these.
        before: the time (ns since the epoch) that their hours end before.

    """
    pairs = list(pairs)
    of = [size for pair in pairs for size in sizes[pair.line.pair]]
    return Removed(
        files=len(of),
        rows=sum(pair.line.rows for pair in pairs),
        bytes=sum(of),
        hours=len({pair.hour for pair in pairs}),
        before=before,
    )


def remove(out: Path, pair: FinishedPair, now: int) -> None:
    """Remove a pair of a finished session; may be repeated.

    Raises:
        OSError: the manifest cannot be written, or a file cannot be deleted.

    """
    if not is_finished(out, pair.line.session):
        return
    if pair.line.removed is None:
        manifest.append(out, msgspec.structs.replace(pair.line, removed=now))
    for path in pair.paths(out):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        sync_folder(path.parent)
        _remove_empty(path.parent, out)


def _remove_empty(folder: Path, out: Path) -> None:
    """Remove the folders of an hour and a day if nothing is left in them."""
    with contextlib.suppress(OSError):
        for each in (folder, folder.parent):
            if each.relative_to(out).parts[0] in KINDS and each.name.startswith(("hour=", "date=")):
                each.rmdir()
