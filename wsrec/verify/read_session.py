"""Reads one session of one feed, here or in an engine's worker: all of it, or what follows the files that are known."""

from __future__ import annotations

from time import time_ns

import msgspec

from wsrec.engine.work import Item
from wsrec.verify.ahead import Ahead
from wsrec.verify.frozen_state import FrozenStateError, freeze, thaw
from wsrec.verify.inventory import SessionTask
from wsrec.verify.memory import Known
from wsrec.verify.meter import Meter, size_of
from wsrec.verify.result import SessionResult
from wsrec.verify.session import SessionReading


class SessionItem(Item, frozen=True, kw_only=True):
    """A session of a feed that is to be read.

    Attributes:
        task: the session.
        known: what is known of it and not read again; None: all of it is read.
        remembers: whether its state is wanted.
        threads: how many threads read it.

    """

    task: SessionTask
    known: Known | None = None
    remembers: bool = False
    threads: int = 1


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a session.

    Attributes:
        result: its verification.
        sound: whether the manifest's checksums vouch for all of its files.
        continued: whether it continues from what was known.
        since: when the reading of the oldest of them began (ns since the epoch).
        began: when this reading began.
        state: its state, if it was wanted and more files may come.

    """

    result: SessionResult
    sound: bool
    continued: bool
    since: int
    began: int
    state: bytes | None


def item_of(task: SessionTask, known: Known | None, *, remembers: bool, threads: int) -> SessionItem:
    """A session as an engine's item."""
    files = [path for pair in task.pairs for path in (pair.messages, pair.events) if path is not None]
    size = sum(map(size_of, files))
    return SessionItem(
        files=tuple(map(str, files)), size=size, task=task, known=known, remembers=remembers, threads=threads
    )


def read_session(item: SessionItem, meter: Meter | None = None) -> Reading:
    """Read a session, or what is not known of it.

    Args:
        item: the session.
        meter: takes the bytes that are read of it, and those that are known.

    """
    task, known, began = item.task, item.known, time_ns()
    meter = Meter(0, None) if meter is None else meter
    ahead = Ahead(item.threads - 1)
    reading = _continued(task, meter, known, ahead)
    if reading is None or known is None:
        reading, known = SessionReading(task, meter, ahead), None
    else:
        meter.add(known.size)
    for pair in task.pairs[known.pairs if known else 0 :]:
        reading.read(pair)
    # before its end, which changes it
    wanted = item.remembers and reading.sound and not reading.ended
    state = freeze(reading) if wanted else None
    since = known.since if known else began
    continued = known is not None
    result = reading.result()
    return Reading(result=result, sound=reading.sound, continued=continued, since=since, began=began, state=state)


def _continued(task: SessionTask, meter: Meter, known: Known | None, ahead: Ahead) -> SessionReading | None:
    try:
        return None if known is None else thaw(known.state, task, meter, ahead)
    except FrozenStateError:
        return None
