from __future__ import annotations

import pytest

from tests.effort import thinned
from tests.venues.mock import local_copy, recorded
from tests.venues.upbit import PingCounter, Upbit


@pytest.mark.long
@pytest.mark.parametrize("feed", thinned(["upbit", "bithumb"]))
def test_is_recorded(wsrec, exchange, tmp_path, feed):
    venue = Upbit()
    url = exchange(venue, create_connection=PingCounter).url
    copy = local_copy(feed, url, tmp_path, keep_alive={"every": 0.3})
    made = recorded(wsrec, copy, "--symbols", "BTC/KRW,KRW-ETH,KRW-NONE", "--channels", "trades,book,ticker")
    assert made.payloads == venue.sent
    assert venue.dropped == 0
    # one request that has everything
    assert len(venue.requests) == 1
    topics = [f"{kind}:{code}" for kind in ("trade", "orderbook", "ticker") for code in ("KRW-BTC", "KRW-ETH")]
    assert made.acked == set(topics)
    assert made.refused == [([], "INVALID_PARAM: no such code: KRW-NONE")] * 3
    assert made.status == 4
    assert [row for row in made.fields if row[0] != "error"] == [
        (*topic.split(":"), time, None) for topic in topics for time in (1760000000000000000, 1760000000001000000)
    ]
