"""wsrec.host.clock: monotonic stamps tied to UTC."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from wsrec.host import clock
from wsrec.host.clock import MONOTONIC, TSC, Anchor, StageClock, anchor, step


class TestAnchor:
    def test_lies_between_the_clock_before_and_after(self):
        before, utc = time.monotonic_ns(), time.time_ns()
        found = anchor()
        assert before <= found.monotonic <= time.monotonic_ns()
        assert utc <= found.realtime <= time.time_ns()
        assert found.width >= 0

    def test_maps_a_stamp_onto_utc(self):
        offset = anchor().offset
        before, stamp, after = time.time_ns(), clock.now(), time.time_ns()
        assert before - 1_000_000 <= stamp + offset <= after + 1_000_000

    def test_the_narrowest_of_some_tries_is_taken(self, monkeypatch):
        reads = iter([0, 900, 1000, 1050, 2000, 2700, 3000, 3600, 4000, 4500])
        monkeypatch.setattr(clock, "now", lambda: next(reads))
        monkeypatch.setattr(clock, "counter", None)
        found = anchor()
        assert (found.stage, found.width) == (1025, 50)


class TestStep:
    FIRST = Anchor(stage=0, monotonic=1_000_000, realtime=5_000_000_000, width=50, span=100)

    @pytest.mark.parametrize("change", [-1_300, -1, 0, 1, 1_300])
    def test_a_difference_that_the_brackets_explain_is_none(self, change):
        later = Anchor(7, 2_000_000, 5_001_000_000 + change, width=50, span=200)
        assert step(self.FIRST, later) == 0

    @pytest.mark.parametrize("change", [-10_000_000_000, -1_301, 1_301, 3_600_000_000_000])
    def test_a_larger_one_is_how_far_the_clock_was_set(self, change):
        later = Anchor(7, 2_000_000, 5_001_000_000 + change, width=50, span=200)
        assert step(self.FIRST, later) == change

    def test_no_two_real_anchors_are_a_step_whatever_interrupts_them(self):
        anchors = [anchor() for _ in range(100_000)]
        assert [found for pair in pairwise(anchors) if (found := step(*pair))] == []


class FakeCounter:
    """A counter of 2 ticks a ns, beside a CLOCK_MONOTONIC that the test moves; both begin at some large number."""

    def __init__(self) -> None:
        self.ns = 10**15
        self.raw = 3 * 10**15
        self.ticks = 7 * 10**15
        self.base = (0, 0, 0)

    def pass_time(self, ns: int, ticks: int | None = None, raw: int | None = None) -> None:
        self.ns += ns
        self.raw += ns if raw is None else raw
        self.ticks += 2 * ns if ticks is None else ticks

    def invariant(self) -> bool:
        return True

    def sample(self) -> tuple[int, int, int]:
        return self.ticks, self.ns, self.raw

    def at(self, ticks: int) -> int:
        base_ticks, base_ns, rate = self.base
        return base_ns + ((ticks - base_ticks) * rate >> 32)

    def follow(self, *base: int) -> None:
        self.base = base

    @property
    def off(self) -> int:
        return self.at(self.ticks) - self.ns


@pytest.fixture
def counter(monkeypatch, tmp_path):
    fake = FakeCounter()
    monkeypatch.setattr(clock, "counter", fake)
    monkeypatch.setattr(clock.time, "sleep", lambda seconds: fake.pass_time(int(seconds * 1e9)))
    sources = tmp_path / "available"
    sources.write_text("kvm-clock tsc acpi_pm \n")
    monkeypatch.setattr(clock, "_CLOCKSOURCES", sources)
    return fake


class TestStageClock:
    def test_the_counter_where_processor_and_kernel_trust_it(self, counter):
        kept = StageClock()
        assert (kept.name, kept.refusal) == (TSC, None)
        counter.pass_time(1_000_000_000)
        assert abs(counter.off) <= 1
        assert abs(kept.check()) <= 1

    def test_until_the_end_of_its_context(self, counter):
        with StageClock() as kept:
            assert kept.name == TSC
        assert kept.name == MONOTONIC
        assert counter.base == (0, 0, 0)

    def test_not_where_the_processor_does_not(self, counter, monkeypatch):
        monkeypatch.setattr(counter, "invariant", lambda: False)
        assert StageClock().name == MONOTONIC
        assert counter.base == (0, 0, 0)

    @pytest.mark.parametrize("listed", ["kvm-clock acpi_pm", ""])
    def test_not_where_the_kernel_does_not(self, counter, listed):
        clock._CLOCKSOURCES.write_text(listed)
        kept = StageClock()
        assert kept.name == MONOTONIC
        assert "kernel" in kept.refusal
        clock._CLOCKSOURCES.unlink()
        assert StageClock().name == MONOTONIC

    def test_not_without_the_compiled_core(self, monkeypatch):
        monkeypatch.setattr(clock, "counter", None)
        assert StageClock().refusal == "only the compiled core can read it"

    def test_a_drift_is_taken_back_within_a_second_and_never_by_a_jump(self, counter):
        kept = StageClock()
        drifts = []
        for _ in range(5):
            # CLOCK_MONOTONIC is slewed by 50 millionths
            counter.pass_time(1_000_000_000, ticks=2 * 1_000_050_000)
            before = counter.at(counter.ticks)
            drifts.append(kept.check())
            assert counter.at(counter.ticks) == before
        assert drifts[0] == pytest.approx(50_000, abs=5)
        # the second interval takes back what the first left; from then on the new rate holds
        assert all(abs(drift) <= 50_005 for drift in drifts)
        assert abs(drifts[-1]) < abs(drifts[0])

    def test_checks_that_follow_each_other_closely_keep_the_rate(self, counter):
        kept = StageClock()
        counter.pass_time(600_000_000)
        kept.check()
        rate = counter.base[2]
        counter.pass_time(1_000, ticks=2_500)
        kept.check()
        assert counter.base[2] == rate

    def test_a_process_that_was_stopped_for_an_hour_keeps_it(self, counter):
        kept = StageClock()
        counter.pass_time(3_600_000_000_000, ticks=2 * 3_600_010_000_000)
        assert kept.check() == pytest.approx(10_000_000, abs=10_000)
        assert kept.name == TSC

    @pytest.mark.parametrize("slew", [-100_000, -2_000, 500, 10_000, 83_333, 100_000])
    def test_a_clock_that_is_slewed_is_no_fault_of_the_counter(self, counter, slew):
        kept = StageClock()
        for tenth in range(100):
            # there for three seconds, and back
            rate = slew if tenth // 30 % 2 else 0
            counter.pass_time(100_000_000 + rate * 100, ticks=200_000_000, raw=100_000_000)
            kept.check()
            assert kept.name == TSC
        assert abs(counter.off) < 100

    @pytest.mark.parametrize("ticks", [0, 2 * 1_002_000_000, 10**13])
    def test_a_counter_that_stopped_or_jumped_is_given_up(self, counter, ticks):
        kept = StageClock()
        counter.pass_time(1_000_000_000, ticks=ticks)
        kept.check()
        assert kept.name == MONOTONIC
        assert "off CLOCK_MONOTONIC" in kept.refusal
        assert counter.base == (0, 0, 0)
        assert kept.check() == 0


@pytest.mark.skipif(clock.counter is None, reason="the compiled clock was not built here")
class TestTheRealCounter:
    def test_follows_clock_monotonic_and_never_goes_back(self):
        with StageClock() as kept:
            if kept.name != TSC:
                pytest.skip(f"no trusted counter here: {kept.refusal}")
            stamps = []
            for _ in range(3):
                stamps += [clock.now() for _ in range(1000)]
                before, stamp, after = time.monotonic_ns(), clock.now(), time.monotonic_ns()
                assert before - 100_000 < stamp < after + 100_000
                time.sleep(0.51)
                kept.check()
            assert stamps == sorted(stamps)
