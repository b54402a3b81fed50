"""Random sessions: what becomes of a recorder's connections, receivers and clock while an exchange sends.

A session is simulated from outside, event by event as a receiver reports them: connections that open, break, fall
silent and are replaced, receivers that are killed once or several times before anything is open again, subscriptions
that are refused or never answered, and a clock that is set at any moment. What comes out are slots, as a receiver puts
them into the rings; `recording` makes files of them.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.verify.world import BOOT, END, HOUR, SECOND, Clock, Exchange, Sent, parts
from wsrec.plan.requests import RequestedTopic, SubscriptionRequest
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag

# by how much the clock is set
_STEPS = (2_000_000, SECOND, 30 * SECOND, 1_200 * SECOND, HOUR, 7 * HOUR)


class Slot(NamedTuple):
    """A row or an event on its way."""

    time: int
    order: int
    conn: int
    flags: int
    payload: bytes
    request: int = 0


class Kill(NamedTuple):
    """When a receiver is killed, up to when it has handed off, and when the next one begins."""

    killed: int
    handed_off: int
    again: int


class Session:
    """One simulated session.

    Args:
        chance: where its dice come from.
        name: its id.
        ahead: how far UTC is ahead of the true time line when it begins (ns).

    Attributes:
        exchange: what was sent.
        clock: UTC as the recorder's machine showed it.
        topics: what each line asks for.
        slots: what the receivers handed off, in order; after `play`.
        delivered: the messages among them, by topic and time.
        calm: whether nothing happens to it: then it must be found whole.
        acks: whether the exchange confirms subscriptions.
        killed: when everything was killed at once; None where it ended in order.

    """

    def __init__(self, chance: random.Random, name: str, ahead: int) -> None:
        self._chance = chance
        self.name = name
        self.acks = chance.random() < 0.8
        self.calm = chance.random() < 0.25
        self.two_sided = chance.random() < 0.5
        self.lines = chance.choice([1, 1, 2])
        self.feeds = self.lines if chance.random() < 0.3 else 1
        self.killed = None if self.calm or chance.random() > 0.2 else chance.randint(BOOT + SECOND, END)
        self.clock = Clock(ahead)
        self.exchange = Exchange(chance, calm=self.calm, counts=chance.random() < 0.2)
        self.topics = {line: self.exchange.open("ABCD"[2 * line : 2 * line + 2]) for line in range(self.lines)}
        self.kills = self._plan_kills()
        self.slots: list[Slot] = []
        self.delivered: set[tuple[str, int]] = set()
        # when a line was without a connection
        self.down: list[tuple[int, int]] = [(kill.handed_off, kill.again) for kill in self.kills]
        self._order = 0
        self._reported: list[tuple[int, int, EventKind, int | None, dict[str, Any]]] = []

    def feed_of(self, line: int) -> int:
        """The number of a line's feed."""
        return line if self.feeds > 1 else 0

    def _plan_kills(self) -> list[Kill]:
        kills = []
        time = BOOT
        for _ in range(0 if self.calm else self._chance.choice([0, 0, 0, 1, 1, 2, 3, 4])):
            time += self._chance.choice([self._chance.randint(1, SECOND // 2), self._chance.randint(1, 4 * SECOND)])
            again = time + self._chance.randint(1_000_000, SECOND)
            kills.append(Kill(time, time - self._chance.randint(0, SECOND // 10), again))
            time = again
        return [kill for kill in kills if kill.again < END]

    def play(self) -> None:
        """Let it happen."""
        for kill in self.kills:
            self.event(kill.again - 1, EventKind.RESTART, process="receiver", how="was killed", restarts=1)
        for line in range(self.lines):
            _Line(self, self._chance, line).run()
        self._set_clock()
        self._compare_clocks()
        for time, order, kind, conn, detail in self._reported:
            if "since" in detail:
                detail["since"] = self.clock.utc(detail["since"])
            payload = Event(kind, conn, detail=detail).encode()
            self.slots.append(Slot(time, order, conn or 0, int(Flag.EVENT | Flag.FIN), payload))
        self.slots.sort()
        if self.killed is not None:
            self.slots = [each for each in self.slots if each.time <= self.killed]
            self.clock.anchors = [each for each in self.clock.anchors if each <= self.killed]

    # the clock

    def _set_clock(self) -> None:
        chance = self._chance
        steps = {}
        for _ in range(chance.choice([0, 0, 1, 1, 2, 4])):
            start, end = chance.choice(self.down) if self.down and chance.random() < 0.5 else (BOOT, END)
            time = chance.choice([start, end, chance.randint(min(start, end), end)])
            steps[max(time, BOOT + 1)] = chance.choice([-1, 1]) * chance.choice(_STEPS)
        if len(steps) > 1 and chance.random() < 0.5:
            # there and back
            *_, before, last = sorted(steps)
            steps[last] = -steps[before]
        self.clock.steps = sorted(steps.items())

    def _compare_clocks(self) -> None:
        """What each receiver says of the clock: as it begins, now and then, and where it finds it set."""
        every = self._chance.choice([SECOND // 10, SECOND // 2])
        starts = [BOOT, *(kill.again for kill in self.kills)]
        ends = [*(kill.handed_off for kill in self.kills), END]
        for begin, end in zip(starts, ends, strict=True):
            before: int | None = None
            for time in range(begin, max(end, begin + 1), every):
                now = self.clock.utc(time)
                stepped = 0 if before is None else now - time - before
                before = now - time
                clocks = {"monotonic": time, "realtime": now, "clock": "TSC", "drift_ns": 0, "step_ns": stepped}
                self.event(time, EventKind.ANCHOR, width_ns=50, **clocks)
                self.clock.anchors.append(time)
                if stepped:
                    self.event(time, EventKind.CLOCK_STEP, step_ns=stepped)

    # what a receiver hands off

    def event(self, time: int, kind: EventKind, conn: int | None = None, **detail: Any) -> None:
        """It reports an event; `since` is a moment, reported in UTC."""
        self._order += 1
        self._reported.append((time, self._order, kind, conn, detail))

    def put(self, time: int, conn: int, flags: int, payload: bytes, request: int = 0) -> None:
        """A frame; of one that is sent the number of its request."""
        self._order += 1
        self.slots.append(Slot(time, self._order, conn, int(flags), payload, request))

    def deliver(self, conn: int, since: dict[str, int], moment: int) -> int:
        """What the exchange sent up to a moment, of each topic from its time on, is handed off; when the last was."""
        sent = [each for topic, start in since.items() for each in self.sent(topic, start, moment)]
        sent.sort(key=lambda each: each.time)
        last = 0
        for each in self.exchange.number(sent):
            if not each.removed:
                self.put(each.time, conn, Flag.FIN | Flag.LAST, each.payload)
                self.delivered.add((f"{each.body['c']}.{each.body['s']}", each.time))
                last = each.time
        return last

    def sent(self, topic: str, start: int, stop: int) -> list[Sent]:
        """The messages of a topic between two moments."""
        sent = self.exchange.sent[topic]
        first, end = (bisect_left(sent, moment, key=lambda each: each.time) for moment in (start, stop))
        return sent[first:end]


class _Line:
    """One connection, or two that take turns, from the session's start to its end."""

    def __init__(self, session: Session, chance: random.Random, line: int) -> None:
        self._session, self._chance = session, chance
        self._line = line
        self._topics = session.topics[line]
        self._kills = list(session.kills)
        self._sides = [2 * line, 2 * line + 1] if session.two_sided else [2 * line]
        # by side: when it was opened, since when the exchange sends each topic on it, and the answers to come;
        # nothing where it is closed
        self._opened_at: dict[int, int] = {}
        self._open: dict[int, dict[str, int]] = {}
        self._answers: dict[int, list[tuple[int, bytes]]] = {}
        self._ever: set[int] = set()
        self._lost_since: int | None = None
        self._last_side = self._sides[0]
        self._time = BOOT + 1

    def run(self) -> None:
        active: int | None = None
        while self._time < END:
            active = self._connect() if active is None else self._keep(active)
        if active is not None:
            self._end(active, END)
            self._session.event(END, EventKind.CLOSE, active, code=1000, reason="", by="wsrec")
        if self._lost_since is not None:
            self._report_lost(self._last_side, self._lost_since, END, "not connected before the session's end")

    def _next_kill(self) -> Kill | None:
        while self._kills and self._kills[0].again <= self._time:
            self._kills.pop(0)
        return self._kills[0] if self._kills else None

    def _connect(self) -> int | None:
        """Try to open a connection."""
        moment = self._time + self._chance.randint(1_000_000, self._chance.choice([SECOND // 5, 2 * SECOND]))
        kill = self._next_kill()
        if kill is not None and kill.killed <= moment:
            self._die(kill)
            return None
        if moment >= END:
            self._time = END
            return None
        session = self._session
        side = self._last_side if self._chance.random() < 0.8 else self._chance.choice(self._sides)
        if not session.calm and self._chance.random() < 0.2:
            self._lost_since = BOOT if self._lost_since is None else self._lost_since
            session.event(moment, EventKind.CONNECT_FAILED, side, cause="refused", attempt=1)
            self._time = moment
            return None
        self._open_side(side, moment)
        since, self._lost_since = self._lost_since, None
        if since is not None:
            self._report_lost(self._last_side, since, moment, "not connected")
        self._last_side = side
        self._time = moment + 1
        return side

    def _open_side(self, side: int, moment: int) -> None:
        session, chance = self._session, self._chance
        session.event(moment, EventKind.CONNECT, side, url="wss://h/s", attempt=1)
        self._ever.add(side)
        self._opened_at[side] = moment
        since = self._open[side] = {}
        answers = self._answers[side] = []
        kill = self._next_kill()
        until = END if kill is None else kill.handed_off
        asked = moment
        for number, part in enumerate(parts(self._topics)):
            asked += chance.randint(1_000, 50_000_000)
            if asked >= until:
                break
            request = subscription(self._line, number, part)
            text = request.text
            session.event(asked, EventKind.SUBSCRIBE, side, request=request.number, topics=part)
            session.put(asked, side, Flag.SENT | Flag.FIN, text.encode(), request.number)
            slowest = 1_000_000 if session.calm else chance.choice([1_000_000, 100_000_000, SECOND])
            answered = asked + chance.randint(1_000, slowest)
            dice = 1.0 if session.calm else chance.random()
            if dice < 0.05:
                since.update({} if chance.random() < 0.5 else dict.fromkeys(part, answered))
                continue
            refused = session.acks and dice < 0.1
            stated = {"id": json.loads(text)["id"], **({"error": 7, "message": "no such topic"} if refused else {})}
            if session.acks:
                answers.append((answered, json.dumps(stated).encode()))
            if not refused:
                since.update(dict.fromkeys(part, answered))

    def _end(self, side: int, moment: int) -> int:
        """A connection brought everything up to a moment; when the last of it came."""
        last = self._opened_at[side]
        for answered, payload in self._answers.pop(side):
            if answered < moment:
                self._session.put(answered, side, Flag.FIN | Flag.LAST, payload)
                last = max(last, answered)
        return max(last, self._session.deliver(side, self._open.pop(side), moment))

    def _keep(self, active: int) -> int | None:
        """Go on until something happens to the open connection."""
        chance, session = self._chance, self._session
        moment = self._time + chance.randint(1_000_000, chance.choice([SECOND, 12 * SECOND]))
        kill = self._next_kill()
        if kill is not None and kill.killed <= moment:
            self._die(kill)
            return None
        if moment >= END or (session.calm and len(self._sides) == 1):
            self._time = END
            return active
        what = "renew" if session.calm else chance.choice(["drop", "drop", "silent", "renew", "renew"])
        if what == "renew" and len(self._sides) > 1:
            return self._replace(active, moment, None)
        if what == "silent":
            # the exchange sends nothing any more, and that is noticed later
            last = self._last_of(active, moment)
            noticed = moment + chance.randint(1_000_000, SECOND)
            if noticed >= END or (kill is not None and kill.killed <= noticed):
                noticed = moment
            session.event(noticed, EventKind.STALE, active, since=last, idle_s=1)
            if len(self._sides) > 1 and noticed > moment:
                return self._replace(active, noticed, last, stopped=moment)
            self._lost_since = min(self._end(active, moment), last)
            moment = noticed
        else:
            end = moment - chance.randint(0, SECOND // 2)
            self._lost_since = self._end(active, max(end, self._opened_at[active]))
        session.event(moment, EventKind.DISCONNECT, active, message="it broke", received_bytes=1, discarded_bytes=0)
        self._time = moment
        return None

    def _last_of(self, side: int, moment: int) -> int:
        """When the last row of an open side came, before a moment."""
        came = [at for at, _ in self._answers[side] if at < moment]
        for topic, since in self._open[side].items():
            came += [each.time for each in self._session.sent(topic, since, moment) if not each.removed]
        return max(came, default=self._opened_at[side])

    def _replace(self, active: int, moment: int, silent: int | None, stopped: int | None = None) -> int | None:
        """Another side takes the place of the active one."""
        session, chance = self._session, self._chance
        other = next(side for side in self._sides if side != active)
        kill = self._next_kill()
        # where nothing happens it is replaced when all is confirmed, or had time to begin
        over = moment + chance.randint(SECOND * 5 // 4 if session.calm else 1_000_000, 2 * SECOND)
        if over >= END or (kill is not None and kill.killed <= over):
            self._time = moment
            return active if silent is None else self._break(active, moment, silent, stopped)
        self._open_side(other, moment)
        if silent is None and not session.calm and chance.random() < 0.2:
            # the old one breaks before it is replaced
            first = chance.randint(moment, over)
            last = self._end(active, first)
            session.event(first, EventKind.DISCONNECT, active, message="it broke", received_bytes=1)
            if moment <= last:
                self._report_replaced(active, other, moment, last, reported=over)
            else:
                self._report_lost(active, last, moment, "not connected", reported=over)
        else:
            if silent is not None:
                proved = chance.randint(moment, over)
                self._report_lost(active, silent, proved, "silent", reported=over)
            last = self._end(active, over if stopped is None else stopped)
            session.event(over, EventKind.CLOSE, active, code=1000, reason="", by="wsrec")
            session.event(over, EventKind.DISCONNECT, active, message="", received_bytes=1, discarded_bytes=0)
            self._report_replaced(active, other, moment, max(last, moment), reported=over)
        self._last_side = other
        self._time = over + 1
        return other

    def _break(self, active: int, moment: int, silent: int, stopped: int | None) -> None:
        self._lost_since = min(self._end(active, stopped or moment), silent)
        self._session.event(moment, EventKind.DISCONNECT, active, message="silent", received_bytes=1)

    def _report_replaced(self, old: int, new: int, since: int, until: int, reported: int) -> None:
        moments = {"monotonic_from": since, "monotonic_to": until}
        detail = {"from_conn": old, "to_conn": new, "reason": "renewed", "proved": True, **moments}
        self._session.event(reported, EventKind.REPLACED, new, **detail)

    def _report_lost(self, side: int, since: int, until: int, reason: str, reported: int | None = None) -> None:
        detail = {"monotonic_from": since, "monotonic_to": until, "reason": reason}
        self._session.event(until if reported is None else reported, EventKind.LOST_INTERVAL, side, **detail)
        self._session.down.append((since, until))

    def _die(self, kill: Kill) -> None:
        """The receiver is killed; the next one takes over."""
        for side in list(self._open):
            last = self._end(side, max(kill.handed_off, self._opened_at[side]))
            self._lost_since = max(self._lost_since or 0, last) if side == self._last_side else self._lost_since
        if self._lost_since is None:
            self._lost_since = BOOT
        for side in sorted(self._ever):
            gone = {"message": "the receiver was killed", "received_bytes": None}
            self._session.event(kill.again, EventKind.DISCONNECT, side, **gone)
        self._time = max(kill.again, kill.killed)


def subscription(line: int, number: int, topics: Iterable[str]) -> SubscriptionRequest:
    """A request."""
    asked = list(topics)
    text = json.dumps({"topics": asked, "id": 10 * line + number + 1})
    split = [name.partition(".") for name in asked]
    requested = tuple(
        RequestedTopic(topic=name, channel=channel, symbol=symbol)
        for name, (channel, _, symbol) in zip(asked, split, strict=True)
    )
    return SubscriptionRequest(number=number + 1, text=text, topics=requested)
