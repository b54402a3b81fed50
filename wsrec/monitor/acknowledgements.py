"""Acknowledgement check: subscriptions confirmed, refused or never answered, and the topics that a refusal concerns."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

import numpy as np

from wsrec.arrays import codes, where_set
from wsrec.monitor.acks import AckOutcome
from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, Setup, Signal
from wsrec.monitor.division import Division, Order
from wsrec.ring.events import EventKind

_SHOWN = 100


class AckCheck(Check):
    """Matches answers to requests, and has refused requests divided (`wsrec.monitor.division`)."""

    kinds = frozenset({EventKind.ACK, EventKind.REFUSED, EventKind.SPLIT, EventKind.UNANSWERED})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._acks = setup.acks
        self._division = Division(self._names_of)
        # by connection: the words of the last refusal that named neither a request nor a topic
        self._unattributed: dict[int, str] = {}

    def rows(self, rows: RowBatch) -> Iterator[Finding]:
        """Take requests that were sent, and their answers."""
        if not self._acks.checks:
            return
        if rows.snapshots:
            # a snapshot is a batch of its own
            return
        wanted = rows.carries
        channel = rows.fields.channel
        if not (self._acks.reads_data and (self._acks.waiting or not rows.received.all())):
            known = channel.dictionary.to_pylist()
            others = np.array([not self._acks.is_data(name) for name in [*known, None]])
            wanted = wanted & others[codes(channel, len(known))]
        for row in where_set(wanted).tolist():
            conn, time = int(rows.conns[row]), int(rows.stage[row])
            if not rows.received[row]:
                yield from self.advance(time)
                number = int(rows.requests[row]) or None
                topics = () if number is None else self.setup.requests.requested(conn, number)
                self._acks.sent(conn, rows.payload[row].as_py().decode(), topics, time, number)
            elif conn in self._acks.waiting or not self._acks.is_data(channel[row].as_py()):
                yield from self.advance(time)
                for outcome in self._acks.received(conn, rows.payload[row].as_py(), time):
                    yield from self._outcome(outcome, time, rows.first + row)

    def _outcome(self, outcome: AckOutcome, time: int, row: int) -> Iterator[Finding]:
        """Findings of an outcome; a request that is divided is not reported as refused."""
        if outcome.kind == "ack":
            self._division.accepted(outcome.conn, outcome.topics)
        elif not outcome.topics:
            self._unattributed[outcome.conn] = outcome.message or ""
        elif not outcome.listed:
            divided = yield from self._divide(outcome, time, row)
            if divided:
                return
        yield self._finding(outcome, time, row)

    def _finding(self, outcome: AckOutcome, time: int, row: int | None = None) -> Finding:
        return Finding(kind=EventKind(outcome.kind), time=time, conn=outcome.conn, detail=_detail(outcome), row=row)

    def advance(self, time: int) -> Iterator[Finding]:
        """Report unanswered requests, and those that are due after a pause."""
        while (deadline := self._acks.next_deadline) is not None and deadline <= time:
            for outcome in self._acks.expired(deadline):
                # a refusal that named nothing belongs to a request without an answer of its own
                words = self._unattributed.get(outcome.conn)
                if words is not None:
                    divided = yield from self._divide(outcome._replace(message=words), deadline)
                    if divided:
                        continue
                self._division.unanswered(outcome.conn, outcome.topics)
                yield self._finding(outcome, deadline)
        if self._division.waits:
            for order in self._division.due(time):
                yield _resubscribe(order, time, "repeated after a pause, because it was refused")

    def _divide(self, outcome: AckOutcome, time: int, row: int | None = None) -> Generator[Finding, None, bool]:
        """Have the topics of a refused request requested in parts; returns whether they are."""
        conn, topics = outcome.conn, outcome.topics
        if any(self.setup.planned(conn, topic) is None for topic in topics):
            return False
        words = outcome.message or "without a reason"
        disputed = set(self._division.disputed(conn))
        order = self._division.refused(conn, topics, words, time)
        if order is None:
            if disputed.issuperset(topics):
                yield _resubscribe(Order(conn, topics, ()), time, "refused")
            return False
        detail = {**_detail(outcome._replace(message=words)), "parts": order.parts}
        yield Finding(kind=EventKind.SPLIT, time=time, conn=conn, detail=detail, row=row)
        if order.parts:
            yield _resubscribe(order, time, f"refused together: {words[:_SHOWN]}")
        return True

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """Requests end with their connection, and with the rows that were lost."""
        conn = event.conn
        if event.kind is EventKind.SESSION_END:
            return [each for one in self.setup.conns for each in self._give_up(one, event.time, "the session's end")]
        if event.kind is EventKind.LOST_INTERVAL and event.detail.get("slots"):
            # the answers may be among the lost rows
            self._acks.forget()
        elif event.kind is EventKind.DISCONNECT and conn is not None:
            left = list(self._give_up(conn, event.time, "the connection was closed")) if event.in_order else []
            self._acks.disconnected(conn)
            self._division.disconnected(conn)
            self._unattributed.pop(conn, None)
            return left
        return ()

    def _give_up(self, conn: int, time: int, end: str) -> Iterator[Finding]:
        """Report topics as refused that were refused with others, and neither confirmed nor refused alone since."""
        waiting = self._acks.open(conn)
        by_words: dict[str, list[str]] = {}
        for topic, words in self._division.disputed(conn).items():
            if topic not in waiting:
                by_words.setdefault(words, []).append(topic)
        for words, topics in by_words.items():
            message = f"{words} (refused together with others, not settled before {end})"
            yield Finding(
                kind=EventKind.REFUSED, time=time, conn=conn, detail={"topics": tuple(topics), "message": message}
            )

    def _names_of(self, conn: int, topic: str) -> tuple[str, ...]:
        planned = self.setup.planned(conn, topic)
        return (topic,) if planned is None else (topic, planned.requested.ack_key, planned.written)


def _detail(outcome: AckOutcome) -> dict[str, object]:
    detail: dict[str, object] = {"topics": outcome.topics}
    if outcome.request is not None:
        detail["request"] = outcome.request
    if outcome.message is not None:
        detail["message"] = outcome.message
    return detail


def _resubscribe(order: Order, time: int, reason: str) -> Finding:
    detail = {"topics": order.topics, "parts": order.parts, "reason": reason}
    return Finding(kind=Signal.RESUBSCRIBE, time=time, conn=order.conn, detail=detail)
