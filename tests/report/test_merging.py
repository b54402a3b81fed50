"""A report is the same in whatever order and by however many processes its files are read."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

from tests.capture_files import START, Capture, message_columns
from wsrec.engine.choose import engine_for
from wsrec.engine.work import InProcess
from wsrec.format.layout import EVENTS, MESSAGES
from wsrec.options.engine import EngineOptions
from wsrec.report import collect as collecting
from wsrec.report.collect import collect
from wsrec.report.rate import SECOND, Seconds

EVENTS_OF_A_FILE = [
    {"time": START + 7, "kind": "gap", "channel": "trade", "detail": {"missing": 3}},
    {"time": START + 5, "kind": "clock_step", "detail": {"step_ns": -4}},
    {
        "time": START + 5,
        "kind": "unchecked",
        "channel": "depth",
        "detail": {"compared": 4, "skipped": {"b": 2, "a": 2}},
    },
    {"time": START + 9, "kind": "stall", "conn": 1, "detail": {"duration_ns": 11}},
]


@pytest.fixture
def mixed(capture: Capture) -> Capture:
    """Files of two feeds and three sessions that overlap, with all that a report counts, and two damaged ones."""
    for part in range(12):
        columns = message_columns(150, seed=part, start=START + part % 5 * SECOND, first_seq=100 * part)
        columns["nic_time"] = [None if i % 7 == part else int(time) for i, time in enumerate(columns["nic_time"])]
        columns["direction"] = ["sent" if i % 31 == part else "recv" for i in range(150)]
        columns["opcode"] = ["ping" if i % 13 == part else "text" for i in range(150)]
        columns["channel"] = [f"channel-{(i * part) % 400}" for i in range(150)]
        columns["exchange_time"] = np.where(np.arange(150) % 2 == part % 2, columns["exchange_time"], 10**18 + part)
        events = [
            {**event, "time": event["time"] + part % 3, "detail": {**event["detail"], "step_ns": 4 - 8 * (part % 2)}}
            for event in EVENTS_OF_A_FILE * (1 + 4 * part)
        ]
        capture.write(
            columns,
            feed=("binance", "kraken")[part % 2],
            session=f"s{part % 3}",
            events=events,
            gaps=part,
            stage1={f"none: reason {part % 3}": 4},
            clock={"clock": ("tsc", "monotonic")[part % 2], "anchors": part, "widest_bracket_ns": 100 - part},
        )
    for kind in (MESSAGES, EVENTS):
        file = sorted((capture.out / kind).rglob("*.parquet"))[7]
        content = file.read_bytes()
        file.write_bytes(content[:300] + b"\xff" * 60 + content[360:])
    return capture


class TestMerging:
    def test_the_number_of_processes_does_not_matter(self, mixed: Capture) -> None:
        reports = []
        for jobs in (1, 2, 3):
            with engine_for(EngineOptions(jobs=jobs)) as engine:
                reports.append(collect([mixed.out], engine=engine).to_json())
        assert reports[0] == reports[1] == reports[2]
        report = collect([mixed.out])
        assert len(report.errors) == 2
        assert [recording.events_unread for recording in report.recordings] == [0, 1]
        assert report.recordings[0].clock.largest_step == 4
        assert any(
            delay.channel == "(other channels)"
            for each in report.recordings
            for delay in each.exchange_delay_by_channel
        )

    def test_nor_does_the_order_of_files(self, mixed: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = collect([mixed.out]).recordings

        class Shuffled(InProcess):
            def __init__(self, seed):
                self.seed = seed

            def map(self, function, items, progress=None):
                items = [*items]
                random.Random(self.seed).shuffle(items)
                # as they come from another process
                return (pickle.loads(pickle.dumps(result)) for result in super().map(function, items, progress))

        for seed in range(3):
            assert collect([mixed.out], engine=Shuffled(seed)).recordings == expected

    def test_nor_do_the_pairs_in_which_they_are_merged(self, mixed: Capture) -> None:
        expected = collect([mixed.out]).recordings
        merge = collecting._merged

        class Tree(InProcess):
            def map(self, function, items, progress=None):
                parts = [*super().map(function, items, progress)]
                while len(parts) > 1:
                    parts = [
                        merge(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)
                    ]
                return iter(parts)

        assert collect([mixed.out], engine=Tree()).recordings == expected


class TestSeconds:
    def test_as_numpy_counts_them(self) -> None:
        random = np.random.default_rng(5)
        times = START + np.cumsum(random.exponential(3e8, 30_000)).astype(np.int64)
        # some much later, some before, out of order
        times = np.concatenate([times, times[:40] + 10**17, times[:3] - 10**17, times[100:140]])
        random.shuffle(times)
        parts = []
        for batch in np.array_split(times, 7):
            parts.append(Seconds())
            parts[-1].add(batch)
        merged = parts.pop(3)
        for part in parts:
            merged.merge(part)
        seconds, counts = np.unique(times // SECOND, return_counts=True)
        assert merged.peak() == (counts.max(), seconds[counts.argmax()] * SECOND)
        assert Seconds().peak() == (0, 0)
