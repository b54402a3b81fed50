from __future__ import annotations

import pytest

from tests.conftest import SHARED_DATA
from tests.venues.hyperliquid import Hyperliquid
from tests.venues.mock import feed_keys, local_copy, recorded

MESSAGES = SHARED_DATA / "messages" / "hyperliquid"


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    if not MESSAGES.exists():
        pytest.skip(f"real messages are not beside the project: {MESSAGES}")
    venue = Hyperliquid(MESSAGES)
    copy = local_copy(
        "hyperliquid",
        exchange(venue).url,
        tmp_path,
        keep_alive={"every": 0.8, "text": '{"method":"ping"}'},
        limits={**feed_keys("hyperliquid")["limits"], "messages_per_second": 100, "messages_per_second_in_all": 100},
    )
    channels = "trades,book,bbo,ticker,allMids,allDexsAssetCtxs"
    made = recorded(wsrec, copy, "--symbols", "BTC/USDC:USDC,PURR/USDC,NONE", "--channels", channels)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    kinds = ("trades", "l2Book", "bbo", "activeAssetCtx")
    assert made.acked == {"allMids", "allDexsAssetCtxs", *(f"{k}:{c}" for k in kinds for c in ("BTC", "PURR/USDC"))}
    assert sorted(stated for _, stated in made.refused) == sorted(
        f'Invalid subscription {{"type": "{kind}", "coin": "NONE"}}' for kind in kinds
    )
    assert made.status == 4
    assert made.fields[0] == ("greeting", None, None, None)
    names = (*kinds, "activeSpotAssetCtx", "allMids", "allDexsAssetCtxs")
    own = [row for row in made.fields if row[0] in names]
    assert sorted(own, key=str) == sorted(
        [
            ("allMids", None, None, None),
            ("allDexsAssetCtxs", None, None, None),
            ("activeAssetCtx", "BTC", None, None),
            ("activeSpotAssetCtx", "PURR/USDC", None, None),
            *(("trades", coin, 11_000_000, None) for coin in ("BTC", "PURR/USDC")),
            *((kind, coin, 1703875200000000000, None) for kind in ("l2Book", "bbo") for coin in ("BTC", "PURR/USDC")),
        ],
        key=str,
    )
    assert {row[0] for row in made.fields} - {row[0] for row in own} == {
        "greeting",
        "subscriptionResponse",
        "error",
        "pong",
    }
