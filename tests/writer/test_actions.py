"""wsrec.writer.actions: what a writer that goes on for another asks for, and what it does not ask for again."""

from __future__ import annotations

import pytest

from wsrec.ipc import Renew, Resubscribe
from wsrec.ring.events import Event, EventKind
from wsrec.writer.actions import ActionQueue
from wsrec.writer.snapshots import SnapshotRequest


def snapshot(symbol: str, stream: int = 0, conn: int = 0) -> SnapshotRequest:
    return SnapshotRequest("f", conn, stream, "book", symbol, "https://h/", 1.0, "the subscription began", "https://h/")


def fetched(symbol: str, kind: EventKind = EventKind.SNAPSHOT, conn: int = 0) -> Event:
    return Event(kind, conn, detail={"channel": "book", "symbol": symbol})


@pytest.fixture
def requested():
    return []


@pytest.fixture
def queue(requested):
    return ActionQueue(requested.append)


def test_an_action_is_passed_on_at_once(queue, requested):
    queue.put(Renew(0, "a gap"))
    assert requested == [Renew(0, "a gap")]


def test_what_was_done_is_not_requested_again(queue, requested):
    queue.hold()
    queue.put(snapshot("A", 0))
    queue.put(snapshot("B", 1))
    queue.put(Renew(1, "a gap"))
    queue.put(Resubscribe(2, ("t",), "silent"))
    queue.put(snapshot("A", 0, conn=3))
    assert requested == []
    queue.happened(fetched("A"))
    queue.happened(Event(EventKind.DISCONNECT, 1))
    queue.happened(Event(EventKind.SUBSCRIBE, 2, detail={"topics": ["t", "u"], "reason": "silent"}))
    queue.happened(fetched("A", EventKind.SNAPSHOT_FAILED, conn=3))
    queue.release()
    assert requested == [snapshot("B", 1), snapshot("A", 0, conn=3)]


def test_what_was_wanted_time_and_again_is_requested_once(queue, requested):
    queue.hold()
    for reason in ("a gap", "another"):
        queue.put(Renew(0, reason))
        queue.put(snapshot("A"))
    queue.release()
    assert requested == [Renew(0, "another"), snapshot("A")]
    queue.put(Renew(0, "a third"))
    assert len(requested) == 3


def test_what_ends_with_its_connection_is_no_longer_wanted(queue, requested):
    queue.hold()
    queue.put(snapshot("A"))
    queue.happened(Event(EventKind.DISCONNECT, 0))
    queue.release()
    assert requested == []
