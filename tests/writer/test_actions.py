"""wsrec.writer.actions: what a writer that goes on for another asks for, and what it does not ask for again."""

from __future__ import annotations

import pytest

from wsrec.ipc import Renew, Resubscribe
from wsrec.ring.events import Event, EventKind
from wsrec.writer.actions import Wishes
from wsrec.writer.snapshots import SnapshotRequest


def snapshot(symbol: str, stream: int = 0, conn: int = 0) -> SnapshotRequest:
    return SnapshotRequest("f", conn, stream, "book", symbol, "https://h/", 1.0, "the subscription began", "https://h/")


def fetched(symbol: str, kind: EventKind = EventKind.SNAPSHOT, conn: int = 0) -> Event:
    return Event(kind, conn, detail={"channel": "book", "symbol": symbol})


@pytest.fixture
def asked():
    return []


@pytest.fixture
def wishes(asked):
    return Wishes(asked.append)


def test_a_wish_is_passed_on_at_once(wishes, asked):
    wishes.ask(Renew(0, "a gap"))
    assert asked == [Renew(0, "a gap")]


def test_what_was_done_is_not_asked_for_again(wishes, asked):
    wishes.hold()
    wishes.ask(snapshot("A", 0))
    wishes.ask(snapshot("B", 1))
    wishes.ask(Renew(1, "a gap"))
    wishes.ask(Resubscribe(2, ("t",), "silent"))
    wishes.ask(snapshot("A", 0, conn=3))
    assert asked == []
    wishes.happened(fetched("A"))
    wishes.happened(Event(EventKind.DISCONNECT, 1))
    wishes.happened(Event(EventKind.SUBSCRIBE, 2, detail={"topics": ["t", "u"], "reason": "silent"}))
    wishes.happened(fetched("A", EventKind.SNAPSHOT_FAILED, conn=3))
    wishes.release()
    assert asked == [snapshot("B", 1), snapshot("A", 0, conn=3)]


def test_what_was_wanted_time_and_again_is_asked_for_once(wishes, asked):
    wishes.hold()
    for reason in ("a gap", "another"):
        wishes.ask(Renew(0, reason))
        wishes.ask(snapshot("A"))
    wishes.release()
    assert asked == [Renew(0, "another"), snapshot("A")]
    wishes.ask(Renew(0, "a third"))
    assert len(asked) == 3


def test_what_ends_with_its_connection_is_no_longer_wanted(wishes, asked):
    wishes.hold()
    wishes.ask(snapshot("A"))
    wishes.happened(Event(EventKind.DISCONNECT, 0))
    wishes.release()
    assert asked == []
