"""Random sessions with their truth: what the exchange sent, and what of it no row has.

A session is simulated from outside, event by event as the receiver tells of them, and goes through the real pipeline
into real files: connections that open, break, fall silent and are replaced, receivers that are killed once or several
times before anything is open again, subscriptions that are refused or never answered, numbers that are passed over or
cannot be read, and recorders that are killed and recovered. The truth is kept beside it, message by message.
"""

from __future__ import annotations

import bisect
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tests.store.rings import plan, slot, writer_job
from wsrec.child import SummaryLine
from wsrec.feed.plan import Subscription
from wsrec.feed.schema import Feed
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import SLOT_DTYPE, Flag
from wsrec.session.outcome import exit_status
from wsrec.store.batch import Batch
from wsrec.store.ledger import RingCounts
from wsrec.store.moment import Moment
from wsrec.store.pipeline import Pipeline
from wsrec.store.pipeline import interval as between
from wsrec.verify.model import State, Verification
from wsrec.wire.frames import TEXT

SECOND = 1_000_000_000
BOOT = 1_000 * SECOND
# 2026-11-22T13:20:00 UTC
OFFSET = 1_795_353_600 * SECOND - BOOT
_END = BOOT + 10 * SECOND

FEED: dict[str, Any] = {
    "name": "model",
    "description": "every rule",
    "sockets": {"main": {"url": "wss://h/s"}},
    "symbols": {"pattern": "[A-Z]+", "words": "capital letters", "example": "AB"},
    "default_symbols": ["A"],
    "subscribe": {"message": '{"topics":{topics},"id":{id}}', "batch": 3},
    "limits": {"streams_per_connection": 100, "messages_per_second": 100, "connects": 100, "connects_interval": 1},
    "fields": {"channel": ["c"], "symbol": ["s"]},
    "channels": {
        "nx": {"topic": "nx.{symbol}", "exchange_seq": ["n"], "sequence": "next"},
        "pv": {"topic": "pv.{symbol}", "exchange_seq": ["n"], "seq_previous": ["p"], "sequence": "previous"},
        "tc": {"topic": "tc.{symbol}", "exchange_seq": ["n"], "seq_first": ["f"], "sequence": "touching"},
        "ch": {
            "topic": "ch.{symbol}",
            "exchange_seq": ["n"],
            "sequence": "next",
            "sequence_scope": "channel",
            "resets": {"numbers": [0]},
        },
        "up": {"topic": "up.{symbol}", "exchange_seq": ["n"], "sequence": "increasing"},
        "pl": {"topic": "pl.{symbol}"},
    },
}
ACK = {"id": "id", "error_code": ["error"], "error_message": ["message"], "timeout": 2}
_NUMBERED = {"nx", "pv", "tc", "ch"}


class Sent(NamedTuple):
    """A message of the exchange: its time (monotonic), and whether anybody was sent it at all."""

    time: int
    payload: bytes
    removed: bool


class Missed(NamedTuple):
    """A message that no row has: when (ns since the epoch), and whether the exchange itself never sent it."""

    time: int
    removed: bool


class Slot(NamedTuple):
    """A row or an event on its way."""

    time: int
    order: int
    conn: int
    flags: int
    payload: bytes


