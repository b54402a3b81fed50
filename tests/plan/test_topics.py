"""Whose messages a requested topic brings."""

from __future__ import annotations

import pytest

from tests.subscriptions import requested
from wsrec.feed.load import find_feed
from wsrec.plan.requests import RequestedTopic
from wsrec.plan.topics import Topic, stream_of


def topic(name: str, channel: str, symbol: str = "") -> Topic:
    feed = find_feed(name)
    found = stream_of(feed, requested(feed, channel, symbol))
    assert found is not None
    return found


def test_is_a_channel_and_a_symbol():
    found = topic("binance", "depth@100ms", "BTCUSDT")
    assert found[:2] == ("btcusdt@depth@100ms", "depth@100ms")
    assert (found.channels, found.symbol) == ({"depth@100ms", "depthUpdate"}, "BTCUSDT")
    assert found.carries("BTCUSDT")
    assert found.carries("btcusdt")
    assert not found.carries("BTCUSDC")
    assert not found.carries(None)


def test_without_a_symbol_brings_all():
    found = topic("dydx", "v4_markets")
    assert found.carries("BTC-USD")
    assert found.carries(None)


@pytest.mark.parametrize(
    ("symbol", "carried"),
    [
        ("BTC-28APR23-29500-C", True),
        ("BTC", True),
        (None, True),
        ("BTCX-28APR23-1-C", False),
        ("ETH-28APR23-1-C", False),
    ],
)
def test_of_a_base_brings_its_options(symbol, carried):
    """Trades of options are requested by the base; where rows are of several options the message has no symbol."""
    assert topic("bybit-option", "publicTrade", "BTC").carries(symbol) == carried


def test_a_name_for_a_stream_is_always_the_same_one():
    assert topic("binance", "depth@100ms", "BTCUSDT").name == "depth@100ms"


def test_of_a_channel_that_the_feed_does_not_have_is_none():
    assert stream_of(find_feed("binance"), RequestedTopic(topic="x", channel="x")) is None
