"""wsrec.verify: intact captures pass, and changed ones do not."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.verify.conftest import FEED, Numbered, forge, lines_of, message_paths, write_lines
from wsrec.counts import COUNTERS
from wsrec.format import layout
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.layout import EVENTS, MESSAGES
from wsrec.verify.model import Kind, State, VerifyStatus
from wsrec.verify.verify import verify

HOLDS, DAMAGED, INCOMPLETE = VerifyStatus.HOLDS, VerifyStatus.DAMAGED, VerifyStatus.INCOMPLETE
each_byte = settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def status(*paths: Path) -> VerifyStatus:
    return VerifyStatus(verify(paths).status)


def findings(out: Path, kind: Kind) -> str:
    (capture,) = verify([out]).captures
    return "\n".join(f"{finding.where}: {finding.what}" for finding in capture.findings if finding.kind is kind)


def streams(out: Path) -> dict:
    (capture,) = verify([out]).captures
    return {(s.channel, s.symbol): s for session in capture.sessions for s in session.streams}


class TestWhole:
    def test_everything_holds(self, untouched):
        (capture,) = verify([untouched]).captures
        assert (capture.status, capture.findings) == (HOLDS, [])
        (session,) = capture.sessions
        assert (session.state, session.missing, session.duplicates, session.losses) == ("ended", 0, 0, [])
        ledger = {count.what: count.sources for count in session.ledger}
        assert set(ledger["messages"]) == {"read", "session_end"}
        assert ledger["messages"]["read"] == 4 * 400 + 1
        assert all(count.agrees for count in session.ledger)

    def test_a_stream_whose_numbers_follow_is_proved_between_its_first_and_last_message(self, untouched):
        trade = streams(untouched)["trade", "AB"]
        assert (trade.state, trade.rule, trade.messages, trade.topic) == (State.PROVED, "next", 400, "trade.AB")
        states = [interval.state for interval in trade.intervals]
        assert states.count(State.PROVED) == 1
        assert set(states) <= {State.PROVED, State.UNBROKEN}
        assert trade.proved > 0

    def test_without_a_rule_only_the_connection_speaks(self, untouched):
        book = streams(untouched)["book", "CD"]
        assert (book.state, book.proved, book.incomplete) == (State.UNBROKEN, 0, 0)

    def test_what_was_confirmed_and_never_came_is_silent(self, untouched):
        quiet = streams(untouched)["quiet", "AB"]
        assert (quiet.state, quiet.messages, quiet.topic) == (State.SILENT, 0, "quiet.AB")

    def test_one_file_of_it(self, untouched):
        path = message_paths(untouched)[1]
        (capture,) = verify([path]).captures
        assert (capture.status, capture.whole, capture.findings) == (HOLDS, False, [])
        assert capture.sessions[0].state == "part"

    def test_a_folder_that_holds_captures(self, untouched):
        assert status(untouched.parent) is HOLDS

    def test_an_empty_folder(self, tmp_path):
        assert status(tmp_path) is VerifyStatus.NOTHING


class TestChanged:
    @each_byte
    @given(data=st.data())
    def test_any_byte_of_any_file(self, untouched, tmp_path, data):
        out = tmp_path / "flipped"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(untouched, out)
        path = data.draw(st.sampled_from(sorted(out.rglob("*.parquet"))))
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert status(out) is DAMAGED

    @each_byte
    @given(data=st.data())
    def test_any_byte_of_the_manifest(self, untouched, tmp_path, data):
        out = tmp_path / "flipped"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(untouched, out)
        path = layout.manifest_path(out)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert status(out) is DAMAGED

    @pytest.mark.parametrize("size", [0, 3, 1000, -1])
    def test_a_truncated_file(self, out, size):
        path = message_paths(out)[1]
        path.write_bytes(path.read_bytes()[:size])
        assert ("is empty" if not size else "is truncated at byte") in findings(out, Kind.DAMAGED)

    def test_what_a_damaged_file_held_is_incomplete_and_the_rest_is_not(self, out):
        path = message_paths(out)[1]
        path.write_bytes(b"PAR1")
        trade = streams(out)["trade", "AB"]
        assert trade.state is State.INCOMPLETE
        assert trade.incomplete > 0
        assert trade.proved > 0
        (reason,) = {i.reason for i in trade.intervals if i.state is State.INCOMPLETE}
        assert reason == "the message file of number 2 is damaged or missing"

    @pytest.mark.parametrize("kind", ["messages", "events"])
    def test_a_deleted_file(self, out, kind):
        path = sorted((out / kind).rglob("*.parquet"))[0]
        path.unlink()
        assert f"the file is gone: {path}" in findings(out, Kind.DAMAGED)
        assert streams(out)["trade", "AB"].state is State.INCOMPLETE

    def test_a_deleted_file_and_its_line(self, out):
        path = message_paths(out)[1]
        path.unlink()
        write_lines(out, [line for line in lines_of(out) if line["path"] != str(path.relative_to(out))])
        events = out / str(path.relative_to(out)).replace("messages", "events", 1)
        events.unlink(missing_ok=True)
        assert "seq is " in findings(out, Kind.CONTRADICTION)

    def test_the_last_file_and_its_line(self, out):
        lines = lines_of(out)
        write_lines(out, lines[:-1])
        for key in ("path", "events_path"):
            if lines[-1][key]:
                (out / lines[-1][key]).unlink()
        assert status(out) is INCOMPLETE
        assert "no session_end" in findings(out, Kind.INCOMPLETE)

    @pytest.mark.parametrize("name", ["{session}-000099.parquet", "strange.parquet", "\x1b[2J-000001.parquet"])
    def test_a_file_too_many(self, out, name):
        path = message_paths(out)[0]
        shutil.copy(path, path.with_name(name.format(session=lines_of(out)[0]["session"])))
        assert status(out) is DAMAGED

    def test_a_copy_in_another_hour(self, out):
        path = message_paths(out)[0]
        elsewhere = path.parent.with_name("hour=99")
        elsewhere.mkdir()
        shutil.copy(path, elsewhere)
        assert status(out) is DAMAGED

    def test_two_files_swapped(self, out):
        first, second = message_paths(out)[:2]
        first.rename(first.with_suffix(".x"))
        second.rename(first)
        first.with_suffix(".x").rename(second)
        assert status(out) is DAMAGED
        stated = findings(out, Kind.DAMAGED)
        for path, other in ((first, second), (second, first)):
            assert f"{path}: is another file, renamed or copied here: {other.relative_to(out)}" in stated
        assert "cut off" not in stated

    @pytest.mark.parametrize(
        "key", ["rows", "events", "bytes", "first_seq", "last_seq", "first_time", "last_time", *COUNTERS]
    )
    def test_every_figure_of_a_line(self, out, key):
        lines = lines_of(out)
        lines[0][key] = (lines[0][key] or 0) + 1
        write_lines(out, lines)
        assert status(out) is DAMAGED

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("session", "another"),
            ("feed", "another"),
            ("number", 77),
            ("path", "/etc/passwd"),
            ("path", "messages/../../../../etc/passwd"),
            ("path", "messages/\0"),
            ("path", None),
            ("sha256", "0" * 64),
            ("sha256", None),
            ("rows", "many"),
        ],
    )
    def test_every_name_of_a_line(self, out, key, value):
        lines = lines_of(out)
        lines[0][key] = value
        write_lines(out, lines)
        assert status(out) is DAMAGED

    def test_a_line_twice_is_what_a_disk_leaves_that_refused_to_sync_it(self, out):
        write_lines(out, [*lines_of(out), lines_of(out)[0]])
        assert "repeats line 1" in findings(out, Kind.NOTE)
        assert status(out) is HOLDS

    def test_two_lines_of_one_file(self, out):
        lines = lines_of(out)
        write_lines(out, [*lines, {**lines[0], "gaps": 7}])
        assert "lists the same files as line" in findings(out, Kind.CONTRADICTION)

    def test_a_torn_line_that_nothing_depends_on_is_a_note(self, out):
        path = layout.manifest_path(out)
        path.write_bytes(path.read_bytes() + b'{"path":"messa')
        assert status(out) is HOLDS
        assert "torn" in findings(out, Kind.NOTE)

    def test_no_manifest(self, out):
        layout.manifest_path(out).unlink()
        assert "no manifest" in findings(out, Kind.CONTRADICTION)

    @pytest.mark.parametrize("keep", [0, -1, 0.9], ids=["empty", "last line", "torn"])
    def test_what_the_manifest_does_not_list_is_read_and_named(self, out, untouched, keep):
        path = layout.manifest_path(out)
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:keep]) if isinstance(keep, int) else data[: -len(lines[-1]) // 2])
        (capture,) = verify([out]).captures
        (whole,) = verify([untouched]).captures
        assert (capture.status, whole.status) == (DAMAGED, HOLDS)
        (found,), (expected,) = capture.sessions, whole.sessions
        assert (found.state, found.rows, found.missing) == ("ended", expected.rows, 0)
        # they are counted, and no checksum vouches for them
        assert [t.messages for t in found.streams] == [t.messages for t in expected.streams]
        assert {t.state for t in found.streams} == {State.INCOMPLETE}
        assert "not listed in the manifest" in findings(out, Kind.CONTRADICTION)
        assert findings(out, Kind.INCOMPLETE) == ""

    def test_nothing_is_praised_of_what_is_in_journals_too(self, out, wsrec):
        """An unlisted file of a session that waits for recovery is not read."""
        path = layout.manifest_path(out)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
        (session,) = verify([out]).captures[0].sessions
        folder = out / ".wsrec" / session.session
        folder.mkdir()
        (folder / "journal-000009.arrows").write_bytes(b"")
        (capture,) = verify([out]).captures
        assert capture.status is VerifyStatus.INCOMPLETE
        stated = wsrec.run("verify", out, env={**os.environ, "COLUMNS": "200"}).stdout
        for word in ("none missing", "balanced"):
            assert word not in stated, stated

    def test_a_pair_in_the_folder_of_another_hour(self, out):
        lines = lines_of(out)
        for key in ("path", "events_path"):
            path = out / lines[1][key]
            moved = path.parents[2] / "date=2020-01-01" / "hour=07" / path.name
            moved.parent.mkdir(parents=True)
            path.rename(moved)
            lines[1][key] = str(moved.relative_to(out))
        write_lines(out, lines)
        assert "is in the folder of another hour" in findings(out, Kind.CONTRADICTION)

    def test_a_pipe_in_place_of_a_file_is_not_opened(self, out):

        path = message_paths(out)[0]
        path.unlink()
        os.mkfifo(path)
        assert status(out) is DAMAGED


def replace(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    column = table[name].combine_chunks()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    changed = column.cast(kind).to_pylist() if not pa.types.is_timestamp(kind) else column.cast(pa.int64()).to_pylist()
    changed[row] = value
    array = pa.array(changed, pa.int64() if pa.types.is_timestamp(kind) else kind).cast(table.schema.field(name).type)
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), array)


class TestForged:
    """Rows rewritten, and checksum and size in the manifest with them."""

    def test_nothing_changed_still_holds(self, out):
        forge(out, message_paths(out)[0], lambda table: table)
        assert status(out) is HOLDS

    @pytest.mark.parametrize("row", [0, 5, -1])
    def test_a_row_removed(self, out, row):
        forge(out, message_paths(out)[1], lambda t: t.filter(np.arange(len(t)) != row % len(t)))
        assert status(out) is DAMAGED

    def test_a_row_twice(self, out):
        forge(out, message_paths(out)[1], lambda t: pa.concat_tables([t.slice(0, 6), t.slice(5)]))
        (capture,) = verify([out]).captures
        assert capture.status is DAMAGED
        assert capture.sessions[0].duplicates == 1

    def test_two_rows_exchanged(self, out):
        forge(out, message_paths(out)[1], lambda t: t.take(pa.array([0, 2, 1, *range(3, len(t))])))
        assert status(out) is DAMAGED

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("text", '{"c":"trade","s":"AB","n":999999}'),
            ("text", None),
            ("data", b"x"),
            ("symbol", "XX"),
            ("channel", None),
            ("exchange_seq", 5_000_000),
            ("exchange_time", 1),
            ("recv_time", 1),
            ("handoff_time", 1),
            ("recv_end_to_parsed", 1),
            ("event_to_recv_start", None),
            ("parsed_to_handoff", -1),
            ("clock_offset", 1),
            ("recv_source", "sundial"),
            ("direction", "sideways"),
            ("direction", "sent"),
            ("opcode", "pong"),
            ("conn", 9),
            ("nic_to_event", None),
            ("segment_order", "in_order"),
            ("first_segment_to_nic", 5),
            ("nic_to_read_stamp", 5),
        ],
    )
    def test_one_value(self, out, name, value):
        forge(out, message_paths(out)[1], lambda t: replace(t, name, 7, value))
        assert status(out) is DAMAGED

    def test_a_column_of_another_type(self, out):
        def change(table: pa.Table) -> pa.Table:
            at = table.schema.get_field_index("seq")
            return table.set_column(at, "seq", table["seq"].cast(pa.int64()))

        forge(out, message_paths(out)[1], change)
        assert "columns differ from the format: seq" in findings(out, Kind.CONTRADICTION)

    @pytest.mark.parametrize(
        "key", ["rows", "first_seq", "session", "feed", "counts", "stages", "stage1", "segments", "feed_config"]
    )
    def test_the_metadata(self, out, key):
        def change(table: pa.Table) -> pa.Table:
            return table.replace_schema_metadata({**table.schema.metadata, f"wsrec.{key}".encode(): b'{"a":1}'})

        forge(out, message_paths(out)[1], change)
        assert status(out) is DAMAGED

    @pytest.mark.parametrize(("key", "value"), [("first_seq", b"{}"), ("events", b"true"), ("stage1", b'{"nic":1.0}')])
    def test_metadata_that_other_readers_call_damaged(self, out, key, value):
        events = sorted((out / "events").rglob("*.parquet"))[-1]
        for path in (message_paths(out)[1], *([events] if key != "stage1" else [])):
            forge(
                out,
                path,
                lambda t: t.replace_schema_metadata({**t.schema.metadata, f"wsrec.{key}".encode(): value}),
            )
            with pytest.raises(CaptureError) as error:
                CaptureFile(path, MESSAGES if path != events else EVENTS)
            assert str(error.value).removeprefix(f"{path}: ") in findings(out, Kind.DAMAGED)
            assert str(path) in findings(out, Kind.DAMAGED)

    def test_figures_of_another_type(self, out):
        path = message_paths(out)[1]
        stages = json.loads(pq.read_metadata(path).metadata[b"wsrec.stages"])
        step = next(each for each in stages["first"].values())
        step["negative"] = False
        assert not status(out)

        def change(table: pa.Table) -> pa.Table:
            return table.replace_schema_metadata(
                {**table.schema.metadata, b"wsrec.stages": json.dumps(stages).encode()}
            )

        forge(out, path, change)
        assert "wsrec.stages differs from the rows" in findings(out, Kind.CONTRADICTION)

    @pytest.mark.parametrize("kind", ["messages", "events"])
    def test_a_number_of_events(self, out, kind):
        path = sorted((out / kind).rglob("*.parquet"))[-1]
        forge(out, path, lambda t: t.replace_schema_metadata({**t.schema.metadata, b"wsrec.events": b"12345"}))
        assert "wsrec.events" in findings(out, Kind.CONTRADICTION)

    def test_an_events_file_that_leaves_the_session_to_another_message_file(self, out):
        path = sorted((out / "events").rglob("*.parquet"))[-1]
        assert b"wsrec.feed_config" not in pq.read_metadata(path).metadata

        def change(table: pa.Table) -> pa.Table:
            return table.replace_schema_metadata({**table.schema.metadata, b"wsrec.feed_config_sha256": b'"0"'})

        forge(out, path, change)
        assert "feed_config_sha256 is not that of the message file beside it" in findings(out, Kind.CONTRADICTION)

    def test_an_events_file_without_what_it_needs_itself(self, out):
        def change(table: pa.Table) -> pa.Table:
            metadata = {key: value for key, value in table.schema.metadata.items() if key != b"wsrec.host"}
            return table.replace_schema_metadata(metadata)

        forge(out, sorted((out / "events").rglob("*.parquet"))[-1], change)
        assert "its metadata lack wsrec.host" in findings(out, Kind.CONTRADICTION)

    @pytest.mark.parametrize("detail", ["{", "[]", "", "[" * 100_000])
    @pytest.mark.parametrize("kind", ["anchor", "lost_interval", "ack", "gap", "sundial"])
    def test_events(self, out, kind, detail):
        path = sorted((out / "events").rglob("*.parquet"))[0]
        forge(out, path, lambda t: replace(replace(t, "detail", 2, detail), "kind", 2, kind))
        assert status(out) is DAMAGED

    @pytest.mark.parametrize(
        "kind", ["anchor", "lost_interval", "ack", "gap", "stall", "close", "session_end", "refused"]
    )
    def test_events_of_strange_details_are_survived(self, out, kind):
        path = sorted((out / "events").rglob("*.parquet"))[0]
        detail = '{"topics":5,"from":"x","to":[],"by":{},"seq":"y","duration_ns":null,"messages":{},"monotonic":true}'
        forge(out, path, lambda t: replace(replace(t, "detail", 2, detail), "kind", 2, kind))
        assert status(out) in set(VerifyStatus)

    def test_metadata_nested_too_deep(self, out):
        deep = b"[" * 200_000 + b"]" * 200_000
        forge(
            out, message_paths(out)[1], lambda t: t.replace_schema_metadata({**t.schema.metadata, b"wsrec.host": deep})
        )
        assert status(out) is DAMAGED

    def test_metadata_that_are_no_json(self, out):
        forge(
            out,
            message_paths(out)[1],
            lambda t: t.replace_schema_metadata({**t.schema.metadata, b"wsrec.rows": b"\xff"}),
        )
        assert status(out) is DAMAGED


class Refusing(Numbered):
    """Refuses one topic, and each request that names it."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.settled: set[str] = set()

    async def __call__(self, connection) -> None:
        self.settled &= {"quiet.AB"}
        while len(self.settled) < 6:
            requested = json.loads(await connection.recv())
            refused = "quiet.AB" in requested["topics"]
            stated = {"error": 7, "message": "no such topic"} if refused else {}
            await connection.send(json.dumps({"id": requested["id"], **stated}))
            if not refused or len(requested["topics"]) == 1:
                self.settled.update(requested["topics"])
        self.confirm = False
        await super().__call__(_Answered(connection))


