"""Streams: the provably complete intervals of each channel and symbol, and the reasons why others are incomplete.

Rows and events are processed in order of time. An epoch of a connection lasts from a `connect` to the next
`disconnect`. Within an epoch TCP delivers everything in order or breaks. So a stream is complete from the confirmation
of its subscription (from its first message if nothing confirms it) to the end of the epoch. Between two such intervals
it is incomplete, even if the next epoch belongs to the standby connection. Any loss makes the time that it overlaps
incomplete, in every epoch. Within a complete interval the feed's sequence rule decides: where the rule would reveal a
loss and the messages were compared, the interval is proved; the rest is unbroken, with the connection as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.monitor.comparison import Link, count
from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind
from wsrec.verify.epochs import Epochs
from wsrec.verify.intervals import Timeline, joined, unbroken, without
from wsrec.verify.model import State, Stream
from wsrec.verify.session_facts import SessionFacts, integer
from wsrec.verify.stream_rows import LISTED, Key, Messages, StreamRows

_PROVING = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS)


class Streams:
    """The streams of one session and feed.

    Args:
        feed: the feed according to the files' metadata; None if no metadata can be read.
        requests: the subscriptions of its connections.
        standby_of: maps each standby connection to the connection that it alternates with.
        whole: whether all of the session's files are read.

    Attributes:
        facts: facts about the session as a whole.
        rows: the messages of its streams.

    """

    def __init__(
        self, feed: Feed | None, requests: RequestTable, standby_of: Mapping[int, int], *, whole: bool = True
    ) -> None:
        self._feed = feed
        self._epochs = Epochs(requests, standby_of)
        self.facts = SessionFacts(whole=whole)
        self.rows = StreamRows(self._epochs, self.facts, has_fields=feed is not None and feed.fields is not None)

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """Process an event (ns on the stage clock), in order of time among rows and events."""
        self.facts.event(time, kind, conn, detail)
        if kind == EventKind.LOST_INTERVAL:
            if integer(detail.get("slots")):
                # the lost events may include a connect or a disconnect
                self.interrupt(str(detail.get("reason") or ""))
        elif kind == EventKind.REPLACED:
            turn = integer(detail.get("from_conn"), -1), integer(detail.get("to_conn"), -1)
            self._epochs.replaced(*turn, integer(detail.get("to")), proved=detail.get("proved") is True)
        elif conn is not None:
            self._epochs.event(time, kind, conn, detail)

    def begin_file(self) -> None:
        """Begin a file. After a writer's death it may come from a new writer, which does not know pending requests."""
        self._epochs.begin_file()

    def interrupt(self, reason: str) -> None:
        """Note that rows or events are missing at this point: no connection is assumed to go on across it."""
        self.facts.torn = True
        self._epochs.interrupt(reason)

    def result(self) -> list[Stream]:
        """All streams, with subscribed ones that had no messages."""
        topics = self._epochs.topics(self._feed)
        timeline = Timeline(self._feed, self._epochs, self.facts, self.rows)
        named: set[tuple[int, str]] = set()
        streams = []
        for key, messages in sorted(self.rows.streams.items(), key=lambda item: tuple(map(_sortable, item[0]))):
            conn, channel, symbol = key
            carry = [t for t in topics.get(conn, ()) if channel in t.channels and t.carries(symbol)]
            topic = carry[0] if carry else None
            # a message may belong to its symbol's own topic and to its family's topic: neither was silent then
            named.update((conn, t.topic) for t in carry if t is topic or t.family)
            streams.append(self._stream(timeline, key, messages, None if topic is None else topic.topic))
        for conn, requested_at in self._epochs.requested.items():
            known = {topic.topic: topic for topic in topics.get(conn, ())}
            for text in requested_at:
                silent = known.get(text)
                if (conn, text) not in named and (silent is not None or not self.rows.streams):
                    channel = silent.name if silent else None
                    key = (conn, channel, silent.symbol if silent else None)
                    streams.append(self._stream(timeline, key, Messages(), text))
        return streams

    def _stream(self, timeline: Timeline, key: Key, messages: Messages, topic: str | None) -> Stream:
        conn, channel, symbol = key
        rule = self._feed.sequence_rule(channel) if self._feed else SequenceRule.NONE
        intervals = list(timeline.of(key, messages, topic))
        if rule not in _PROVING:
            intervals = list(joined(each if each.state is not State.PROVED else unbroken(each) for each in intervals))
        shared = [loss for key in ((conn, None), (conn, channel)) for loss in self.rows.shared_gaps.get(key, ())]
        own = [timeline.behind_rows(loss) for loss in self.facts.losses if loss.conn in (conn, None)]
        lost = [*own, *self.facts.unread, *shared, *self.rows.unjoined.get((conn, channel, symbol), ())]
        for loss in lost:
            intervals = list(without(intervals, loss))
        time = {state: sum(i.end - i.start for i in intervals if i.state is state) for state in State}
        states = {interval.state for interval in intervals}
        compared = count(messages.links.items())
        if State.INCOMPLETE in states or messages.gaps or not intervals:
            state = State.INCOMPLETE
        elif not messages.count and not self.facts.not_inflated[conn]:
            state = State.SILENT
        else:
            # a number that could not be read may be the stream's last
            proved = self._all_proved(messages, rule) and not self.facts.not_inflated[conn]
            state = State.PROVED if proved else State.UNBROKEN
        return Stream(
            conn=conn,
            channel=channel,
            symbol=symbol,
            topic=topic,
            rule=rule.value,
            state=state,
            messages=messages.count,
            not_inflated=self.facts.not_inflated[conn],
            gaps=messages.gaps,
            compared=compared.compared,
            skipped=compared.skipped,
            resets=messages.links[Link.RESET],
            proved=time[State.PROVED],
            unbroken=time[State.UNBROKEN],
            silent=time[State.SILENT],
            incomplete=time[State.INCOMPLETE],
            intervals=intervals[:LISTED],
        )

    @staticmethod
    def _all_proved(messages: Messages, rule: SequenceRule) -> bool:
        """Whether all messages of each epoch were compared with their predecessors, and there is at least one pair."""
        pieces = [piece for span in messages.spans.values() for piece in span.pieces]
        return rule in _PROVING and bool(pieces) and all(piece.state is State.PROVED for piece in pieces)


def _sortable(value: int | str | None) -> tuple[bool, int, str]:
    return (value is not None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")
