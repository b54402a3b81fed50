"""wsrec.report.terminal: what a reader sees."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.capture_files import STAMPS, START, Capture, message_columns
from wsrec.report.collect import collect
from wsrec.report.model import Report
from wsrec.report.terminal import print_report, reading_progress
from wsrec.units import duration, utc

HOSTILE = "\x1b]0;own\x07[bold red]x[/]\x9b2J:smile:\u202e"


def rendered(report: Report, width: int = 80, *, frames: bool = False, details: bool = False, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    print_report(report, console, frames=frames, details=details)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rich_capture(capture: Capture) -> Report:
    """Two feeds with everything that a report can show."""
    columns = message_columns(3000)
    columns["direction"] = ["sent"] * 3 + ["recv"] * 2997
    columns["nic_time"] = columns["nic_time"] + np.where(np.arange(3000) == 50, 3 * 10**9, 0)
    events = [
        {"time": START + number, "kind": kind, "conn": 0, "channel": HOSTILE, "detail": {HOSTILE: HOSTILE * 40}}
        for number, kind in enumerate(("gap", "stall", "disconnect", "refused", "privilege") * 5)
    ]
    events.append(
        {"time": START, "kind": "lost_interval", "detail": {"from": START, "to": START + 10**9, "reason": "r"}}
    )
    columns["seq"][10:] += 2
    capture.write(columns, gaps=12, events=events)
    hostile = message_columns(500)
    hostile["channel"] = [f"{HOSTILE}{i % 20}" for i in range(500)]
    hostile["opcode"] = [HOSTILE] * 500
    hostile["nic_time"] = [None] * 500
    hostile["exchange_time"] = hostile["recv_time"] + 1_270_000_000
    stage1 = {f"none: {HOSTILE * 9}": 500}
    capture.write(hostile, feed=HOSTILE.replace("/", "") * 9, host=HOSTILE * 9, session="b", stage1=stage1)
    return collect([capture.out])


class TestRendering:
    @pytest.mark.parametrize("details", [False, True])
    @pytest.mark.parametrize("width", [80, 89, 90, 100, 139, 140, 200])
    def test_no_line_is_wider_than_the_terminal(self, capture: Capture, width: int, *, details: bool) -> None:
        report = rich_capture(capture)
        assert report.errors == []
        for line in rendered(report, width, details=details, force_terminal=True, color_system=None).splitlines():
            assert cell_len(line) <= width

    def test_in_a_file_each_fact_and_incident_is_one_line(self, capture: Capture) -> None:
        report = rich_capture(capture)
        lines = rendered(report, 20, details=True).splitlines()
        incidents = [incident for recording in report.recordings for incident in recording.incidents[:12]]
        assert len(incidents) == 12
        for incident in incidents:
            assert any(line.startswith(f"{utc(incident.time)} {incident.kind} ") for line in lines)
        times = [line for line in lines if re.match(r"[0-9]{4}-", line)]
        assert len(times) == len(incidents)
        continued = [line for line in lines if line.startswith("null in ")]
        assert continued == []
        (stage1,) = (line for line in lines if line.startswith("stage 1") and "null in 500" in line)
        assert "; null in 500: " in stage1

    def test_no_figure_is_cut_at_80_columns(self, capture: Capture) -> None:
        columns = message_columns(20_000)
        for name in STAMPS[1:]:
            columns[name] = columns[name] - 3_000_000_000_000  # every figure of two steps gets a sign and five digits
        capture.write(columns)
        lines = rendered(collect([capture.out]), frames=True).splitlines()
        assert [line.count("-50.0min") for line in lines if "-50.0min" in line] == [6] * 6

    def test_facts_are_stated_plainly(self, capture: Capture) -> None:
        capture.write(message_columns(1500), gaps=0, events=[{"time": START, "kind": "session_start"}])
        text = rendered(collect([capture.out]), 100, details=True)
        assert "complete: seq 0..1,499, none missing" in text
        assert "1,500 received · " in text
        assert "unknown: no sequence number would show one in any channel" in text
        assert "quiet: no disconnect" in text
        assert "whole ms" in text
        assert text.count("NIC->HANDOFF") == 6  # three tables and their sparklines

    def test_missing_rows_are_stated_plainly(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["seq"] = np.array([*range(40), *range(52, 111), 110], np.uint64)
        capture.write(columns)
        assert "incomplete: seq 0..110, 12 missing (40..51), 1 duplicate" in rendered(collect([capture.out]), 100)

    def test_a_report_on_later_files_only_says_so(self, capture: Capture) -> None:
        capture.write(message_columns(10, first_seq=70))
        report = collect([capture.out])
        assert "earlier files of a session are not in this report" in rendered(report, 120)
        assert "complete: seq 70..79, none missing (the session's earlier files" in rendered(report, 120, details=True)

    def test_totals_with_and_without_stage_1_have_a_line_each(self, capture: Capture) -> None:
        columns = message_columns(100)
        columns["nic_time"] = [None if i < 30 else int(time) for i, time in enumerate(columns["nic_time"])]
        columns["frame_in_read"] = np.zeros(100, np.uint16)
        capture.write(columns)
        text = rendered(collect([capture.out]), 160, frames=True)
        assert "all frames, each the first in its read" in text
        assert text.count("NIC->HANDOFF") == text.count("EVENT->HANDOFF") == 1

    def test_an_empty_capture(self, capture: Capture) -> None:
        capture.write(message_columns(0))
        text = rendered(collect([capture.out]))
        assert "no rows" in text
        assert "no received rows" in text

    def test_nothing_of_a_stranger_reaches_the_terminal(self, capture: Capture) -> None:
        text = rendered(rich_capture(capture), 200)
        assert not [c for c in text if not c.isprintable() and c != "\n"]
        assert "[bold red]x[/]" in text
        assert ":smile:" in text

    def test_an_incident_is_cut_on_a_terminal_only(self, capture: Capture) -> None:
        events = [{"time": START, "kind": "stall", "conn": 0, "detail": {"why": f"{'w' * 60} end"}}]
        capture.write(message_columns(10), events=events)
        report = collect([capture.out])
        assert "w end" in rendered(report, 80)
        assert "w end" not in rendered(report, 80, force_terminal=True)

    def test_colours_only_on_a_terminal(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        report = collect([capture.out])
        assert "\x1b[" not in rendered(report)
        assert "\x1b[" in rendered(report, force_terminal=True, color_system="standard")

    def test_why_tls_is_not_as_asked_for(self, capture: Capture) -> None:
        tls = {"mode": "stamped", "fallback": "the server chose \x1b[31mRC4", "version": "TLSv1.2", "cipher": "X"}
        capture.write(message_columns(10), connections=[{"conn": 0, "tls": tls}])
        report = collect([capture.out])
        text = " ".join(rendered(report, 300).split())
        assert "stamped: TLSv1.2 X, 1 connection, because the server chose" in text
        assert "\x1b" not in text


class TestOneScreen:
    ABOUT: dict[str, Any] = {  # noqa: RUF012
        "feed_config": {"channels": {name: {"sequence": "next"} for name in ("trade", "depth", "bookTicker")}},
        "connections": [
            {"conn": 0, "tls": {"mode": "direct", "version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256"}}
        ],
        "clock": {"clock": "TSC", "anchors": 12, "widest_bracket_ns": 40},
    }

    def test_80_columns_and_24_lines_with_the_prompt(self, capture: Capture) -> None:
        capture.write(message_columns(3000), gaps=0, events=[{"time": START, "kind": "session_start"}], **self.ABOUT)
        text = rendered(collect([capture.out]), 80, height=24, force_terminal=True, color_system=None)
        assert len(text.splitlines()) <= 22

    def test_also_with_much_to_say_it_is_35_lines_at_most(self, capture: Capture) -> None:
        columns = message_columns(3000)
        kinds = ("gap", "stall", "disconnect", "refused", "privilege", "restart", "clock_step", "late", "unanswered")
        events = [
            {"time": START + n, "kind": kind, "conn": 0, "channel": "depth", "detail": {"why": "w" * 300}}
            for n, kind in enumerate(kinds * 9)
        ]
        capture.write(columns, gaps=9, events=events, **self.ABOUT)
        text = rendered(collect([capture.out]), 100, height=30, force_terminal=True, color_system=None)
        assert len(text.splitlines()) <= 34
        assert "gap (9)" in text

    def test_the_verdict_is_first(self, capture: Capture) -> None:
        events = [{"time": START, "kind": kind} for kind in ("session_start", "session_end")]
        capture.write(message_columns(300), gaps=0, events=events, **self.ABOUT)
        lines = rendered(collect([capture.out]), 200).splitlines()
        assert lines[1] == "complete: nothing is missing. Checked by sequence number: bookTicker, depth, trade"

    def test_tls_modes_are_named(self, capture: Capture) -> None:
        capture.write(message_columns(300), **self.ABOUT)
        assert "direct: TLSv1.3 TLS_AES_128_GCM_SHA256, 1 connection" in rendered(collect([capture.out]), 100)

    def test_the_bar_is_of_the_shares(self, capture: Capture) -> None:
        capture.write(message_columns(3000))
        report = collect([capture.out])
        (bar,) = (line for line in rendered(report).splitlines() if "where it went" in line)
        drawn = bar.partition("went ")[2]
        assert cell_len(bar) == 80
        steps = report.recordings[0].stages[0].steps[:5]
        for fill, step in zip("█▒▓░▚", steps, strict=True):
            assert step.share is not None
            assert abs(drawn.count(fill) - step.share * len(drawn)) <= 1
        assert "".join(dict.fromkeys(drawn)) in "█▒▓░▚"

    def test_the_summary_has_the_total_and_what_is_wsrec_s_own(self, capture: Capture) -> None:
        capture.write(message_columns(3000))
        report = collect([capture.out])
        steps = {step.name: step for step in report.recordings[0].stages[0].steps}
        own = sum(steps[name].p50 or 0 for name in ("EVENT->RECV_START", "RECV_END->PARSED", "PARSED->HANDOFF"))
        total = duration(steps["NIC->HANDOFF"].p50)
        expected = f"{total} from NIC to hand-off at p50, of which wsrec's own steps {duration(own)}"
        assert expected in rendered(report)

    @pytest.mark.parametrize(("details", "column"), [(False, "mean"), (True, "min")])
    def test_what_has_no_room_at_80_columns_is_in_the_details(
        self, capture: Capture, column: str, *, details: bool
    ) -> None:
        capture.write(message_columns(300))
        lines = rendered(collect([capture.out]), details=details).splitlines()
        heads = [line for line in lines if line.startswith("  step ")]
        assert heads
        assert all(f" {column} " in line for line in heads)

    def test_sparklines_only_where_they_fit(self, capture: Capture) -> None:
        capture.write(message_columns(300))
        report = collect([capture.out])
        low, tall = (rendered(report, 80, height=height, force_terminal=True) for height in (24, 40))
        assert "Sparklines" not in low
        assert "Sparklines" in tall
        assert "|1µs" in tall


class TestJson:
    def test_is_the_struct(self, capture: Capture) -> None:
        report = rich_capture(capture)
        assert msgspec.json.decode(report.to_json(), type=Report) == report

    def test_what_a_terminal_would_obey_is_escaped(self, capture: Capture) -> None:
        text = rich_capture(capture).to_json()
        assert text.isprintable()
        assert json.loads(text)["recordings"][0]["host"]

    def test_times_and_durations_are_integers(self, capture: Capture) -> None:
        capture.write(message_columns(10))
        (recording,) = json.loads(collect([capture.out]).to_json())["recordings"]
        step = recording["stages"][0]["steps"][0]
        for key in ("sum", "min", "mean", "p50", "p90", "p99", "p999", "max"):
            assert isinstance(step[key], int)
        assert isinstance(recording["first_recv_time"], int)


class TestProgress:
    def test_is_silent_off_a_terminal(self) -> None:
        console = Console(file=io.StringIO())
        with reading_progress(console) as progress:
            progress(1, 2)
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]

    def test_shows_on_a_terminal_what_takes_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wsrec.report.terminal._TIMEOUT", 0.0)
        console = Console(file=io.StringIO(), force_terminal=True, width=60)
        with reading_progress(console) as progress:
            progress(1, 2)
        assert "50%" in console.file.getvalue()  # type: ignore[attr-defined]

    def test_stays_away_when_it_is_quick(self) -> None:
        console = Console(file=io.StringIO(), force_terminal=True, width=60)
        with reading_progress(console) as progress:
            progress(1, 2)
        assert "%" not in console.file.getvalue()  # type: ignore[attr-defined]
