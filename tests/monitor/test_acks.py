from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.subscriptions import named
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.feed.subscribe import Ack
from wsrec.monitor.acks import AckOutcome, AckTracker
from wsrec.plan.requests import RequestedTopic
from wsrec.plan.target import feed_of_url

FEED = find_feed("binance")
SECOND = 1_000_000_000


@pytest.fixture
def tracker():
    tracker = AckTracker(FEED)
    tracker.sent(0, '{"method":"SUBSCRIBE","params":["a@trade"],"id":1}', named("a@trade"), 0)
    return tracker


class TestAnswers:
    def test_result_confirms(self, tracker):
        assert tracker.received(0, b'{"result":null,"id":1}', 5) == [AckOutcome("ack", 0, ("a@trade",))]

    @pytest.mark.parametrize(
        "answer", [b'{"error":{"code":2,"msg":"Invalid"},"id":1}', b'{"code":2,"msg":"Invalid","id":1}']
    )
    def test_error_refuses_in_the_exchanges_words(self, tracker, answer):
        assert tracker.received(0, answer, 5) == [AckOutcome("refused", 0, ("a@trade",), "2: Invalid")]

    def test_error_without_id_is_reported_without_topics(self, tracker):
        answer = b'{"error":{"code":3,"msg":"Too many requests"},"id":null}'
        assert tracker.received(0, answer, 5) == [AckOutcome("refused", 0, (), "3: Too many requests")]

    def test_each_answer_counts_once(self, tracker):
        tracker.received(0, b'{"result":null,"id":1}', 5)
        assert tracker.received(0, b'{"result":null,"id":1}', 6) == []

    def test_id_belongs_to_its_connection(self, tracker):
        assert tracker.received(1, b'{"result":null,"id":1}', 5) == []

    @given(st.binary() | st.sampled_from([b"[" * 100_000, b"[1]", b'{"id":{}}', b'{"id":true}', b'{"e":"x"}']))
    def test_other_messages_say_nothing(self, payload):
        assert AckTracker(FEED).received(0, payload, 0) == []


class TestLooksLikeAnAnswer:
    @pytest.mark.parametrize(
        ("feed", "payload"),
        [
            # as Gate's of 2021, which name no topic
            ("gateio", '{"time":1619093532,"channel":"spot.trades","event":"subscribe","result":{"status":"success"}}'),
            ("gateio", '{"channel":"spot.trades","event":"subscribe","payload":["BTC_USDT"],"result":{}}'),
            ("gateio-futures", '{"channel":"futures.trades","event":"subscribe","error":{"code":1,"message":"m"}}'),
            ("okx", '{"event":"subscribe"}'),
            ("dydx", '{"type":"subscribed","channel":"v4_trades","id":"BTC-USD","contents":{}}'),
        ],
    )
    def test_by_its_conditions(self, feed, payload):
        assert AckTracker(find_feed(feed)).is_answer(payload.encode())

    @pytest.mark.parametrize(
        ("feed", "payload"),
        [
            ("gateio", '{"channel":"spot.trades","event":"update","result":{"id":1}}'),
            ("gateio", '{"channel":"spot.pong","event":"","error":null,"result":null}'),
            ("dydx", '{"type":"subscribed"}'),
            ("binance", '{"e":"trade"}'),
        ],
    )
    def test_others_do_not(self, feed, payload):
        assert not AckTracker(find_feed(feed)).is_answer(payload.encode())


class TestTime:
    def test_an_unanswered_request_is_reported_once(self, tracker):
        assert tracker.expired(10 * SECOND - 1) == []
        assert tracker.expired(10 * SECOND) == [AckOutcome("unanswered", 0, ("a@trade",))]
        assert tracker.expired(11 * SECOND) == []

    def test_disconnection_forgets(self, tracker):
        tracker.disconnected(0)
        assert tracker.expired(99 * SECOND) == []


def test_feed_without_acks_tracks_nothing():
    tracker = AckTracker(feed_of_url("ws://localhost/"))
    tracker.sent(0, '{"id":1}', (), 0)
    assert tracker.received(0, b'{"result":null,"id":1}', 0) == tracker.expired(99 * SECOND) == []


