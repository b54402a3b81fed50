"""wsrec.supervise.health: what is wrong with a recording, from its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.supervise.test_state_sampler import PLANS, SECOND, Recorder
from wsrec.counts import Counts
from wsrec.supervise.health import KINDS, problems, summary
from wsrec.supervise.state import DiskState, RecorderState


@pytest.fixture
def healthy(tmp_path: Path) -> RecorderState:
    recorder = Recorder(tmp_path, PLANS)
    recorder.beat()
    recorder.page.receiver["connected"] = 3
    for conn in range(3):
        recorder.connected(conn, time.monotonic_ns())
    return recorder.state()


def changed(whole: RecorderState, at: int, **fields: Any) -> RecorderState:
    connections = list(whole.connections)
    connections[at] = msgspec.structs.replace(connections[at], **fields)
    return msgspec.structs.replace(whole, connections=tuple(connections))


def hung(state: RecorderState) -> RecorderState:
    return msgspec.structs.replace(
        state, processes=(msgspec.structs.replace(state.processes[1], heartbeat_ns=6 * SECOND),)
    )


CASES: dict[str, tuple[Callable[[RecorderState], RecorderState], str, str]] = {
    "starting": (lambda s: msgspec.structs.replace(s, phase="starting"), "starting", "no connection is open yet"),
    "down": (lambda s: changed(s, 1, state="down"), "connection", "connection 1 (two) is down"),
    "silent": (
        lambda s: changed(s, 0, state="silent", age_ns=7 * SECOND),
        "connection",
        "connection 0 (one, last message 7.00 s ago) is silent",
    ),
    "hangs": (hung, "process", "the writer has had no heartbeat for 6.00 s"),
    "disk": (
        lambda s: msgspec.structs.replace(s, disk_trouble=True),
        "disk",
        "the disk refuses writes: received data waits in the rings",
    ),
    "full soon": (
        lambda s: msgspec.structs.replace(s, disk=DiskState(free=10**9, full_in_ns=600 * SECOND)),
        "disk",
        "the disk is full in 600 s at this rate: 1.00 GB are free",
    ),
    "lag": (lambda s: msgspec.structs.replace(s, journal_lag_ns=9 * SECOND), "lag", "the journal lags by 9.00 s"),
    "ring": (
        lambda s: msgspec.structs.replace(s, ring_fill=0.75),
        "lag",
        "a ring is filled to 75%: the writer does not keep up",
    ),
    "gaps": (lambda s: msgspec.structs.replace(s, counts=Counts(gaps=2)), "gaps", "2 sequence gaps"),
    "lost": (lambda s: msgspec.structs.replace(s, counts=Counts(lost_intervals=1)), "lost", "1 lost interval"),
    "refused": (
        lambda s: msgspec.structs.replace(s, counts=Counts(refused=1)),
        "refused",
        "1 refused, unanswered or late subscription",
    ),
}


def test_nothing_is_wrong(healthy):
    assert problems(healthy) == ()
    assert summary(healthy).startswith("recording: 0 messages (0/s), 0 B, 3/3 connected, total p50 - p99 -, ring 0%, ")


@pytest.mark.parametrize("case", CASES)
def test_each_problem(healthy, case):
    change, kind, text = CASES[case]
    assert [(each.kind, each.text) for each in problems(change(healthy))] == [(kind, text)]


def test_every_kind_is_tested():
    assert {kind for _, kind, _ in CASES.values()} == {*KINDS}


def test_many_are_one_line(healthy):
    down = msgspec.structs.replace(healthy.connections[0], state="down", age_ns=None, feed="evil\x1b")
    many = msgspec.structs.replace(healthy, connections=(down,) * 8)
    (problem,) = problems(many)
    assert problem.text == "connections " + ", ".join(["0 (evil\\x1b)"] * 5) + " and 3 more are down"


def test_what_ends_is_not_wrong(healthy):
    ending = hung(changed(msgspec.structs.replace(healthy, phase="finishing"), 0, state="ended"))
    assert problems(ending) == ()


def test_one_that_waits_for_its_turn_is_not_wrong(healthy):
    assert problems(changed(healthy, 2, state="waiting")) == ()
