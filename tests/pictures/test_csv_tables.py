"""The figures as CSV files, read back by the csv module and DuckDB."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from tests.pictures.made_up import HOSTILE, pictures
from wsrec.histogram import Histogram
from wsrec.pictures.csv_tables import check_folder, figures_as_csv, write_csv
from wsrec.pictures.groups import curve
from wsrec.pictures.model import PERCENTILES, Curves, Fact
from wsrec.units import clean


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestTables:
    def test_each_row_is_as_long_as_the_header(self) -> None:
        made = pictures()
        tables = list(figures_as_csv(made))
        names = [table.name for table in tables]
        assert len(set(names)) == len(names)
        for table in tables:
            rows = list(table.rows)
            assert rows, table.name
            assert {len(row) for row in rows} == {len(table.header)}
            assert {(row[0], row[1]) for row in rows} == {("binance", "tokyo1")}

    def test_without_messages_they_are_empty(self) -> None:
        made = pictures()
        bare = structs.replace(
            made.figures[0],
            over_time=None,
            slowest={},
            compositions=[],
            curves=[],
            lines=[],
            coverage=None,
            facts=[],
        )
        tables = figures_as_csv(structs.replace(made, figures=[bare]))
        assert all(not list(table.rows) for table in tables)


class TestWriting:
    def test_files_have_the_figures(self, tmp_path: Path) -> None:
        made = pictures()
        folder = tmp_path / "new" / "figures"
        written = write_csv(made, folder)
        assert sorted(folder.iterdir()) == sorted(written)
        figures = made.figures[0]
        over_time = figures.over_time
        assert over_time is not None
        traffic = read(folder / "traffic_over_time.csv")
        assert [int(row["messages"]) for row in traffic] == over_time.messages
        assert traffic[0]["begin"] == "2026-11-22T13:00:00.000000000Z"
        assert float(traffic[0]["messages_per_second"]) == pytest.approx(over_time.messages[0] / 8, rel=1e-3)
        latency = read(folder / "latency_over_time.csv")
        assert [int(row["p99_ns"]) for row in latency] == over_time.latency[0].p99
        slowest = read(folder / "slowest_frames.csv")
        assert [int(row["total_ns"]) for row in slowest] == [frame.total for frame in figures.slowest["total"]]
        percentiles = read(folder / "percentiles.csv")
        known = [row for row in percentiles if (row["by"], row["name"]) == ("channel", "trade")]
        trade = next(c for curves in figures.curves if curves.by == "channel" for c in curves.curves)
        values = [value for value in trade.values if value is not None]
        assert [float(row["percentile"]) for row in known] == [*PERCENTILES[: len(values)], 100]
        assert [int(row["ns"]) for row in known] == [*values, trade.max]
        streams = read(folder / "streams.csv")
        assert clean(HOSTILE) in [row["symbol"] for row in streams]

    def test_long_names_and_controls_fill_no_disk(self, tmp_path: Path) -> None:
        made = pictures()
        coverage = made.figures[0].coverage
        assert coverage is not None
        stream = structs.replace(coverage.streams[0], channel="\x1b[2J", symbol="A" * 1_000_000)
        figures = structs.replace(
            made.figures[0], coverage=structs.replace(coverage, streams=[stream]), feed="\x00" * 9999
        )
        write_csv(structs.replace(made, figures=[figures]), tmp_path)
        found = (tmp_path / "streams.csv").read_text()
        assert len(found) < 10_000
        assert all(each.isprintable() for each in found.splitlines())
        assert read(tmp_path / "streams.csv")[0]["symbol"] == "A" * 119 + "…"

    def test_the_ends_of_negative_durations_are_exact(self, tmp_path: Path) -> None:
        made = pictures()
        durations = Histogram()
        durations.add(np.array([-5_000, -3, 10, 90]))
        curves = Curves(by="step", key=None, curves=[curve("NIC->EVENT", durations)])
        figures = structs.replace(made.figures[0], curves=[curves])
        write_csv(structs.replace(made, figures=[figures]), tmp_path)
        found = [(float(row["percentile"]), int(row["ns"])) for row in read(tmp_path / "percentiles.csv")]
        assert found[0] == (0, -5_000)
        assert found[-1] == (100, 90)
        assert found == sorted(found)

    def test_another_program_reads_times_and_numbers(self, tmp_path: Path) -> None:
        duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
        write_csv(pictures(), tmp_path)
        found = duckdb.sql(f"select typeof(begin), typeof(p50_ns) from '{tmp_path}/latency_over_time.csv' limit 1")
        assert found.fetchall() == [("TIMESTAMP WITH TIME ZONE", "BIGINT")]

    def test_a_spreadsheet_runs_nothing(self, tmp_path: Path) -> None:
        made = pictures()
        figures = structs.replace(made.figures[0], facts=[Fact(name="URL", values=['=HYPERLINK("http://x")', "-1\n"])])
        write_csv(structs.replace(made, figures=[figures]), tmp_path)
        values = [row["value"] for row in read(tmp_path / "circumstances.csv")]
        assert values == ['\'=HYPERLINK("http://x")', "'-1\\n"]

    def test_figures_of_an_earlier_report_are_replaced_and_nothing_else(self, tmp_path: Path) -> None:
        write_csv(pictures(), tmp_path)
        before = (tmp_path / "compositions.csv").read_text()
        write_csv(pictures(slower=2), tmp_path)
        assert (tmp_path / "compositions.csv").read_text() != before
        assert len(list(tmp_path.iterdir())) == len(list(figures_as_csv(pictures())))
        kept = tmp_path / "events.csv"
        kept.write_text("date,event\n2026-12-24,party\n")
        (tmp_path / "streams.csv").unlink()
        with pytest.raises(OSError, match=r"events\.csv|no figure of wsrec"):
            write_csv(pictures(), tmp_path)
        assert kept.read_text() == "date,event\n2026-12-24,party\n"
        assert not (tmp_path / "streams.csv").exists()

    def test_what_is_no_regular_file_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "events.csv")
        with pytest.raises(OSError, match="not a regular file"):
            check_folder(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError):
            check_folder(tmp_path / "file")
        check_folder(tmp_path / "not" / "there")