class Session:
    """One simulated session.

    Args:
        chance: where its dice come from.
        acks: whether the exchange confirms subscriptions.

    Attributes:
        missed: by channel and symbol, after `play`.

    """

    def __init__(self, chance: random.Random, *, acks: bool = True) -> None:
        self._chance = chance
        self.acks = acks
        self._slots: list[Slot] = []
        self._recorded: set[tuple[str, int]] = set()
        self._order = 0
        # nothing happens to some: they must be found whole
        self.calm = chance.random() < 0.25
        self.two_sided = chance.random() < 0.5
        self.lines = chance.choice([1, 1, 2])
        self.killed = not self.calm and chance.random() < 0.15
        self._kills = self._plan_kills()
        self._topics: dict[int, list[str]] = {}
        self._sent: dict[str, list[Sent]] = {}
        self._make_streams()

    # what the exchange sends

    def _make_streams(self) -> None:
        for line in range(self.lines):
            channels = self._chance.sample(sorted(FEED["channels"]), self._chance.randint(2, 4))
            symbols = "AB" if line == 0 else "CD"
            self._topics[line] = [f"{channel}.{symbol}" for channel in channels for symbol in symbols]
            for channel in channels:
                self._make_messages(channel, symbols)

    def _make_messages(self, channel: str, symbols: str) -> None:
        chance = self._chance
        quiet = chance.random() < 0.1
        gap = chance.choice([50, 150, 500]) * 1_000_000
        numbers = dict.fromkeys(symbols, chance.randint(1, 5))
        unread = [sorted(chance.sample(range(100), 2)) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
        rare = 0.0 if self.calm else chance.choice([0.0, 0.0, 0.01, 0.05])
        for symbol in symbols:
            self._sent[f"{channel}.{symbol}"] = []
        time = BOOT
        while (time := time + chance.randint(1, 2 * gap)) < _END and not quiet:
            symbol = chance.choice(symbols)
            counter = symbols[0] if channel == "ch" else symbol
            before = numbers[counter]
            numbers[counter] = before + (1 if channel not in ("up", "pv") else chance.randint(1, 3))
            if channel == "ch" and chance.random() < 0.01:
                numbers[counter] = 0
            body = {"c": channel, "s": symbol, "n": numbers[counter], "p": before, "f": before + 1, "t": time}
            part = (time - BOOT) * 100 // (_END - BOOT)
            if any(first <= part < last for first, last in unread) and chance.random() < 0.7:
                body["nn"] = body.pop(chance.choice("npf"))
            removed = channel in _NUMBERED and chance.random() < rare
            payload = json.dumps(body).encode()
            self._sent[f"{channel}.{symbol}"].append(Sent(time, payload, removed))

    # what becomes of the recorder

    def _plan_kills(self) -> list[tuple[int, int, int]]:
        """When a receiver is killed, up to when it has handed off, and when the next one begins."""
        kills = []
        time = BOOT
        for _ in range(0 if self.calm else self._chance.choice([0, 0, 0, 1, 1, 2, 3, 4])):
            time += self._chance.choice([self._chance.randint(1, SECOND // 2), self._chance.randint(1, 4 * SECOND)])
            again = time + self._chance.randint(1_000_000, SECOND)
            kills.append((time, time - self._chance.randint(0, SECOND // 10), again))
            time = again
        return [kill for kill in kills if kill[2] < _END]

    def play(self) -> None:
        """Let it happen."""
        for _, _, again in self._kills:
            self._event(again - 1, EventKind.RESTART, process="receiver", how="was killed", restarts=1)
        self._anchor(BOOT)
        for line in range(self.lines):
            _Line(self, self._chance, line).run()
        if self.killed:
            # everything at once: what was not journalled then is gone
            cut = self._chance.randint(BOOT + SECOND, _END)
            for lost in [each for each in self._slots if each.time > cut]:
                self._recorded.discard(_key(lost.payload))
            self._slots = [each for each in self._slots if each.time <= cut]
        self._slots.sort()

    @property
    def missed(self) -> dict[str, list[Missed]]:
        """By topic: the messages that no row has."""
        return {
            topic: [
                Missed(each.time + OFFSET, each.removed) for each in sent if (topic, each.time) not in self._recorded
            ]
            for topic, sent in self._sent.items()
        }

    def _anchor(self, time: int) -> None:
        detail = {"monotonic": time, "realtime": time + OFFSET, "width_ns": 50, "clock": "TSC", "drift_ns": 0}
        self._event(time, EventKind.ANCHOR, **detail)

    def _event(self, time: int, kind: EventKind, conn: int | None = None, **detail: Any) -> None:
        payload = Event(kind, conn, detail=detail).encode()
        self._put(time, conn or 0, Flag.EVENT | Flag.FIN, payload)

    def _put(self, time: int, conn: int, flags: int, payload: bytes) -> None:
        self._order += 1
        self._slots.append(Slot(time, self._order, conn, int(flags), payload))

    def deliver(self, conn: int, topic: str, start: int, stop: int) -> int | None:
        """The exchange's messages between two moments become rows; the time of the last."""
        sent = self._sent[topic]
        last = None
        for each in sent[bisect.bisect_left(sent, start, key=lambda s: s.time) :]:
            if each.time >= stop:
                break
            if not each.removed:
                self._put(each.time, conn, Flag.FIN | Flag.LAST, each.payload)
                self._recorded.add((topic, each.time))
                last = each.time
        return last

    # into files

    def record(self, out: Path) -> int:
        """Write it with the real pipeline; the exit status that `wsrec record` would have."""
        feed = FEED | {"ack": ACK} if self.acks else FEED
        config = Feed.model_validate(feed).public_config()
        connections = []
        for line, topics in self._topics.items():
            said = tuple(subscription(line, n, part) for n, part in enumerate(parts(topics)))
            for side in range(2 if self.two_sided else 1):
                conn = 2 * line + side
                stands_for = 2 * line if side else None
                connections.append(plan(conn, "model", subscriptions=said, stands_for=stands_for, replaceable=True))
        folder = out / ".wsrec" / "s"
        folder.mkdir(parents=True)
        pipeline = Pipeline(writer_job(out, tuple(connections), {"model": config}), folder)
        pipeline.begin_session(Moment(BOOT + OFFSET - 1, BOOT - 1))
        batches = list(self._batches())
        files = sorted(self._chance.sample(range(1, 4), self._chance.randint(1, 3)))
        number = 1
        for index, batch in enumerate(batches):
            pipeline.take(batch, number)
            if index in files:
                pipeline.finish(number)
                number += 1
        feed_writer = pipeline.feeds["model"]
        now = Moment(_END + OFFSET + SECOND // 100, None if self.killed else _END + SECOND // 100)
        if self.killed:
            pipeline.event(now, EventKind.LOST_INTERVAL, **between(pipeline.last or now, now), reason="killed")
            pipeline.event(now, EventKind.RECOVERED, journal="j", torn=False, damaged=0)
        else:
            feed_writer.end_session(now, **self._end(pipeline))
        pipeline.finish(number)
        folder.rmdir()
        summary = SummaryLine(
            session="s",
            messages=feed_writer.messages,
            payload_bytes=feed_writer.payload_bytes,
            control=feed_writer.control,
            sent=feed_writer.sent,
            files=[],
            gaps=feed_writer.gaps,
            lost_intervals=feed_writer.lost_intervals,
            refused=feed_writer.refused,
            first_recv_time=feed_writer.first_time,
            last_recv_time=feed_writer.last_time,
        )
        return int(exit_status([summary], None))

    def _end(self, pipeline: Pipeline) -> dict[str, Any]:
        feed = pipeline.feeds["model"]
        frames = sum(not each.flags & (Flag.EVENT | Flag.SENT) for each in self._slots)
        receiver = {"reads": frames, "frames": frames, "bytes": sum(self._heads.values()), "discarded_bytes": 0}
        rings = RingCounts(len(self._slots), dict(self._heads), {**receiver, "stalls": 0, "finished": True})
        counted = {"messages": feed.messages, "payload_bytes": feed.payload_bytes}
        return {**counted, **rings.detail(feed.conns)}

    def _batches(self) -> Iterator[Batch]:
        """The slots as the writer takes them, cut anywhere."""
        self._heads: dict[int, int] = {}
        first = 0
        while first < len(self._slots):
            part = self._slots[first : first + self._chance.randint(1, 200)]
            slots = np.zeros(len(part), SLOT_DTYPE)
            for row, each in enumerate(part):
                own = each.flags & (Flag.EVENT | Flag.SENT)
                head = self._heads.get(each.conn, 0) + 2
                if not own:
                    self._heads[each.conn] = head + len(each.payload)
                fields = {} if own else {"event": each.time - 239, "recv_start": 200, "recv_end": 30, "parsed": 4}
                slots[row] = slot(
                    offset=0 if own else head,
                    length=len(each.payload),
                    conn=each.conn,
                    opcode=TEXT,
                    flags=each.flags,
                    handoff=each.time,
                    **fields,
                )
            yield Batch(slots, pa.array([each.payload for each in part], pa.large_binary()), first)
            first += len(part)


class _Line:
    """One connection, or two that take turns, from the session's start to its end."""

    def __init__(self, session: Session, chance: random.Random, line: int) -> None:
        self._session, self._chance = session, chance
        self._line = line
        self._topics = session._topics[line]
        self._kills = list(session._kills)
        self._sides = [2 * line, 2 * line + 1] if session.two_sided else [2 * line]
        # by side: when it was opened, and since when the exchange sends each topic on it; None where it is closed
        self._open: dict[int, dict[str, int]] = {}
        self._opened_at: dict[int, int] = {}
        self._ever: set[int] = set()
        self._lost_since: int | None = None
        self._last_side = self._sides[0]
        self._time = BOOT + 1

    def run(self) -> None:
        active: int | None = None
        while self._time < _END:
            active = self._connect() if active is None else self._keep(active)
        if active is not None:
            self._end(active, _END)
            self._session._event(_END, EventKind.CLOSE, active, code=1000, reason="", by="wsrec")
        if self._lost_since is not None:
            self._tell_lost(self._last_side, self._lost_since, _END, "not connected before the session's end")

    def _next_kill(self) -> tuple[int, int, int] | None:
        while self._kills and self._kills[0][2] <= self._time:
            self._kills.pop(0)
        return self._kills[0] if self._kills else None

    def _connect(self) -> int | None:
        """Try to open a connection."""
        moment = self._time + self._chance.randint(1_000_000, self._chance.choice([SECOND // 5, 2 * SECOND]))
        kill = self._next_kill()
        if kill is not None and kill[0] <= moment:
            self._die(kill)
            return None
        if moment >= _END:
            self._time = _END
            return None
        session = self._session
        side = self._last_side if self._chance.random() < 0.8 else self._chance.choice(self._sides)
        if not session.calm and self._chance.random() < 0.2:
            self._lost_since = BOOT if self._lost_since is None else self._lost_since
            session._event(moment, EventKind.CONNECT_FAILED, side, cause="refused", attempt=1)
            self._time = moment
            return None
        self._open_side(side, moment)
        since, self._lost_since = self._lost_since, None
        if since is not None:
            self._tell_lost(self._last_side, since, moment, "not connected")
        self._last_side = side
        self._time = moment + 1
        return side

    def _open_side(self, side: int, moment: int) -> None:
        session, chance = self._session, self._chance
        session._event(moment, EventKind.CONNECT, side, url="wss://h/s", attempt=1)
        self._ever.add(side)
        self._opened_at[side] = moment
        since = self._open[side] = {}
        asked = moment
        for number, part in enumerate(parts(self._topics)):
            asked += chance.randint(1_000, 50_000_000)
            if asked >= self._until(side):
                break
            text = subscription(self._line, number, part).text
            session._put(asked, side, Flag.SENT | Flag.FIN, text.encode())
            session._event(asked, EventKind.SUBSCRIBE, side, topics=part)
            slowest = 1_000_000 if session.calm else chance.choice([1_000_000, 100_000_000, SECOND])
            answered = asked + chance.randint(1_000, slowest)
            dice = 1.0 if session.calm else chance.random()
            if dice < 0.05:
                since.update({} if chance.random() < 0.5 else dict.fromkeys(part, answered))
                continue
            refused = self._session.acks and dice < 0.1
            said = {"id": json.loads(text)["id"], **({"error": 7, "message": "no such topic"} if refused else {})}
            if self._session.acks:
                self._answers.setdefault(side, []).append((answered, json.dumps(said).encode()))
            if not refused:
                since.update(dict.fromkeys(part, answered))

    @property
    def _answers(self) -> dict[int, list[tuple[int, bytes]]]:
        return self.__dict__.setdefault("answers", {})

    def _until(self, side: int) -> int:
        kill = self._next_kill()
        return min(_END, kill[1] if kill is not None else _END)

    def _end(self, side: int, moment: int) -> int:
        """A connection brought everything up to a moment; when the last of it came."""
        last = self._opened_at[side]
        for answered, payload in self._answers.pop(side, []):
            if answered < moment:
                self._session._put(answered, side, Flag.FIN | Flag.LAST, payload)
                last = max(last, answered)
        for topic, since in self._open.pop(side).items():
            last = max(last, self._session.deliver(side, topic, since, moment) or 0)
        return last

    def _keep(self, active: int) -> int | None:
        """Go on until something happens to the open connection."""
        chance, session = self._chance, self._session
        moment = self._time + chance.randint(1_000_000, chance.choice([SECOND, 12 * SECOND]))
        kill = self._next_kill()
        if kill is not None and kill[0] <= moment:
            self._die(kill)
            return None
        if moment >= _END:
            self._time = _END
            return active
        what = "renew" if session.calm else chance.choice(["drop", "drop", "silent", "renew", "renew"])
        if session.calm and len(self._sides) == 1:
            self._time = _END
            return active
        if what == "renew" and len(self._sides) > 1:
            return self._replace(active, moment, None)
        if what == "silent":
            # the exchange sends nothing any more, and that is noticed later
            last = self._last_of(active, moment)
            noticed = moment + chance.randint(1_000_000, SECOND)
            if noticed >= _END or (kill is not None and kill[0] <= noticed):
                noticed = moment
            session._event(noticed, EventKind.SILENT, active, since=last + OFFSET, quiet_s=1)
            if len(self._sides) > 1 and noticed > moment:
                return self._replace(active, noticed, last, stopped=moment)
            self._lost_since = min(self._end(active, moment), last)
            moment = noticed
        else:
            end = moment - chance.randint(0, SECOND // 2)
            self._lost_since = self._end(active, max(end, self._opened_at[active]))
        session._event(moment, EventKind.DISCONNECT, active, message="it broke", received_bytes=1, discarded_bytes=0)
        self._time = moment
        return None

    def _last_of(self, side: int, moment: int) -> int:
        """When the last row of an open side came, before a moment."""
        last = self._opened_at[side]
        last = max([last, *(at for at, _ in self._answers.get(side, []) if at < moment)])
        for topic, since in self._open[side].items():
            times = [
                each.time for each in self._session._sent[topic] if since <= each.time < moment and not each.removed
            ]
            last = max(last, times[-1] if times else 0)
        return last

    def _replace(self, active: int, moment: int, silent: int | None, stopped: int | None = None) -> int | None:
        """Another side takes the place of the active one."""
        session, chance = self._session, self._chance
        other = next(side for side in self._sides if side != active)
        kill = self._next_kill()
        over = moment + chance.randint(1_000_000, 2 * SECOND)
        if over >= _END or (kill is not None and kill[0] <= over):
            self._time = moment
            return active if silent is None else self._break(active, moment, silent, stopped)
        self._open_side(other, moment)
        if silent is None and not session.calm and chance.random() < 0.2:
            # the old one breaks before it is replaced, or the new one does
            first = chance.randint(moment, over)
            self._lost_since = last = self._end(active, first)
            session._event(first, EventKind.DISCONNECT, active, message="it broke", received_bytes=1)
            self._lost_since = None
            if moment <= last:
                session._event(over, EventKind.REPLACED, other, **self._replaced(active, other, moment, last))
            else:
                self._tell_lost(active, last, moment, "not connected", told=over)
        else:
            if silent is not None:
                proved = chance.randint(moment, over)
                self._tell_lost(active, silent, proved, "silent", told=over)
            last = self._end(active, over if stopped is None else stopped)
            session._event(over, EventKind.CLOSE, active, code=1000, reason="", by="wsrec")
            session._event(over, EventKind.DISCONNECT, active, message="", received_bytes=1, discarded_bytes=0)
            session._event(over, EventKind.REPLACED, other, **self._replaced(active, other, moment, max(last, moment)))
        self._last_side = other
        self._time = over + 1
        return other

    def _break(self, active: int, moment: int, silent: int, stopped: int | None) -> None:
        self._lost_since = min(self._end(active, stopped or moment), silent)
        self._session._event(moment, EventKind.DISCONNECT, active, message="silent", received_bytes=1)

    def _replaced(self, old: int, new: int, since: int, until: int) -> dict[str, Any]:
        moments = {"monotonic_from": since, "monotonic_to": until}
        return {"from_conn": old, "to_conn": new, "reason": "renewed", "proved": True, **moments}

    def _tell_lost(self, side: int, since: int, until: int, reason: str, told: int | None = None) -> None:
        detail = {"monotonic_from": since, "monotonic_to": until, "reason": reason}
        self._session._event(until if told is None else told, EventKind.LOST_INTERVAL, side, **detail)

    def _die(self, kill: tuple[int, int, int]) -> None:
        """The receiver is killed; the next one takes over."""
        killed, handed_off, again = kill
        for side in list(self._open):
            last = self._end(side, max(handed_off, self._opened_at[side]))
            self._lost_since = max(self._lost_since or 0, last) if side == self._last_side else self._lost_since
        if self._lost_since is None:
            self._lost_since = BOOT
        for side in sorted(self._ever):
            self._session._event(
                again, EventKind.DISCONNECT, side, message="the receiver was killed", received_bytes=None
            )
        self._time = max(again, killed)


def parts(topics: list[str]) -> list[list[str]]:
    """The topics of each request."""
    return [topics[start : start + 3] for start in range(0, len(topics), 3)]


def subscription(line: int, number: int, topics: Iterable[str]) -> Subscription:
    """A request."""
    asked = list(topics)
    text = json.dumps({"topics": asked, "id": 10 * line + number + 1})
    return Subscription(text=text, topics=tuple(asked))


def _key(payload: bytes) -> tuple[str, int]:
    said = json.loads(payload)
    return (f"{said['c']}.{said['s']}", said["t"]) if "c" in said else ("", 0)


def false_claims(session: Session, found: Verification) -> list[str]:
    """What a verification says of a session's intervals that is not so."""
    claims = []
    missed = session.missed
    (capture,) = found.captures
    for stream in (stream for each in capture.sessions for stream in each.streams):
        for lost in missed.get(f"{stream.channel}.{stream.symbol}", []):
            for interval in stream.intervals:
                proved = interval.state is State.PROVED
                # where nothing confirms subscriptions, silence claims nothing
                claims_all = interval.state is State.UNBROKEN or (interval.state is State.SILENT and session.acks)
                good = proved or (not lost.removed and claims_all)
                if good and interval.start < lost.time < interval.end:
                    claims.append(
                        f"{stream.channel}.{stream.symbol} on connection {stream.conn}: a message of {lost.time} was "
                        f"missed{' (removed)' if lost.removed else ''} and {interval} is called {interval.state}"
                    )
    return claims
