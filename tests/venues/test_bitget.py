from __future__ import annotations

import json

import pytest

from tests.effort import thinned
from tests.venues.bitget import Bitget
from tests.venues.mock import local_copy, recorded

V2 = (("instType", "channel", "instId"), {"trade", "books", "books1", "books5", "books15", "ticker"})
V3 = (("instType", "topic", "symbol"), {"publicTrade", "books", "books1", "ticker"})


@pytest.mark.long
@pytest.mark.parametrize(
    ("feed", "product", "version", "trade"),
    thinned(
        [
            ("bitget", "SPOT", V2, "trade"),
            ("bitget-usdt-futures", "USDT-FUTURES", V2, "trade"),
            ("bitget-v3", "spot", V3, "publicTrade"),
        ]
    ),
)
def test_is_recorded(wsrec, exchange, tmp_path, feed, product, version, trade):
    venue = Bitget(version[0], product, version[1])
    copy = local_copy(feed, exchange(venue).url, tmp_path, keep_alive={"every": 0.3, "text": "ping"})
    made = recorded(wsrec, copy, "--channels", "trades,book,bbo,ticker", "--symbols", "BTCUSDT,NONE")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.requests.count("ping") == 2
    # eight arguments are one request
    assert len(json.loads(venue.requests[0])["args"]) == 8
    channels = [trade, "books", "books1", "ticker"]
    assert made.acked == {f"{channel}:BTCUSDT" for channel in channels}
    assert sorted(topics for topics, _ in made.refused) == sorted([f"{channel}:NONE"] for channel in channels)
    assert made.refused[0][1].startswith("30001: ")
    assert made.status == 4
    fields = [row for row in made.fields if row[0] in channels]
    assert [row for row in fields if row[0] != "books"] == [
        (trade, "BTCUSDT", 1695709835001000000, None),
        (trade, "BTCUSDT", 1695709835002000000, None),
        ("books1", "BTCUSDT", 1695702438029000000, None),
        ("ticker", "BTCUSDT", 1695702438029000000, None),
    ]
    books = [row for row in fields if row[0] == "books"]
    assert books[0] == ("books", "BTCUSDT", 1695710946005000000, 5)
    assert [row[3] for row in books] == [5, 9, 2**53 + 1, 2**53 + 9, 7, 8]
    # One change was left out; starting over with 0 is no gap.
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["symbol"]) == ("books", "BTCUSDT")
    assert {row[0] for row in made.fields if row[0] not in channels} == {"subscribe", "error", "pong"}
