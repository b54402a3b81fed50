"""wsrec.report.collect against numpy on the raw columns."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from tests.capture_files import STAMPS, START, Capture, message_columns
from tests.tables.recorded import record, usdm_messages
from wsrec.format.stage_histograms import StageHistograms
from wsrec.report.collect import collect
from wsrec.report.model import Latency, Recording, Report
from wsrec.stages import STAGES, STEPS

SECOND = 1_000_000_000


def only(report: Report) -> Recording:
    assert report.errors == []
    (recording,) = report.recordings
    return recording


def steps(recording: Recording, frames: str = "all") -> dict[str, Latency]:
    (table,) = (table for table in recording.stages if table.frames == frames)
    return {step.name: step for step in table.steps}


def as_numpy(columns: dict[str, Any], name: str) -> np.ndarray:
    return np.array(columns[name], np.int64)


class TestRows:
    def test_counts_sizes_and_time_span(self, capture: Capture) -> None:
        columns = message_columns(5000)
        columns["direction"] = ["sent"] * 10 + ["rest"] * 5 + ["recv"] * 4985
        columns["opcode"] = ["text"] * 4000 + ["ping"] * 1000
        columns["data"] = [b"\xff" * 7 if i >= 4990 else None for i in range(5000)]
        columns["text"] = [None if i >= 4990 else text for i, text in enumerate(columns["text"])]
        path = capture.write(columns, row_group_size=777)
        recording = only(collect([capture.out]))
        assert (recording.feed, recording.host, recording.files) == ("binance", "tokyo1", 1)
        assert recording.rows == {
            "recv": {"text": 3985, "ping": 1000},
            "sent": {"text": 10},
            "rest": {"text": 5},
        }
        assert recording.payload_bytes == sum(len(text.encode()) for text in columns["text"] if text) + 70
        assert recording.file_bytes == path.stat().st_size
        assert recording.first_recv_time == columns["recv_time"][0]
        assert recording.last_recv_time == columns["recv_time"][-1]
        assert recording.recorded == columns["recv_time"][-1] - columns["recv_time"][0]

    def test_mean_and_peak_rate_over_files_that_share_a_second(self, capture: Capture) -> None:
        columns = message_columns(4000, spacing=20_000_000)
        # Two sessions at the same time, as with two receivers, each in two files, read in no helpful order
        for part, session in enumerate(("b", "a", "a", "b")):
            capture.write({name: values[part::4] for name, values in columns.items()}, session=session)
        recording = only(collect([capture.out]))
        times = as_numpy(columns, "recv_time")
        second, count = Counter((times // SECOND).tolist()).most_common(1)[0]
        assert recording.rate is not None
        assert recording.rate.peak == count
        assert Counter((times // SECOND).tolist())[recording.rate.peak_time // SECOND] == count
        assert recording.rate.mean == pytest.approx(4000 * SECOND / (times[-1] - times[0]))
        assert second >= START // SECOND

    def test_a_pause_between_sessions_does_not_count_as_recorded(self, capture: Capture) -> None:
        one, two = message_columns(100), message_columns(100, start=START + 3600 * SECOND)
        capture.write(one, session="a")
        capture.write(two, session="b")
        recording = only(collect([capture.out]))
        spans = [int(columns["recv_time"][-1] - columns["recv_time"][0]) for columns in (one, two)]
        assert recording.recorded == sum(spans)

    def test_feeds_and_hosts_are_kept_apart(self, capture: Capture) -> None:
        for feed, host in (("kraken", "a"), ("binance", "b"), ("binance", "a")):
            capture.write(message_columns(10), feed=feed, host=host)
        report = collect([capture.out])
        assert [(r.feed, r.host) for r in report.recordings] == [("binance", "a"), ("binance", "b"), ("kraken", "a")]

    def test_a_file_named_twice_counts_once(self, capture: Capture) -> None:
        path = capture.write(message_columns(10))
        assert only(collect([path, capture.out, str(path)])).row_count("recv") == 10


class TestSequence:
    def test_complete(self, capture: Capture) -> None:
        capture.write(message_columns(100, start=START + SECOND * 60, first_seq=100))
        capture.write(message_columns(100))
        (session,) = only(collect([capture.out])).sessions
        assert (session.first_seq, session.last_seq, session.missing, session.duplicates) == (0, 199, 0, 0)
        assert (session.files, session.rows) == (2, 200)

    def test_missing_and_repeated_numbers_are_named(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["seq"] = np.array([*range(10), *range(12, 50), *range(49, 99), 0, 200], np.uint64)
        capture.write(columns, row_group_size=20)
        (session,) = only(collect([capture.out])).sessions
        assert session.missing == 2 + 101
        assert session.missing_ranges == [(10, 11), (99, 199)]
        assert session.duplicates == 2

    def test_each_session_has_its_own_numbers(self, capture: Capture) -> None:
        capture.write(message_columns(10), session="a")
        capture.write(message_columns(10), session="b")
        assert [(s.session, s.missing, s.duplicates) for s in only(collect([capture.out])).sessions] == [
            ("a", 0, 0),
            ("b", 0, 0),
        ]


class TestStages:
    def test_figures_are_those_of_numpy(self, capture: Capture) -> None:
        columns = message_columns(20_000)
        capture.write({name: values[:12_000] for name, values in columns.items()}, row_group_size=5000)
        capture.write({name: values[12_000:] for name, values in columns.items()}, row_group_size=5000)
        recording = only(collect([capture.out]))
        behind = as_numpy(columns, "frame_in_read") > 0
        for frames, rows in (("all", behind | True), ("first", ~behind), ("behind", behind)):
            table = steps(recording, frames)
            total = (columns["handoff_time"] - columns["nic_time"])[rows].sum()
            pairs = [*pairwise(STAMPS), ("nic_time", "handoff_time")]
            for latency, (start, end) in zip(table.values(), pairs, strict=True):
                raw = (columns[end] - columns[start])[rows]
                assert latency.count == len(raw)
                assert (latency.min, latency.max, latency.sum) == (raw.min(), raw.max(), raw.sum())
                assert latency.mean == round(raw.mean())
                assert latency.share == pytest.approx(raw.sum() / total)
                for found, q in ((latency.p50, 0.5), (latency.p90, 0.9), (latency.p99, 0.99), (latency.p999, 0.999)):
                    exact = np.quantile(raw, q, method="inverted_cdf")
                    assert abs(found - exact) <= exact / 128
                assert sum(count for _, count in latency.buckets) == latency.count

    def test_only_received_rows_count(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["direction"] = ["recv" if i % 2 else "sent" for i in range(100)]
        capture.write(columns)
        assert steps(only(collect([capture.out])))["NIC->HANDOFF"].count == 50

    def test_totals_with_and_without_stage_1_are_kept_apart(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["nic_time"] = [None if i < 30 else int(time) for i, time in enumerate(columns["nic_time"])]
        capture.write(columns, stage1={"kernel": 70, "none: the kernel provided no timestamp with this read": 30})
        recording = only(collect([capture.out]))
        table = steps(recording)
        assert table["NIC->EVENT"].count == table["NIC->HANDOFF"].count == 70
        assert table["EVENT->HANDOFF"].count == 30
        raw = (columns["handoff_time"] - columns["event_time"])[:30]
        assert (table["EVENT->HANDOFF"].min, table["EVENT->HANDOFF"].max) == (raw.min(), raw.max())
        assert table["EVENT->RECV_START"].count == 100
        shares = [table[step.name].share for step in STEPS]
        assert sum(share for share in shares if share is not None) == pytest.approx(1)
        assert (recording.stage1.nic, recording.stage1.kernel, recording.stage1.none) == (0, 70, 30)
        assert recording.stage1.reasons == {"the kernel provided no timestamp with this read": 30}

    def test_hardware_stamps_are_counted_as_such(self, capture: Capture) -> None:
        columns = message_columns(10)
        columns["recv_source"] = ["nic"] * 4 + ["kernel"] * 6
        capture.write(columns)
        stage1 = only(collect([capture.out])).stage1
        assert (stage1.nic, stage1.kernel, stage1.none) == (4, 6, 0)

    def test_without_any_stage_1(self, capture: Capture) -> None:
        columns = {**message_columns(10), "nic_time": [None] * 10, "recv_source": ["user"] * 10}
        capture.write(columns)
        table = steps(only(collect([capture.out])))
        assert list(table) == [*(step.name for step in STEPS[1:]), "EVENT->HANDOFF"]

    def test_a_stamp_after_the_read_is_shown_and_warned_of(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["nic_time"] = columns["nic_time"] + np.where(np.arange(100) < 3, 5_000_000, 0)
        capture.write(columns)
        recording = only(collect([capture.out]))
        latency = steps(recording)["NIC->EVENT"]
        assert latency.negative == 3
        assert latency.min == (columns["event_time"] - columns["nic_time"]).min() < 0
        latest = (columns["nic_time"] - columns["recv_end_time"]).max()
        assert (recording.stage1.after_event, recording.stage1.after_read, recording.stage1.latest) == (0, 3, latest)
        (warning,) = recording.warnings
        assert warning.startswith("stage 1 lies after RECV_END in 3 frames, by up to 4.99 ms")

    def test_a_segment_that_came_in_during_the_read_is_no_reason_to_warn(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["nic_time"][:4] = columns["recv_end_time"][:4] - 1
        columns["nic_time"][4] = columns["recv_end_time"][4]
        capture.write(columns)
        recording = only(collect([capture.out]))
        assert steps(recording)["NIC->EVENT"].negative == 5
        assert (recording.stage1.after_event, recording.stage1.after_read, recording.stage1.latest) == (5, 0, None)
        assert recording.warnings == []

    def test_monotonic_stamps_that_decrease_are_warned_of(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["parsed_time"][7] -= 10**9
        capture.write(columns)
        assert only(collect([capture.out])).warnings == [
            "RECV_END->PARSED is negative in 1 of 100 frames: these files were changed after wsrec wrote them"
        ]

    def test_a_nic_clock_that_was_never_set_is_warned_about(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["nic_time"] = columns["nic_time"] - START
        capture.write(columns)
        assert "phc2sys" in only(collect([capture.out])).warnings[0]

    def test_keys_are_those_of_the_stages(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        keys = [step.key for step in only(collect([capture.out])).stages[0].steps]
        assert keys == [*(step.key for step in STEPS), "total"]
        assert len(STAGES) == 6


class TestExchangeDelay:
    def test_by_channel(self, capture: Capture) -> None:
        columns = message_columns(3000)
        columns["channel"][0] = None
        capture.write(columns, row_group_size=500)
        recording = only(collect([capture.out]))
        raw = as_numpy(columns, "recv_time") - as_numpy(columns, "exchange_time")
        assert recording.exchange_delay is not None
        assert (recording.exchange_delay.count, recording.exchange_delay.resolution) == (3000, 1_000_000)
        by_channel = {delay.channel: delay for delay in recording.exchange_delay_by_channel}
        assert set(by_channel) == {"trade", "depth", "bookTicker", None}
        depth = raw[1::3]
        assert (by_channel["depth"].count, by_channel["depth"].min, by_channel["depth"].max) == (
            1000,
            depth.min(),
            depth.max(),
        )
        exact = np.quantile(depth, 0.5, method="inverted_cdf")
        assert abs(by_channel["depth"].p50 - exact) <= exact / 128
        assert recording.warnings == []

    def test_a_clock_behind_the_exchange_is_reported_plainly(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["exchange_time"] = columns["recv_time"] + 1_270_000_000
        capture.write(columns)
        recording = only(collect([capture.out]))
        assert recording.exchange_delay is not None
        assert recording.exchange_delay.negative == 100
        assert recording.exchange_delay.max == recording.exchange_delay.min == -1_270_000_000
        (warning,) = recording.warnings
        assert warning.startswith("the local clock runs 1.27 s behind the exchange's (p50)")
        assert "chrony/PTP" in warning

    def test_a_delay_within_the_resolution_is_no_reason_to_warn(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["exchange_time"] = columns["recv_time"] // 1_000_000 * 1_000_000 + 1_000_000
        capture.write(columns)
        assert only(collect([capture.out])).warnings == []

    def test_some_messages_ahead(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["exchange_time"][:2] += 90_000_000
        capture.write(columns)
        assert only(collect([capture.out])).warnings[0].startswith("2 of 100 messages arrived before")

    def test_a_wrong_unit_is_warned_of(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["exchange_time"] = columns["exchange_time"] // 1000
        capture.write(columns)
        assert "check the unit" in only(collect([capture.out])).warnings[0]

    def test_channels_beyond_the_limit_are_one(self, capture: Capture) -> None:
        columns = message_columns(600)
        columns["channel"] = [f"c{i}" for i in range(600)]
        capture.write(columns)
        delays = only(collect([capture.out])).exchange_delay_by_channel
        assert len(delays) == 257
        assert (delays[0].channel, delays[0].count) == ("(other channels)", 344)


class TestClock:
    def test_quality_over_all_files(self, capture: Capture) -> None:
        for anchors, width in ((60, 900), (120, 1240)):  # anchors count from the session's beginning
            clock = {"clock": "CLOCK_MONOTONIC", "anchors": anchors, "widest_bracket_ns": width, "steps": 0}
            capture.write(message_columns(10), clock=clock)
        clock = {"clock": "CLOCK_MONOTONIC", "anchors": 5, "widest_bracket_ns": 7, "steps": 0}
        capture.write(message_columns(10), session="b", clock=clock)
        found = only(collect([capture.out])).clock
        assert (found.clocks, found.anchors, found.width, found.steps) == (["CLOCK_MONOTONIC"], 125, 1240, 0)


class TestEvents:
    EVENTS = (
        {"time": START, "kind": "session_start"},
        {"time": START + 5, "kind": "stall", "conn": 0, "detail": {"duration_ns": 2_000_000}},
        {"time": START + 6, "kind": "stall", "conn": 0, "detail": {"duration_ns": 3_000_000}},
        {"time": START + 7, "kind": "lost_interval", "detail": {"from": START, "to": START + SECOND, "reason": "x"}},
        {"time": START + 8, "kind": "clock_step", "detail": {"step_ns": -70}},
        {"time": START + 9, "kind": "clock_step", "detail": {"step_ns": 60}},
        {"time": START + 4, "kind": "gap", "conn": 0, "channel": "depth", "symbol": "X", "detail": {"expected": 1}},
    )

    def test_are_counted_and_the_incidents_kept_in_order(self, capture: Capture) -> None:
        capture.write(message_columns(10), gaps=3, events=list(self.EVENTS))
        capture.write(message_columns(10, first_seq=10), gaps=1)
        recording = only(collect([capture.out]))
        assert recording.gaps == 4
        assert recording.events == {"clock_step": 2, "gap": 1, "lost_interval": 1, "session_start": 1, "stall": 2}
        assert (recording.stalled, recording.lost) == (5_000_000, SECOND)
        assert [incident.kind for incident in recording.incidents][:3] == ["gap", "stall", "stall"]
        assert recording.incidents[0].channel == "depth"
        assert (recording.clock.steps, recording.clock.largest_step) == (2, -70)

    def test_the_first_of_many_are_kept_and_all_counted(self, capture: Capture) -> None:
        random = np.random.default_rng(5)
        # several at the same time, in no order
        many = [
            {"time": START + int(at), "kind": kind, "conn": int(at) % 3, "detail": {"duration_ns": 2, "n": n}}
            for n, at in enumerate(random.integers(0, 40, 300))
            for kind in ("gap", "stall", "tcp")
        ]
        capture.write(message_columns(10), events=many)
        recording = only(collect([capture.out]))
        assert recording.events == {"gap": 300, "stall": 300, "tcp": 300}
        assert recording.stalled == 600
        for kind in ("gap", "stall"):
            of_kind = [each for each in many if each["kind"] == kind]
            first = sorted(of_kind, key=lambda each: (each["time"], each["conn"], json.dumps(each["detail"])))[:20]
            kept = [(each.time, each.detail) for each in recording.incidents if each.kind == kind]
            assert kept == [(each["time"], each["detail"]) for each in first]

    @pytest.mark.parametrize("detail", ["{", "1,2", "1],[2", " "])
    def test_a_detail_that_is_not_json_is_named(self, capture: Capture, detail: str) -> None:
        path = capture.write(message_columns(10), events=[{"time": START, "kind": "tcp"}] * 3)
        events = capture.out / "events" / path.relative_to(capture.out / "messages")
        table = pq.read_table(events, partitioning=None)
        at = table.schema.get_field_index("detail")
        pq.write_table(table.set_column(at, "detail", pa.array(["{}", detail, "{}"])), events)
        (error,) = collect([capture.out]).errors
        assert f"{events}: an event's detail is not JSON" in error

    def test_of_an_hour_without_messages_are_found_in_the_folder(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        path = capture.write(message_columns(10), events=[{"time": START, "kind": "disconnect"}])
        path.unlink()
        assert only(collect([capture.out])).events == {"disconnect": 1}

    def test_gaps_are_not_known_without_a_rule(self, capture: Capture) -> None:
        capture.write(message_columns(10), gaps=None)
        assert only(collect([capture.out])).gaps is None

    def test_a_damaged_events_file_is_named_and_the_messages_reported(self, capture: Capture) -> None:
        path = capture.write(message_columns(10), events=[{"time": START, "kind": "stall"}])
        events = capture.out / "events" / path.relative_to(capture.out / "messages")
        events.write_bytes(b"no")
        report = collect([capture.out])
        assert report.recordings[0].row_count("recv") == 10
        assert f"{events}: not readable as Parquet" in report.errors[0]
        assert str(events) in report.errors[0]


class TestOddInput:
    def test_an_empty_file(self, capture: Capture) -> None:
        capture.write(message_columns(0))
        recording = only(collect([capture.out]))
        assert (recording.rows, recording.rate, recording.stages, recording.exchange_delay) == ({}, None, [], None)
        assert recording.sessions[0].first_seq is None

    def test_sent_rows_only(self, capture: Capture) -> None:
        capture.write({**message_columns(10), "direction": ["sent"] * 10, "nic_time": [None] * 10})
        recording = only(collect([capture.out]))
        assert (recording.rate, recording.stages, recording.row_count("sent")) == (None, [], 10)

    def test_unknown_words_are_kept(self, capture: Capture) -> None:
        capture.write({**message_columns(10), "direction": ["recv"] * 9 + ["echo"], "opcode": ["text"] * 9 + ["odd"]})
        assert only(collect([capture.out])).rows == {"recv": {"text": 9}, "echo": {"odd": 1}}

    def test_a_stray_time_costs_no_memory(self, capture: Capture) -> None:
        columns = message_columns(10)
        columns["recv_time"][3] = 0
        columns["recv_time"][5] = 2**62
        capture.write(columns)
        assert only(collect([capture.out])).first_recv_time == 0

    def test_a_file_rewritten_by_another_tool(self, capture: Capture) -> None:
        columns = message_columns(1000)
        path = capture.write(columns)
        table = pq.read_table(path)
        plain = [
            (
                pa.string()
                if pa.types.is_dictionary(f.type)
                else pa.timestamp("us", "UTC")
                if f.name == "event_time"
                else f.type
            )
            for f in table.schema
        ]
        plain_table = table.cast(pa.schema(list(zip(table.schema.names, plain, strict=True))), safe=False)
        with pq.ParquetWriter(path, plain_table.schema, store_schema=False) as writer:
            writer.write_table(plain_table)
            writer.add_key_value_metadata(table.schema.metadata)
        recording = only(collect([path]))
        assert recording.rows == {"recv": {"text": 1000}}
        assert steps(recording)["NIC->HANDOFF"].sum == (columns["handoff_time"] - columns["nic_time"]).sum()

    @pytest.mark.parametrize(
        "about", [{"host": 7, "session": None}, {"clock": [1], "stage1": [2]}, {"gaps_checked": {"a": 1}}]
    )
    def test_a_file_with_metadata_of_another_shape_is_named(self, capture: Capture, about: dict[str, Any]) -> None:
        path = capture.write(message_columns(10))
        table = pq.read_table(path)
        encoded = {f"wsrec.{key}".encode(): json.dumps(value).encode() for key, value in about.items()}
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **encoded}), path)
        report = collect([path])
        assert not report.recordings
        assert f"{path}: its metadata is damaged" in report.errors[0]


class TestDamage:
    def test_a_truncated_file_is_named_and_the_others_reported(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        bad = capture.write(message_columns(10, first_seq=10))
        bad.write_bytes(bad.read_bytes()[:-50])
        before = bad.read_bytes()
        report = collect([capture.out])
        assert report.recordings[0].row_count("recv") == 10
        assert len(report.errors) == 1
        assert str(bad) in report.errors[0]
        assert "set the file aside" in report.errors[0]
        assert bad.read_bytes() == before

    def test_damage_in_the_middle_counts_the_rows_before(self, capture: Capture) -> None:
        path = capture.write(message_columns(300_000, spacing=1000), row_group_size=100_000)
        with pq.ParquetFile(path) as file:
            column = file.metadata.row_group(2).column(2)
            start, length = column.dictionary_page_offset or column.data_page_offset, column.total_compressed_size
        content = bytearray(path.read_bytes())
        content[start : start + length] = b"\xff" * length
        path.write_bytes(content)
        report = collect([path])
        read = report.recordings[0].row_count("recv")
        assert f"{path}: damaged after {read:,} of 300,000 rows" in report.errors[0]
        assert 100_000 <= read <= 200_000

    def test_metadata_that_is_no_json(self, capture: Capture) -> None:
        path = capture.write(message_columns(10))
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"wsrec.feed": b"{"}), path)
        (error,) = collect([path]).errors
        assert str(path) in error

    def test_a_source_that_does_not_exist_does_not_hide_the_others(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        report = collect(["nowhere", capture.out])
        assert len(report.recordings) == 1
        assert report.absent == ["found 'nowhere', which does not exist, and no file matches it as a pattern"]


class TestProgress:
    def test_ends_with_all_bytes(self, capture: Capture) -> None:
        sizes = [capture.write(message_columns(10, first_seq=10 * part)).stat().st_size for part in range(3)]
        seen: list[tuple[int, int]] = []
        collect([capture.out], lambda done, total: seen.append((done, total)))
        assert seen == [(sum(sizes[: count + 1]), sum(sizes)) for count in range(3)]


def stated(columns: dict[str, Any], *, extra_ns: int = 0) -> dict[str, Any]:
    """What the writer says of these rows in the file's metadata, with one step longer by `extra_ns`."""
    received = np.array(columns["direction"]) == "recv"
    stamped = np.array([nic is not None for nic in columns["nic_time"]])
    times = [np.array([0 if time is None else time for time in columns[name]], np.int64) for name in STAMPS]
    steps = [(end - start, None) for start, end in pairwise(times)]
    steps[0], steps[4] = (steps[0][0], stamped), (steps[4][0] + extra_ns, None)
    histograms = StageHistograms()
    histograms.add(columns["frame_in_read"], steps, received)
    sources = Counter(word for word, counts in zip(columns["recv_source"], received, strict=True) if counts)
    none = sources.pop("user", 0)
    lengths = [
        len((text or "").encode()) + len(data or b"")
        for text, data in zip(columns["text"], columns["data"], strict=True)
    ]
    rows = {way: int(np.count_nonzero(mask)) for way, mask in (("recv", received), ("own", ~received))}
    size = {way: int(np.sum(lengths, where=mask)) for way, mask in (("recv", received), ("own", ~received))}
    return {
        "ledger": {way: {"rows": {"text": rows[way]}, "row_bytes": size[way]} for way in rows},
        "stages": histograms.to_json(),
        "stage1": {**sources, **({"none: openssl": none} if none else {})},
    }


