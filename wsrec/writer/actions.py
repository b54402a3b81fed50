"""Actions on findings: renew connections, request topics again, fetch snapshots.

The checks only report findings (`wsrec.monitor`). This module chooses the action that a feed configures for a finding.
The outcome shows in the receiver's later events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wsrec import ipc
from wsrec.feed.channel import Action, Snapshot
from wsrec.feed.schema import Feed
from wsrec.ipc import Renew, Resubscribe, Settled
from wsrec.monitor.check import Finding, Setup, Signal
from wsrec.plan.requests import SubscriptionRequest, subscription_requests
from wsrec.ring.events import Event, EventKind
from wsrec.writer.cooldown import LEAST_NS, Cooldown
from wsrec.writer.snapshots import SnapshotRequest

WriterAction = Renew | Resubscribe | Settled | SnapshotRequest
Act = Callable[[WriterAction], None]
"""Called with an action to execute."""


class ActionQueue:
    """Passes actions on, or holds them back.

    During recovery a writer sees again what the previous one has seen and acted on. So actions are held back then; at
    the end, those that a later event has settled are dropped, and the rest is passed on.

    Args:
        act: called with the actions due now.

    """

    def __init__(self, act: Act) -> None:
        self._pass_on = act
        self._held: list[WriterAction] | None = None

    def put(self, action: WriterAction) -> None:
        """Add an action."""
        if self._held is None:
            self._pass_on(action)
        else:
            self._held = [*(held for held in self._held if not _same(held, action)), action]

    def hold(self) -> None:
        """Hold back actions from now on."""
        self._held = []

    def happened(self, event: Event) -> None:
        """Process an event of the receiver or of a snapshot, which may settle actions held back."""
        if self._held:
            self._held = [each for each in self._held if each.conn != event.conn or not _followed(each, event)]

    def release(self) -> None:
        """Pass on the actions held back, and from now on each action at once."""
        held, self._held = self._held or (), None
        for action in held:
            self._pass_on(action)


def _same(one: WriterAction, other: WriterAction) -> bool:
    if isinstance(one, SnapshotRequest) and isinstance(other, SnapshotRequest):
        return (one.conn, one.stream) == (other.conn, other.stream)
    if isinstance(one, Renew) and isinstance(other, Renew):
        return one.conn == other.conn
    return one == other


def _followed(action: WriterAction, event: Event) -> bool:
    """Whether an event of its connection shows that the action was executed, or is no longer needed."""
    if event.kind is EventKind.DISCONNECT:
        return True
    if isinstance(action, SnapshotRequest):
        about = event.detail.get("channel"), event.detail.get("symbol")
        return event.kind is EventKind.SNAPSHOT and about == (action.channel, action.symbol)
    if isinstance(action, Resubscribe):
        if event.kind is not EventKind.SUBSCRIBE:
            return False
        if action.parts is not None:
            return event.detail.get("request") in {part.number for part in action.parts}
        return set(action.topics) <= set(event.detail.get("topics", ()))
    return False


class FeedActions:
    """Turns one feed's findings into actions, as its YAML configures.

    Args:
        feed: the feed.
        setup: shared by its checks: its streams and requests.
        act: called with each action.
        snapshots: URL of each channel's snapshot, if it may be secret.
        last_request: highest request number that an earlier writer is known to have used.

    """

    def __init__(self, feed: Feed, setup: Setup, act: Act, snapshots: Mapping[str, str], last_request: int = 0) -> None:
        self._feed, self._setup, self._act, self._snapshots = feed, setup, act, snapshots
        self._last_request = last_request
        self._channels = feed.channel_by_any_name
        self._acts_on_gaps = any(channel.on_gap is not Action.NONE for channel in feed.channels.values())
        self._cooldown = Cooldown()
        self._stale: set[int] = set()

    def take(self, findings: Sequence[Finding]) -> None:
        """Act on findings."""
        for found in findings:
            if found.kind is EventKind.GAP:
                self._after_gap(found)
            elif found.kind is Signal.BEGUN and found.stream is not None:
                self._begin(found.stream)
            elif found.kind is EventKind.STALE and found.stream is not None:
                self._stale.add(found.stream)
            elif found.kind is EventKind.STREAM_RESUMED and found.stream is not None:
                self._stale.discard(found.stream)
            elif found.kind is EventKind.SNAPSHOT_MISSED and found.stream is not None:
                self._fetch_again(found, found.stream)
            elif found.conn is not None:
                self._about_connection(found, found.conn)

    def _about_connection(self, found: Finding, conn: int) -> None:
        if found.kind is Signal.CLOSING:
            self._act(Renew(conn, f"the exchange announced its end: {found.detail['word']}"))
        elif found.kind is Signal.SETTLED:
            self._act(Settled(conn=conn, since=found.detail["since"]))
        elif found.kind is Signal.RESUBSCRIBE:
            self._resubscribe(found, conn)

    def disconnected(self, conn: int) -> None:
        """A connection ended: forget its streams."""
        streams = self._setup.streams.streams
        self._stale = {number for number in self._stale if streams[number].conn != conn}

    def tick(self, now: int) -> None:
        """Act on streams that stay stale; called from time to time (ns on the stage clock)."""
        for number in sorted(self._stale):
            topic = self._setup.streams.streams[number].topic
            channel = self._channels[topic.channel]
            if channel.idle_timeout:
                least = max(LEAST_NS, round(channel.idle_timeout * 1e9))
                self._help(channel.on_stale, number, f"{topic.topic} is silent", now, least)

    def _after_gap(self, found: Finding) -> None:
        gap = found.gap
        for number in self._setup.streams.of(gap.conn, gap.channel, gap.symbol) if gap and self._acts_on_gaps else ():
            topic = self._setup.streams.streams[number].topic
            self._help(self._channels[topic.channel].on_gap, number, f"{topic.topic} has a sequence gap", found.time)

    def _help(self, action: Action, number: int, reason: str, now: int, least: int = LEAST_NS) -> None:
        """Take the configured action for a stream, unless it was just taken."""
        conn, topic = self._setup.streams.streams[number]
        if action is Action.RENEW and self._cooldown.due((action, conn), now, least):
            self._act(Renew(conn=conn, reason=reason))
        elif action is Action.RESUBSCRIBE and self._cooldown.due((action, number), now, least):
            self._act(Resubscribe(conn=conn, topics=(topic.topic,), reason=reason))
        elif action is Action.SNAPSHOT:
            snapshot = self._channels[topic.channel].snapshot
            if snapshot is not None and self._cooldown.due((action, number), now, least):
                self._fetch(snapshot, number, reason)

    def _begin(self, number: int) -> None:
        """The first message of a stream: fetch its initial snapshot, if configured."""
        snapshot = self._snapshot_of(number)
        if snapshot is not None and snapshot.at_start:
            self._fetch(snapshot, number, "the subscription began")

    def _fetch_again(self, found: Finding, number: int) -> None:
        snapshot, wait = self._snapshot_of(number), found.detail["retry_s"]
        if snapshot is not None and wait is not None:
            self._fetch(snapshot, number, f"the last one missed: {found.detail['why']}", wait)

    def _snapshot_of(self, number: int) -> Snapshot | None:
        return self._channels[self._setup.streams.streams[number].topic.channel].snapshot

    def _fetch(self, snapshot: Snapshot, number: int, reason: str, wait: float = 0.0) -> None:
        conn, topic = self._setup.streams.streams[number]
        # a snapshot is of one symbol, but such a topic stands for several
        if topic.symbol is None and "{symbol}" in snapshot.url:
            return
        shown, url = snapshot.filled(topic.symbol), snapshot.filled(topic.symbol, self._snapshots.get(topic.channel))
        self._act(
            SnapshotRequest(
                self._feed.name,
                conn,
                number,
                topic.channel,
                topic.symbol,
                url,
                snapshot.interval,
                reason,
                public_url=shown,
                wait=wait,
            )
        )

    def _resubscribe(self, found: Finding, conn: int) -> None:
        """Request the topics of a refused request separately, with new request numbers."""
        parts: list[SubscriptionRequest] = []
        for topics in found.detail["parts"]:
            planned = [one for topic in topics if (one := self._setup.planned(conn, topic)) is not None]
            # above the plan's numbers, and those that an earlier writer may have used
            self._last_request = max(self._last_request, self._setup.requests.last_number)
            try:
                for request in subscription_requests(planned, first=self._last_request + 1):
                    parts.append(request)
                    self._last_request = request.number
            except ValueError as error:
                # its number has more digits than the one with which it fitted
                ipc.warn(f"{error}, so it is not requested again", feed=self._feed.name, conn=conn)
        self._act(Resubscribe(conn, tuple(found.detail["topics"]), found.detail["reason"], tuple(parts)))
