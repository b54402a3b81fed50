"""What is wrong with a running recording, judged in one place from its state: for `wsrec status`, probes, systemd."""

from __future__ import annotations

import time
from typing import Literal, get_args

import msgspec

from wsrec.supervise.state import NOT_UP, ConnectionState, RecorderState
from wsrec.supervise.summary_line import summary_line
from wsrec.units import clean, duration, plural, size

Kind = Literal["starting", "connection", "process", "disk", "lag", "gaps", "lost", "refused"]
KINDS: tuple[str, ...] = get_args(Kind)
PAST = ("gaps", "lost", "refused")
"""Kinds that stay until the recording ends: what is missing in the files."""

# with fewer heartbeats a process hangs, or the machine is overloaded; they come 10 and 50 times a second
BEAT_LATE_NS = 5_000_000_000
# a batch is journalled within 0.1 s
# longer than the supervisor takes to restart what hangs (`wsrec.supervise.process_supervisor`)
BEAT_DEAD_NS = 90_000_000_000
LOOP_DEAD = 30.0
LAG_NS = 5_000_000_000
RING_FILL = 0.5
FULL_SOON_NS = 3_600_000_000_000
# connections named in one problem
_NAMED = 5


class Problem(msgspec.Struct, frozen=True):
    """A problem: its kind, and a line about it, safe to print."""

    kind: Kind
    text: str


def problems(state: RecorderState) -> tuple[Problem, ...]:
    """What is wrong with a recording; empty if nothing is. What is closed at its end is no problem."""
    found = []
    if state.phase == "starting":
        found.append(Problem("starting", "no connection is open yet"))
    elif state.phase == "recording":
        for word in NOT_UP:
            if those := [each for each in state.connections if each.state == word]:
                found.append(Problem("connection", _connections(word, those)))
    if state.phase != "finishing":
        for process in state.processes:
            if process.heartbeat_ns is not None and process.heartbeat_ns > BEAT_LATE_NS:
                late = duration(process.heartbeat_ns)
                found.append(Problem("process", f"the {process.name} has had no heartbeat for {late}"))
    if state.disk_trouble:
        found.append(Problem("disk", "the disk refuses writes: received data waits in the rings"))
    if state.disk is not None and state.disk.full_in_ns is not None and state.disk.full_in_ns < FULL_SOON_NS:
        left = f"{size(state.disk.free)} are free"
        found.append(Problem("disk", f"the disk is full in {duration(state.disk.full_in_ns)} at this rate: {left}"))
    if state.journal_lag_ns > LAG_NS:
        found.append(Problem("lag", f"the journal lags by {duration(state.journal_lag_ns)}"))
    if state.ring_fill > RING_FILL:
        found.append(Problem("lag", f"a ring is filled to {state.ring_fill:.0%}: the writer does not keep up"))
    counts = state.counts
    if counts.gaps:
        found.append(Problem("gaps", plural(counts.gaps, "sequence gap")))
    if counts.lost_intervals:
        found.append(Problem("lost", plural(counts.lost_intervals, "lost interval")))
    if counts.refused:
        found.append(Problem("refused", plural(counts.refused, "refused, unanswered or late subscription")))
    return tuple(found)


def is_ready(state: RecorderState) -> bool:
    """Whether it records as planned now, whatever was lost before."""
    return state.phase == "recording" and all(each.kind in PAST for each in problems(state))


def unwell(state: RecorderState, ticked: float) -> str | None:
    """Why the recorder should be restarted from outside; None if it should not.

    It restarts its own processes: only one that has had no heartbeat for longer than that takes counts, and none while
    the disk hangs, which a restart would not fix, or while it is finishing.

    Args:
        state: its state.
        ticked: monotonic time (s) of the last sign of life of its event loop.

    """
    late = time.monotonic() - ticked
    if late > LOOP_DEAD:
        return f"the supervisor has hung for {late:.0f} s"
    if state.phase == "finishing" or state.disk_trouble:
        return None
    for each in state.processes:
        if each.heartbeat_ns is not None and each.heartbeat_ns > BEAT_DEAD_NS:
            return f"the {each.name} has had no heartbeat for {duration(each.heartbeat_ns)}"
    return None


def _connections(word: str, those: list[ConnectionState]) -> str:
    """`2 of them are down: ...` in one line."""
    named = [f"{each.conn} ({clean(each.feed, 40)}{_age(each)})" for each in those[:_NAMED]]
    more = f" and {len(those) - _NAMED:,} more" if len(those) > _NAMED else ""
    noun, verb = ("connection", "is") if len(those) == 1 else ("connections", "are")
    what = {"connecting": "not open yet", "ended": "ended for good"}.get(word, word)
    return f"{noun} {', '.join(named)}{more} {verb} {what}"


def _age(connection: ConnectionState) -> str:
    return "" if connection.age_ns is None else f", last message {duration(connection.age_ns)} ago"


def summary(state: RecorderState) -> str:
    """The state in one line: the phase, and the progress."""
    return f"{state.phase}: {summary_line(state)}"
