from __future__ import annotations

import pytest

from tests.venues.gemini import Gemini
from tests.venues.mock import feed_keys, local_copy, recorded


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    venue = Gemini()
    keys = feed_keys("gemini")
    copy = local_copy(
        "gemini",
        exchange(venue).url,
        tmp_path,
        keep_alive={**keys["keep_alive"], "every": 0.5},
        # a symbol that it does not know makes it refuse the whole request
        subscribe={**keys["subscribe"], "batch": 3},
        limits={**keys["limits"], "messages_per_second": 50},
    )
    made = recorded(wsrec, copy, "--symbols", "BTC/USD,NONE", "--channels", "trades,book,bbo")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    topics = [f"@{stream}" for stream in ("trade", "depth@100ms", "bookTicker")]
    assert made.acked == {f"btcusd{topic}" for topic in topics}
    # each alone in the end, as it does not say which of a request's topics is wrong
    assert sorted(made.refused) == [([f"none{topic}"], "-1013: Invalid symbol: none") for topic in sorted(topics)]
    assert made.status == 4
    time = 1759873803503023900
    assert [row for row in made.fields if row[0] != "answer"] == [
        ("trade", "btcusd", time, None),
        *(("depth@100ms", "btcusd", time, seq) for seq in (1700, 1702, 1705)),
        ("bookTicker", "btcusd", time, 1751),
    ]
    assert [row[0] for row in made.fields].count("answer") == len(venue.requests)
    assert [event for event in made.events if event["kind"] in ("gap", "unanswered")] == []
