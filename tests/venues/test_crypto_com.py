from __future__ import annotations

import json

import pytest

from tests.venues.crypto_com import CryptoCom
from tests.venues.mock import feed_keys, local_copy, recorded


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    venue = CryptoCom()
    keys = feed_keys("crypto-com")
    copy = local_copy(
        "crypto-com",
        exchange(venue).url,
        tmp_path,
        on_connect={"wait": 0.25},
        subscribe={**keys["subscribe"], "batch": 1},
        limits={**keys["limits"], "messages_per_second": 100},
    )
    made = recorded(wsrec, copy, "--symbols", "BTC/USDT,NONE_USDT", "--channels", "trades,book,ticker")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert len(venue.heartbeats) >= 2
    assert venue.heartbeats[0] == 1587523073344
    assert made.acked == {"trade.BTC_USDT", "book.BTC_USDT.50", "ticker.BTC_USDT"}
    refused = ["book.NONE_USDT.50", "ticker.NONE_USDT", "trade.NONE_USDT"]
    assert sorted(made.refused) == [([topic], f"40004: Unknown: ['{topic}']") for topic in refused]
    assert made.status == 4
    own = sorted(row for row in made.fields if row[0] in ("trade", "ticker"))
    assert own == [
        ("ticker", "BTC_USDT", 1613580710000000, None),
        ("trade", "BTC_USDT", 1670327930000000000, None),
    ]
    # The gap once, then the book that was requested again, which may begin where it likes.
    books = [row for row in made.fields if row[0] == "book"]
    assert books == [("book", "BTC_USDT", 1655893451000000000, seq) for seq in (11, 14, 16, 11, 14, 16)]
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["symbol"]) == ("book", "BTC_USDT")
    requested = [json.loads(request) for request in venue.requests]
    again = [(request["method"], request["params"]["channels"]) for request in requested if "params" in request][-2:]
    assert again == [("unsubscribe", ["book.BTC_USDT.50"]), ("subscribe", ["book.BTC_USDT.50"])]
