"""Stale streams and gaps on the way into the files: the events, and what the writer requests of its receiver."""

from __future__ import annotations

import json
from zlib import crc32

import pytest

from tests.conftest import events_of
from tests.monitor.test_checksum import v2
from tests.rings import plan, writer_job
from tests.subscriptions import request, requested
from tests.venues.mock import feed_keys
from tests.writer.test_pipeline import BOOT, OFFSET, Session
from wsrec.format.moment import Moment
from wsrec.ipc import Renew, Resubscribe
from wsrec.ring.events import EventKind
from wsrec.writer.pipeline import Pipeline

S = 1_000_000_000
FEED = {
    "name": "usdm",
    "description": "",
    "sockets": {"main": {"url": "ws://x"}},
    "symbols": {"pattern": "[A-Z]+", "words": "letters", "example": "A"},
    "subscribe": {"message": "{topics}", "batch": 1},
    "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "fields": {"channel": ["c"], "symbol": ["s"]},
    "channels": {
        "trade": {"topic": "trade.{symbol}", "idle_timeout": 5, "on_stale": "resubscribe"},
        "book": {"topic": "book", "exchange_seq": ["n"], "sequence": "next", "on_gap": "renew"},
    },
}
TOPICS = (requested(FEED, "trade", "A"), requested(FEED, "trade", "B"), requested(FEED, "book"))


@pytest.fixture
def work(rings, tmp_path):
    """A session, and the orders that its writer gives."""
    connections = (plan(feed="usdm", requests=(request("ask", *TOPICS),)),)
    session = Session(tmp_path, rings(1, 64 * 4096, 4096), connections, {"usdm": FEED})
    session.orders = []
    job = writer_job(tmp_path, connections, {"usdm": FEED})
    session.pipeline = Pipeline(job, session.folder, session.rings.status, act=session.orders.append)
    return session


def message(**fields) -> bytes:
    return json.dumps(fields).encode()


def test_a_silent_subscription_is_reported_and_requested_again(work, capsys):
    work.put(message(c="trade", s="B"), at=S)
    for at in range(2, 10):
        work.put(message(c="trade", s="A"), at=at * S)
        work.take()
    work.put(message(c="trade", s="B"), at=10 * S)
    work.take()
    work.finish()
    (silent,) = events_of(work.out, "stale")
    assert (silent["conn"], silent["channel"], silent["symbol"]) == (0, "trade", "B")
    since = {"since": BOOT + OFFSET + S, "monotonic_since": BOOT + S}
    assert silent["detail"] == {**since, "idle_s": 5, "ever": True, "topic": "trade.B"}
    # at its deadline, whenever that was noticed
    assert silent["monotonic"] == BOOT + 6 * S
    (resumed,) = events_of(work.out, "stream_resumed")
    assert (resumed["symbol"], resumed["detail"]["duration_ns"]) == ("B", 9 * S)
    assert work.orders == [Resubscribe(conn=0, topics=("trade.B",), reason="trade.B is silent")]
    assert "no message for 5 s or longer: trade.B" in capsys.readouterr().err


def test_a_book_with_another_checksum_is_requested_again(rings, tmp_path):
    feed = feed_keys("kraken")
    feed["channels"]["book10"]["on_gap"] = "resubscribe"
    connections = (plan(feed="kraken", requests=(request("ask", requested(feed, "book10", "A/B")),)),)
    work = Session(tmp_path, rings(1, 64 * 4096, 4096), connections, {"kraken": feed})
    orders = []
    work.pipeline = Pipeline(
        writer_job(tmp_path, connections, {"kraken": feed}), work.folder, work.rings.status, act=orders.append
    )
    work.put(v2("snapshot", [("1", "1")], [], crc32(b"11")), at=S)
    for number in (2, 3):
        work.put(v2("update", [("2", "1")], [], 7), at=number * S)
    work.take()
    work.finish()
    (gap,) = events_of(work.out, "gap")
    assert (gap["channel"], gap["symbol"]) == ("book", "A/B")
    assert {key: gap["detail"][key] for key in ("what", "rule", "missing", "expected", "found", "seq")} == {
        "what": "missing",
        "rule": "checksum",
        "missing": None,
        "expected": crc32(b"1121"),
        "found": 7,
        "seq": 1,
    }
    assert orders == [Resubscribe(conn=0, topics=("book10:A/B",), reason="book10:A/B has a sequence gap")]


def test_a_gap_renews_the_connection_but_not_time_and_again(work):
    for number in range(0, 20, 2):
        work.put(message(c="book", n=number), at=number * S)
    work.take()
    work.finish()
    assert len(events_of(work.out, "gap")) == 9
    assert work.orders == [Renew(conn=0, reason="book has a sequence gap")]


def test_what_the_url_asks_for_is_watched_too(rings, tmp_path):
    connections = (plan(feed="usdm", requested_by_url=(TOPICS[0],)),)
    feed = {**FEED, "ack": {"id": "id", "timeout": 5}}
    session = Session(tmp_path, rings(1, 64 * 4096, 4096), connections, {"usdm": feed})
    session.pipeline.event(Moment(BOOT + OFFSET, BOOT), EventKind.SUBSCRIBE, conn=0, topics=["trade.A"])
    for at in range(1, 10):
        session.put(b"{}", at=at * S)
        session.take()
    session.finish()
    (silent,) = events_of(session.out, "stale")
    assert (silent["symbol"], silent["detail"]["ever"]) == ("A", False)
