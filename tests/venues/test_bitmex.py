from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.venues.bitmex import Bitmex
from tests.venues.mock import Replayed, local_copy, of_today, received_in_session, recorded

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100}
# The rows of today are kept without the message around them.
TODAY = {
    "trade:XBTUSD": [("trade", 1732436138704000000)],
    "orderBookL2:XBTUSD": [("orderbook_l2", 1732436782356000000)],
    "quote:BCHUSDT": [("quote", 1732315465085000000)],
    "instrument:XBTUSD": [("instrument", 1732536000000000000), ("instrument_index_update", 1779879600500000000)],
    "instrument:DOTUSDT": [("instrument_mark_update", 1779886600500000000)],
    "orderBook10:XBTUSD": [("orderbook_10", 1732436353513000000)],
    "liquidation:XBTUSD": [("liquidation", None)],
    "funding:XBTUSD": [("funding_rate", 1732507200000000000)],
    "tradeBin1m:XBTUSD": [("trade_bin_1m", None)],
}


def message(topic, row, action="insert"):
    return json.dumps({"table": topic.partition(":")[0], "action": action, "data": [json.loads(row)]})


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    rows = {
        topic: [text for name, _ in some for text in of_today(f"bitmex/ws_{name}")] for topic, some in TODAY.items()
    }
    if not all(rows.values()):
        pytest.skip("real messages are not beside the project")
    venue = Bitmex({topic: [message(topic, row) for row in some] for topic, some in rows.items()})
    keep_alive = {"ping_interval": 0.3, "ping_timeout": 5}
    copy = local_copy("bitmex", exchange(venue).url, tmp_path, limits=FAST, keep_alive=keep_alive)
    channels = sorted({topic.partition(":")[0] for topic in TODAY})
    symbols = "XBTUSD,BCHUSDT,DOTUSDT"
    made = recorded(wsrec, copy, "--symbols", symbols, "--channels", ",".join(channels))
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.pings >= 2
    assert made.acked == TODAY.keys()
    requested = {f"{channel}:{symbol}" for channel in channels for symbol in symbols.split(",")}
    assert {tuple(topics) for topics, _ in made.refused} == {(topic,) for topic in requested - TODAY.keys()}
    assert ("trade:DOTUSDT",) in {tuple(topics) for topics, _ in made.refused}
    assert made.refused[0][1].startswith("400: Unknown or expired symbol")
    assert made.status == 4
    expected = {(*topic.split(":"), time, None) for topic, some in TODAY.items() for _, time in some}
    assert {row for row in made.fields if row[0] in channels} == expected
    assert {row[0] for row in made.fields} - set(channels) == {"welcome", "subscribed", "error"}


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    messages = received_in_session("bitmex")
    read = [json.loads(text) for text in messages]
    topics = {one["subscribe"] for one in read if "subscribe" in one}
    copy = local_copy("bitmex", exchange(Replayed(messages, 30)).url, tmp_path, limits=FAST)
    symbols = {topic.partition(":")[2] for topic in topics}
    made = recorded(wsrec, copy, "--symbols", ",".join(symbols), "--channels", "trade,quote,orderBookL2")
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused, made.acked) == (0, [], topics)
    found = Counter((channel, symbol) for channel, symbol, *_ in made.fields)
    expected = Counter((one["table"], one["data"][0]["symbol"]) for one in read if one.get("data"))
    assert expected <= found
    # changes of the book had no time then
    assert all(row[2] for row, one in zip(made.fields, read, strict=True) if one.get("table") == "quote")
    assert not [event for event in made.events if event["kind"] == "gap"]