OKX = {
    "where": {"event": "subscribe"},
    "key": [{"join": "{arg.channel}:{arg.instId}"}],
    "errors": [{"path": "event", "equals": "error"}],
    "error_code": ["code"],
    "error_message": ["msg"],
}
COINBASE = {
    "where": {"type": "subscriptions"},
    "key": [{"join": "{channels[].name}:{channels[].product_ids[]}"}],
    "errors": [{"path": "type", "equals": "error"}],
    "error_message": ["reason", "message"],
}
BITMEX = {"key": ["subscribe", "request.args[]"], "errors": [{"path": "error"}], "error_message": ["error"]}
KRAKEN = {
    "id": "req_id",
    "where": {"method": "subscribe"},
    "key": [{"join": "{result.channel}:{result.symbol}"}, {"join": "{method}:{symbol}", "where": {"success": False}}],
    "errors": [{"path": "success", "equals": False}],
    "error_message": ["error"],
}
DERIBIT = {"id": "id", "accepted": "result[]", "error_code": ["error.code"], "error_message": ["error.message"]}
DYDX = {
    "data": True,
    "where": {"type": "subscribed"},
    "key": [{"join": "{channel}:{id}"}],
    "errors": [{"path": "type", "equals": "error"}],
    "error_message": ["message"],
}
TOPICS = ("trades:BTC-USDT", "books:BTC-USDT")


def feed_of(ack):
    return Feed.model_validate({"name": "a", "description": "", "sockets": {"m": {"url": "ws://x"}}, "ack": ack})


def answers(ack, *messages, text="{}", topics=TOPICS, keys=()):
    """What the messages say of one request for these topics."""
    tracker = AckTracker(feed_of(ack))
    keys = keys or ("",) * len(topics)
    requested = [RequestedTopic(topic=t, channel="c", key=k) for t, k in zip(topics, keys, strict=True)]
    tracker.sent(0, text, requested, 0)
    stated = [outcome for message in messages for outcome in tracker.received(0, json.dumps(message).encode(), 5)]
    return stated + tracker.expired(99 * SECOND)


