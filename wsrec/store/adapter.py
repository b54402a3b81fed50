"""Until the field reader takes and gives columns: it and the sequence checker behind its next interface."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import pyarrow as pa

from wsrec.feed import fields, sequence
from wsrec.feed.schema import Feed
from wsrec.store.batch import payload_list


class FieldReader:
    """`read(payload, readable)` on today's field reader."""

    def __init__(self, feed: Feed) -> None:
        self._reader = fields.FieldReader(feed)

    def read(self, payload: pa.Array, readable: npt.NDArray[Any]) -> Any:
        """The fields of each payload as arrays."""
        found = self._reader.read(
            [p if ok else b"" for p, ok in zip(payload_list(payload), readable.tolist(), strict=True)]
        )
        words = [pa.array(column, pa.string()).dictionary_encode() for column in (found.channel, found.symbol)]
        return fields.FieldColumns(*words, *(pa.array(column, pa.int64()) for column in found[2:]))


class SequenceChecker:
    """`check(conns, columns)` on today's checker."""

    def __init__(self, feed: Feed) -> None:
        self._checker = sequence.SequenceChecker(feed)
        self.checks = self._checker.checks
        self.reset = self._checker.reset

    def check(self, conns: npt.NDArray[Any], columns: Any) -> list[sequence.SequenceGap]:
        """The gaps of a batch."""
        return self._checker.check(conns.tolist(), fields.FieldColumns(*(column.to_pylist() for column in columns)))
