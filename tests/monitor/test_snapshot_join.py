"""Snapshots: fetched when a stream begins, and whether they join it."""

from __future__ import annotations

import json

import pytest

from tests.conftest import events_of
from tests.rings import plan, writer_job
from tests.subscriptions import request, requested
from tests.writer.test_pipeline import BOOT, Session
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import Flag
from wsrec.writer.pipeline import Pipeline
from wsrec.writer.snapshots import Fetched, SnapshotRequest

S = 1_000_000_000
FEED = {
    "name": "books",
    "description": "",
    "sockets": {"main": {"url": "ws://x"}},
    "symbols": {"pattern": "[A-Z]+", "words": "letters", "example": "A"},
    "subscribe": {"message": '{"id":{id},"topics":{topics}}', "batch": 9},
    "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "ack": {"id": "id"},
    "fields": {"channel": ["c"], "symbol": ["s"]},
    "channels": {
        "book": {
            "topic": "book.{symbol}",
            "exchange_seq": ["u"],
            "seq_previous": ["pu"],
            "sequence": "previous",
            "on_gap": "snapshot",
            "snapshot": {"url": "https://h/{symbol}", "at_start": True, "exchange_seq": ["lastUpdateId"]},
        }
    },
}
ASK = '{"id":1,"topics":["book.A","book.B"]}'


class Work(Session):
    """A session whose writer's requests for snapshots are answered by the test."""

    def __init__(self, tmp_path, rings) -> None:
        topics = [requested(FEED, "book", symbol) for symbol in "AB"]
        connections = (plan(feed="books", requests=(request(ASK, *topics),)),)
        super().__init__(tmp_path, rings(1, 64 * 4096, 4096), connections, {"books": FEED})
        self.orders: list[SnapshotRequest] = []
        job = writer_job(tmp_path, connections, {"books": FEED})
        self.pipeline = Pipeline(job, self.folder, self.rings.status, act=self.orders.append)

    def book(self, symbol: str, *numbers: int, at: int = 0) -> None:
        for number in numbers:
            self.put(json.dumps({"c": "book", "s": symbol, "u": number, "pu": number - 1}).encode(), at=at)

    def fetched(self, symbol: str, body: object, at: int) -> None:
        """The oldest request for a symbol was answered."""
        request = next(order for order in self.orders if order.symbol == symbol)
        self.orders.remove(request)
        event = Event(EventKind.SNAPSHOT, 0, detail={"channel": request.channel, "symbol": symbol})
        done = Fetched(request, BOOT + at, event, json.dumps(body).encode())
        self.pipeline.take(done.batch(self._drain.next), 1)

    def reported(self, kind: str) -> list[tuple[str, dict]]:
        return [(row["symbol"], row["detail"]) for row in events_of(self.out, kind)]


@pytest.fixture
def work(tmp_path, rings):
    return Work(tmp_path, rings)


class TestFirstSign:
    def test_data_in_the_batch_of_its_confirmation(self, work):
        work.put(ASK.encode(), at=S, flags=Flag.SENT | Flag.FIN)
        work.put(b'{"id":1}', at=S)
        work.book("A", 5, at=S)
        work.take()
        work.book("B", 3, at=2 * S)
        work.book("A", 6, at=2 * S)
        work.take()
        assert sorted(order.symbol for order in work.orders) == ["A", "B"]


class TestJoin:
    def test_one_that_the_stream_goes_on_from(self, work):
        work.book("A", 11, 12, at=S)
        work.take()
        work.fetched("A", {"lastUpdateId": 12}, at=2 * S)
        work.finish()
        assert work.reported("snapshot_joined") == [("A", {"number": 12, "first": 10, "last": 12})]
        assert work.orders == []

    def test_one_ahead_of_what_has_come_waits_for_the_stream(self, work):
        work.book("A", 11, at=S)
        work.take()
        work.fetched("A", {"lastUpdateId": 14}, at=2 * S)
        work.book("A", 12, 13, at=3 * S)
        work.take()
        assert work.orders == []
        work.book("A", 14, 15, at=4 * S)
        work.take()
        work.finish()
        assert work.reported("snapshot_joined") == [("A", {"number": 14, "first": 10, "last": 14})]

    @pytest.mark.parametrize(("body", "why"), [({"lastUpdateId": 9}, "older"), ({"code": -1}, "no number")])
    def test_one_that_misses_is_asked_for_again_with_a_bound(self, work, body, why):
        work.book("A", 11, 12, at=S)
        work.take()
        waits = []
        while work.orders:
            waits.append(work.orders[0].wait)
            work.fetched("A", body, at=2 * S + len(waits))
        work.finish()
        assert waits == [0, 1, 2, 4, 8]
        missed = work.reported("snapshot_missed")
        assert [detail["retry_s"] for _, detail in missed] == [1, 2, 4, 8, None]
        assert all(symbol == "A" and why in detail["why"] for symbol, detail in missed)

    def test_one_that_the_stream_never_reaches(self, work):
        work.book("A", 11, at=S)
        work.take()
        work.fetched("A", {"lastUpdateId": 10**9}, at=2 * S)
        work.book("A", 12, at=20 * S)
        work.take()
        work.finish()
        ((_, detail),) = work.reported("snapshot_missed")
        assert "ahead" in detail["why"]
        assert len(work.orders) == 1

    def test_one_from_before_a_gap_does_not_join_what_is_behind_it(self, work):
        work.book("A", 11, at=S)
        work.take()
        work.fetched("A", {"lastUpdateId": 13}, at=2 * S)
        work.book("A", 12, 17, at=3 * S)
        work.take()
        work.finish()
        ((_, detail),) = work.reported("snapshot_missed")
        assert (detail["number"], detail["first"]) == (13, 16)
        assert work.orders
