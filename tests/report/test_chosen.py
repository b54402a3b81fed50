"""Reports of a part of a capture: the rows that were asked for, against numpy, and what is not said of a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.capture_files import START, Capture, message_columns
from wsrec.engine.choose import engine_for
from wsrec.feed.errors import ConfigError
from wsrec.format.selection import Selection, folder_outside
from wsrec.options.engine import EngineOptions
from wsrec.report.collect import collect
from wsrec.report.model import Recording, Report

SECOND = 1_000_000_000


def only(report: Report) -> Recording:
    assert (report.errors, report.unreadable) == ([], [])
    (recording,) = report.recordings
    return recording


def mixed(rows: int = 3000) -> dict[str, Any]:
    columns = message_columns(rows)
    columns["symbol"] = [("BTCUSDT", "ETHUSDT", None)[i % 7 % 3] for i in range(rows)]
    return columns


def part_of(columns: dict[str, Any], chosen: np.ndarray) -> dict[str, Any]:
    kept = np.flatnonzero(chosen)
    return {name: [values[i] for i in kept] for name, values in columns.items()}


def without_names(recording: Recording) -> dict[str, Any]:
    """What a recording of just these rows has in common with the part."""
    found = msgspec.to_builtins(recording)
    keys = ("rows", "first_recv_time", "last_recv_time", "recorded", "rate", "payload_bytes", "stages")
    return {key: found[key] for key in (*keys, "exchange_delay", "exchange_delay_by_channel")}


class TestRows:
    @pytest.mark.parametrize(
        "selection",
        [
            Selection(since=START + 3 * SECOND, until=START + 9 * SECOND),
            Selection(until=START + 9 * SECOND),
            Selection(symbols=frozenset(["ethusdt"])),
            Selection(channels=("trade", "bookTicker")),
            Selection(START + 3 * SECOND, None, frozenset(["ETH/USDT"]), ("trades",)),
        ],
    )
    def test_a_part_is_reported_as_a_capture_of_its_rows_would_be(
        self, capture: Capture, tmp_path: Path, selection: Selection
    ) -> None:
        columns = mixed()
        times = np.array(columns["recv_time"])
        chosen = (times >= (selection.since or 0)) & (times < (selection.until or 1 << 62))
        if selection.symbols:
            chosen &= np.array([symbol == "ETHUSDT" for symbol in columns["symbol"]])
        if selection.channels:
            meant = {"trades": "trade"}
            names = {meant.get(name, name) for name in selection.channels}
            chosen &= np.array([channel in names for channel in columns["channel"]])
        assert 0 < chosen.sum() < len(chosen)
        thirds = [part_of(columns, np.arange(3000) // 1000 == third) for third in range(3)]
        for third in thirds:
            capture.write(third, row_group_size=300)
        alone = Capture(tmp_path / "alone")
        alone.write(part_of(columns, chosen))
        report = collect([capture.out], selection=selection)
        assert without_names(only(report)) == without_names(only(collect([alone.out])))
        assert report.nothing_of == []

    def test_files_of_other_times_are_not_read(self, capture: Capture) -> None:
        capture.write(message_columns(100))
        later = capture.write(message_columns(100, start=START + 3600 * SECOND, first_seq=100))
        recording = only(collect([capture.out], selection=Selection(since=START + 3000 * SECOND)))
        assert (recording.files, recording.row_count("recv")) == (1, 100)
        assert recording.file_bytes == later.stat().st_size

    def test_files_of_other_days_are_not_opened(self, capture: Capture, tmp_path: Path) -> None:
        path = capture.write(message_columns(100))
        for day in ("2026-11-20", "2026-11-24"):
            far = Path(str(path).replace("date=2026-11-22", f"date={day}"))
            far.parent.mkdir(parents=True)
            far.write_bytes(b"no Parquet")
        selection = Selection(START, START + SECOND)
        assert only(collect([capture.out], selection=selection)).files == 1
        assert len(collect([capture.out]).errors) == 2

    @pytest.mark.parametrize("day", ["2026-11-21", "2026-11-22", "2026-11-23", "soon", ""])
    def test_a_neighbouring_day_and_any_other_folder_is_looked_into(self, day: str) -> None:
        path = Path(f"out/messages/feed=x/date={day}/hour=23/s-000001.parquet")
        assert not folder_outside(path, Selection(START, START + SECOND))

    def test_two_processes_give_the_same(self, capture: Capture) -> None:
        for first in (0, 1000):
            capture.write(mixed(1000), session=f"s{first}")
        selection = Selection(START + SECOND, START + 5 * SECOND, frozenset(["BTCUSDT"]))
        with engine_for(EngineOptions(jobs=2), "wsrec.report.collect") as engine:
            assert collect([capture.out], None, engine, selection=selection) == collect(
                [capture.out], selection=selection
            )


class TestUnsaid:
    def test_nothing_is_concluded_from_rows_that_are_left_out(self, capture: Capture) -> None:
        capture.write(mixed(), gaps=7, stage1={"kernel": 3000, "none: because": 5})
        report = collect([capture.out], selection=Selection(symbols=frozenset(["ETHUSDT"])))
        recording = only(report)
        (session,) = recording.sessions
        assert (session.missing, session.missing_ranges, session.duplicates) == (None, [], None)
        assert recording.counts is None
        assert recording.stage1.reasons == {}
        assert report.part is not None
        assert report.part.symbols == ["ETHUSDT"]

    def test_a_report_of_everything_says_what_it_did(self, capture: Capture) -> None:
        capture.write(mixed(), gaps=7)
        report = collect([capture.out])
        assert report.part is None
        assert only(report).sessions[0].missing == 0
        assert only(report).gaps == 7


class TestEvents:
    def test_gaps_are_those_of_the_part(self, capture: Capture) -> None:
        gaps = [
            {"time": START + SECOND, "kind": "gap", "channel": "trade", "symbol": "ETHUSDT"},
            {"time": START + 2 * SECOND, "kind": "gap", "channel": "trade", "symbol": "BTCUSDT"},
            {"time": START + 8 * SECOND, "kind": "gap", "channel": "depth", "symbol": "ETHUSDT"},
            {"time": START + SECOND, "kind": "disconnect", "conn": 0},
        ]
        capture.write(mixed(), gaps=3, events=gaps)

        def found(**chosen: Any) -> tuple[int | None, int]:
            recording = only(collect([capture.out], selection=Selection(**chosen)))
            return recording.gaps, recording.events.get("disconnect", 0)

        assert found(symbols=frozenset(["ethusdt"])) == (2, 1)
        assert found(channels=("trades",)) == (2, 1)
        assert found(since=START + 2 * SECOND) == (2, 0)
        assert found(until=START + 2 * SECOND, symbols=frozenset(["ETHUSDT"])) == (1, 1)

    def test_a_lost_interval_counts_where_it_lies_not_when_it_was_noticed(self, capture: Capture) -> None:
        lost = {"from": START + 2 * SECOND, "to": START + 4 * SECOND}
        capture.write(mixed(), gaps=0, events=[{"time": START + 20 * SECOND, "kind": "lost_interval", "detail": lost}])

        def found(since: int, until: int) -> int:
            selection = Selection(START + since * SECOND, START + until * SECOND)
            return only(collect([capture.out], selection=selection)).lost

        assert found(3, 5) == found(0, 3) == found(4, 6) == 2 * SECOND
        assert found(5, 25) == found(0, 2) == 0


class TestNothing:
    def test_a_symbol_that_is_not_there_is_told_what_is(self, capture: Capture) -> None:
        capture.write(mixed())
        report = collect([capture.out], selection=Selection(symbols=frozenset(["BTCUSD", "ETHUSDT"])))
        assert report.nothing_of == [
            "--symbol: found 'BTCUSD', which the capture does not have, expected BTCUSDT, ETHUSDT, "
            "did you mean `BTCUSDT`?"
        ]
        assert only(report).row_count("recv") > 0

    def test_a_channel_without_rows(self, capture: Capture) -> None:
        capture.write(mixed())
        report = collect([capture.out], selection=Selection(channels=("kline_1m",)))
        assert report.recordings == []
        assert report.nothing_of == ["--channel: no row is of 'kline_1m'; the capture has bookTicker, depth, trade"]

    def test_a_channel_of_no_feed_is_refused(self, capture: Capture) -> None:
        capture.write(mixed())
        with pytest.raises(ConfigError, match="--channel: found 'tades', expected a channel of `wsrec feeds show bin"):
            collect([capture.out], selection=Selection(channels=("tades",)))

    def test_names_that_are_there_at_another_time(self, capture: Capture) -> None:
        capture.write(mixed())
        selection = Selection(until=START, symbols=frozenset(["ETH/USDT"]), channels=("trades",))
        report = collect([capture.out], selection=selection)
        assert report.nothing_of == [f"no message of {name!r} is in this part" for name in ("ETH/USDT", "trades")]

    def test_another_time(self, capture: Capture) -> None:
        capture.write(mixed())
        report = collect([capture.out], selection=Selection(until=START))
        assert (report.recordings, report.nothing_of) == ([], ["no message is in this part"])
