"""wsrec.writer.recovery: what an interrupted session left behind becomes the files that it was to become."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pytest

from tests.conftest import Wsrec, events_of, messages_of, received
from tests.rings import Rings, plan, writer_job
from wsrec.format import layout, manifest
from wsrec.format.unfinished_rows import UnfinishedRows
from wsrec.ring.events import EventKind
from wsrec.verify.model import State
from wsrec.verify.verify import verify
from wsrec.writer import session_start
from wsrec.writer.job import WriterJob
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path
from wsrec.writer.recovery import recover

FEEDS = {name: {"name": name, "description": "", "sockets": {"main": {"url": "wss://host/"}}} for name in ("a", "b")}

IDS = {
    "name": "ids",
    "description": "",
    "sockets": {"main": {"url": "wss://host/"}},
    "symbols": {"pattern": "[A-Z]+", "words": "letters", "example": "A"},
    "subscribe": {"message": "{topics}", "batch": 1},
    "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "fields": {
        "channel": ["$channel"],
        "ids": {"where": {"event": "subscribed"}, "id": "chanId", "names": {"channel": ["channel"]}, "at": "[0]"},
    },
    "channels": {"trades": {"topic": "trades"}},
}


def journal_of(rings: Rings, job: WriterJob, out: Path) -> None:
    """The journal of a session whose writer was killed once it had written all that the rings held."""
    batch = rings.drain().take()
    assert batch is not None
    folder = out / ".wsrec" / job.session
    folder.mkdir(parents=True)
    journal = Journal(journal_path(folder, 1), 1, msgspec.json.encode(job))
    journal.append(batch)
    journal.close()
    rings.close()


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """The output folder of a session of two feeds that was killed after its journal was written."""
    rings = Rings(conns=2)
    connections = (plan(0, feed="a"), plan(1, feed="b"))
    job = writer_job(tmp_path, connections, FEEDS)
    rings.event(
        EventKind.ANCHOR,
        monotonic=time.monotonic_ns(),
        realtime=time.time_ns(),
        width_ns=100,
        clock="CLOCK_MONOTONIC",
        drift_ns=0,
    )
    for number in range(3):
        for conn, name in enumerate(b"ab"):
            rings.put(bytes([name]) + b"%d" % number, conn=conn, handoff=time.monotonic_ns())
    journal_of(rings, job, tmp_path)
    return tmp_path


def fail(text: str) -> None:
    raise AssertionError(text)


def payloads(out: Path, feed: str) -> list[bytes]:
    (file,) = (out / "messages" / f"feed={feed}").rglob("*.parquet")
    return [row for row in received(messages_of(out)) if row.startswith(feed.encode())] if file else []


def session_of_one_feed(out: Path, **options: Any) -> tuple[WriterJob, Path]:
    """The job of a session that records the feed `a`, and its folder."""
    job = writer_job(out, (plan(0, feed="a"),), {"a": FEEDS["a"]}, **options)
    folder = out / ".wsrec" / job.session
    folder.mkdir(parents=True)
    return job, folder


class TestRecover:
    def test_every_feed_comes_home(self, interrupted):
        (recovered,) = recover(interrupted, fail)
        assert recovered.rows == 6
        assert payloads(interrupted, "a") == [b"a0", b"a1", b"a2"]
        assert payloads(interrupted, "b") == [b"b0", b"b1", b"b2"]
        assert not list(interrupted.rglob("journal-*"))

    def test_again_there_is_nothing_to_do(self, interrupted):
        recover(interrupted, fail)
        assert recover(interrupted, fail) == []

    def test_a_feed_that_had_landed_is_left_alone_and_the_other_is_not_lost(self, interrupted):
        session = next((interrupted / ".wsrec").iterdir()).name
        kept = shutil.copytree(interrupted / ".wsrec" / session, interrupted / "kept")
        recover(interrupted, fail)
        lines = [line for line in manifest.read(interrupted) if line.feed == "a"]
        # as if the writer had been killed between the files of the two feeds
        shutil.rmtree(interrupted / "messages" / "feed=b")
        shutil.rmtree(interrupted / "events" / "feed=b")
        layout.manifest_path(interrupted).unlink()
        for line in lines:
            manifest.append(interrupted, line)
        kept.rename(interrupted / ".wsrec" / session)
        (recovered,) = recover(interrupted, fail)
        assert recovered.rows == 3
        assert payloads(interrupted, "a") == [b"a0", b"a1", b"a2"]
        assert payloads(interrupted, "b") == [b"b0", b"b1", b"b2"]

    def test_ids_of_a_file_that_had_landed_with_its_journal_left_are_known(self, tmp_path):
        rings = Rings()
        job = writer_job(tmp_path, (plan(0, feed="ids"),), {"ids": IDS})
        folder = tmp_path / ".wsrec" / job.session
        folder.mkdir(parents=True)
        clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        rings.event(EventKind.ANCHOR, **clock, width_ns=100, clock="CLOCK_MONOTONIC", drift_ns=0)
        drain = rings.drain()
        for number, text in enumerate((b'{"event":"subscribed","chanId":7,"channel":"trades"}', b"[7,1]"), 1):
            rings.put(text, handoff=time.monotonic_ns())
            journal = Journal(journal_path(folder, number), number, msgspec.json.encode(job))
            journal.append(drain.take())
            journal.close()
        rings.close()
        kept = shutil.copytree(folder, tmp_path / "kept")
        journal_path(folder, 2).unlink()
        recover(tmp_path, fail)
        # as if it had been killed before the first journal went
        kept.rename(folder)
        recover(tmp_path, fail)
        assert messages_of(tmp_path).sort_by("seq")["channel"].to_pylist() == [None, "trades"]

    def test_the_interval_that_was_lost_is_an_event(self, interrupted):
        recover(interrupted, fail)
        (lost, *_) = events_of(interrupted, "lost_interval")
        assert lost["detail"]["reason"] == "the recorder was interrupted"
        assert lost["detail"]["from"] < lost["detail"]["to"]

    def test_rows_before_the_first_anchor_are_dated_by_it(self, tmp_path):
        rings = Rings()
        job, folder = session_of_one_feed(tmp_path)
        drain, journal = rings.drain(), Journal(journal_path(folder, 7), 7, msgspec.json.encode(job))
        rings.put(b"early", event=time.monotonic_ns(), handoff=time.monotonic_ns())
        journal.append(drain.take())
        clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
        rings.event(EventKind.ANCHOR, **clock, width_ns=100, clock="CLOCK_MONOTONIC", drift_ns=0)
        journal.append(drain.take())
        journal.close()
        rings.close()
        recover(tmp_path, fail)
        (moment,) = messages_of(tmp_path)["handoff_time"].cast("int64").to_pylist()
        assert abs(moment - clock["realtime"]) < 60e9

    @pytest.mark.parametrize("content", [b"", bytes(4096)])
    def test_a_journal_without_a_beginning_is_set_aside(self, interrupted, content):
        folder = next((interrupted / ".wsrec").iterdir())
        journal_path(folder, 2).write_bytes(content)
        (recovered,) = recover(interrupted, fail)
        assert recovered.rows == 6
        (aside,) = (interrupted / ".wsrec" / "aside").iterdir()
        assert aside.read_bytes() == content

    @pytest.mark.parametrize("byte", [b'"', b"\xf0"])
    def test_a_journal_whose_job_is_damaged_is_named_and_kept(self, interrupted, byte):
        (journal,) = interrupted.glob(".wsrec/*/journal-*")
        data = journal.read_bytes()
        place = data.index(b'"session":"') + len(b'"session":"')
        journal.write_bytes(data[:place] + byte + data[place + 1 :])
        reported: list[str] = []
        assert recover(interrupted, reported.append) == []
        (line,) = reported
        assert f"{journal}: its job is damaged" in line
        assert journal.exists()

    @pytest.mark.parametrize("forged", ["session above", "absolute session", "feed above", "other session"])
    @pytest.mark.parametrize("record", [False, True])
    def test_a_foreign_job_does_not_say_where_files_are_written(self, tmp_path, forged, record):
        out, outside = tmp_path / "a" / "b" / "out", tmp_path / "outside"
        out.mkdir(parents=True)
        outside.mkdir()
        rings = Rings()
        rings.put(b"a1", event=time.monotonic_ns(), handoff=time.monotonic_ns())
        job = writer_job(out, (plan(0, feed="a"),), {"a": FEEDS["a"]}, began=time.monotonic_ns())
        session = job.session
        feeds = job.feeds
        if forged == "feed above":
            feeds = tuple(msgspec.structs.replace(feed, name="/../../../../../outside/a") for feed in feeds)
        else:
            session = {"session above": "../../../../../../../outside/a", "absolute session": f"{outside}/a"}.get(
                forged, "b"
            )
        folder = out / ".wsrec" / job.session
        folder.mkdir(parents=True)
        stored = msgspec.structs.replace(job, session=session, feeds=feeds)
        if record:
            session_start.write(folder, stored)
            (named,) = folder.glob("session.json")
        else:
            named = journal_path(folder, 1)
            journal = Journal(named, 1, msgspec.json.encode(stored))
            journal.append(rings.drain().take())
            journal.close()
        rings.close()
        before = sorted(tmp_path.rglob("*"))
        reported: list[str] = []
        assert recover(out, reported.append) == []
        (line,) = reported
        assert f"{named}: its job is damaged" in line
        if not record:
            (_, problem), *_ = UnfinishedRows([out]).problems
            assert f"{named}: its job is damaged" in problem
        after = sorted(tmp_path.rglob("*"))
        assert [path for path in after if path not in before] == []
        assert named.exists()

    def test_what_stood_in_a_first_journal_that_cannot_be_read_is_lost_from_the_beginning(self, tmp_path):
        rings, began = Rings(), time.monotonic_ns()
        job, folder = session_of_one_feed(tmp_path, began=began)
        drain = rings.drain()
        for number in (1, 2):
            journal = Journal(journal_path(folder, number), number, msgspec.json.encode(job))
            clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
            rings.event(EventKind.ANCHOR, **clock, width_ns=100, clock="CLOCK_MONOTONIC", drift_ns=0)
            rings.put(b"a%d" % number, event=time.monotonic_ns(), handoff=time.monotonic_ns())
            journal.append(drain.take())
            journal.close()
        rings.close()
        journal_path(folder, 1).write_bytes(b"")
        recover(tmp_path, fail)
        assert payloads(tmp_path, "a") == [b"a2"]
        lost = [event["detail"] for event in events_of(tmp_path, "lost_interval")]
        assert [each["slots"] for each in lost if "slots" in each] == [2]
        assert lost[0]["monotonic_from"] == began
        (session,) = verify([tmp_path]).captures[0].sessions
        assert session.losses[0].monotonic_start == began

    def test_no_life_of_a_connection_goes_on_across_what_is_lost(self, tmp_path):
        rings = Rings(conns=2)
        job = writer_job(tmp_path, (plan(0, feed="a"), plan(1, feed="a")), {"a": FEEDS["a"]})
        folder = tmp_path / ".wsrec" / job.session
        folder.mkdir(parents=True)
        drain, journal = rings.drain(), Journal(journal_path(folder, 1), 1, msgspec.json.encode(job))
        spans = []
        # the lost part may have contained the loss of connection 0, too; the first row after it is of the other one
        for conns in ((0, 1), (0, 1), (1, 0)):
            for conn in conns:
                rings.put(b"{}", conn=conn, event=time.monotonic_ns(), handoff=(last := time.monotonic_ns()))
            spans.append((journal.append(drain.take()), last))
        journal.close()
        rings.close()
        path = journal_path(folder, 1)
        data = bytearray(path.read_bytes())
        data[spans[1][0].stop - 20] ^= 1
        path.write_bytes(data)
        recover(tmp_path, fail)
        (session,) = verify([tmp_path]).captures[0].sessions
        (stream,) = [each for each in session.streams if each.conn == 0]
        good = [each for each in stream.intervals if each.state is not State.INCOMPLETE]
        assert [each for each in good if each.monotonic_start < spans[2][1] and each.monotonic_end > spans[0][1]] == []

    def test_rows_behind_what_is_lost_are_dated_by_the_anchor_that_follows(self, tmp_path):
        rings = Rings()
        job, folder = session_of_one_feed(tmp_path)
        drain, journal = rings.drain(), Journal(journal_path(folder, 1), 1, msgspec.json.encode(job))
        hour = 3_600 * 10**9

        def anchor(ahead):
            moment = time.monotonic_ns()
            clock = {"monotonic": moment, "realtime": moment + ahead, "clock": "CLOCK_MONOTONIC"}
            rings.event(EventKind.ANCHOR, **clock, width_ns=100, drift_ns=0)

        def row(payload):
            rings.put(payload, event=time.monotonic_ns(), handoff=time.monotonic_ns())

        anchor(5 * hour)
        row(b"a1")
        journal.append(drain.take())
        # the clock is set, and the event about it is lost
        anchor(9 * hour)
        row(b"a2")
        spoiled = journal.append(drain.take())
        row(b"a3")
        journal.append(drain.take())
        anchor(9 * hour)
        journal.append(drain.take())
        journal.close()
        rings.close()
        path = journal_path(folder, 1)
        data = bytearray(path.read_bytes())
        data[spoiled.stop - 20] ^= 1
        path.write_bytes(data)
        recover(tmp_path, fail)
        rows = messages_of(tmp_path).sort_by("seq")
        ahead = pc.subtract(rows["handoff_time"].cast("int64"), rows["handoff_monotonic"]).to_pylist()
        assert received(rows) == [b"a1", b"a3"]
        assert ahead == [5 * hour, 9 * hour]


def test_findings_of_the_replayed_messages_do_not_reach_the_users_output(tmp_path: Path, wsrec: Wsrec) -> None:
    """A time of 2001 is an event of the file; a recording warns of it, its recovery does not repeat that."""
    config = {**IDS, "fields": {"channel": ["c"], "exchange_time": ["t"], "time_unit": "ms"}}
    job = writer_job(tmp_path, (plan(0, feed="ids"),), {"ids": config})
    rings = Rings()
    rings.put(b'{"c":"trades","t":1000000000000}', handoff=time.monotonic_ns())
    journal_of(rings, job, tmp_path)
    result = wsrec.run("recover", tmp_path, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["sessions"][0]["rows"] == 1
    (event,) = events_of(tmp_path, "exchange_time_off")
    assert event["detail"]["count"] == 1
