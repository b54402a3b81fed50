"""Stale streams: those without a message for longer than their channel's `idle_timeout`, and when they resume.

A stream whose channel has no `idle_timeout` is reported once if it has no message at all for a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.arrays import where_set
from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, Setup, Signal
from wsrec.monitor.streams import NEVER, Names
from wsrec.ring.events import EventKind

_NEVER_DUE = int(np.iinfo(np.int64).max)


class LivenessCheck(Check):
    """Reports streams that begin, become stale and resume."""

    kinds = frozenset({EventKind.STALE, EventKind.STREAM_RESUMED})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._table = setup.streams
        self._expected = self._table.idle_timeouts > 0
        self._stale = np.zeros(len(self._table.streams), np.bool_)
        # no stream becomes stale before this time
        self._due = 0

    def rows(self, rows: RowBatch) -> Iterable[Finding]:
        """Take messages: streams begin, resume, or were stale between two of them."""
        table = self._table
        if not len(table.numbers):
            return ()
        found = list(self._begin(table.begun, int(rows.stage[0])))
        if int(rows.stage[-1]) >= self._due or self._stale[table.numbers].any():
            found += self._between(rows)
        return found

    def follow(self, rows: pa.RecordBatch) -> None:
        """Continue after messages that were checked before (`FeedMonitor.follow`)."""
        names = Names(rows.column("channel"), rows.column("symbol"))
        self._table.follow(rows.column("conn").to_numpy(), names, rows.column("handoff_monotonic").to_numpy())

    def follow_event(self, event: MonitorEvent) -> None:
        """Continue after an event among those messages, which were passed to `follow` before."""
        if event.conn is None:
            return
        if event.kind is EventKind.ACK:
            self._table.follow_confirmation(event.conn, event.topics, event.time)
            return
        number = self._table.number(event.conn, event.detail.get("channel"), event.detail.get("symbol"))
        if event.kind is EventKind.STALE and number is not None:
            # not stale any more if it has had a message since
            self._stale[number] = self._table.last_at[number] <= event.time

    def _between(self, rows: RowBatch) -> Iterator[Finding]:
        """The streams that were stale between a message and the one before it."""
        table = self._table
        order = np.argsort(table.numbers, kind="stable")
        of, at = table.numbers[order], table.rows[order]
        when = rows.stage[at]
        firsts = np.concatenate(([True], of[1:] != of[:-1]))
        since = np.concatenate(([NEVER], when[:-1]))
        heard = np.ones(len(of), np.bool_)
        first = of[firsts]
        heard[firsts] = table.last_before[first] != NEVER
        since[firsts] = np.where(heard[firsts], table.last_before[first], table.confirmed_at[first])
        resumes = np.zeros(len(of), np.bool_)
        resumes[firsts] = self._stale[first]
        due = ~resumes & (since != NEVER) & (when - since >= table.idle_limits[of]) & (self._expected[of] | ~heard)
        self._stale[of[resumes]] = False
        for place in where_set(resumes | due).tolist():
            number, before, row = int(of[place]), int(since[place]), int(at[place])
            if due[place]:
                yield self._becomes_stale(number, before, ever=bool(heard[place]))
            time = int(when[place])
            detail = {"monotonic_since": before, "duration_ns": time - before}
            yield self._finding(EventKind.STREAM_RESUMED, number, time, detail, rows.first + row)
            self._due = 0

    def advance(self, time: int) -> Iterable[Finding]:
        """Report the streams that have become stale."""
        if time < self._due:
            return ()
        table = self._table
        heard, since = table.last_at != NEVER, table.quiet_since
        watched = (since != NEVER) & ~self._stale & (self._expected | ~heard)
        deadlines = np.where(watched, since + table.idle_limits, _NEVER_DUE)
        due = deadlines <= time
        self._stale |= due
        self._due = int(deadlines[~due].min(initial=_NEVER_DUE))
        return [self._becomes_stale(n, int(since[n]), ever=bool(heard[n])) for n in where_set(due).tolist()]

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """Requests that nothing confirms make their streams begin; streams end with their connection."""
        if event.conn is None:
            return ()
        if event.kind is EventKind.SUBSCRIBE:
            by_url = self.setup.requests.by_url(event.conn)
            topics = [topic for topic in event.topics if topic in by_url or not self.setup.acks.checks]
            return self._begin(self._table.confirm(event.conn, topics, event.time), event.time)
        if event.kind is EventKind.DISCONNECT:
            self._stale[self._table.conns == event.conn] = False
            self._table.end(event.conn)
        return ()

    def found(self, finding: Finding) -> Iterable[Finding]:
        """Streams begin when the exchange confirms them."""
        if finding.kind is not EventKind.ACK or finding.conn is None:
            return ()
        begun = self._table.confirm(finding.conn, finding.detail["topics"], finding.time)
        return self._begin(begun, finding.time)

    def _begin(self, numbers: Iterable[int], time: int) -> Iterator[Finding]:
        for number in numbers:
            # it has a deadline of its own
            self._due = 0
            yield self._finding(Signal.BEGUN, number, time, {})

    def _becomes_stale(self, number: int, since: int, *, ever: bool) -> Finding:
        limit = int(self._table.idle_limits[number])
        topic = self._table.streams[number].topic.topic
        detail = {"monotonic_since": since, "idle_s": limit / 1e9, "ever": ever, "topic": topic}
        return self._finding(EventKind.STALE, number, since + limit, detail)

    def _finding(
        self, kind: EventKind | Signal, number: int, time: int, detail: dict[str, Any], row: int | None = None
    ) -> Finding:
        conn, topic = self._table.streams[number]
        return Finding(
            kind=kind,
            time=time,
            conn=conn,
            channel=topic.channel,
            symbol=topic.symbol,
            detail=detail,
            row=row,
            stream=number,
        )
