"""Answers find the request that they are of by its number, whatever its text; topics keep their channel and symbol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import events_of, messages_of
from tests.rings import plan, writer_job
from tests.subscriptions import request, requested
from tests.writer.test_pipeline import BOOT, Session
from wsrec.format.moment import Moment
from wsrec.ipc import Resubscribe
from wsrec.ring.events import EventKind
from wsrec.verify.verify import verify
from wsrec.wire.frames import TEXT
from wsrec.writer.pipeline import Pipeline

S = 1_000_000_000
# trade of `b.X` and book of `X` would be one topic: no pattern shows which of them a topic belongs to
FEED: dict[str, Any] = {
    "name": "vague",
    "description": "",
    "sockets": {"main": {"url": "ws://x"}},
    "symbols": {"pattern": "[A-Za-z.]+", "words": "letters", "example": "A", "case": "keep"},
    "subscribe": {"message": '{"id":{id},"args":{topics},"at":{time_ms}}', "batch": 9},
    "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "ack": {"id": "id", "key": ["topic"], "errors": [{"path": "error"}], "error_message": ["error"], "timeout": 3},
    "fields": {"channel": ["c"], "symbol": ["s"]},
    "channels": {
        "trade": {"topic": "t.{symbol}", "idle_timeout": 5, "on_stale": "resubscribe"},
        "book": {"topic": "t.b.{symbol}", "ack_key": "book of {symbol}"},
    },
}
TRADE, BOOK = requested(FEED, "trade", "b.X"), requested(FEED, "book", "Y")
SAME = '{"all":true}'
# two requests of one text, as of an exchange that is requested all of a channel, and one that holds the time
REQUESTS = (request(SAME, TRADE), request(SAME, BOOK, number=2), request('{"at":{time_ms}}', number=3))


class Work(Session):
    def __init__(self, tmp_path, rings, requests=REQUESTS, **job) -> None:
        connections = (plan(feed="vague", requests=requests),)
        super().__init__(tmp_path, rings(1, 64 * 4096, 4096), connections, {"vague": FEED})
        self.orders: list[Any] = []
        self._job = writer_job(tmp_path, connections, {"vague": FEED}, **job)
        self.restart()

    def restart(self) -> None:
        self.pipeline = Pipeline(self._job, self.folder, self.rings.status, act=self.orders.append)
        self.pipeline.begin_session(Moment(1_795_355_999_000_000_000, BOOT))

    def send(self, number: int, text: str, *topics: str) -> None:
        self.rings.event(EventKind.SUBSCRIBE, 0, request=number, topics=topics)
        self.rings.producer.sent(0, TEXT, text.encode(), number)

    def answer(self, **message: Any) -> None:
        self.put(json.dumps(message).encode())

    def reported(self, kind: str) -> list[dict[str, Any]]:
        return [event["detail"] for event in events_of(self.out, kind)]


@pytest.fixture
def work(tmp_path, rings) -> Work:
    return Work(tmp_path, rings)


def test_two_requests_of_one_text_are_both_confirmed(work):
    work.send(1, SAME, "t.b.X")
    work.send(2, SAME, "t.b.Y")
    work.answer(topic="t.b.X")
    work.answer(topic="book of Y")
    work.take()
    work.finish()
    assert work.reported("ack") == [{"topics": ["t.b.X"], "request": 1}, {"topics": ["t.b.Y"], "request": 2}]


def test_a_text_that_holds_the_time_is_matched_by_its_number(tmp_path, rings):
    work = Work(tmp_path, rings, (request('{"id":7,"at":{time_ms}}', TRADE, BOOK, number=5),))
    # what was sent need not look like what the plan says: an exchange's time may be anything
    work.send(5, '{"id":7,"at":"a quarter past"}', "t.b.X", "t.b.Y")
    work.answer(id=7)
    work.take()
    work.finish()
    assert work.reported("ack") == [{"topics": ["t.b.X", "t.b.Y"], "request": 5}]


def test_rows_of_requests_have_their_number_and_others_have_none(work):
    work.send(1, SAME, "t.b.X")
    work.rings.producer.sent(0, TEXT, b"keep-alive")
    # in several slots
    work.rings.producer.sent(0, TEXT, bytes(2000), 2)
    work.put(b"{}", read_bytes=77)
    work.take()
    work.finish()
    table = messages_of(work.out, columns=["direction", "request", "read_bytes", "seq"]).drop(["seq"]).to_pylist()
    assert [tuple(row.values()) for row in table] == [
        ("sent", 1, 0),
        ("sent", None, 0),
        ("sent", 2, 0),
        ("recv", None, 77),
    ]


def test_a_refused_request_is_requested_in_parts_with_numbers_above_the_plans(tmp_path, rings):
    work = Work(tmp_path, rings, (request(SAME, TRADE, BOOK),), last_request=40)
    work.send(1, '{"id":1}', "t.b.X", "t.b.Y")
    work.answer(id=1, error="no")
    work.take()
    (order,) = work.orders
    assert (order.topics, [part.number for part in order.parts]) == (("t.b.X", "t.b.Y"), [41, 42])
    assert [part.topics for part in order.parts] == [(TRADE,), (BOOK,)]
    assert [json.loads(part.text.replace("{time_ms}", "0"))["id"] for part in order.parts] == [41, 42]
    for part in order.parts:
        work.send(part.number, f'{{"id":{part.number}}}', *part.topic_names)
    work.answer(id=42)
    work.answer(id=41, error="no such topic")
    work.take()
    work.finish()
    assert work.reported("split") == [
        {"topics": ["t.b.X", "t.b.Y"], "request": 1, "message": "no", "parts": [["t.b.X"], ["t.b.Y"]]}
    ]
    assert work.reported("ack") == [{"topics": ["t.b.Y"], "request": 42}]
    assert work.reported("refused") == [{"topics": ["t.b.X"], "request": 41, "message": "no such topic"}]


def test_a_writer_that_goes_on_knows_later_requests_from_the_file_before(tmp_path, rings):
    work = Work(tmp_path, rings, (request(SAME, TRADE, BOOK),))
    work.put(b"{}")
    work.send(9, '{"id":9}', "t.b.Y")
    work.take()
    about = work.about(*work.finish(1))
    (connection,) = about["connections"]
    assert [(one["number"], [topic["topic"] for topic in one["topics"]]) for one in connection["requests"]] == [
        (1, ["t.b.X", "t.b.Y"]),
        (9, ["t.b.Y"]),
    ]
    work.restart()
    work.pipeline.describe(about)
    # its event is in the file that has landed
    work.rings.producer.sent(0, TEXT, b'{"id":9}', 9)
    work.answer(id=9)
    work.take(2)
    work.finish(2)
    assert work.reported("ack") == [{"topics": ["t.b.Y"], "request": 9}]


def test_channel_and_symbol_are_the_plans_where_a_topic_could_be_anothers(work):
    work.send(1, SAME, "t.b.X")
    work.send(2, SAME, "t.b.Y")
    work.answer(topic="t.b.X")
    work.answer(topic="book of Y")
    work.answer(c="trade", s="b.X")
    work.take()
    work.put(json.dumps({"c": "book", "s": "Y"}).encode(), at=3 * S)
    work.take()
    work.put(json.dumps({"c": "book", "s": "Y"}).encode(), at=4000 * S)
    work.take()
    work.finish()
    (stale,) = events_of(work.out, "stale")
    assert (stale["channel"], stale["symbol"]) == ("trade", "b.X")
    assert work.orders == [Resubscribe(0, ("t.b.X",), "t.b.X is silent")]
    ((session,),) = [capture.sessions for capture in verify([work.out]).captures]
    assert {(each.topic, each.channel, each.symbol) for each in session.streams} == {
        ("t.b.X", "trade", "b.X"),
        ("t.b.Y", "book", "Y"),
    }


def test_metadata_describe_what_was_requested_and_keep_the_texts_to_themselves(tmp_path, rings):
    secret = request('{"key":"S3CRET"}', TRADE, number=2)
    work = Work(tmp_path, rings, (request("S3CRET too"), secret))
    work.put(b"{}")
    work.take()
    (line,) = work.finish()
    (connection,) = work.about(line)["connections"]
    assert connection["requests"] == [
        {"number": 1, "topics": []},
        {"number": 2, "topics": [{"topic": "t.b.X", "channel": "trade", "symbol": "b.X"}]},
    ]
    assert connection["requested_by_url"] == []
    assert b"S3CRET" not in (work.out / line.path).read_bytes()