class _Answered:
    """A connection whose requests are answered."""

    def __init__(self, connection) -> None:
        self._connection = connection

    async def recv(self) -> str:
        return "{}"

    def __getattr__(self, name: str):
        return getattr(self._connection, name)


class TestIncomplete:
    def test_a_gap_of_the_exchange(self, record):
        out = record(Numbered(skip=(100, 101)), status=4)
        assert status(out) is INCOMPLETE
        trade = streams(out)["trade", "AB"]
        assert (trade.state, trade.gaps) == (State.INCOMPLETE, 1)
        (bad,) = [interval for interval in trade.intervals if interval.state is State.INCOMPLETE]
        assert bad.reason == "sequence gap (next): expected 100, found 102, 2 missing"
        assert [i.state for i in trade.intervals].count(State.PROVED) == 2
        assert streams(out)["book", "AB"].state is State.UNBROKEN

    def test_a_gap_without_an_event(self, record):
        out = record(Numbered(skip=(100,)), status=4)
        (events,) = (out / "events").rglob("*.parquet")
        table = pq.ParquetFile(events).read()
        kept = table.filter(np.array(table["kind"].to_pylist()) != "gap")
        pq.write_table(kept, events)
        lines = lines_of(out)

        lines[0]["events_sha256"], lines[0]["events"] = hashlib.sha256(events.read_bytes()).hexdigest(), len(kept)
        write_lines(out, lines)
        assert "has no event" in findings(out, Kind.CONTRADICTION)

    def test_a_connection_that_broke(self, record):
        out = record(Numbered(breaks=1), status=4)
        assert status(out) is INCOMPLETE
        trade = streams(out)["trade", "CD"]
        states = [interval.state for interval in trade.intervals]
        assert states.count(State.PROVED) == 2
        (bad,) = [interval for interval in trade.intervals if interval.state is State.INCOMPLETE]
        assert bad.reason.startswith("reconnected: ")
        assert "lost interval" in findings(out, Kind.INCOMPLETE)
        ordered = [(interval.start, interval.end) for interval in trade.intervals]
        assert ordered == sorted(ordered)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ordered))

    def test_a_refusal(self, record):
        out = record(Numbered(refuse=True), status=4)
        assert status(out) is INCOMPLETE
        quiet = streams(out)["quiet", "AB"]
        assert quiet.state is State.INCOMPLETE
        assert quiet.intervals[0].reason.startswith("the exchange refused it: 7: no such")

    @pytest.mark.long
    def test_a_topic_that_was_refused_is_not_requested_again_and_stays_refused(self, record):
        out = record(Refusing(breaks=1, rounds=20), status=4)
        reasons = {interval.reason for interval in streams(out)["quiet", "AB"].intervals}
        assert reasons == {"the exchange refused it: 7: no such topic"}

    @pytest.mark.long
    def test_without_a_confirmation_a_stream_begins_with_its_first_message(self, record):
        out = record(Numbered(confirm=False, rounds=100, pause=0.02), status=4)
        trade, quiet = streams(out)["trade", "AB"], streams(out)["quiet", "AB"]
        assert trade.intervals[0].state is State.PROVED
        assert (quiet.state, quiet.intervals[0].state) == (State.INCOMPLETE, State.INCOMPLETE)


