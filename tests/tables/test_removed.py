"""What is lost shows: messages left out of a real recording make the rows after them suspect, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import wsrec
from tests.real_messages import DATA
from tests.tables.recorded import record, topics_of, usdm_messages
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table
from wsrec.tables.reading import read_tables

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"real messages are not beside the project: {DATA}")

_COUNT = 1_500
# of the trades every so many one is left out
_EVERY = 15
_COLUMNS = {
    Table.TRADES: ["trade_id", "side", "price", "size", "exchange_time"],
    Table.QUOTES: ["update_id", "bid_price", "bid_size", "ask_price", "ask_size", "exchange_time"],
    Table.BOOK_CHANGES: ["update_id", "action", "side", "price", "size", "is_snapshot", "last", "exchange_time"],
    Table.GAPS: ["kind", "channel", "symbol", "missing", "detail"],
}
Row = tuple[Any, ...]


def rows(out: Path, messages: list[tuple[int, bytes]], files: int) -> dict[Table, dict[Row, str]]:
    """The states of a recording's rows, by what the exchange says in each."""
    topics = topics_of(find_feed("binance-usdm"), ["trade", "depth@0ms", "bookTicker"], ["BTCUSDT"])
    record(out, "binance-usdm", messages, topics, files, size=500)
    found: dict[Table, dict[Row, str]] = {table: {} for table in _COLUMNS}
    for table, batch in read_tables(wsrec.open_capture(out), list(_COLUMNS)):
        columns = [batch.column(name) for name in _COLUMNS[table]]
        plain = [(each.cast(pa.int64()) if pa.types.is_timestamp(each.type) else each).to_pylist() for each in columns]
        states = batch.column("state").to_pylist() if table is not Table.GAPS else [""] * batch.num_rows
        found[table] |= zip(zip(*plain, strict=True), states, strict=True)
    return found


@pytest.mark.parametrize("files", [1, 3])
def test_messages_left_out_make_the_rows_after_them_suspect_and_change_nothing_else(tmp_path: Path, files: int) -> None:
    messages = [each for each, _ in zip(usdm_messages(), range(_COUNT), strict=False)]
    trades = [n for n, (_, text) in enumerate(messages) if b'"e":"trade"' in text]
    left_out = trades[_EVERY // 2 :: _EVERY]
    after = [str(json.loads(messages[trades[trades.index(n) + 1]][1])["data"]["t"]) for n in left_out]
    whole = rows(tmp_path / "whole", messages, files)
    less = rows(tmp_path / "less", [each for n, each in enumerate(messages) if n not in left_out], files)
    assert len(left_out) > 15
    assert not whole[Table.GAPS]
    assert set(whole[Table.TRADES].values()) == {"ok"}
    assert set(whole[Table.QUOTES].values()) == {"unproved"}
    for table in (Table.QUOTES, Table.BOOK_CHANGES):
        assert less[table] == whole[table]
    missing = [row for row in whole[Table.TRADES] if row not in less[Table.TRADES]]
    assert len(missing) == len(left_out)
    changed = [row for row, state in less[Table.TRADES].items() if state != whole[Table.TRADES][row]]
    assert all(less[Table.TRADES][row] == "suspect" for row in changed)
    assert [row[0] for row in changed] == after
    assert len(less[Table.GAPS]) == len(left_out)
