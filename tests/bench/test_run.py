"""Small runs of each measurement, with real processes."""

from __future__ import annotations

import msgspec
import pytest

from wsrec.bench import contestants, limits, run
from wsrec.bench.contestants import Client, WsrecConfiguration
from wsrec.bench.results import QUANTILES, Results
from wsrec.bench.run import Observer, Options, from_cli, turns
from wsrec.bench.table import tables
from wsrec.options.record import TlsMode, WaitStrategy
from wsrec.stages import NIC, STEPS


class Reported:
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.warnings: list[str] = []

    def run(self, **options: object) -> Results:
        results = run.run(Options(**options), Observer(self.steps.append, self.warnings.append))  # type: ignore[arg-type]
        # what is written is what is read
        written = msgspec.json.encode(results)
        assert msgspec.json.encode(msgspec.json.decode(written, type=Results)) == written
        return results


@pytest.fixture
def reported() -> Reported:
    return Reported()


def here(field: tuple[contestants.Contestant, ...]) -> set[str]:
    return {contestant.name for contestant in field if contestants.unavailable_reason(contestant) is None}


class TestSaturated:
    @pytest.mark.long
    def test_measures_everyone(self, reported: Reported):
        results = reported.run(measures=("saturated",), messages=500, rounds=1, transports=("tls",), records=("lone",))
        measured = {one.name for one in results.saturated}
        ours = {form.name for form in contestants.SATURATED if isinstance(form, WsrecConfiguration)}
        # a TLS mode that this machine does not have is left out and reported
        assert measured | set(results.left_out) >= {"wsrec", "wsrec-python", "websockets", "bare-recv"}
        assert measured == here(contestants.SATURATED) - set(results.left_out)
        for one in results.saturated:
            (only,) = one.rounds
            assert one.transport == "tls"
            # a receiver that never sleeps is accounted a tick late, and so few messages do not fill one
            assert only.cpu_ns > 0 or one.name == contestants.SPIN.name
            assert only.wall_ns > 0
            assert only.user_ns is None or only.user_ns <= only.cpu_ns
            assert (one.records, one.messages_a_record) == ("lone", 1.0)
            assert (only.frames_a_read is not None) == (one.name in ours)
            assert (only.stalls is not None) == (one.name in ours)
        assert results.paced == results.recording == []

    def test_rounds_are_taken_in_turn(self, reported: Reported):
        results = reported.run(
            measures=("saturated",),
            messages=200,
            rounds=2,
            transports=("tcp",),
            records=("bulk",),
            only=("wsrec-python", "bare-recv"),
        )
        assert [step.rsplit(": ")[-1] for step in reported.steps] == ["wsrec-python", "bare-recv"] * 2
        assert [(len(one.rounds), one.records) for one in results.saturated] == [(2, "bulk")] * 2

    def test_lone_records_and_bulk_ones_are_measured(self, reported: Reported):
        options = {"messages": 200, "rounds": 1, "transports": ("tls",), "only": ("bare-recv",)}
        results = reported.run(measures=("saturated",), **options)
        lone, bulk = results.saturated
        assert (lone.records, lone.messages_a_record) == ("lone", 1.0)
        assert bulk.records == "bulk"
        assert bulk.messages_a_record is not None
        assert bulk.messages_a_record > 10

    def test_who_is_absent_or_fails_is_left_out_with_the_reason(
        self, reported: Reported, monkeypatch: pytest.MonkeyPatch
    ):
        field = (
            Client(name="picows", package="a_package_that_is_not_here"),
            Client(name="no-such-client"),
            WsrecConfiguration(name="wsrec-python", pure=True),
        )
        monkeypatch.setitem(run._FIELDS, "saturated", field)
        results = reported.run(measures=("saturated",), messages=200, rounds=1, transports=("tcp",), records=("bulk",))
        assert [one.name for one in results.saturated] == ["wsrec-python"]
        assert results.left_out["picows"] == "it is not installed: pip install 'wsrec[bench]' (in a clone: '.[bench]')"
        assert "ended too early" in results.left_out["no-such-client"]
        assert any("picows is left out" in warning for warning in reported.warnings)