class TestTopics:
    def test_one_answer_a_topic(self):
        subscribed = [
            {"event": "subscribe", "arg": {"channel": channel, "instId": "BTC-USDT"}} for channel in ("books", "trades")
        ]
        assert answers(OKX, *subscribed, subscribed[0]) == [
            AckOutcome("ack", 0, ("books:BTC-USDT",)),
            AckOutcome("ack", 0, ("trades:BTC-USDT",)),
        ]

    def test_a_topic_without_an_answer_is_unanswered(self):
        subscribed = {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
        assert answers(OKX, subscribed)[-1] == AckOutcome("unanswered", 0, ("trades:BTC-USDT",))

    def test_a_refusal_names_its_topic_where_the_message_does(self):
        refused = {"event": "error", "code": 30001, "msg": "no", "arg": {"channel": "books", "instId": "BTC-USDT"}}
        assert answers(OKX, refused)[0] == AckOutcome("refused", 0, ("books:BTC-USDT",), "30001: no")
        unnamed = {"event": "error", "code": "60012", "msg": "Illegal request"}
        first, unanswered = answers(OKX, unnamed)
        assert first == AckOutcome("refused", 0, (), "60012: Illegal request")
        assert unanswered.topics == TOPICS

    def test_one_answer_is_for_each_time_that_a_request_was_sent(self):
        tracker = AckTracker(feed_of(OKX))
        for now in (0, 3):
            tracker.sent(0, "{}", named(*TOPICS), now, 1)
        books = {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}
        outcomes = tracker.received(0, json.dumps(books).encode(), 5)
        assert outcomes == [AckOutcome("ack", 0, ("books:BTC-USDT",), request=1)]
        assert tracker.open(0) == ("trades:BTC-USDT",)

    def test_data_that_has_the_same_keys_is_no_answer(self):
        data = {"arg": {"channel": "books", "instId": "BTC-USDT"}, "data": []}
        assert [outcome.kind for outcome in answers(OKX, data)] == ["unanswered"]

    def test_answers_call_topics_by_their_keys(self):
        subscribed = {"event": "subscribe", "arg": {"channel": "t", "instId": "B"}}
        assert answers(OKX, subscribed, topics=("x",), keys=("t:B",)) == [AckOutcome("ack", 0, ("x",))]

    def test_a_list_of_all_that_is_subscribed(self):
        listed = [
            {"name": "matches", "product_ids": ["BTC-USD", "ETH-USD"]},
            {"name": "ticker", "product_ids": ["BTC-USD"]},
        ]
        topics = ("matches:ETH-USD", "ticker:BTC-USD", "ticker:ETH-USD")
        acked, missing = answers(COINBASE, {"type": "subscriptions", "channels": listed}, topics=topics)
        assert acked == AckOutcome("ack", 0, topics[:2])
        assert missing == AckOutcome("unanswered", 0, topics[2:])

    def test_keys_of_an_object_are_the_topics_of_a_channel(self):
        ack = {"where": {"channel": "subscriptions"}, "key": ["events[].subscriptions.{}"]}
        message = {"channel": "subscriptions", "events": [{"subscriptions": {"level2": ["A", "B"]}}]}
        stated = answers(ack, message, topics=("level2:A", "level2:B", "ticker:A"), keys=("level2", "level2", "ticker"))
        assert stated[0] == AckOutcome("ack", 0, ("level2:A", "level2:B"))

    def test_by_the_topics_own_text(self):
        done = {"success": True, "subscribe": "trade:XBTUSD", "request": {"op": "subscribe", "args": ["trade:XBTUSD"]}}
        wrong = {"status": 400, "error": "Unknown table: x", "request": {"op": "subscribe", "args": ["x"]}}
        assert answers(BITMEX, done, wrong, topics=("trade:XBTUSD", "x")) == [
            AckOutcome("ack", 0, ("trade:XBTUSD",)),
            AckOutcome("refused", 0, ("x",), "Unknown table: x"),
        ]

    def test_the_id_and_the_topic_together(self):
        done = {
            "method": "subscribe",
            "result": {"channel": "trades", "symbol": "BTC-USDT"},
            "success": True,
            "req_id": 1,
        }
        failed = {"method": "subscribe", "success": False, "error": "Currency pair not supported", "req_id": 1}
        assert answers(KRAKEN, done, failed, text='{"req_id":1}') == [
            AckOutcome("ack", 0, ("trades:BTC-USDT",)),
            AckOutcome("refused", 0, ("books:BTC-USDT",), "Currency pair not supported"),
        ]

    @pytest.mark.parametrize(
        ("code", "words", "stated"),
        [
            ({"a": [1, None]}, "no", '{"a":[1,null]}: no'),
            (True, ["no", {"such": "topic"}], 'true: ["no",{"such":"topic"}]'),
            (5, None, "5: without a reason"),
        ],
    )
    def test_a_code_or_message_that_is_no_text_is_reported_as_json(self, code, words, stated):
        refused = {"event": "error", "code": code, "msg": words, "arg": {"channel": "books", "instId": "BTC-USDT"}}
        assert answers(OKX, refused)[0] == AckOutcome("refused", 0, ("books:BTC-USDT",), stated)

    def test_what_a_list_leaves_out_is_refused(self):
        stated = answers(DERIBIT, {"id": 3, "result": ["books:BTC-USDT"]}, text='{"id":3}')
        assert stated == [
            AckOutcome("ack", 0, ("books:BTC-USDT",)),
            AckOutcome("refused", 0, ("trades:BTC-USDT",), "the answer does not list it", listed=True),
        ]

    def test_the_first_data(self):
        snapshot = {"type": "subscribed", "channel": "trades", "id": "BTC-USDT", "contents": {}}
        assert answers(DYDX, snapshot)[0] == AckOutcome("ack", 0, ("trades:BTC-USDT",))
        assert answers(DYDX, {"type": "error", "message": "Invalid"})[0] == AckOutcome("refused", 0, (), "Invalid")


class TestRefusals:
    @pytest.mark.parametrize(
        ("tests", "answer", "kind"),
        [
            ([{"path": "code", "differs": 0}], {"code": 0}, "ack"),
            ([{"path": "code", "differs": 0}], {"code": 40003}, "refused"),
            ([{"path": "code", "differs": [0, "0"]}], {}, "ack"),
            ([{"path": "status", "at_least": 400}], {"status": 200}, "ack"),
            ([{"path": "status", "at_least": 400}], {"status": 400}, "refused"),
            ([{"path": "success", "equals": False}], {"success": True}, "ack"),
            ([{"path": "success", "equals": False}], {"success": False}, "refused"),
            ([{"path": "error"}], {"error": None}, "ack"),
            ([{"path": "error"}, {"path": "code", "differs": 0}], {"error": {}, "code": 0}, "refused"),
        ],
    )
    def test_by_what_the_answer_holds(self, tests, answer, kind):
        (stated,) = answers({"id": "id", "errors": tests}, {"id": 1, **answer}, text='{"id":"1"}')
        assert (stated.kind, stated.topics) == (kind, TOPICS)

    @pytest.mark.parametrize("ack", [{}, {"id": "id", "data": True}, {"key": ["a"], "accepted": "b[]"}])
    def test_an_ack_that_matches_nothing_is_refused(self, ack):
        with pytest.raises(ValueError, match="expected"):
            Ack.model_validate(ack)


def test_hostile_lists_end():
    listed = [{"name": "a", "product_ids": ["b"] * 50_000}] * 5
    assert answers(COINBASE, {"type": "subscriptions", "channels": listed})[0].kind == "unanswered"
