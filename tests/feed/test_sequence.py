from __future__ import annotations

import json

import pytest

from wsrec.feed.fields import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.sequence import SequenceChecker, SequenceGap

SPOT, USDM = find_feed("binance"), find_feed("binance-usdm")


def gaps(feed, messages, checker=None, conns=None):
    payloads = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    return (checker or SequenceChecker(feed)).check(conns or [0] * len(payloads), FieldReader(feed).read(payloads))


def message(name, **numbers):
    return {"stream": f"x@{name}", "data": {"s": "X", **numbers}}


class TestRules:
    def test_next_counts_what_is_missing(self):
        found = gaps(USDM, [message("trade", t=1), message("trade", t=5)])
        assert found == [SequenceGap(1, 0, "trade", "X", "next", 2, 5, 3)]

    def test_previous_cannot_count(self):
        found = gaps(USDM, [message("depth@0ms", u=9, pu=1), message("depth@0ms", u=12, pu=10)])
        assert found == [SequenceGap(1, 0, "depth@0ms", "X", "previous", 9, 10, None)]

    def test_touching_counts_what_is_missing(self):
        found = gaps(SPOT, [message("depth", U=1, u=3), message("depth", U=4, u=6), message("depth", U=9, u=9)])
        assert found == [SequenceGap(2, 0, "depth", "X", "touching", 7, 9, 2)]

    def test_increasing_allows_leaps_and_shows_disorder(self):
        found = gaps(USDM, [message("bookTicker", u=n) for n in (1, 50, 50)])
        assert found == [SequenceGap(2, 0, "bookTicker", "X", "increasing", 51, 50, None)]

    def test_numbers_that_start_again_are_reported_once(self):
        found = gaps(USDM, [message("trade", t=n) for n in (100, 1, 2, 3)])
        assert [(gap.index, gap.missing) for gap in found] == [(1, None)]

    def test_channels_without_a_rule_are_passed_over(self):
        assert gaps(SPOT, [message("ticker", u=5), message("ticker", u=1)]) == []

    def test_messages_without_their_numbers_are_passed_over(self):
        assert gaps(SPOT, [message("depth", U=1, u=3), message("depth"), message("depth", u=9)]) == []


class TestState:
    def test_is_kept_between_batches(self):
        checker = SequenceChecker(USDM)
        gaps(USDM, [message("trade", t=1)], checker)
        assert len(gaps(USDM, [message("trade", t=3)], checker)) == 1

    def test_is_by_connection_channel_and_symbol(self):
        other = {"stream": "y@trade", "data": {"s": "Y", "t": 50}}
        messages = [message("trade", t=1), other, message("aggTrade", a=70), message("trade", t=90)]
        assert gaps(USDM, messages, conns=[0, 0, 0, 1]) == []

    def test_reset_forgets_one_connection(self):
        checker = SequenceChecker(USDM)
        gaps(USDM, [message("trade", t=1)] * 2, checker, [0, 1])
        checker.reset(0)
        found = gaps(USDM, [message("trade", t=9)] * 2, checker, [0, 1])
        assert [gap.conn for gap in found] == [1]


class TestRecordings:
    def test_whole_recording_has_no_gap(self, usdm_recording):
        assert gaps(USDM, usdm_recording) == []

    def test_whole_session_has_no_gap(self, spot_session):
        assert gaps(SPOT, spot_session) == []

    @pytest.mark.parametrize(("name", "counts"), [(b"@trade", True), (b"@depth", False)])
    def test_each_deleted_message_is_found(self, usdm_recording, name, counts):
        messages = usdm_recording[:20_000]
        places = [i for i, text in enumerate(messages) if name in text[:40]]
        deleted = set(places[10:300:7])
        kept = [i for i in range(len(messages)) if i not in deleted]
        found = gaps(USDM, [messages[i] for i in kept])
        # The message that shows a gap is the next one on its channel.
        assert [kept[gap.index] for gap in found] == [places[n + 1] for n in range(10, 300, 7)]
        assert all(gap.missing == (1 if counts else None) for gap in found)

    def test_deleted_ranges_of_the_spot_book_are_counted(self, spot_session):
        messages = spot_session
        book = [i for i, text in enumerate(messages) if b'"nknusdt@depth' in text]
        (gap,) = gaps(SPOT, [text for i, text in enumerate(messages) if i not in book[20:23]])
        first, last = (json.loads(messages[book[n]])["data"] for n in (20, 22))
        assert gap.missing == last["u"] - first["U"] + 1
