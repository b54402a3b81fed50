"""Reads one session of one feed: all of it, or what follows the files that were proved before."""

from __future__ import annotations

from time import time_ns

from wsrec.verify.frozen_state import FrozenStateError, freeze, thaw
from wsrec.verify.inventory import SessionTask
from wsrec.verify.memory import Known, Memory, PairMark
from wsrec.verify.meter import Meter
from wsrec.verify.result import SessionResult
from wsrec.verify.session import SessionReading


def read_session(task: SessionTask, meter: Meter) -> SessionResult:
    """Read all of a session."""
    reading = SessionReading(task, meter)
    for pair in task.pairs:
        reading.read(pair)
    return reading.result()


def read_on(
    task: SessionTask, meter: Meter, memory: Memory, marks: list[PairMark], known: Known | None
) -> SessionResult:
    """Read what is not known of a session, and have a memory keep what was proved.

    Args:
        task: the session.
        meter: takes what is read.
        memory: the memory.
        marks: the marks of the session's files.
        known: what is known of it; None: all of it is read.

    """
    since = time_ns()
    reading = _continued(task, meter, known)
    if reading is None or known is None:
        reading, known = SessionReading(task, meter), None
    else:
        meter.add(known.size)
    for pair in task.pairs[known.pairs if known else 0 :]:
        reading.read(pair)
    # before its end: more files may come
    state = freeze(reading) if reading.sound and not reading.ended else None
    result = reading.result()
    if reading.sound:
        memory.keep(task, marks, known.since if known else since, since, result, state)
    return result if known is None else known.marked(result)


def _continued(task: SessionTask, meter: Meter, known: Known | None) -> SessionReading | None:
    try:
        return None if known is None else thaw(known.state, task, meter)
    except FrozenStateError:
        return None
