"""Loss, reordering, duplicates, GRO, VLAN and IPv6 over veth, and TLS in the kernel: in an emulated machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulated import LIMIT, ROOT, Done, run_in_machine, skip_without_machine
from tests.segments import libpcap
from tests.segments.netem_in_machine import SCENARIOS, SIZE, Scenario
from tests.segments.packets import ACK, SYN
from tests.segments.test_capture import stamps
from wsrec.receive import ktls
from wsrec.segments.capture import Flow
from wsrec.segments.segment_ring import SegmentFlag, SegmentKind

HERE = Path(__file__).parent.relative_to(ROOT)

pytestmark = [pytest.mark.long, pytest.mark.timeout(LIMIT + 60)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Done:
    skip_without_machine()
    netem = shlex.join([sys.executable, str(HERE / "netem_in_machine.py")])
    command = f'PYTHONPATH=. {netem} "$OUT"'
    return run_in_machine(tmp_path_factory.mktemp("machine"), command, [str(HERE / "test_receiver.py"), "-k", "ktls"])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_byte_has_the_stamp_that_libpcap_has(machine, scenario: Scenario):
    assert (machine.out / f"{scenario.name}.npy").exists(), machine.output
    rows = np.load(machine.out / f"{scenario.name}.npy")
    packets = list(libpcap.read(machine.out / f"{scenario.name}.pcap"))
    port = next(packet.target for packet in packets if packet.flags & SYN and packet.flags & ACK)
    reference = libpcap.Reference(packets, port)
    found = stamps(rows, Flow(1, 0, port, False))
    assert len(found) == len(reference.arrivals) == SIZE
    assert reference.differences(found) == []
    # what came again is told, and nothing else
    again = np.zeros(SIZE, bool)
    data = rows[rows["kind"] == SegmentKind.SEGMENT]
    for row in data[data["flags"] & SegmentFlag.REPEATED != 0]:
        again[int(row["offset"]) : int(row["offset"] + row["length"])] = True
    assert np.flatnonzero(again).tolist() == sorted(
        byte for byte, times in reference.arrivals.items() if len(times) > 1
    )
    # and the scenario was one
    flags = int(np.bitwise_or.reduce(data["flags"]))
    kind = scenario.name.partition("-")[0]
    if kind in ("loss", "reorder", "all"):
        assert flags & SegmentFlag.FILLED
        assert flags & SegmentFlag.AHEAD
    elif kind == "duplicate":
        assert flags & SegmentFlag.REPEATED
    elif kind == "plain":
        # TCP may have sent something again by itself, as slow as the machine is
        assert not flags & (SegmentFlag.FILLED | SegmentFlag.AHEAD)
    assert not (rows["kind"] == SegmentKind.LOSS).any()


@pytest.mark.skipif(ktls.unable() is None, reason="this machine's kernel does decrypt TLS")
def test_the_kernel_decrypts(machine):
    output = (machine.out / "ktls").read_text() if (machine.out / "ktls").exists() else machine.output
    assert output.endswith("status 0\n"), output
    assert "skipped" not in output
