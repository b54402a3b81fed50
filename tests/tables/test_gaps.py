"""wsrec.tables.gaps: the table of what is missing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tests.tables.events import UTC, event, message, message_batch, session
from wsrec.feed.table_columns import GAP_KINDS, Table
from wsrec.format.stage_times import message_field
from wsrec.tables.breaks import BreakKind
from wsrec.tables.gaps import COLUMNS, gap_rows
from wsrec.tables.schema import table_schema

_SCHEMA = pa.schema([message_field(name) for name in COLUMNS])


def gaps(*events: dict[str, Any], messages: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    rows = [row | {"recv_time": UTC + row["handoff_monotonic"]} for row in messages or []]
    found = gap_rows(session(*events), "s1", 1, message_batch(rows, _SCHEMA))
    assert found.schema.equals(table_schema(Table.GAPS))
    found.validate(full=True)
    times = [found.column(name).cast(pa.int64()).to_pylist() for name in ("from", "to")]
    plain = found.drop_columns(["from", "to"]).to_pylist()
    return [row | {"from": a, "to": b} for row, a, b in zip(plain, *times, strict=True)]


def test_a_gap_has_the_row_after_it_and_the_time_of_the_one_before_it_in_its_stream() -> None:
    about = {"channel": "trade", "symbol": "A", "what": "missing", "rule": "next", "expected": 5, "found": 7}
    rows = [message(n, symbol="AB"[n % 2]) for n in range(6)]
    (found,) = gaps(event(4, "gap", **about, missing=2, seq=4), messages=rows)
    assert (found["kind"], found["seq"], found["missing"]) == ("gap", 4, 2)
    assert (found["channel"], found["symbol"], found["conn"]) == ("trade", "A", 0)
    assert (found["from"], found["to"]) == (UTC + 2, UTC + 4)
    assert found["detail"] == "missing: expected 5, found 7"


def test_a_lost_interval_leads_to_the_row_after_it() -> None:
    lost = event(7, "lost_interval", monotonic_from=3, monotonic_to=6, **{"from": UTC + 3, "to": UTC + 6}, reason="why")
    (found,) = gaps(lost, messages=[message(n) for n in (1, 2, 8)])
    assert (found["kind"], found["seq"], found["detail"]) == ("lost_interval", 8, "why")
    assert (found["from"], found["to"]) == (UTC + 3, UTC + 6)
    (found,) = gaps(lost, messages=[message(n) for n in (1, 2)])
    assert found["seq"] == 3, "the row that would follow"
    (found,) = gaps(lost)
    assert found["seq"] is None


def test_each_kind_has_its_word_and_a_close_in_order_is_no_gap() -> None:
    found = gaps(
        event(1, "disconnect", message="reset", received_bytes=1),
        event(2, "disconnect", message="", received_bytes=1),
        event(3, "sequence_reset", channel="trade", rule="next", seq=3),
        event(4, "gap", channel="book", rule="checksum", seq=4, expected=1, found=2),
        event(5, "snapshot_missed", channel="depth", symbol="A", why="it is older than the stream"),
        event(6, "restart", None, process="writer"),
        event(None, "lost_interval", None, reason="interrupted"),
    )
    assert [row["kind"] for row in found] == ["disconnect", "reset", "checksum", "unjoined", "lost_interval"]
    assert {kind.value for kind in BreakKind} - {"end", "resumed"} <= set(GAP_KINDS)