class TestLeftBehind:
    @pytest.fixture
    def journals(self, out):
        """A session that was killed beside the one that ended."""
        folder = out / ".wsrec" / "20990101T000000Z-ffffff"
        folder.mkdir()
        (folder / "journal-000001.arrows").write_bytes(b"12345")
        (out / ".wsrec" / "lock").touch()
        return out

    def test_journals_wait_for_recovery(self, journals):
        assert status(journals) is INCOMPLETE
        assert "1 journal of 5 bytes; run `wsrec recover" in findings(journals, Kind.INCOMPLETE)

    def test_a_recorder_at_work(self, journals):
        with (journals / ".wsrec" / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert status(journals) is INCOMPLETE
            assert "still being recorded" in findings(journals, Kind.INCOMPLETE)

    def test_the_lock_is_let_go(self, journals):
        status(journals)
        with (journals / ".wsrec" / "lock").open("r+") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        raise AssertionError

    def test_what_was_set_aside_is_a_note(self, out):
        (out / ".wsrec" / "aside").mkdir()
        (out / ".wsrec" / "aside" / "x").touch()
        assert status(out) is HOLDS
        assert "1 file set aside" in findings(out, Kind.NOTE)

    def test_nothing_on_disk_is_changed(self, journals):
        def state() -> dict[str, tuple[int, int]]:
            return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in journals.rglob("*")}

        before = state()
        status(journals)
        assert state() == before


