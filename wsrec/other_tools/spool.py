"""Rows sorted into a file each key, on the disk: what has to be sorted by time first needs all rows of a symbol."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Generic, Self, TypeVar

import pyarrow as pa

from wsrec.tables.claimed import claim, remove_abandoned

K = TypeVar("K", bound=Hashable)
_IN_MEMORY = 64 << 20
_PREFIX = ".unfinished-"


class Spool(Generic[K]):
    """Collects record batches by key, until the `with` block ends. The batches of a key have one schema.

    Args:
        beside: the folder of the files that it is for; its own are in one below it, which is deleted at the end,
            or by the next spool there if this process was killed.
        in_memory: bytes kept in memory before they are written.

    """

    def __init__(self, beside: Path, in_memory: int = _IN_MEMORY) -> None:
        beside.mkdir(parents=True, exist_ok=True)
        remove_abandoned(beside, f"{_PREFIX}*")
        self._folder, self._claim = claim(lambda: Path(tempfile.mkdtemp(prefix=_PREFIX, dir=beside)))
        self._limit = in_memory
        self._waiting: defaultdict[K, list[pa.RecordBatch]] = defaultdict(list)
        self._bytes = 0
        self._files: dict[K, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._claim)

    def add(self, key: K, batch: pa.RecordBatch) -> None:
        """Add rows of a key."""
        if not batch.num_rows:
            return
        if key not in self._files:
            self._files[key] = self._folder / f"{len(self._files)}.arrow"
        self._waiting[key].append(batch)
        self._bytes += batch.nbytes
        if self._bytes > self._limit:
            self._write()

    def keys(self) -> list[K]:
        """The keys, in the order in which they came."""
        return list(self._files)

    def take(self, key: K) -> pa.Table:
        """All rows of a key, in the order in which they came; the spool forgets them."""
        path = self._files.pop(key)
        batches = [*_read(path), *self._waiting.pop(key, [])]
        path.unlink(missing_ok=True)
        return pa.Table.from_batches(batches).combine_chunks()

    def _write(self) -> None:
        for key, batches in self._waiting.items():
            # one stream after another: a file stays open only while it is written, however many there are
            with self._files[key].open("ab") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
        self._waiting.clear()
        self._bytes = 0


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    if not path.exists():
        return
    size = path.stat().st_size
    with pa.OSFile(os.fsencode(path)) as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as stream:
                yield from stream
