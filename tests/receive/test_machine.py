"""Tests that need another kernel, or a clock that may be set: run in one emulated machine.

TLS that the kernel decrypts, where this machine's kernel does not; and recordings while the clock is slewed and set.
"""

from __future__ import annotations

import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import trustme

from tests.conftest import events_of
from tests.emulated import LIMIT, ROOT, Done, run_in_machine, skip_without_machine
from tests.receive.clock_in_machine import HOUR
from tests.receive.machine_files import Recording, table
from tests.receive.test_ktls import check_recording
from wsrec.host.clock import counter
from wsrec.receive import ktls

HERE = Path(__file__).parent.relative_to(ROOT)
SECOND = 1_000_000_000
# only the compiled core reads the counter
CLOCK = "CLOCK_MONOTONIC" if counter is None else "TSC"

pytestmark = [pytest.mark.long, pytest.mark.timeout(LIMIT + 60)]


@pytest.fixture(scope="module")
def machine(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Done:
    skip_without_machine()
    out = tmp_path_factory.mktemp("machine")
    authority.cert_pem.write_to_path(str(out / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(out / "server.pem"))
    tests = [*(f"{HERE}/test_ktls.py::{name}" for name in ("TestKernel", "TestRecords")), "tests/client/test_ktls.py"]
    # a recording with the clock's, as starting one takes a minute there
    tests.append("--deselect=" + tests[0] + "::test_a_whole_recording")
    clock = shlex.join([sys.executable, str(HERE / "clock_in_machine.py")])
    return run_in_machine(out, f'{clock} "$OUT" {CLOCK}', tests)


@pytest.fixture
def recording(machine: Done) -> Recording:
    assert (machine.out / f"{CLOCK}.json").exists(), machine.output
    found = Recording(machine.out, CLOCK)
    assert found.status == 0, found.reported
    return found


@pytest.mark.skipif(ktls.unable() is None, reason="this machine's kernel does decrypt TLS")
def test_the_kernel_decrypts(machine):
    output = (machine.out / "ktls").read_text() if (machine.out / "ktls").exists() else machine.output
    assert output.endswith("status 0\n"), output
    assert "skipped" not in output


def test_a_recording_over_ktls(recording):
    check_recording(recording.out, recording.over_tls, ["TLSv1.2", "TLSv1.3"])


class TestClock:
    def test_utc_is_within_its_bound_while_the_clock_is_slewed(self, recording):
        phases = recording.phases()
        assert {clock["clock"] for clock in recording.clocks} == {CLOCK}
        assert sum(phase.beyond for phase in phases) == 0, table(recording)
        # and the bound is one: far less than what the clock was set by
        still = next(phase for phase in phases if phase.name == "0 ppm")
        assert still.rows > 0
        assert still.bound < 10_000_000, table(recording)

    def test_the_bound_of_a_file_is_the_largest_of_its_time(self, recording):
        largest = max(anchor["utc_bound_ns"] for anchor in recording.anchors)
        assert max(clock["utc_bound_ns"] for clock in recording.clocks) >= largest > (HOUR - 60) * SECOND

    def test_every_message_is_there_in_order_though_the_clock_was_set(self, recording):
        assert recording.numbers == list(range(len(recording.sent)))
        times = recording.table.sort_by("handoff_monotonic")["handoff_time"].cast("int64").to_pylist()
        back = [there - here for here, there in pairwise(times) if there < here]
        assert len(back) >= 1
        assert min(back) < -(HOUR - 60) * SECOND

    def test_the_steps_are_reported_and_nothing_else_is_one(self, recording):
        steps = [event["detail"]["step_ns"] / SECOND for event in events_of(recording.out, "clock_step")]
        # in the events of each feed
        assert sorted(round(step / 60) for step in steps) == [-60] * 3 + [60] * 3, steps

    def test_files_go_on_rotating_and_are_distinct(self, recording):
        files = recording.files
        by_hour = [file.parent.name for file in sorted(files, key=lambda file: file.name)]
        changes = [here for here, there in pairwise([*by_hour, ""]) if here != there]
        # there and an hour before; there again is in that file where the writer was behind, in so slow a machine
        assert len(changes) >= 2, by_hour
        assert len({file.name for file in files}) == len(files) > len(changes)

    def test_verify_finds_it_sound(self, recording, wsrec):
        done = wsrec.run("verify", recording.out)
        assert done.returncode == 0, done.stdout
