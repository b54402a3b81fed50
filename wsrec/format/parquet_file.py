"""A Parquet file of this machine, opened by the bytes of its path: those need not be UTF-8, as a text must."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsrec.format.folders import regular


class ParquetFile(pq.ParquetFile):
    """An open file, which `close` and the end of a `with` block close.

    Args:
        path: the file.
        metadata: its footer, if it was read before; None: it is read.
        read_dictionary: columns to be read as words and codes.

    Raises:
        OSError: it cannot be read, or is no regular file.
        pa.ArrowInvalid: it is no Parquet file, or its footer is damaged.
        KeyError: a column of `read_dictionary` is not in it.

    """

    def __init__(
        self, path: Path, *, metadata: pq.FileMetaData | None = None, read_dictionary: Sequence[str] = ()
    ) -> None:
        file = pa.OSFile(os.fsencode(regular(path)))
        super().__init__(file, metadata=metadata, read_dictionary=list(read_dictionary))

    def close(self, force: bool = True) -> None:
        """Close the file, too: pyarrow leaves one open that it did not open itself."""
        super().close(force=force)
