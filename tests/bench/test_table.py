"""The tables, of figures made by hand."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.tables.full_disk import full_disk
from wsrec.bench import limits
from wsrec.bench.results import (
    Limits,
    Operation,
    Pace,
    Paced,
    PacedRound,
    RecordCost,
    Recording,
    RecordingRound,
    Results,
    Saturated,
    SaturatedRound,
)
from wsrec.bench.table import markdown, plain, show, tables
from wsrec.cli.main import main


def evenly(value: float) -> dict[str, float]:
    return dict.fromkeys(("p50", "p90", "p99", "p99.9"), value)


@pytest.fixture
def results() -> Results:
    steps = {key: evenly(80) for key in ("event_to_recv_start", "recv_end_to_parsed", "parsed_to_handoff", "own")}
    return Results(
        when="2026-11-22T12:00:00+00:00",
        machine={
            "processor": "A | B",
            "processors": 2,
            "system": "Linux 6.18",
            "python": "CPython 3.11.7",
            "openssl": "OpenSSL 3.0",
        },
        versions={"wsrec": "0.1.0", "picows": "2.3.1"},
        options={"recording": "x/btc.txt.gz", "rounds": 3, "messages": 400_000, "rate": 1e4, "recording_seconds": 20.0},
        mean_bytes=274.3,
        saturated=[
            Saturated(
                "wsrec", "tcp", [SaturatedRound(cpu, 200, 1, 80, 3.26) for cpu in (100, 900, 150)], "bulk", 123.4
            ),
            Saturated("picows", "tcp", [SaturatedRound(300, 400, None, 100)] * 3, "bulk", 123.4),
            Saturated("wsrec", "tls", [SaturatedRound(1_000, 1_100, 0)], "lone", 1.0),
        ],
        paced=[
            Paced("wsrec", "tls", [PacedRound(evenly(20_000), steps, 9_000, 4_000, 1.02)], "lone", 1.0),
            Paced("picows", "tls", [PacedRound(evenly(40_000))], "lone", 1.0),
        ],
        recording=[
            Recording(
                "wsrec",
                [
                    RecordingRound(
                        10, 10, True, 10**9, 2 * 10**9, 400, 3, {"all": evenly(90), "first": evenly(70)}, 6 * 10**8
                    )
                ],
            ),
            Recording("picows", [RecordingRound(10, 9, False, 10**9, 4 * 10**9, 500, cpu_ns=10**9)]),
        ],
    )


class TestTables:
    def test_medians_and_ratios(self, results: Results):
        saturated, lone, one_way, steps, recording, until_parquet, while_recording = tables(results)
        assert saturated.head == ("tcp", "CPU", "user", "of picows", "user of picows", "wall", "frames a read")
        assert saturated.rows == [
            ("wsrec", "150", "80", "0.50", "0.80", "200", "3.3"),
            ("picows", "300", "100", "1.00", "1.00", "400", "-"),
        ]
        assert "123 messages a send" in saturated.note
        assert saturated.note.endswith("full rings stopped reading: wsrec 1")
        assert (lone.title, lone.rows) == (
            "saturated, TLS, a record for each frame: ns a message",
            [("wsrec", "1,000", "-", "-", "-", "1,100", "-")],
        )
        assert "1.0 messages a record" in lone.note
        assert "stopped reading" not in lone.note
        assert one_way.rows[0] == ("wsrec", "20.0 µs", "20.0 µs", "20.0 µs", "0.50", "9,000", "4,000", "1.0")
        assert one_way.rows[1][-3:] == ("-", "-", "-")
        assert steps.rows[0][0] == "wsrec EVENT->RECV_START"
        assert recording.rows[0][3:7] == ("200,000,000", "0.50", "40", "1 of 1")
        assert until_parquet.rows == [("wsrec", "60,000,000", "0.60"), ("picows", "100,000,000", "1.00")]
        assert recording.rows[1][-2:] == ("0 of 1", "-")
        assert [row[1] for row in while_recording.rows] == ["70 ns", "90 ns", "80 ns"]

    def test_a_recording_of_an_earlier_version_has_no_cpu_time(self, results: Results):
        before = len(tables(results))
        results.recording = [Recording("picows", [RecordingRound(10, 9, False, 10**9, 4 * 10**9, 500)])]
        # nor steps
        assert len(tables(results)) == before - 2

    def test_what_was_not_measured_has_no_table(self, results: Results):
        results.paced, results.recording = [], []
        assert len(tables(results)) == 2

    def test_a_file_from_before_lone_records_is_shown_as_what_it_was(self):
        old = b'{"name":"wsrec","transport":"tls","rounds":[{"cpu_ns":222,"wall_ns":300,"stalls":0}]}'
        assert msgspec.json.decode(old, type=Saturated).records == "bulk"
        old = b'{"name":"wsrec","transport":"tls","rounds":[{"one_way":{"p50":1},"alone":0.9}]}'
        assert msgspec.json.decode(old, type=Paced).records == "lone"


class TestLimits:
    def test_steps_stand_beside_the_floor_and_what_the_operations_take(self, results: Results):
        operations = {limits.CLOCK: 10, limits.COPY_SLOT: 2, limits.SEND: 1_500, limits.RECEIVE: 500}
        operations |= {limits.WAKE_UP: 4_000, limits.WATCHING: 60.4}
        steps = ("sent_to_event", "event_to_recv_start", "recv_start_to_recv_end", "recv_end_to_parsed")
        ours = PacedRound(evenly(20_000), {key: evenly(80) for key in (*steps, "parsed_to_handoff")})
        floor = PacedRound(evenly(10_000), {**ours.steps, "read_to_recv_end": evenly(40)})
        alone = Results(
            when=results.when,
            machine=results.machine,
            versions=results.versions,
            options=results.options,
            mean_bytes=200,
            limits=Limits(
                [Operation(name, ns) for name, ns in operations.items()],
                [RecordCost(100, 200, 220, 2_000), RecordCost(300, 400, 440, 2_000)],
                [Pace(True, {"stamped": [ours], "direct": [floor]}, [floor])],
                200,
            ),
        )
        single, records, waiting = tables(alone)
        assert ("another processor sees a word", "60.4") in single.rows
        assert records.rows == [
            ("100", "200", "220", "1.10", "2,000", "10.00"),
            ("300", "400", "440", "1.10", "2,000", "5.00"),
        ]
        assert waiting.rows[0] == ("wake-up: send->EVENT", "80 ns", "1.00", "80 ns", "1.00", "80 ns", "5.51 µs")
        # 500 and 10, and what a record of 200 bytes takes between the two sizes that were measured
        assert waiting.rows[2][-1] == "810 ns"
        assert waiting.rows[4] == ("  decryption", "-", "-", "40 ns", "1.00", "40 ns", "310 ns")
        assert waiting.rows[-1] == ("one way: send->HANDOFF", "20.0 µs", "2.00", "10.0 µs", "1.00", "10.0 µs", "-")
        assert "| bytes | EVP alone | direct |" in markdown(alone)


class TestOutput:
    def test_plain_columns_stand_below_each_other(self, results: Results):
        lines = plain(results).splitlines()
        head = next(line for line in lines if line.startswith("tcp"))
        row = next(line for line in lines if line.startswith("wsrec "))
        assert head.index("CPU") + 3 == row.index("150") + 3
        assert "btc.txt.gz" in plain(results)

    def test_markdown(self, results: Results):
        text = markdown(results)
        assert "| tcp | CPU | user | of picows | user of picows | wall | frames a read |\n| --- |" in text
        assert "| wsrec | 150 | 80 |" in text

    def test_80_columns_hold_it_on_a_terminal(self, results: Results):
        console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
        show(results, console)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert "…" not in text
        assert "0.50" in text


def test_a_full_disk_leaves_the_results_that_were_there(results: Results, tmp_path: Path) -> None:
    given, out = tmp_path / "given.json", tmp_path / "out.json"
    given.write_bytes(msgspec.json.encode(results))
    out.write_text("earlier")
    with full_disk(100):
        failed = CliRunner().invoke(main, ["bench", "--from", str(given), "--json", str(out)])
    assert (failed.exit_code, "File too large" in failed.stderr) == (1, True)
    assert out.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.json", "out.json"]
