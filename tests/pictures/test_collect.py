"""wsrec.pictures.collect against a plain reading of the rows."""

from __future__ import annotations

import itertools
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.capture_files import START, Capture, message_columns
from wsrec.engine.choose import engine_for
from wsrec.engine.work import InProcess
from wsrec.format.selection import Selection
from wsrec.options.engine import EngineOptions
from wsrec.pictures.collect import collect
from wsrec.pictures.model import CURVE_ERROR, PERCENTILES, TIME_ERROR, Composition, Curve, Figures, Pictures
from wsrec.report import collect as collecting
from wsrec.report import collect as report
from wsrec.stages import STEPS

SECOND = 1_000_000_000
STAGES = ("nic_time", "event_time", "recv_start_time", "recv_end_time", "parsed_time", "handoff_time")
SESSIONS = ("s0", "s1")


def rows_of(columns: dict[str, Any], session: str) -> list[dict[str, Any]]:
    """The received rows, as the format has them."""
    found = []
    for at in range(len(columns["seq"])):
        row = {key: values[at] for key, values in columns.items()}
        if row["direction"] != "recv":
            continue
        times = [row[stage] for stage in STAGES]
        row["steps"] = [None if a is None else int(b - a) for a, b in itertools.pairwise(times)]
        row["total"] = sum(step for step in row["steps"] if step is not None)
        row["key"] = "event_to_handoff" if times[0] is None else "total"
        row["session"] = session
        found.append(row)
    return found


