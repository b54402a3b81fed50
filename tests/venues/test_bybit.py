from __future__ import annotations

import json
import time

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.venues.bybit import Bybit
from tests.venues.mock import Replayed, local_copy, of_today, received_in_session, recorded
from wsrec.feed.load import catalogue

PING = {"every": 0.3, "text": '{"op":"ping"}'}
TIME = 1672304484978000000


def book(topic, symbol, numbers):
    """Changes with these numbers, after a snapshot with the first of them."""
    for place, number in enumerate(numbers):
        data = {"s": symbol, "b": [["16493.50", "0.006"]], "a": [], "u": number, "seq": number * 10}
        kind = "delta" if place else "snapshot"
        yield json.dumps({"topic": topic, "type": kind, "ts": 1672304484978, "data": data, "cts": 1672304484976})


def trades(topic, symbol, *numbers):
    rows = [{"T": 1672304486865, "s": symbol, "S": "Buy", "v": "0.001", "p": "16578.50", "seq": n} for n in numbers]
    return json.dumps({"topic": topic, "type": "snapshot", "ts": 1672304484978, "data": rows})


@pytest.mark.parametrize(("category", "symbol"), [("spot", "BTCUSDT"), ("linear", "ETHUSDT"), ("inverse", "BTCUSD")])
def test_is_recorded(wsrec, exchange, tmp_path, category, symbol):
    # A number is left out after 12, and the service begins anew with 1.
    numbers = [10, 11, 12, 14, 1, 2]
    topics = {
        f"publicTrade.{symbol}": [trades(f"publicTrade.{symbol}", symbol, 7, 7, 9), trades("publicTrade.X", symbol, 9)],
        f"orderbook.50.{symbol}": list(book(f"orderbook.50.{symbol}", symbol, numbers)),
        f"orderbook.1.{symbol}": list(book(f"orderbook.1.{symbol}", symbol, [5, 5, 8])),
    }
    venue = Bybit(category, topics)
    copy = local_copy(f"bybit-{category}", exchange(venue).url, tmp_path, keep_alive=PING)
    # Four symbols with four channels are more than one request takes.
    made = recorded(
        wsrec, copy, "--channels", "trades,book,bbo,ticker", "--symbols", f"{symbol},AUSDT,BUSDT,CUSDT"
    )
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.requests.count('{"op":"ping"}') == 2
    asked = [json.loads(request)["args"] for request in venue.requests if "ping" not in request]
    assert [len(topics) for topics in asked] == ([10, 6] if category == "spot" else [16])
    # One topic that is wrong refuses its whole request.
    assert [topics for topics, _ in made.refused] == asked
    assert made.refused[0][1] == "Invalid topic: publicTrade.AUSDT"
    assert made.status == 4
