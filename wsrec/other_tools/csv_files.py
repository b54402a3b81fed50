"""Gzipped CSV files that are written side by side, a part at a time: they appear together when all are complete."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

_IN_MEMORY = 64 << 20
# what needs quotes
_SPECIAL = r'["\r\n,]'


class CsvFiles:
    """Files of one folder. Left without `finish`, nothing of them stays.

    Args:
        folder: the folder.
        in_memory: bytes of rows kept in memory before they are written.

    """

    def __init__(self, folder: Path, in_memory: int = _IN_MEMORY) -> None:
        self._folder = folder
        self._limit = in_memory
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._bytes = 0
        self._begun: dict[str, Path] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for unfinished in self._begun.values():
            unfinished.unlink(missing_ok=True)

    def add(self, name: str, rows: pa.RecordBatch) -> None:
        """Add rows to a file; all of its rows have the same columns."""
        self._waiting.setdefault(name, []).append(rows)
        self._bytes += rows.nbytes
        if self._bytes > self._limit:
            self._write()

    def finish(self) -> list[Path]:
        """Complete the files, in order of their names. A file of the same name is replaced."""
        self._write()
        finished = []
        for name in sorted(self._begun):
            finished.append(self._begun.pop(name).replace(self._folder / name))
        return finished

    def _write(self) -> None:
        for name, batches in self._waiting.items():
            first = name not in self._begun
            path = self._begun.setdefault(name, self._folder / f".{name}.unfinished")
            text = _as_csv(pa.Table.from_batches(batches), header=first)
            # members one after another are one gzip file
            with path.open("wb" if first else "ab") as file:
                file.write(gzip.compress(text, 6, mtime=0))
        self._waiting.clear()
        self._bytes = 0


def _as_csv(rows: pa.Table, *, header: bool) -> bytes:
    """CSV with quotes where a value needs them, and nowhere else."""
    # pyarrow would quote each text, and the names of the columns
    text = io.BytesIO((",".join(rows.column_names) + "\n").encode() if header else b"")
    text.seek(0, io.SEEK_END)
    texts = [column for column in rows.columns if pa.types.is_string(column.type)]
    special = any(pc.any(pc.match_substring_regex(column, _SPECIAL)).as_py() for column in texts)
    options = pa.csv.WriteOptions(include_header=False, quoting_style="needed" if special else "none")
    pa.csv.write_csv(rows, text, options)
    return text.getvalue()
