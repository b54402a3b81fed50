"""The rows of a sorted file: in row groups that leave out what is not wanted, and in order of hand-off again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.compact import sorting
from wsrec.compact.sorting import NotInOrderError, blocks, row_groups
from wsrec.format.sorted_rows import as_it_lies, in_order

WORD = pa.dictionary(pa.int32(), pa.string())
words = st.sampled_from([None, "trade", "book", "µ", "zz"])
rows = st.lists(st.tuples(words, words, st.integers(1, 3)), min_size=1, max_size=60)


def batch(found: list[tuple[str | None, str | None, int]]) -> pa.RecordBatch:
    """Rows of these channels and symbols, whose numbers increase by these steps."""
    channels, symbols, steps = zip(*found, strict=True)
    seq = np.cumsum(steps).astype(np.uint64)
    columns = [
        pa.array(seq),
        pa.array(channels).cast(WORD),
        pa.array(symbols).cast(WORD),
        pa.array(seq).cast(pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["seq", "channel", "symbol", "text"])


def key(row: dict) -> tuple:
    """What rows are sorted by; null comes first."""
    words = ((word is not None, (word or "").encode()) for word in (row["channel"], row["symbol"]))
    return (*words, row["seq"])


class TestSorted:
    @given(rows, st.integers(1, 9), st.integers(1, 70))
    def test_and_back(self, found, size, most):
        whole = batch(found)
        parts = [whole.slice(at, size) for at in range(0, whole.num_rows, size)]
        (block,) = blocks(parts)
        groups = list(row_groups(block))
        listed = [row for group in groups for row in group.to_pylist()]
        assert listed == sorted(whole.to_pylist(), key=key)
        (lying,) = as_it_lies(groups)
        assert lying.to_pylist() == listed
        back = list(in_order(groups, most))
        assert [row for each in back for row in each.to_pylist()] == whole.to_pylist()
        assert max(each.num_rows for each in back) <= most

    @given(rows, words)
    def test_some_of_them(self, found, wanted):
        groups = [
            group.filter(pa.array([row["channel"] == wanted for row in group.to_pylist()]))
            for group in row_groups(batch(found))
        ]
        back = [row for each in in_order(groups) for row in each.to_pylist()]
        assert back == [row for row in batch(found).to_pylist() if row["channel"] == wanted]

    def test_far_apart(self):
        few = pa.RecordBatch.from_pydict({"seq": pa.array([1 << 60, 3, 1 << 40], pa.uint64())})
        assert [row["seq"] for each in in_order([few]) for row in each.to_pylist()] == [3, 1 << 40, 1 << 60]

    @pytest.mark.parametrize("seq", [[1, 1], [2, 1]])
    def test_rows_out_of_order_are_refused(self, seq):
        wrong = pa.RecordBatch.from_pydict({"seq": pa.array(seq, pa.uint64())})
        with pytest.raises(NotInOrderError):
            list(blocks([wrong]))
        with pytest.raises(NotInOrderError):
            list(blocks([wrong.slice(0, 1), wrong.slice(1)]))


class TestRowGroups:
    def test_each_has_one_busy_stream_or_some_quiet_ones_of_a_channel(self):
        busy = [("trade", "A", 1)] * 20_000
        symbols = [f"S{number:03}" for number in range(150)]
        quiet = [(channel, symbol, 1) for channel in ("book", "trade") for symbol in symbols for _ in range(80)]
        found = [
            (unique(group, "channel"), unique(group, "symbol"), group.num_rows)
            for group in row_groups(batch(busy + quiet))
        ]
        assert all(len(channels) == 1 for channels, _, _ in found)
        assert [names for channels, names, _ in found if channels == {"trade"} and "A" in names] == [{"A"}]
        sizes = [rows for _, names, rows in found if "A" not in names]
        assert sizes
        assert all(sorting.GROUP_ROWS // 4 <= rows <= sorting.GROUP_ROWS for rows in sizes)

    def test_a_busy_stream_has_several(self):
        assert [group.num_rows for group in row_groups(batch([("x", "y", 1)] * 70_000))] == [
            1 << 16,
            70_000 - (1 << 16),
        ]

    def test_a_block_ends_before_it_is_too_large(self, monkeypatch):
        monkeypatch.setattr(sorting, "BLOCK_BYTES", 2_000)
        whole = batch([("trade", "A", 1)] * 1_000)
        parts = [whole.slice(at, 10) for at in range(0, 1_000, 10)]
        made = list(blocks(parts))
        assert len(made) > 10
        assert all(each.nbytes < 4_000 for each in made)
        assert [row for each in made for row in each.to_pylist()] == whole.to_pylist()


def unique(group, name):
    return set(group.column(name).unique().to_pylist())
