"""Closing notices: which messages announce the closing of a connection."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.load import find_feed
from wsrec.monitor.closing_notice import NoticeReader
from wsrec.plan.target import feed_of_url

BINANCE = find_feed("binance")


def channels(*names: str | None) -> pa.DictionaryArray:
    return pa.array(names, pa.string()).dictionary_encode()


class TestCandidates:
    def test_are_those_of_no_channel_of_the_feed(self):
        column = channels("trade", None, "serverShutdown", "depth@100ms", "depthUpdate", "trade")
        assert NoticeReader(BINANCE).candidates(column).tolist() == [1, 2]

    def test_market_data_has_none(self):
        assert NoticeReader(BINANCE).candidates(channels("trade", "depth@100ms")).tolist() == []

    def test_all_where_messages_name_no_channel(self):
        assert NoticeReader(BINANCE).candidates(pa.nulls(3, channels("a").type)).tolist() == [0, 1, 2]

    def test_without_a_notice_nothing_is_looked_at(self):
        assert NoticeReader(BINANCE).looks
        assert not NoticeReader(feed_of_url("wss://h/")).looks


class TestRead:
    def test_the_word(self):
        assert NoticeReader(BINANCE).read(b'{"e":"serverShutdown","E":1}') == "serverShutdown"

    def test_the_word_may_be_a_number(self):
        assert NoticeReader(find_feed("bitfinex")).read(b'{"event":"info","code":20051,"msg":"x"}') == "20051"

    @pytest.mark.parametrize(
        "text", ["", "[]", "1", '{"e":1}', '{"e":"trade"}', '{"e":"serverShutdownX"}', '{"x":{"e":"serverShutdown"}}']
    )
    def test_anything_else_is_none(self, text):
        assert NoticeReader(BINANCE).read(text.encode()) is None

    @given(st.binary() | st.text().map(lambda text: json.dumps({"e": text}).encode()))
    def test_hostile_messages_are_survived(self, payload):
        assert NoticeReader(BINANCE).read(payload) in (None, "serverShutdown")