def some_columns() -> dict[str, Any]:
    columns = message_columns(400)
    columns["direction"] = ["sent" if i % 31 == 3 else "recv" for i in range(400)]
    columns["data"] = [b"\xff" * 7 if i % 5 == 0 else None for i in range(400)]
    columns["text"] = [None if i % 5 == 0 else text for i, text in enumerate(columns["text"])]
    columns["nic_time"] = columns["nic_time"] + np.where(np.arange(400) % 9 == 1, 50_000, 0)
    columns["nic_time"] = [None if i % 7 == 2 else int(time) for i, time in enumerate(columns["nic_time"])]
    words = ("nic", "kernel", "kernel")
    columns["recv_source"] = ["user" if i % 7 == 2 else words[i % 3] for i in range(400)]
    return columns


class TestStated:
    """Payloads and steps are most of a file: where its metadata are those of its rows, they are not read."""

    def test_report_is_the_same_as_of_the_rows(self, capture: Capture) -> None:
        columns = some_columns()
        about = stated(columns)
        path = capture.write(columns, stage1=about["stage1"])
        by_rows = only(collect([path]))
        assert by_rows.stage1.nic > 0
        assert by_rows.stage1.kernel > 0
        assert by_rows.stage1.none > 0
        assert by_rows.stage1.after_read > 0
        path = capture.write(columns, **about)
        by_metadata = only(collect([path]))
        assert structs.replace(by_metadata, file_bytes=0) == structs.replace(by_rows, file_bytes=0)

    def test_payloads_and_steps_are_not_read(self, capture: Capture) -> None:
        columns = some_columns()
        about = stated(columns, extra_ns=1000)
        about["ledger"]["recv"]["row_bytes"] += 4321
        capture.write(columns, **about)
        changed = only(collect([capture.out]))
        about = stated(columns)
        (table,) = (table for table in changed.stages if table.frames == "all")
        capture.write(columns, stage1=about["stage1"], session="by rows")
        rows = sorted((capture.out / "messages").rglob("*.parquet"))[-1]
        of_rows = only(collect([rows]))
        assert changed.payload_bytes == of_rows.payload_bytes + 4321
        step = table.steps[4]
        assert step.sum == steps(of_rows)[step.name].sum + 1000 * step.count

    @pytest.mark.parametrize("wrong", ["ledger", "stages", "stage1", "form"])
    def test_a_file_with_other_rows_than_its_metadata_is_read(self, capture: Capture, wrong: str) -> None:
        columns = some_columns()
        about, other = stated(columns), stated({name: values[1:] for name, values in columns.items()})
        path = capture.write(columns, stage1=about["stage1"])
        expected = only(collect([path]))
        about = {**about, "stages": {}} if wrong == "form" else {**about, wrong: other[wrong]}
        path = capture.write(columns, **about)
        found = only(collect([path]))
        assert found.stages == expected.stages
        assert found.payload_bytes == expected.payload_bytes
        assert (found.stage1.nic, found.stage1.kernel, found.stage1.none) == (
            expected.stage1.nic,
            expected.stage1.kernel,
            expected.stage1.none,
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"min": "a"},
            {"max": None},
            {"sum": 1e308},
            {"sum": 2**64 - 1},
            {"negative": 10**15},
            {"buckets": [3, -7, 1, 407]},
            {"buckets": [3, 2**62, 1, 2**62]},
            {"buckets": [], "min": None, "max": None, "sum": 0, "negative": 0},
            {"buckets": [0, 1] * 300_000},
        ],
    )
    @pytest.mark.parametrize("key", [STEPS[0].key, STEPS[3].key])
    def test_a_file_with_forged_figures_is_read(self, capture: Capture, key: str, change: dict[str, Any]) -> None:
        columns = some_columns()
        about = stated(columns)
        expected = only(collect([capture.write(columns, stage1=about["stage1"])]))
        about["stages"]["first"][key].update(change)
        found = only(collect([capture.write(columns, **about)]))
        assert structs.replace(found, file_bytes=0) == structs.replace(expected, file_bytes=0)

    @pytest.mark.parametrize("wrong", ["first", "ledger", "stage1"])
    def test_a_file_with_figures_that_outweigh_each_other_is_read(self, capture: Capture, wrong: str) -> None:
        columns = some_columns()
        about = stated(columns)
        expected = only(collect([capture.write(columns, stage1=about["stage1"])]))
        if wrong == "first":
            stages = about["stages"]
            for key, step in stages["first"].items():
                # the rows of one step are behind others, those of the rest are not
                if key == STEPS[2].key:
                    stages["first"] = {name: each for name, each in stages["first"].items() if name != key}
                    stages["behind"] = {**stages["behind"], key: step}
        elif wrong == "ledger":
            about["ledger"]["recv"]["rows"] = {
                "text": 10_000,
                "binary": about["ledger"]["recv"]["rows"]["text"] - 10_000,
            }
        else:
            about["stage1"]["kernel"] += 1000
            about["stage1"]["none: openssl"] -= 1000
        found = only(collect([capture.write(columns, **about)]))
        assert found.stages == expected.stages
        assert (found.stage1.kernel, found.stage1.none) == (expected.stage1.kernel, expected.stage1.none)
        assert min(found.stage1.reasons.values(), default=0) >= 0

    def test_what_the_writer_states_is_what_the_rows_say(self, tmp_path: Path) -> None:
        messages = list(itertools.islice(usdm_messages(), 3000))
        record(tmp_path / "out", "binance-usdm", messages, files=2)
        by_metadata = only(collect([tmp_path / "out"]))
        for path in (tmp_path / "out" / "messages").rglob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            about = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"wsrec.")}
            assert about.pop(b"wsrec.stages")
            pq.write_table(table.replace_schema_metadata(about), path)
        by_rows = only(collect([tmp_path / "out"]))
        assert by_rows.row_count("recv") == 3000
        assert structs.replace(by_metadata, file_bytes=0) == structs.replace(by_rows, file_bytes=0)


PEAK = """
import resource, sys
from wsrec.report.collect import collect
collect(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class TestMemory:
    def test_does_not_grow_with_the_number_of_files(self, capture: Capture) -> None:
        first = capture.write(message_columns(20_000))
        paths = [first]
        for number in range(2, 41):
            paths.append(first.with_name(f"s-{number:06}.parquet"))
            paths[-1].write_bytes(first.read_bytes())

        def peak(files: list[Any]) -> int:
            command = [sys.executable, "-c", PEAK, *map(str, files)]
            return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

        few, many = peak(paths[:4]), peak(paths)
        assert many < 1.25 * few
