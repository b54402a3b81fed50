"""wsrec.verify.ledger: whole captures balance, and no figure of the account can be changed or left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from tests.verify.conftest import Numbered, forge, lines_of, message_paths, write_lines
from wsrec.format.ledger import Frames
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify

COUNTS = [name for name in Frames.__struct_fields__ if name != "rows"]
TOTALS = ["first_slot", "stop_slot", "received", "sent", "events", "missing"]


def session_of(out: Path) -> Any:
    (capture,) = verify([out]).captures
    return capture.sessions[0]


def contradictions(out: Path) -> str:
    (capture,) = verify([out]).captures
    assert capture.status is VerifyStatus.DAMAGED
    return "\n".join(
        f"{finding.where}: {finding.what}" for finding in capture.findings if finding.kind is not Kind.NOTE
    )


def events_beside(path: Path) -> Path:
    return Path(str(path).replace("/messages/", "/events/"))


def rewrite(out: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the ledger of a pair of files wherever it stands, as good as a forger can."""
    for each in (path, *(events for events in [events_beside(path)] if events.exists())):
        ledger: dict[str, Any] = {}

        def replace(table: pa.Table, ledger: dict[str, Any] = ledger) -> pa.Table:
            about = dict(table.schema.metadata)
            ledger.update(json.loads(about[b"wsrec.ledger"]))
            change(ledger)
            return table.replace_schema_metadata(about | {b"wsrec.ledger": json.dumps(ledger).encode()})

        forge(out, each, replace)
        lines = lines_of(out)
        for line in lines:
            if line["path"] == str(path.relative_to(out)):
                line["ledger"] = ledger
        write_lines(out, lines)


class TestBalance:
    def test_a_whole_capture_balances(self, untouched):
        balance = session_of(untouched).balance
        assert balance.balanced
        assert balance.missing == balance.discarded == balance.unfinished == 0
        assert balance.frames == balance.rows + balance.joined
        assert balance.frame_bytes == balance.row_bytes
        assert balance.rows >= 4 * 400 + 1
        assert balance.overhead_bytes > 2 * balance.frames

    def test_the_summary_says_so(self, untouched, wsrec):
        stated = wsrec.run("verify", untouched).stdout
        balance = session_of(untouched).balance
        assert f"{balance.frames:,} frames received = {balance.rows:,} rows: balanced" in " ".join(stated.split())

    def test_programs_get_the_sums(self, untouched, wsrec):
        (capture,) = json.loads(wsrec.run("verify", untouched, "--json").stdout)["captures"]
        assert capture["sessions"][0]["balance"] == msgspec.to_builtins(session_of(untouched).balance)

    @pytest.mark.long
    def test_broken_connections_balance_too(self, record):
        session = session_of(record(Numbered(100, breaks=2, pause=0.002), status=4))
        assert session.balance.balanced


class TestChanged:
    def test_nothing_changed_still_holds(self, out):
        rewrite(out, message_paths(out)[1], lambda ledger: None)
        assert session_of(out).balance.balanced

    @pytest.mark.parametrize("name", TOTALS)
    @pytest.mark.parametrize("by", [1, -1])
    def test_every_total(self, out, name, by):
        rewrite(out, message_paths(out)[1], lambda ledger: ledger.update({name: ledger[name] + by}))
        assert "the ledger does not balance" in contradictions(out)

    @pytest.mark.parametrize("name", COUNTS)
    @pytest.mark.parametrize("side", ["recv", "own"])
    def test_every_count_of_frames(self, out, side, name):
        rewrite(out, message_paths(out)[1], lambda ledger: ledger[side].update({name: ledger[side][name] + 1}))
        if name != "inflated":
            assert "the ledger does not balance" in contradictions(out)

    def test_rows(self, out):
        rewrite(out, message_paths(out)[1], lambda ledger: ledger["recv"]["rows"].update(ping=1))
        assert "the rows are" in contradictions(out)

    def test_rows_that_moved_to_another_opcode(self, out):
        def move(ledger: dict[str, Any]) -> None:
            ledger["recv"]["rows"] = {"binary": ledger["recv"]["rows"]["text"]}

        rewrite(out, message_paths(out)[1], move)
        assert "the rows are" in contradictions(out)

    @pytest.mark.parametrize("name", ["first_byte", "stop_byte"])
    def test_the_bytes_of_a_ring(self, out, name):
        rewrite(
            out, message_paths(out)[0], lambda ledger: ledger["rings"][0].update({name: ledger["rings"][0][name] + 1})
        )
        assert "its ring continues at byte" in contradictions(out)

    def test_only_the_manifest(self, out):
        lines = lines_of(out)
        lines[0]["ledger"]["received"] += 1
        write_lines(out, lines)
        assert "do not agree on wsrec.ledger" in contradictions(out)

    def test_no_ledger_in_the_manifest(self, out):
        lines = lines_of(out)
        lines[0]["ledger"] = None
        write_lines(out, lines)
        assert "is not a valid line" in contradictions(out)

    def test_a_message_that_is_taken_out_everywhere_but_in_the_ledger(self, out):
        """Rows, `seq`, metadata and manifest of one file may be made to fit; the receiver's slots do not."""
        path = message_paths(out)[-1]

        def fewer(ledger: dict[str, Any]) -> None:
            ledger["recv"]["rows"] = {}
            ledger["received"] -= ledger["recv"]["frames"]
            ledger["stop_slot"] -= ledger["recv"]["frames"]
            ledger["recv"].update(frames=0, bytes=0, row_bytes=0)

        rewrite(out, path, fewer)
        assert "the receiver published" in contradictions(out)

    def test_a_file_in_the_middle_that_is_gone_with_its_line(self, out):
        gone = message_paths(out)[1]
        write_lines(out, [line for line in lines_of(out) if line["path"] != str(gone.relative_to(out))])
        gone.unlink()
        events_beside(gone).unlink(missing_ok=True)
        stated = contradictions(out)
        assert "are in no file" in stated
        assert not session_of(out).balance.balanced

    @pytest.mark.parametrize("key", ["slots", "ring_bytes", "frames", "bytes", "discarded_bytes", "receiver"])
    def test_what_the_session_end_says(self, out, key):
        path = max((out / "events").rglob("*.parquet"))

        def change(table: pa.Table) -> pa.Table:
            details = table.column("detail").to_pylist()
            row = table.column("kind").to_pylist().index("session_end")
            detail = json.loads(details[row])
            if key == "receiver":
                del detail[key]
            else:
                (detail if key in detail else detail["receiver"])[key] += 1
            details[row] = json.dumps(detail)
            return table.set_column(table.schema.get_field_index("detail"), table.schema.field("detail"), [details])

        forge(out, path, change)
        assert "ledger" in contradictions(out)
