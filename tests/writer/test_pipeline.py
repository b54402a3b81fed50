"""wsrec.writer.pipeline and feedfile: from batches to finished files that say of themselves what is true."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from tests.conftest import events_of, messages_of, received
from tests.rings import Rings, plan, writer_job
from tests.subscriptions import request, requested
from wsrec.decode.implementation import COMPILED
from wsrec.feed.load import find_feed
from wsrec.format import manifest
from wsrec.format.capture import metadata
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.layout import EVENTS
from wsrec.format.metadata import METADATA_KEYS, OF_ROWS, OF_SESSION
from wsrec.histogram import Histogram, coarse_quantiles
from wsrec.plan.target import feed_of_url
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.stages import STEPS, TOTAL, StampSource
from wsrec.version import full_version
from wsrec.wire.frames import PING, TEXT
from wsrec.writer import output
from wsrec.writer.batch import Batch
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.utc_line import first_anchor

HOUR = 3_600_000_000_000
# 2026-11-22T13:59:59 UTC
START = 1_795_355_999_000_000_000
BOOT = 1_000_000_000_000
OFFSET = START - BOOT
USDM = find_feed("binance-usdm").public_config()
SUBSCRIBE = '{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}'


def depth(update: int, previous: int, symbol: str = "BTCUSDT") -> bytes:
    data = {"e": "depthUpdate", "E": 1_795_355_999_123, "s": symbol, "U": update, "u": update, "pu": previous}
    return json.dumps({"stream": f"{symbol.lower()}@depth@0ms", "data": data}).encode()


class Session:
    """A pipeline at the end of rings."""

    def __init__(self, out: Path, rings: Rings, connections, feeds, **job) -> None:
        self.out, self.rings = out, rings
        self.folder = out / ".wsrec" / "s"
        self.folder.mkdir(parents=True)
        self.pipeline = Pipeline(writer_job(out, connections, feeds, **job), self.folder, rings.status)
        self._drain = rings.drain()
        self.anchor()

    def anchor(self, offset: int = OFFSET, width: int = 70, at: int = 0, **detail) -> None:
        """An anchor `at` ns after the start."""
        stage, drift = BOOT + at, -width // 2
        detail = {"width_ns": width, "clock": "TSC", "drift_ns": drift, **detail}
        self.rings.event(EventKind.ANCHOR, monotonic=stage, realtime=stage + offset, **detail)

    def put(self, payload: bytes, conn: int = 0, at: int = 0, **fields) -> None:
        """A frame whose stages are 10, 200, 30, 4 and 5 ns apart, handed off `at` ns after the start."""
        handoff = BOOT + at
        times = {"event": handoff - 239, "recv_start": 200, "recv_end": 30, "parsed": 4, "handoff": handoff}
        stamp = {"nic": handoff + OFFSET - 249, "source": StampSource.KERNEL}
        self.rings.put(payload, conn, **{**times, **stamp, **fields})

    def take(self, number: int = 1) -> None:
        batch = self.last_batch = self._drain.take()
        self.pipeline.take(batch, number)
        self._drain.release()

    def batch(self) -> Batch:
        """What there is, as it comes back from a journal."""
        batch = self._drain.take()
        kept = Batch(batch.slots.copy(), pa.array(batch.payload.to_pylist(), pa.large_binary()), batch.first)
        self._drain.release()
        return kept

    def finish(self, number: int = 1) -> list[manifest.ManifestLine]:
        return self.pipeline.finish(number)

    def about(self, line: manifest.ManifestLine):
        with pq.ParquetFile(self.out / line.path) as file:
            return metadata(file)


@pytest.fixture
def session(rings, tmp_path):
    def start(connections=None, feeds=None, **job) -> Session:
        connections = connections or (plan(feed="usdm"),)
        return Session(tmp_path, rings(len(connections), 64 * 4096, 4096), connections, feeds or {"usdm": USDM}, **job)

    return start


class TestManyConnections:
    def test_informational_events_do_not_split_a_batch(self, session):
        """Each of a thousand is sampled every 10 s, and all are closed at once."""
        work = session()
        work.take()

        def cost(kind: EventKind) -> float:
            spent = []
            for _ in range(10):
                for _ in range(25):
                    work.rings.event(kind, conn=0, message="", received_bytes=0)
                    work.put(b"{}")
                began = time.process_time()
                work.take()
                spent.append(time.process_time() - began)
            # others use the machine too
            return min(spent)

        # behind a connection's end all begins anew
        cuts = cost(EventKind.DISCONNECT)
        for kind in (EventKind.CLOSE, EventKind.TCP, EventKind.STAMPING, EventKind.CONNECT_FAILED):
            assert cost(kind) < cuts / 3, kind
        work.finish()
        assert len(received(messages_of(work.out))) == 1250
        kinds = [row["kind"] for row in events_of(work.out)]
        assert [kinds.count(kind) for kind in ("close", "tcp", "disconnect")] == [250, 250, 250]
        times = [row["time"] for row in events_of(work.out)]
        assert times == sorted(times)


class TestFiles:
    def test_seq_is_contiguous_over_files(self, session):
        work = session()
        for number in (1, 2, 3):
            for _ in range(number):
                work.put(b"{}")
            work.take(number)
            work.finish(number)
        assert messages_of(work.out)["seq"].to_pylist() == list(range(6))
        lines = manifest.read(work.out)
        assert [(line.first_seq, line.last_seq, line.rows) for line in lines] == [(0, 0, 1), (1, 2, 2), (3, 5, 3)]

    def test_the_folder_is_the_hour_of_the_hand_off(self, session):
        work = session()
        work.put(b"{}", at=2_000_000_000)
        work.take()
        # the anchor of the start is of the hour before: its handoff is not the session's, so look at the next file
        work.finish()
        work.put(b"{}", at=2_000_000_000)
        work.take(2)
        (line,) = work.finish(2)
        assert line.path == "messages/feed=usdm/date=2026-11-22/hour=14/s-000002.parquet"
        assert line.events_path is None

    def test_nothing_happened_no_file(self, session):
        work = session()
        work.take()
        work.finish()
        assert work.finish(2) == []

    def test_events_without_messages_are_an_events_file_alone(self, session):
        work = session()
        work.take()
        (line,) = work.finish()
        assert (line.path, line.rows, line.sha256) == (None, 0, None)
        assert pq.read_table(work.out / line.events_path).num_rows == line.events == 1

    def test_the_manifest_says_what_the_files_are(self, session):
        work = session()
        work.put(b"{}", at=5)
        work.put(b"{}", at=900)
        work.take()
        (line,) = work.finish()
        for path, digest in ((line.path, line.sha256), (line.events_path, line.events_sha256)):
            assert hashlib.sha256((work.out / path).read_bytes()).hexdigest() == digest
        assert line.bytes == (work.out / line.path).stat().st_size
        times = messages_of(work.out)["recv_time"].cast("int64").to_pylist()
        assert [line.first_time, line.last_time] == times == [START + 5 - 249, START + 900 - 249]
        assert list(work.folder.iterdir()) == []

    def test_two_feeds_have_their_own_files_and_seq(self, session):
        url = feed_of_url("wss://other/x").public_config()
        work = session((plan(0, "usdm"), plan(1, "other")), {"usdm": USDM, "other": url})
        for index in range(5):
            work.put(b"%d" % index, index % 2)
        work.take()
        usdm, other = work.finish()
        tables = [pq.ParquetFile(work.out / line.path).read() for line in (usdm, other)]
        assert [table["text"].to_pylist() for table in tables] == [["0", "2", "4"], ["1", "3"]]
        assert [table["seq"].to_pylist() for table in tables] == [[0, 1, 2], [0, 1]]
        assert [line.gaps_checked for line in (usdm, other)] == [True, False]
        assert [c["conn"] for c in work.about(other)["connections"]] == [1]

    def test_a_fragmented_message_is_one_row_in_the_file_of_its_end(self, session):
        work = session()
        work.put(b"be", flags=0)
        work.take(1)
        assert work.pipeline.pending
        work.finish(1)
        work.put(b"gun", opcode=0)
        work.take(2)
        (line,) = work.finish(2)
        assert received(messages_of(work.out)) == [b"begun"]
        assert line.number == 2
        assert not work.pipeline.pending


class TestMetadata:
    def test_every_key_that_the_schema_names(self, session):
        work = session()
        work.put(b"{}")
        work.take()
        about = work.about(work.finish()[0])
        assert set(about) == set(METADATA_KEYS)
        assert (about["wsrec_version"], about["session"], about["feed"]) == (full_version(), "s", "usdm")
        assert (about["rows"], about["first_seq"], about["last_seq"], about["counts"]["gaps"]) == (1, 0, 0, 0)
        assert about["feed_config"] == USDM

    def test_an_events_file_leaves_the_sessions_to_the_message_file_beside_it(self, session, tmp_path):
        work = session()
        for number in (1, 2, 3):
            if number < 3:
                work.put(b"x")
            work.rings.event(EventKind.CLOCK_STEP, step_ns=number)
            work.take(number)
            work.finish(number)
        files = sorted((tmp_path / "events").rglob("*.parquet"), key=lambda path: path.name)
        stated = [set(METADATA_KEYS) - set(metadata(pq.ParquetFile(path))) for path in files]
        # the first tells everything of its session, and so does one that is alone
        assert stated == [set(OF_ROWS), {*OF_ROWS, *OF_SESSION}, set(OF_ROWS)]
        beside = CaptureFile(Path(str(files[1]).replace("/events/", "/messages/"))).metadata
        brief = CaptureFile(files[1], EVENTS)
        assert brief.metadata == structs.replace(beside, stages={})
        assert brief.metadata.connections

    def test_an_events_file_finds_its_session_in_another_message_file(self, session, tmp_path):
        work = session()
        for number in (1, 2, 3):
            work.put(b"x")
            work.rings.event(EventKind.CLOCK_STEP, step_ns=number)
            work.take(number)
            work.finish(number)
        first, second, third = sorted((tmp_path / "messages").rglob("*.parquet"))
        second.unlink()
        events = CaptureFile(Path(str(second).replace("/messages/", "/events/")), EVENTS)
        assert events.metadata.feed_config == CaptureFile(third).metadata.feed_config
        first.unlink()
        third.write_bytes(b"")
        with pytest.raises(CaptureError, match="missing or damaged"):
            _ = events.metadata

    def test_no_secret_of_the_url(self, session):
        work = session()
        work.put(b"{}")
        work.take()
        (line,) = work.finish()
        for path in (line.path, line.events_path):
            assert b"SECRET" not in (work.out / path).read_bytes()

    def test_histograms_are_those_of_the_rows(self, session):
        work = session()
        for index in range(20):
            work.put(b"{}", at=index * 1000, parsed=index * 7, frame_in_read=index % 4)
        work.put(b"{}", nic=0, source=StampSource.NONE_ABSENT)
        work.rings.producer.sent(0, TEXT, b"sent rows do not count")
        work.take()
        stages = work.about(work.finish()[0])["stages"]
        table = messages_of(work.out)
        behind = [place > 0 for place in table["frame_in_read"].to_pylist()]
        for step, counts in zip((*STEPS, TOTAL), ((5, 15), *[(6, 15)] * 4, (5, 15)), strict=True):
            start, end = (table[stage.column].cast("int64").to_pylist() for stage in (step.start, step.end))
            for is_behind, frames in enumerate(("first", "behind")):
                durations = [
                    b - a
                    for a, b, group in zip(start, end, behind, strict=True)
                    if None not in (a, b) and group == is_behind
                ]
                assert len(durations) == counts[is_behind]
                expected = Histogram()
                expected.add(np.array(durations, np.int64))
                assert stages[frames][step.key] == expected.to_json()
        assert stages["first"]["total"]["min"] == stages["behind"]["total"]["max"] == 249
        assert stages["first"]["event_to_handoff"]["sum"] == 239
        assert "event_to_handoff" not in stages["behind"]
        assert (stages["after_read"], stages["latest"]) == (0, None)

    def test_stage_1_is_counted_by_its_source_or_the_reason_for_none(self, session):
        work = session()
        for source in (StampSource.NIC, StampSource.KERNEL, StampSource.KERNEL):
            work.put(b"{}", source=source)
        work.put(b"{}", nic=0, source=StampSource.NONE_OPENSSL)
        work.rings.producer.sent(0, TEXT, b"not counted")
        work.take()
        stage1 = work.about(work.finish()[0])["stage1"]
        assert stage1 == {"nic": 1, "kernel": 2, f"none: {StampSource.NONE_OPENSSL.reason}": 1}

    def test_counts_begin_anew_in_each_file(self, session):
        work = session()
        for number in (1, 2):
            work.put(b"{}")
            work.take(number)
            (line,) = work.finish(number)
        assert work.about(line)["stage1"] == {"kernel": 1}
        assert work.about(line)["stages"]["first"]["total"]["buckets"][1] == 1

    def test_scheduling_tls_and_clock_come_from_events(self, session):
        work = session()
        work.rings.event(EventKind.SCHEDULING, process="receiver", cpus=[1], policy="fifo")
        tls = {"mode": "stamped", "fallback": "no module", "version": "TLSv1.3", "cipher": "AES", "bits": 256}
        work.rings.event(EventKind.TLS, 0, **tls, subject="x")
        work.anchor(OFFSET + 5, width=900)
        work.rings.event(EventKind.CLOCK_STEP, step_ns=5)
        work.put(b"{}")
        work.take()
        about = work.about(work.finish()[0])
        assert about["scheduling"] == {"receiver": {"cpus": [1], "policy": "fifo"}}
        assert about["connections"][0]["tls"] == tls
        assert about["clock"] == {
            "clock": "TSC",
            "anchors": 2,
            "widest_bracket_ns": 900,
            "largest_drift_ns": 450,
            "steps": 1,
            # the 5 ns that UTC was set by, and both brackets
            "utc_bound_ns": 5 + 900 + 70,
        }


class TestFields:
    def test_of_a_real_form(self, session):
        work = session()
        work.put(depth(7, 6))
        work.put(b'{"stream":"')
        work.put(depth(1, 1), opcode=PING)
        work.put(depth(1, 1), flags=Flag.FIN | Flag.RSV1)
        work.take()
        work.finish()
        rows = messages_of(work.out).select(["channel", "symbol", "exchange_seq"]).to_pylist()
        assert rows[0] == {"channel": "depth@0ms", "symbol": "BTCUSDT", "exchange_seq": 7}
        assert rows[1:] == [{"channel": None, "symbol": None, "exchange_seq": None}] * 3
        (time, *_) = messages_of(work.out)["exchange_time"].cast("int64").to_pylist()
        assert time == 1_795_355_999_123_000_000

    def test_new_names_without_end_end_a_row_group(self, session, monkeypatch):
        monkeypatch.setattr(output, "ROW_GROUP_BYTES", 4000)
        work = session()
        for number in range(40):
            work.put(b'{"stream":"x@trade","data":{"s":"%0100d"}}' % number)
            work.take()
        (line,) = work.finish()
        groups = pq.ParquetFile(work.out / line.path).num_row_groups
        if COMPILED:
            # each batch's dictionary has the names of all before it
            assert groups > 10
        else:
            # only its own, as many bytes as are in its payload
            assert groups == 2


class TestGaps:
    def test_a_removed_message_is_an_event_in_the_file_the_manifest_and_the_status_page(self, session):
        work = session()
        for update in (1, 2, 4, 5):
            work.put(depth(update, update - 1), at=update * 1000)
        work.take()
        (line,) = work.finish()
        (gap,) = events_of(work.out, "gap")
        assert (gap["conn"], gap["channel"], gap["symbol"]) == (0, "depth@0ms", "BTCUSDT")
        how = {"what": "missing", "scope": "symbol", "rule": "previous", "missing": None}
        assert gap["detail"] == {**how, "expected": 2, "found": 3, "seq": 2}
        assert gap["time"] == messages_of(work.out)["recv_time"][2].value
        assert (line.gaps, work.about(line)["counts"]["gaps"], int(work.rings.status.writer["gaps"])) == (1, 1, 1)

    def test_complete_streams_have_none_over_batches_files_and_symbols(self, session):
        work = session()
        for update in range(1, 10):
            for symbol in ("BTCUSDT", "ETHUSDT"):
                work.put(depth(update, update - 1, symbol))
            work.take(update)
            (line,) = work.finish(update)
            assert line.gaps == 0

    def test_a_gap_before_a_disconnect_in_the_same_batch_counts_and_the_new_beginning_does_not(self, session):
        work = session()
        work.put(depth(1, 0))
        work.take()
        work.put(depth(9, 8))
        work.rings.event(EventKind.DISCONNECT, 0, message="lost")
        work.put(depth(50, 49))
        work.put(depth(51, 50))
        work.take()
        (line,) = work.finish()
        assert [gap["detail"]["found"] for gap in events_of(work.out, "gap")] == [8]
        assert line.gaps == 1

    def test_what_came_before_a_disconnect_is_not_held_against_a_later_batch(self, session):
        work = session()
        work.put(depth(1, 0))
        work.rings.event(EventKind.DISCONNECT, 0, message="lost")
        work.take()
        work.put(depth(50, 49))
        work.take()
        assert work.finish()[0].gaps == 0


class TestAcks:
    @pytest.fixture
    def work(self, session):
        subscription = request(SUBSCRIBE, requested(USDM, "trade", "BTCUSDT"))
        return session((plan(feed="usdm", requests=(subscription,)),))

    def test_confirmed(self, work):
        work.rings.producer.sent(0, TEXT, SUBSCRIBE.encode(), 1)
        work.put(b'{"result":null,"id":1}')
        work.take()
        work.finish()
        (ack,) = events_of(work.out, "ack")
        assert (ack["conn"], ack["detail"]) == (0, {"topics": ["btcusdt@trade"], "request": 1})
        assert work.pipeline.feeds["usdm"].counts.refused == 0

    def test_refused_in_the_exchanges_words(self, work):
        work.rings.producer.sent(0, TEXT, SUBSCRIBE.encode(), 1)
        work.take()
        work.put(b'{"error":{"code":2,"msg":"Invalid request"},"id":1}')
        work.take()
        work.finish()
        (refused,) = events_of(work.out, "refused")
        assert refused["detail"] == {"topics": ["btcusdt@trade"], "request": 1, "message": "2: Invalid request"}
        assert work.pipeline.feeds["usdm"].counts.refused == 1

    def test_what_is_refused_counts_by_topics(self, session):
        asked = '{"method":"SUBSCRIBE","params":["a@trade","b@trade","c@trade"],"id":7}'
        subscription = request(asked, *(requested(USDM, "trade", symbol) for symbol in "ABC"))
        work = session((plan(feed="usdm", requests=(subscription,)),))
        work.rings.producer.sent(0, TEXT, asked.encode(), 1)
        work.take()
        work.put(b'{"error":{"code":2,"msg":"Invalid request"},"id":7}')
        work.take()
        work.pipeline.feeds["usdm"].event(work.pipeline.last, EventKind.SESSION_END)
        work.finish()
        assert sum(len(event["detail"]["topics"]) for event in events_of(work.out, "refused")) == 3
        assert work.pipeline.feeds["usdm"].counts.refused == 3

    def test_unanswered(self, work):
        work.rings.producer.sent(0, TEXT, SUBSCRIBE.encode(), 1)
        work.take()
        sent = work.pipeline.last.stage - BOOT
        work.put(b"{}", at=sent + HOUR)
        work.take()
        work.finish()
        assert [event["detail"] for event in events_of(work.out, "unanswered")] == [
            {"topics": ["btcusdt@trade"], "request": 1}
        ]


class TestClock:
    def times(self, work) -> list[int]:
        """By how much the UTC of each row is more than its time on the stage clock since the start (ns)."""
        rows = messages_of(work.out)
        stages = rows["handoff_monotonic"].to_pylist()
        return [time.value - START - (stage - BOOT) for time, stage in zip(rows["handoff_time"], stages, strict=True)]

    def test_a_row_lies_on_the_line_between_the_anchors_around_it(self, session):
        work = session()
        for at in (0, 25_000_000, 50_000_000, 100_000_000):
            work.put(b"{}", at=at)
        work.anchor(OFFSET + 1000, at=100_000_000)
        work.put(b"{}", at=150_000_000)
        work.take()
        work.finish()
        assert self.times(work) == [0, 250, 500, 1000, 1000]

    def test_messages_around_anchors_keep_their_place_among_the_events(self, session):
        """One batch: anchors at its ends, beside one another and beside a disconnect, which lets numbers begin anew."""
        work = session()
        work.put(depth(1, 0))
        work.pipeline.take(work.batch(), 1)
        work.anchor(at=1_000)
        work.put(depth(2, 1), at=2_000)
        work.anchor(at=3_000)
        work.anchor(at=4_000)
        work.put(depth(3, 2), at=5_000)
        work.anchor(at=6_000)
        work.rings.event(EventKind.DISCONNECT, 0, message="")
        work.anchor(at=7_000)
        work.put(depth(90, 89), at=8_000)
        work.anchor(at=9_000)
        work.put(depth(99, 98), at=10_000)
        work.anchor(at=11_000)
        work.pipeline.take(work.batch(), 1)
        (line,) = work.finish()
        rows = messages_of(work.out)
        assert rows["exchange_seq"].to_pylist() == [1, 2, 3, 90, 99]
        assert rows["seq"].to_pylist() == list(range(5))
        assert rows["text"].to_pylist() == [
            depth(u, p).decode() for u, p in ((1, 0), (2, 1), (3, 2), (90, 89), (99, 98))
        ]
        handed = rows["handoff_time"].cast("int64").to_pylist()
        assert handed == [START + at for at in (0, 2_000, 5_000, 8_000, 10_000)]
        (gap,) = (event for event in events_of(work.out) if event["kind"] == "gap")
        assert (gap["detail"]["seq"], line.gaps) == (4, 1)
        assert line.ledger.events == line.ledger.stop_slot - 5

    def test_the_anchor_after_it_may_come_in_a_later_batch(self, session):
        work = session()
        work.put(b"{}", at=50_000_000)
        batch = work.batch()
        work.anchor(OFFSET + 1000, at=100_000_000)
        work.put(b"{}", at=150_000_000)
        later = work.batch()
        work.pipeline.take(batch, 1, first_anchor(later))
        work.finish(1)
        work.pipeline.take(later, 2)
        (line,) = work.finish(2)
        assert self.times(work) == [500, 1000]
        # the first file's rows are off by no more than the second anchor shows, though that is in the next file
        first, *_ = manifest.read(work.out)
        assert work.about(first)["clock"]["utc_bound_ns"] == 1000 + 70 + 70
        # behind the last anchor UTC may be slewed as fast as the kernel does
        assert work.about(line)["clock"]["utc_bound_ns"] >= 1000 + 70 + 50_000_000 // 10

    def test_a_step_is_not_spread_over_the_rows_before_it(self, session):
        work = session()
        work.put(b"{}", at=50_000_000)
        work.anchor(OFFSET - HOUR + 1000, at=100_000_000, step_ns=-HOUR)
        work.put(b"{}", at=100_000_000)
        work.take()
        work.finish()
        assert self.times(work) == [500, 1000 - HOUR]
        (line,) = manifest.read(work.out)
        assert work.about(line)["clock"]["utc_bound_ns"] >= HOUR - 1000

    def test_a_step_without_an_event(self, session):
        """A receiver that was started again has no anchor before its first."""
        work = session()
        work.put(b"{}", at=50_000_000)
        work.anchor(OFFSET + HOUR, at=100_000_000)
        work.take()
        work.finish()
        assert self.times(work) == [0]

    def test_a_stage_clock_that_was_given_up_ends_its_line(self, session):
        work = session()
        work.put(b"{}", at=50_000_000)
        work.anchor(OFFSET + 2_000_000, at=98_000_000, clock="CLOCK_MONOTONIC")
        work.put(b"{}", at=99_000_000)
        work.take()
        work.finish()
        assert self.times(work) == [0, 2_000_000]

    def test_rows_before_the_first_anchor_take_it(self, rings, tmp_path):
        ends = rings(1, 64 * 4096, 4096)
        ends.put(b"early", handoff=BOOT)
        work = Session(tmp_path, ends, (plan(feed="usdm"),), {"usdm": USDM})
        work.take()
        work.finish()
        assert messages_of(tmp_path)["handoff_time"][0].value == START

    def test_a_lost_interval_is_recorded_in_utc_and_counted(self, session):
        work = session()
        work.rings.event(EventKind.LOST_INTERVAL, 0, monotonic_from=BOOT + 1, monotonic_to=BOOT + 9, reason="lost")
        work.take()
        (line,) = work.finish()
        (lost,) = events_of(work.out, "lost_interval")
        stages = {"monotonic_from": BOOT + 1, "monotonic_to": BOOT + 9}
        assert lost["detail"] == {"reason": "lost", "from": START + 1, "to": START + 9, "duration_ns": 8, **stages}
        assert (line.lost_intervals, work.pipeline.feeds["usdm"].counts.lost_intervals) == (1, 1)


class TestLiveCounts:
    """What the writer counts of each connection on the status page."""

    def test_a_standby_counts_for_its_connection(self, tmp_path, rings):
        connections = (plan(5), plan(6), plan(7, standby_of=5))
        session = Session(tmp_path, rings(8), connections, {"f": feed_of_url("wss://h/", "f").public_config()})
        for conn, payload in ((5, b"12"), (6, b"123"), (7, b"1234"), (7, b"12345")):
            session.put(payload, conn, at=1000 * len(payload))
        session.put(b"ping", 6, opcode=PING, at=6000)
        session.take()
        rows = session.rings.status.connections
        assert rows["writer"]["messages"][:3].tolist() == [3, 1, 0]
        assert rows["writer"]["payload_bytes"][:2].tolist() == [11, 3]
        assert rows["writer"]["last_message"][:2].tolist() == [BOOT + 5000, BOOT + 3000]
        assert rows["latency"].sum(axis=1)[:3].tolist() == [3, 1, 0]
        assert coarse_quantiles(rows["latency"], 0.5)[:3] == [pytest.approx(249, rel=1 / 16)] * 2 + [None]

    def test_what_an_earlier_writer_has_counted_is_not_counted_again(self, tmp_path, rings):
        session = Session(tmp_path, rings(), (plan(),), {"f": feed_of_url("wss://h/", "f").public_config()})
        session.put(b"one", at=1000)
        session.take()
        status = session.rings.status
        again = Pipeline(
            writer_job(tmp_path, (plan(),), {"f": feed_of_url("wss://h/", "f").public_config()}),
            session.folder,
            status,
        )
        again.take(session.last_batch, 2)
        assert status.connections["writer"]["messages"].tolist() == [1]
