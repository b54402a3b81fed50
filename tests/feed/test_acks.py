from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.acks import AckOutcome, AckTracker
from wsrec.feed.load import find_feed
from wsrec.feed.target import feed_of_url

FEED = find_feed("binance")
SECOND = 1_000_000_000


@pytest.fixture
def tracker():
    tracker = AckTracker(FEED)
    tracker.sent(0, '{"method":"SUBSCRIBE","params":["a@trade"],"id":1}', ("a@trade",), 0)
    return tracker


class TestAnswers:
    def test_result_confirms(self, tracker):
        assert tracker.received(0, b'{"result":null,"id":1}', 5) == [AckOutcome("ack", 0, ("a@trade",))]

    @pytest.mark.parametrize(
        "answer", [b'{"error":{"code":2,"msg":"Invalid"},"id":1}', b'{"code":2,"msg":"Invalid","id":1}']
    )
    def test_error_refuses_in_the_exchanges_words(self, tracker, answer):
        assert tracker.received(0, answer, 5) == [AckOutcome("refused", 0, ("a@trade",), "2: Invalid")]

    def test_error_without_id_is_told_without_topics(self, tracker):
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


class TestTime:
    def test_silence_is_told_once(self, tracker):
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
