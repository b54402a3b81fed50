"""Captures over a veth pair with netem, beside libpcap: needs root and a kernel with netem (scripts/kernel-vm).

    netem_in_machine.py OUT

For each of `SCENARIOS` it leaves OUT/NAME.pcap, of tcpdump, and OUT/NAME.npy, of the segment ring, which
tests/segments/test_netem.py compares.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.segments import libpcap
from wsrec.segments.capture import Capture
from wsrec.segments.segment_ring import SegmentRing

SIZE = 400_000
_NEAR, _FAR = "10.99.0.1", "10.99.0.2"
_NEAR6, _FAR6 = "fd99::1", "fd99::2"
_NEAR_VLAN, _FAR_VLAN = "10.98.0.1", "10.98.0.2"
# one processor for the network, another one for those who look: packets then pass one after the other
_NETWORK, _OTHER = "1", 0
# s; the machine is slow
libpcap.QUIET = 2.0


class Scenario(NamedTuple):
    """What happens on the way."""

    name: str
    netem: str
    offload: bool = True
    peer: str = _FAR
    own: str = _NEAR
    device: str = "near"


_KINDS = {
    "plain": "delay 1ms",
    "loss": "delay 1ms loss 4%",
    "reorder": "delay 3ms reorder 60% 50%",
    "duplicate": "delay 1ms duplicate 10%",
    "all": "delay 2ms 1ms loss 3% duplicate 5%",
}
SCENARIOS = [
    *(
        Scenario(f"{name}-{'on' if offload else 'off'}", netem, offload)
        for name, netem in _KINDS.items()
        for offload in (True, False)
    ),
    Scenario("ipv6", _KINDS["all"], peer=_FAR6, own=_NEAR6),
    Scenario("vlan", _KINDS["all"], peer=_FAR_VLAN, own=_NEAR_VLAN, device="near.7"),
]

_SERVER = """
import random, socket, sys, time
sock = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(sock.getsockname()[1], flush=True)
peer, _ = sock.accept()
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
choose, left = random.Random(7), int(sys.argv[2])
while left:
    part = min(left, choose.choice([2, 50, 300, 1448, 5000, 30000]))
    peer.sendall(bytes(part)); left -= part
    if choose.random() < 0.1: time.sleep(0.002)
peer.recv(1)
"""


def sh(command: str) -> None:
    """Run a command of the shell."""
    subprocess.run(command, shell=True, check=True)


def network() -> None:
    """Two namespaces, and a pair of devices between them, with a VLAN upon it."""
    sh("ip netns add far; ip link add near type veth peer name far netns far")
    sh("ip link add link near name near.7 type vlan id 7; ip -n far link add link far name far.7 type vlan id 7")
    for name, command in (("near", "ip"), ("far", "ip -n far")):
        here, here6, vlan = (_NEAR, _NEAR6, _NEAR_VLAN) if name == "near" else (_FAR, _FAR6, _FAR_VLAN)
        sh(f"{command} addr add {here}/24 dev {name}; {command} -6 addr add {here6}/64 dev {name} nodad")
        sh(f"{command} addr add {vlan}/24 dev {name}.7; {command} link set {name} up; {command} link set {name}.7 up")


def run(scenario: Scenario, out: Path) -> None:
    """One transfer."""
    state = "on" if scenario.offload else "off"
    sh(f"ethtool -K near gro {state} >/dev/null; ip netns exec far ethtool -K far tso {state} gso {state} >/dev/null")
    sh(f"ip netns exec far tc qdisc replace dev far root netem {scenario.netem}")
    fd = SegmentRing.create("t")
    ring = SegmentRing(fd)
    capture = Capture(ring, {_OTHER})
    with libpcap.recording(out / f"{scenario.name}.pcap", scenario.device, "tcp"):
        command = ["ip", "netns", "exec", "far", "taskset", "-c", _NETWORK, sys.executable, "-c", _SERVER]
        server = subprocess.Popen([*command, scenario.peer, str(SIZE)], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with socket.socket(socket.AF_INET6 if ":" in scenario.peer else socket.AF_INET) as client:
            client.bind(("", 0))
            flow = capture.watch(0, client.getsockname()[1], (scenario.peer, port))
            assert flow is not None
            client.connect((scenario.peer, port))
            got = 0
            while got < SIZE:
                got += len(client.recv(random.choice([1000, 100_000])))
            client.sendall(b"x")
        server.wait(60)
    until = time.monotonic_ns()
    while ring.covered_until.read() < until:
        time.sleep(0.01)
    capture.close()
    np.save(out / f"{scenario.name}.npy", ring.run(0, ring.published.read()))
    os.close(fd)


def main(out: Path) -> None:
    """Run all scenarios."""
    os.sched_setaffinity(0, {int(_NETWORK)})
    network()
    for scenario in SCENARIOS:
        run(scenario, out)
        print(scenario.name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