def test_json_is_what_the_structs_say(untouched, wsrec):
    result = wsrec.run("verify", untouched, "--json")
    assert result.returncode == 0, result.stderr
    stated = json.loads(result.stdout)
    assert (stated["status"], len(stated["captures"])) == (0, 1)
    intervals = [i for s in stated["captures"][0]["sessions"][0]["streams"] for i in s["intervals"]]
    assert set(intervals[0]) == {"start", "end", "state", "reason", "monotonic_start", "monotonic_end"}


class TestWhileRecording:
    def test_finished_files_are_sound_and_the_rest_is_reported_as_in_progress(self, wsrec, exchange, tmp_path):
        server = exchange(Numbered(rounds=100_000, pause=0.005))
        yaml = tmp_path / "mine.yaml"
        yaml.write_text(FEED.format(url=server.url))
        process = wsrec.start("record", yaml, "--out", tmp_path / "out", "--rotate", "10kB", "--quiet")
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "out" / "messages").exists() or len(message_paths(tmp_path / "out")) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            (capture,) = verify([tmp_path / "out"]).captures
        finally:
            process.terminate()
            process.communicate(timeout=120)
        assert capture.status is INCOMPLETE
        assert capture.sessions[0].state == "recording"
        assert [
            finding.kind for finding in capture.findings if finding.kind in (Kind.DAMAGED, Kind.CONTRADICTION)
        ] == []
        assert status(tmp_path / "out") is HOLDS
