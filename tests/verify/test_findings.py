"""What the writer finds as it records is what the same monitor finds over the files."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from tests.conftest import events_of
from tests.effort import thinned
from tests.real_messages import DATA
from tests.tables.recorded import record as record_messages
from tests.verify.conftest import Numbered, forge
from tests.verify.real_sessions import FEEDS, RealSession
from wsrec.monitor.feed_monitor import FOUND
from wsrec.verify.agreement import is_finding
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify

# whose messages of then no feed of today reads
_OLD = ("bybit", "kraken")


def contradictions(out):
    (capture,) = verify([out]).captures
    return [each.what for each in capture.findings if each.kind is Kind.CONTRADICTION]


def findings_of(out):
    events = [event for event in events_of(out) if is_finding(event["kind"], event["channel"])]
    return Counter(event["kind"] for event in events)


@pytest.mark.parametrize("name", sorted(FEEDS))
def test_of_a_real_session_the_writer_s_findings_are_those_in_its_files(name, tmp_path):
    path = DATA / "sessions" / f"{name}.txt.gz"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    session = RealSession(path)
    session.record(tmp_path, 97)
    assert contradictions(tmp_path) == []
    (capture,) = verify([tmp_path]).captures
    (count,) = (count for count in capture.sessions[0].ledger if count.what == "findings")
    reported = findings_of(tmp_path)
    assert count.sources == {"read": reported.total(), "events": reported.total()}
    assert reported.total() > 0 or name in _OLD


def test_how_rows_come_in_batches_changes_no_finding(tmp_path):
    path = DATA / "sessions" / "gateio.txt.gz"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    found = []
    for size in (7, 100_000):
        RealSession(path).record(tmp_path / str(size), size, files=1)
        events = [event for event in events_of(tmp_path / str(size)) if event["kind"] in FOUND]
        keys = ("monotonic", "kind", "channel", "symbol", "detail")
        found.append(sorted(str([event[key] for key in keys]) for event in events))
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize("kind", thinned(["gap", "ack"]))
def test_an_event_that_was_taken_out_and_one_that_was_put_in_are_contradictions(record, tmp_path, kind):
    out = record(Numbered(40, skip=(7,)), status=4)
    (path,) = (out / "events").rglob("*.parquet")

    def without(table):
        rows = table.to_pylist()
        return pa.Table.from_pylist([row for row in rows if row["kind"] != kind], table.schema)

    forge(out, path, without)
    assert any("has no event" in each for each in contradictions(out))


def test_a_row_with_neither_text_nor_data_is_a_contradiction(tmp_path):
    # the feed announces that it will close a connection, in messages of no channel
    record_messages(
        tmp_path,
        "binance-usdm",
        [(1_795_000_000_000_000_000 + at, b'{"result":null,"id":%d}' % at) for at in range(20)],
    )
    (path,) = (tmp_path / "messages").rglob("*.parquet")
    assert contradictions(tmp_path) == []

    def without(table):
        texts = [None if at == 7 else text for at, text in enumerate(table["text"].to_pylist())]
        return table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), [texts])

    forge(tmp_path, path, without)
    assert "1 row: not exactly one of text and data has the payload" in contradictions(tmp_path)
