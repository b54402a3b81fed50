"""Crash attribution: records the batch in progress, so that a successor knows what killed the writer.

A process killed by the kernel reports nothing (out of memory, a fault in a library). So each batch is noted in a file
of the session's folder before it is processed; the kernel keeps that, whatever happens to the process. A batch that
killed two processes is processed slot by slot by the third, and a message that kills that one too is set aside by the
fourth.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path

from wsrec.units import system_error
from wsrec.writer.batch import Batch
from wsrec.writer.disk import NO_RETRY, Disk
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.utc_line import StoredAnchor

# the journal's number, the batch's first slot and the one behind it, crashes so far; whether it was a single slot
_MARK = struct.Struct("<QQQII")
# Crashes at the same batch before it is taken for the cause: a single one may be a coincidence
_DEATHS = 2
_FILE = "taking"


def forget(folder: Path) -> None:
    """Remove the file, if the last process was killed between its last journal and this.

    Raises:
        OSError: the disk failed.

    """
    (folder / _FILE).unlink(missing_ok=True)


class Progress:
    """Takes batches through a pipeline, with special care for the one that the previous process died of.

    Args:
        folder: the session's folder.
        disk: notified once when the note cannot be written.

    """

    def __init__(self, folder: Path, disk: Disk = NO_RETRY) -> None:
        self._path = folder / _FILE
        self._disk = disk
        self._refused = False
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o644)
        left = os.pread(self._fd, _MARK.size, 0)
        self._number, self._first, self._next, self._exits, self._alone = (
            _MARK.unpack(left) if len(left) == _MARK.size else (0, 0, 0, 0, 0)
        )
        # without a number no batch was in progress, and the crash had another cause
        self._exits += self._number > 0

    def take(self, pipeline: Pipeline, batch: Batch, number: int, ahead: StoredAnchor | None = None) -> None:
        """Write a batch to the files of this number; `ahead` is the first anchor behind it (`Pipeline.take`).

        Raises:
            OSError: the disk is full or gone.

        """
        suspect = self._number == number and batch.first <= self._first < max(batch.next, batch.first + 1)
        if not suspect or batch.fetched or (self._exits < _DEATHS and not self._alone):
            self._take(pipeline, batch, number, ahead, self._exits if suspect else 0)
            return
        alone, culprit = bool(self._alone) or len(batch.slots) == 1, self._first
        for row in range(len(batch.slots)):
            part = batch.part(row, row + 1)
            if alone and part.first == culprit:
                self._mark(number, part, 0, alone=True)
                pipeline.take(part, number, ahead, aside=True)
            else:
                self._take(pipeline, part, number, ahead, 0, alone=True)
        self._number = 0

    def _take(
        self,
        pipeline: Pipeline,
        batch: Batch,
        number: int,
        ahead: StoredAnchor | None,
        deaths: int,
        *,
        alone: bool = False,
    ) -> None:
        self._mark(number, batch, deaths, alone=alone)
        pipeline.take(batch, number, ahead)
        self._write(bytes(_MARK.size))

    def _mark(self, number: int, batch: Batch, deaths: int, *, alone: bool) -> None:
        self._write(_MARK.pack(number, batch.first, batch.next, deaths, alone))

    def _write(self, data: bytes) -> None:
        try:
            os.pwrite(self._fd, data, 0)
        except OSError as error:
            if not self._refused:
                what = "a message that crashes this process would take longer to find"
                self._disk.note(f"{self._path} cannot be written: {system_error(error)}; {what}")
            self._refused = True
        else:
            self._refused = False

    def end(self) -> None:
        """Everything was processed: remove the file."""
        os.close(self._fd)
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
