"""The truth of a capture: what the exchange sent, and what of it the files hold; and what verify says that is not so.

By brute force, message by message and interval by interval, on the true time line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow.parquet as pq

from tests.verify.sessions import Session
from tests.verify.world import Clock
from wsrec.verify.model import Interval, State, Verification
from wsrec.verify.model import Session as Reported

# what verify keeps of the difference between the clocks is right to a microsecond, and so is a line between anchors
_TOLERANCE_NS = 2_000
# a step so small may have been taken for a slew, whose line an event between two anchors is on
_SLEW_NS = 2_000_000

Key = tuple[str, int]


class Missed(NamedTuple):
    """A message that no file holds: when it came or should have, and whether the exchange itself lost it."""

    time: int
    removed: bool


def held(path: Path) -> set[Key]:
    """The messages in a file, by topic and time."""
    texts = pq.ParquetFile(path).read(["text"])["text"].to_pylist()
    stated = [msgspec.json.decode(text) for text in texts if text is not None]
    return {(f"{each['c']}.{each['s']}", each["t"]) for each in stated if "t" in each}


def held_by_session(out: Path, without: Collection[Path]) -> dict[str, set[Key]]:
    """What the files of each session hold; `without` those of which nothing can be believed."""
    found: dict[str, set[Key]] = {}
    for path in (out / "messages").rglob("*.parquet"):
        if path not in without:
            found.setdefault(path.name.rpartition("-")[0], set()).update(held(path))
    return found


def missed(session: Session, there: Collection[Key]) -> dict[str, list[Missed]]:
    """By topic: what was sent and is not there."""
    return {
        topic: [Missed(each.time, each.removed) for each in sent if (topic, each.time) not in there]
        for topic, sent in session.exchange.sent.items()
    }


def astray_events(session: Session, out: Path) -> Iterator[str]:
    """The lost intervals in a session's events files that do not say what its clock showed."""
    for path in (out / "events").rglob(f"{session.name}-*.parquet"):
        for row in pq.ParquetFile(path).read(["kind", "detail"]).to_pylist():
            stated = msgspec.json.decode(row["detail"])
            for end in ("from", "to") if row["kind"] == "lost_interval" else ():
                if (what := _astray(session.clock, stated[f"monotonic_{end}"], stated[end], _SLEW_NS)) is not None:
                    yield f"session {session.name}: {end} of a lost interval {what}"


class Verdict(NamedTuple):
    """How many claims were held against the truth, and those that are false."""

    claims: int
    false: list[str]


def judge(
    sessions: dict[str, Session], there: dict[str, set[Key]], found: Verification, *, exact: bool | None
) -> Verdict:
    """Hold all that a verification says of intervals against the truth.

    Args:
        sessions: by name.
        there: what their files hold.
        found: the verification.
        exact: whether all of UTC has to be what the clock showed, as all files are sound; None: no UTC has to be, as
            journals were damaged, and their clock data is lost.

    """
    claims, false = 0, []
    for capture in found.captures:
        for stated in capture.sessions:
            session = sessions[stated.session]
            lost = missed(session, there.get(stated.session, ()))
            for name, interval, messages in _intervals(stated, lost):
                claims += 1
                false += [f"{name}: {what}" for what in _false(session, interval, messages, exact=exact)]
            for loss in stated.losses if exact else ():
                claims += 1
                what = _astray(session.clock, loss.monotonic_start, loss.start)
                what = what or _astray(session.clock, loss.monotonic_end, loss.end)
                false += [f"{stated.feed}: a loss ({loss.reason}) {what}"] if what else []
    return Verdict(claims, false)


def _intervals(stated: Reported, lost: dict[str, list[Missed]]) -> Iterator[tuple[str, Interval, list[Missed]]]:
    for stream in stated.streams:
        topic = f"{stream.channel}.{stream.symbol}"
        for interval in stream.intervals:
            yield f"session {stated.session}, {topic} on connection {stream.conn}", interval, lost.get(topic, [])


def _false(session: Session, interval: Interval, lost: list[Missed], *, exact: bool | None) -> Iterator[str]:
    start, end, state = interval.monotonic_start, interval.monotonic_end, interval.state
    proved = state is State.PROVED
    if end < start or interval.end < interval.start:
        yield f"{interval} ends before it begins"
    # where nothing confirms subscriptions, silence claims nothing; what the exchange itself lost only numbers show
    good = proved or state is State.UNBROKEN or (state is State.SILENT and session.acks)
    for each in lost:
        if good and start < each.time < end and (proved or not each.removed):
            yield f"a message of {each.time} is missing{' (removed)' if each.removed else ''} in what is {interval}"
    if good and (exact or (exact is not None and proved)):
        for time, utc in ((start, interval.start), (end, interval.end)):
            if (what := _astray(session.clock, time, utc)) is not None:
                yield f"{interval} {what}"


def _astray(clock: Clock, time: int, utc: int, more: int = 0) -> str | None:
    """How UTC is not what the clock showed at that moment, but for `more` than what it may be off; None where it is."""
    least, most = clock.shown(time)
    tolerance = _TOLERANCE_NS + more
    if least - tolerance <= utc <= most + tolerance:
        return None
    return f"says {utc} of {time}, when the clock showed {clock.utc(time)}"