class TestPaced:
    @pytest.mark.long
    def test_measures_steps_and_one_way(self, reported: Reported):
        only = ("wsrec-python", "wsrec", "picows", "aiohttp", "websockets")
        results = reported.run(
            measures=("paced",),
            rounds=1,
            rate=2000.0,
            paced_seconds=0.3,
            transports=("tls",),
            records=("bulk",),
            only=only,
        )
        if not results.paced:
            pytest.skip(f"not here: {reported.warnings}")
        assert {one.name for one in results.paced} == here(contestants.PACED) & set(only)
        for one in results.paced:
            (only_round,) = one.rounds
            assert list(only_round.one_way) == list(QUANTILES)
            assert 0 < only_round.one_way["p50"] <= only_round.one_way["p99.9"]
            assert only_round.cpu_ns is not None
            assert only_round.cpu_ns > 0
            steps = {"sent_to_event", *(step.key for step in STEPS if step.start is not NIC), "own"}
            assert set(only_round.steps) == (steps if one.name.startswith("wsrec") else set())

    def test_makes_no_sense_on_one_processor(self, reported: Reported):
        cpu = min(run.place(None, None).rest)
        results = reported.run(measures=("paced",), cpu=cpu, sender_cpu=cpu)
        assert results.paced == []
        assert any("need a processor each" in warning for warning in reported.warnings)


class TestRecording:
    @pytest.mark.long
    def test_every_row_is_what_was_sent(self, reported: Reported):
        results = reported.run(measures=("recording",), rounds=1, recording_seconds=0.2)
        assert {one.name for one in results.recording} == here(contestants.RECORDING)
        for one in results.recording:
            (only,) = one.rounds
            assert only.identical
            assert only.rows == only.messages > 0
            assert 0 < only.handoff_ns <= only.finished_ns
            assert only.bytes_on_disk > 0
            assert only.cpu_ns > 0
            assert set(only.steps) == ({"all", "first"} if one.name.startswith("wsrec") else set())


class TestLimits:
    @pytest.mark.long
    def test_measures_operations_records_and_steps(self, reported: Reported):
        results = reported.run(measures=("limits",), rounds=2, rate=2000.0, paced_seconds=0.2)
        if results.limits is None:
            pytest.skip(f"not here: {results.left_out}")
        assert results.limits.operations
        assert results.limits.records
        for one in results.limits.paces:
            assert {len(rounds) for rounds in (one.in_c, *one.wsrec.values())} == {2}
            assert "direct" in one.wsrec
        assert results.limits.frame_bytes > 100
        assert len(reported.steps) == turns(Options(measures=("limits",), rounds=2))
        assert len(tables(results)) == 4

    def test_who_has_no_compiler_is_told(self, reported: Reported, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "compiled", None)
        results = reported.run(measures=("limits",))
        assert results.limits is None
        assert "not compiled" in results.left_out["limits"]
        assert any("limits is left out" in warning for warning in reported.warnings)


class TestOptions:
    def test_what_is_not_given_has_its_default(self):
        nothing = {"messages": None, "rounds": None, "rate": None}
        empty = {"only": (), "transports": (), "records": (), "quick": False, "seconds": None}
        assert from_cli(measures=(), **empty, **nothing) == Options()
        assert from_cli(measures=("all",), **empty) == Options()

    def test_quick_is_smaller_by_default(self):
        chosen = {"only": ("wsrec",), "transports": ("tls",), "records": ("bulk",)}
        quick = from_cli(measures=("paced",), **chosen, quick=True, seconds=2.0, rounds=3)
        assert quick.measures == ("paced",)
        assert (quick.only, quick.transports, quick.records) == (("wsrec",), ("tls",), ("bulk",))
        assert (quick.paced_seconds, quick.recording_seconds, quick.rounds) == (2.0, 2.0, 3)
        assert quick.messages < Options().messages

    def test_each_client_has_a_turn_per_transport_and_round(self):
        assert turns(Options(measures=("saturated",), only=("websockets", "bare-recv"), rounds=3)) == 24
        assert turns(Options(measures=("paced", "recording"), only=("websockets",), transports=("tcp",))) == 10


class TestContestants:
    def test_every_tls_mode_takes_part_but_the_one_that_chooses(self):
        modes = {one.tls for one in contestants.SATURATED if isinstance(one, WsrecConfiguration)}
        assert modes | {TlsMode.AUTO} == set(TlsMode)

    def test_direct_and_stamped_are_measured_without_waiting_too(self):
        paced = [one for one in contestants.PACED if isinstance(one, WsrecConfiguration)]
        spinning = {one.tls for one in paced if one.wait is WaitStrategy.SPIN}
        assert spinning | {contestants.DEFAULT_TLS} >= {TlsMode.DIRECT, TlsMode.STAMPED}
