"""Rows of unfinished sessions for readers: their journals made into files elsewhere, with nothing of theirs changed.

A process of its own, `python -m wsrec.writer.unfinished_rows INTO OUT/.wsrec/SESSION...`, which
`wsrec.format.unfinished_rows` starts. The rows are made by the same code as in the running writer and in recovery,
without any work for the recorder. A journal that vanishes meanwhile is in finished files. What its writer
is just appending has no valid checksum yet and is left out, like a torn end.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsrec import parent_death
from wsrec.pandas_blocker import block_pandas

if __name__ == "__main__":
    # whoever reads may be killed while this is still starting
    parent_death.hold()
block_pandas()

import msgspec  # noqa: E402 (pyarrow imports pandas while it is imported)
import pyarrow as pa  # noqa: E402

from wsrec.format.layout import own_folder  # noqa: E402
from wsrec.units import clean  # noqa: E402
from wsrec.writer.batch import Batch  # noqa: E402
from wsrec.writer.journal_reader import JournalReader  # noqa: E402
from wsrec.writer.journal_recovery import JournalRecovery, number_of  # noqa: E402
from wsrec.writer.pipeline import Pipeline  # noqa: E402
from wsrec.writer.utc_line import StoredAnchor, first_anchor  # noqa: E402

# anchors come ten times a second; without any for so long, rows are mapped by those before them
_HELD_BATCHES = 256
_PROBLEMS = (OSError, pa.ArrowException, msgspec.MsgspecError, ValueError, LookupError, TypeError)


def copy(folder: Path, into: Path) -> None:
    """Write the rows and events of a session's journals to files below `into`, named as its own will be.

    Args:
        folder: the session's folder, which is only read.
        into: a folder of the caller, laid out as an output folder.

    Raises:
        OSError: the journals cannot be read, or `into` cannot be written.
        OtherVersionError: they are of another version of the format.
        ValueError: what describes them is damaged.

    """
    # the journals are listed before the manifest is read: one that is finished in between is in it
    unfinished = JournalRecovery(folder.parent.parent, folder)
    job = unfinished.job()
    if job is None:
        return
    partial = own_folder(into) / folder.name
    partial.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline(msgspec.structs.replace(job, out=str(into)), partial)
    unfinished.prepare(pipeline, _first_anchor(unfinished.journals))
    for path in unfinished.journals:
        number = number_of(path)
        if not unfinished.begin(pipeline, number):
            continue
        try:
            reader = JournalReader(path)
        except (pa.ArrowInvalid, FileNotFoundError):
            # without a beginning yet, or finished meanwhile
            continue
        for batch, ahead in _with_anchors(reader):
            if pipeline.active:
                pipeline.take(batch, number, ahead)
            else:
                pipeline.remember(batch)
        if pipeline.active:
            unfinished.record_restart(pipeline, reader)
            pipeline.begin_session()
            pipeline.finish(number)


def _first_anchor(journals: Sequence[Path]) -> StoredAnchor | None:
    for path in journals:
        with contextlib.suppress(pa.ArrowInvalid, FileNotFoundError, msgspec.DecodeError):
            for batch in JournalReader(path):
                if (anchor := first_anchor(batch)) is not None:
                    return anchor
    return None


def _with_anchors(batches: Iterator[Batch] | JournalReader) -> Iterator[tuple[Batch, StoredAnchor | None]]:
    """Each batch with the first anchor behind it."""
    held: deque[Batch] = deque()
    for batch in batches:
        anchor = first_anchor(batch)
        while held and (anchor is not None or len(held) >= _HELD_BATCHES):
            yield held.popleft(), anchor
        held.append(batch)
    while held:
        yield held.popleft(), None


def main(arguments: Sequence[str]) -> int:
    """Copy sessions into `INTO/0`, `INTO/1` and so on; prints a JSON list with the problem of each, or null."""
    into, *folders = map(Path, arguments)
    problems: list[str | None] = []
    for number, folder in enumerate(folders):
        try:
            copy(folder, into / str(number))
            problems.append(None)
        except _PROBLEMS as error:
            problems.append(clean(str(error), 2000))
    print(msgspec.json.encode(problems).decode())  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
