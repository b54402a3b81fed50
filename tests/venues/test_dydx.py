from __future__ import annotations

import json

import pytest

from tests.conftest import SHARED_DATA
from tests.venues.dydx import Dydx
from tests.venues.mock import feed_keys, local_copy, recorded

MESSAGES = SHARED_DATA / "messages" / "dydx"
CHANNELS = "trades,book,ticker,v4_candles/1MIN,v4_block_height"
# What is found in each of the messages, but for its number.
FOUND = {
    ("v4_trades", "subscribed"): ("v4_trades", "BTC-USD", 1704067200000000000),
    ("v4_trades", "channel_data"): ("v4_trades", "BTC-USD", 1704067201000000000),
    ("v4_orderbook", "subscribed"): ("v4_orderbook", "BTC-USD", None),
    ("v4_orderbook", "channel_data"): ("v4_orderbook", "BTC-USD", None),
    ("v4_candles", "subscribed"): ("v4_candles/1MIN", "BTC-USD", None),
    ("v4_candles", "channel_data"): ("v4_candles/1MIN", "BTC-USD", None),
    ("v4_block_height", "subscribed"): ("v4_block_height", None, 1704067200000000000),
    ("v4_block_height", "channel_data"): ("v4_block_height", None, 1704067201000000000),
    ("v4_markets", "subscribed"): ("v4_markets", None, None),
}


def expected(message):
    key = (message.get("channel"), message["type"])
    if key == ("v4_markets", "channel_data"):
        time = 1704067260000000000 if "oraclePrices" in message["contents"] else None
        return ("v4_markets", None, time, message["message_id"])
    return (*FOUND.get(key, (message["type"], None, None)), message["message_id"])


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    if not MESSAGES.exists():
        pytest.skip(f"real messages are not beside the project: {MESSAGES}")
    venue = Dydx(MESSAGES, awaited=8)
    limits = {**feed_keys("dydx")["limits"], "messages_per_second": 50}
    copy = local_copy("dydx", exchange(venue).url, tmp_path, limits=limits)
    made = recorded(wsrec, copy, "--symbols", "BTC/USD:USDC,NONE-USD", "--channels", CHANNELS)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    topics = {"v4_trades:BTC-USD", "v4_orderbook:BTC-USD", "v4_candles:BTC-USD/1MIN", "v4_markets", "v4_block_height"}
    assert made.acked == topics
    assert made.refused == [([], "Invalid subscription: channel 'invalid_channel' not found")] * 3
    assert made.status == 4
    assert made.fields == [expected(json.loads(frame)) for frame in venue.sent]
    # Answers that come after higher numbers are no gaps.
    numbers = [row[3] for row in made.fields if row[3] is not None]
    assert numbers != sorted(numbers)
    assert [event for event in made.events if event["kind"] in ("gap", "sequence_reset")] == []