class Written:
    """Files of two sessions that overlap, and their rows."""

    def __init__(self, capture: Capture) -> None:
        self.out = capture.out
        self.rows: list[dict[str, Any]] = []
        for part in range(6):
            columns = message_columns(1500, seed=part, start=START + part % 3 * 4 * SECOND, first_seq=1500 * part)
            # some without stage 1, and slow ones that are equally slow
            columns["nic_time"] = [None if at % 11 == part else int(t) for at, t in enumerate(columns["nic_time"])]
            late = np.where(np.arange(1500) % 97 == 0, 5_000_000 * (1 + part % 2), 0)
            columns["handoff_time"] = np.where(late > 0, columns["event_time"] + late, columns["handoff_time"])
            columns["direction"] = ["sent" if at % 31 == part else "recv" for at in range(1500)]
            columns["channel"] = [None if at % 50 == 0 else f"channel {at * part % 20}" for at in range(1500)]
            columns["symbol"] = [None if at % 7 == 0 else f"coin {at % (3 + part)}" for at in range(1500)]
            columns["conn"] = np.arange(1500, dtype=np.uint16) % 3
            columns["read_bytes"] = np.arange(1500, dtype=np.uint32) % 900
            columns["exchange_time"] = [
                None if at % 9 == 0 else int(t) - (at % 40 - 4) * 1_000_000 for at, t in enumerate(columns["recv_time"])
            ]
            lost = {"from": START + part * SECOND, "to": START + (part + 1) * SECOND, "reason": "killed"}
            events = [
                {"time": START + part * SECOND, "kind": "lost_interval", "conn": 1, "detail": lost},
                *(
                    {"time": START + each * SECOND // 50, "kind": "gap", "channel": "channel 0", "symbol": "coin 1"}
                    for each in range(90)
                ),
                *({"time": START + each * SECOND, "kind": "anchor"} for each in range(30)),
            ]
            session = SESSIONS[part % 2]
            capture.write(columns, session=session, events=events, gaps=90, scheduling={"receiver": {"cpus": [part]}})
            self.rows += rows_of(columns, session)

    def of(self, key: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["key"] == key]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(Capture(tmp_path_factory.mktemp("pictures") / "out"))


@pytest.fixture(scope="module")
def pictures(written: Written) -> Pictures:
    return collect([written.out])


@pytest.fixture(scope="module")
def figures(pictures: Pictures) -> Figures:
    (figures,) = pictures.figures
    return figures


def near(found: int | None, values: list[int], share: float, error: float) -> bool:
    true = sorted(values)[min(max(int(np.ceil(share * len(values))), 1), len(values)) - 1]
    return found is not None and abs(found - true) <= error * abs(true) + 1


def by_step(rows: list[dict[str, Any]], width: int) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["recv_time"]):
        found.setdefault(int(row["recv_time"]) // width * width, []).append(row)
    return found


class TestOverTime:
    def test_messages_and_bytes(self, figures: Figures, written: Written) -> None:
        over_time = figures.over_time
        assert over_time is not None
        steps = by_step(written.rows, over_time.width)
        assert over_time.begins == [*steps]
        assert 250 < len(steps) <= 600
        assert over_time.messages == [len(rows) for rows in steps.values()]
        first = [[row["read_bytes"] for row in rows if row["frame_in_read"] == 0] for rows in steps.values()]
        assert over_time.read_bytes == [sum(map(int, each)) for each in first]

    @pytest.mark.parametrize("key", ["total", "event_to_handoff"])
    def test_latency(self, figures: Figures, written: Written, key: str) -> None:
        over_time = figures.over_time
        assert over_time is not None
        (latency,) = (each for each in over_time.latency if each.key == key)
        steps = by_step(written.of(key), over_time.width)
        assert latency.count == [len(steps.get(begin, ())) for begin in over_time.begins]
        totals = {begin: [row["total"] for row in rows] for begin, rows in steps.items()}
        assert latency.max == [max(totals[begin]) if begin in totals else None for begin in over_time.begins]
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
            for begin, found in zip(over_time.begins, getattr(latency, name), strict=True):
                assert (found is None) if begin not in totals else near(found, totals[begin], share, TIME_ERROR)

    def test_exchange_delay(self, figures: Figures, written: Written) -> None:
        over_time = figures.over_time
        assert over_time is not None
        assert over_time.delay is not None
        timed = [row for row in written.rows if row["exchange_time"] is not None]
        steps = by_step(timed, over_time.width)
        delays = {b: [int(row["recv_time"]) - row["exchange_time"] for row in rows] for b, rows in steps.items()}
        assert over_time.delay.count == [len(delays.get(begin, ())) for begin in over_time.begins]
        assert any(found is not None and found < 0 for found in over_time.delay.p50)
        for begin, p50, p99 in zip(over_time.begins, over_time.delay.p50, over_time.delay.p99, strict=True):
            if begin in delays:
                assert near(p50, delays[begin], 0.5, TIME_ERROR)
                assert near(p99, delays[begin], 0.99, TIME_ERROR)


class TestSlowFrames:
    @pytest.mark.parametrize("key", ["total", "event_to_handoff"])
    def test_as_a_plain_reading_finds_them(self, figures: Figures, written: Written, key: Any) -> None:
        def order(row: dict[str, Any]) -> tuple[Any, ...]:
            return -row["total"], row["recv_time"], row["session"], row["seq"]

        rows = sorted(written.of(key), key=order)
        found = figures.slowest[key]
        assert len(found) == 50
        for frame, row in zip(found, rows[:50], strict=True):
            assert (frame.session, frame.seq, frame.time) == (row["session"], row["seq"], row["recv_time"])
            assert frame.steps == row["steps"]
            assert frame.total == row["total"]
            assert (frame.conn, frame.channel, frame.symbol) == (row["conn"], row["channel"], row["symbol"])
            assert (frame.frame_in_read, frame.read_bytes) == (row["frame_in_read"], row["read_bytes"])
            assert frame.payload_bytes == len(row["text"].encode())
            assert Path(frame.file).is_file()
        over_time = figures.over_time
        assert over_time is not None
        (latency,) = (each for each in over_time.latency if each.key == key)
        steps = by_step(rows, over_time.width)
        for begin, numbers in zip(over_time.begins, latency.slowest, strict=True):
            expected = sorted(steps.get(begin, ()), key=order)[:3]
            frames = [latency.slow[number] for number in numbers]
            assert [(frame.session, frame.seq) for frame in frames] == [
                (row["session"], row["seq"]) for row in expected
            ]


class TestCompositions:
    def test_shares_are_the_means_of_the_frames_of_the_band(self, figures: Figures, written: Written) -> None:
        names = {(each.key, each.frames, each.percentile) for each in figures.compositions}
        assert len(names) == len(figures.compositions) == 2 * 2 * 4
        for each in figures.compositions:
            rows = [row for row in written.of(each.key) if each.frames == "all" or row["frame_in_read"] == 0]
            inside = [row for row in rows if each.low <= row["total"] <= each.high]
            assert len(inside) == each.count > 0
            steps = STEPS if each.key == "total" else STEPS[1:]
            means = [np.mean([row["steps"][step.start.number - 1] for row in inside]) for step in steps]
            assert [share.key for share in each.shares] == [step.key for step in steps]
            assert [share.mean for share in each.shares] == pytest.approx(means)
            assert sum(share.mean for share in each.shares) == each.mean
            self.holds_its_percentile(each, [row["total"] for row in rows])

    def holds_its_percentile(self, each: Composition, totals: list[int]) -> None:
        true = sorted(totals)[int(np.ceil(each.percentile / 100 * len(totals))) - 1]
        assert each.low <= true <= each.high


class TestCurves:
    def test_of_each_channel_and_connection(self, figures: Figures, written: Written) -> None:
        for curves in figures.curves:
            if curves.by not in ("channel", "connection"):
                continue
            rows = written.of(curves.key or "")
            name = (lambda row: row["channel"]) if curves.by == "channel" else (lambda row: f"conn {row['conn']}")
            counts = Counter(map(name, rows))
            shown = [curve for curve in curves.curves if not curve.others]
            assert len(shown) == min(len(counts), 12)
            assert sum(curve.count for curve in curves.curves) == len(rows)
            assert [curve.count for curve in shown] == sorted(counts.values(), reverse=True)[:12]
            for curve in shown:
                self.fits(curve, [row["total"] for row in rows if name(row) == curve.name])
            others = [curve for curve in curves.curves if curve.others]
            assert [(curve.name, curve.others) for curve in others] == (
                [(f"{len(counts) - 12} others", len(counts) - 12)] if len(counts) > 12 else []
            )

    def fits(self, curve: Curve, totals: list[int]) -> None:
        assert (curve.count, curve.max) == (len(totals), max(totals))
        for at, found in zip(PERCENTILES, curve.values, strict=True):
            enough = len(totals) * (100 - at) >= 100
            assert near(found, totals, at / 100, CURVE_ERROR) if enough else found is None

    def test_of_steps_and_delays(self, figures: Figures, written: Written) -> None:
        by = {curves.by: curves for curves in figures.curves}
        assert [curve.name for curve in by["step"].curves][:2] == ["NIC->EVENT", "EVENT->RECV_START"]
        self.fits(by["step"].curves[1], [row["steps"][1] for row in written.rows])
        assert sum(curve.count for curve in by["delay"].curves) == sum(
            row["exchange_time"] is not None for row in written.rows
        )


class TestStreams:
    def test_messages_over_time(self, figures: Figures, written: Written) -> None:
        coverage = figures.coverage
        assert coverage is not None
        assert coverage.known
        expected: dict[Any, list[int]] = {}
        for row in written.rows:
            expected.setdefault((row["channel"], row["symbol"]), []).append(int(row["recv_time"]))
        found = {(stream.channel, stream.symbol): stream for stream in coverage.streams}
        assert found.keys() == expected.keys()
        for name, times in expected.items():
            stream = found[name]
            assert (stream.messages, stream.first, stream.last) == (len(times), min(times), max(times))
            steps = Counter(time // coverage.width * coverage.width for time in times)
            assert dict(zip(stream.begins, stream.counts, strict=True)) == steps
        assert (coverage.streams[0].channel, coverage.streams[0].symbol) == ("channel 0", "coin 1")
        assert coverage.streams[0].gaps == 6 * 90
        assert len({begin for stream in coverage.streams for begin in stream.begins}) <= 150

    def test_only_the_first_by_name_are_told_apart(self, capture: Capture) -> None:
        columns = message_columns(6000)
        columns["symbol"] = [f"coin {at:04}" for at in range(6000)]
        columns["channel"] = ["trade"] * 6000
        order = np.argsort(np.random.default_rng(3).random(6000))
        columns["symbol"] = [columns["symbol"][at] for at in order]
        capture.write(columns)
        (figures,) = collect([capture.out]).figures
        coverage = figures.coverage
        assert coverage is not None
        assert not coverage.known
        assert [stream.symbol for stream in coverage.streams[:3]] == ["coin 0000", "coin 0001", "coin 0002"]
        assert (len(coverage.streams), coverage.other_messages) == (200, 5800)


class TestEvents:
    def test_lines(self, figures: Figures) -> None:
        lines = {line.kind: line for line in figures.lines}
        assert [*lines] == ["lost_interval", "gap", "anchor"]
        assert [line.count for line in figures.lines] == [6, 540, 180]
        assert [len(line.moments) for line in figures.lines] == [6, 200, 20]
        assert all(sum(line.counts) == line.count for line in figures.lines)
        lost = lines["lost_interval"].moments
        assert [(each.begin, each.end) for each in lost] == [
            (START + part * SECOND, START + (part + 1) * SECOND) for part in range(6)
        ]
        assert "reason killed" in lost[0].text
        gaps = lines["gap"].moments
        assert [each.time for each in gaps] == sorted(each.time for each in gaps)
        assert (gaps[0].begin, gaps[0].end, gaps[0].symbol) == (None, None, "coin 1")
        assert [line.is_incident for line in figures.lines] == [True, True, False]


class TestWhole:
    def test_the_report_is_that_of_the_report(self, pictures: Pictures, written: Written) -> None:
        assert pictures.report == report.collect([written.out])
        assert pictures.sources == [str(written.out)]

    def test_a_part_of_a_capture(self, written: Written) -> None:
        part = collect([written.out], selection=Selection(since=START + 3 * SECOND, symbols=frozenset({"coin 2"})))
        (figures,) = part.figures
        wanted = [row for row in written.rows if row["symbol"] == "coin 2" and row["recv_time"] >= START + 3 * SECOND]
        assert figures.over_time is not None
        assert sum(figures.over_time.messages) == len(wanted)

    def test_the_order_in_which_files_are_merged_does_not_matter(self, pictures: Pictures, written: Written) -> None:
        merge = collecting._merged

        class Tree(InProcess):
            def __init__(self, seed: int) -> None:
                self.random = random.Random(seed)

            def map(self, function: Any, items: Any, progress: Any = None, *, large: bool = False) -> Any:
                # as they come from other processes
                parts = [pickle.loads(pickle.dumps(part)) for part in super().map(function, items, progress)]
                while len(parts) > 1:
                    self.random.shuffle(parts)
                    parts.append(merge(parts.pop(), parts.pop()))
                return iter(parts)

        for seed in range(2):
            assert collect([written.out], engine=Tree(seed)) == pictures

    def test_nor_does_the_number_of_processes(self, pictures: Pictures, written: Written) -> None:
        with engine_for(EngineOptions(jobs=2)) as engine:
            assert collect([written.out], engine=engine) == pictures

    def test_a_capture_without_messages(self, capture: Capture) -> None:
        columns = {key: values[:0] for key, values in message_columns(1).items()}
        capture.write(columns, events=[{"time": START, "kind": "connect_failed"}])
        (figures,) = collect([capture.out]).figures
        assert (figures.over_time, figures.coverage, figures.curves, figures.slowest) == (None, None, [], {})
        assert [line.kind for line in figures.lines] == ["connect_failed"]
