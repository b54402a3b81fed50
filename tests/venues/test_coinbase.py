from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.venues.coinbase import CoinbaseAdvanced, CoinbaseExchange
from tests.venues.mock import Replayed, local_copy, of_today, received_in_session, recorded
from wsrec.feed.load import catalogue

FAST = {"messages_per_second": 20, "connects": 8, "connects_interval": 1}
TIME = 1415348368464459000


def stated(kind, **more):
    return json.dumps({"type": kind, "product_id": "BTC-USD", "time": "2014-11-07T08:19:28.464459Z", **more})


EXCHANGE = {
    ("matches", "BTC-USD"): [
        stated("last_match", trade_id=10, sequence=50, side="sell"),
        *(stated("match", trade_id=number, sequence=number * 5, side="sell") for number in (11, 12)),
    ],
    ("level2_batch", "BTC-USD"): [
        json.dumps({"type": "snapshot", "product_id": "BTC-USD", "bids": [["10101.10", "0.45"]], "asks": []}),
        stated("l2update", changes=[["buy", "10101.80", "0.16"]]),
        # as the exchange says that there is no time
        stated("l2update", changes=[], time="0001-01-01T00:00:00.000000Z"),
    ],
    ("ticker", "BTC-USD"): [stated("ticker", sequence=61, trade_id=12, best_bid="1.0", best_ask="1.1")],
}


@pytest.mark.long
def test_exchange_is_recorded(wsrec, exchange, tmp_path):
    venue = CoinbaseExchange(EXCHANGE)
    config = yaml.safe_load(catalogue()["coinbase"].read_text())
    # a request that holds a wrong product is refused whole
    one = {**config["subscribe"], "batch": 1}
    copy = local_copy("coinbase", exchange(venue).url, tmp_path, limits=FAST, subscribe=one)
    made = recorded(wsrec, copy, "--channels", "trades,book,ticker", "--symbols", "BTC/USD,NO-USD")
    assert sorted(made.payloads) == sorted(frame.encode() for frame in venue.sent)
    assert made.acked == {f"{name}:BTC-USD" for name in ("matches", "level2_batch", "ticker", "heartbeat")}
    assert made.refused == [([], "NO-USD is not a valid product")] * 4
    assert made.status == 4
    assert [row for row in made.fields if row[0] in ("matches", "level2_batch", "ticker")] == [
        *(("matches", "BTC-USD", TIME, number) for number in (10, 11, 12)),
        ("level2_batch", "BTC-USD", None, None),
        ("level2_batch", "BTC-USD", TIME, None),
        ("level2_batch", "BTC-USD", None, None),
        ("ticker", "BTC-USD", TIME, 61),
    ]
    beats = [row for row in made.fields if row[0] == "heartbeat"]
    assert beats
    assert {row[:3] for row in beats} == {("heartbeat", "BTC-USD", TIME)}
    assert not [e for e in made.events if e["kind"] == "gap"]
    # the refusals do not say of what
    unanswered = [topic for e in made.events if e["kind"] == "unanswered" for topic in e["detail"]["topics"]]
    assert sorted(unanswered) == [f"{name}:NO-USD" for name in ("heartbeat", "level2_batch", "matches", "ticker")]


def row(kind, name, **more):
    """One message of BTC-USD, made after the documentation."""
    head = {"channel": kind, "client_id": "", "timestamp": "2026-04-07T14:30:00.123456789Z", "sequence_num": 0}
    return json.dumps({**head, "events": [{"type": "update", name: [{"product_id": "BTC-USD", **more}]}]})


ADVANCED = {
    ("level2", "BTC-USD"): of_today("coinbase/ws_l2_data_snapshot") + of_today("coinbase/ws_l2_data_update"),
    ("market_trades", "BTC-USD"): [row("market_trades", "trades", side="BUY"), *of_today("coinbase/ws_market_trades")],
    ("ticker", "BTC-USD"): [row("ticker", "tickers", price="1"), *of_today("coinbase/ws_ticker")],
    ("candles", "BTC-USD"): of_today("coinbase/ws_candles"),
}


@pytest.mark.long
def test_advanced_is_recorded(wsrec, exchange, tmp_path):
    made_up = '{"channel":"heartbeats","timestamp":"2026-04-07T14:30:10.000000Z","sequence_num":0,"events":[{}]}'
    beat = next(iter(of_today("coinbase/ws_heartbeats")), made_up)
    venue = CoinbaseAdvanced(ADVANCED, left_out=(3, 4), beat=beat)
    config = yaml.safe_load(catalogue()["coinbase-advanced"].read_text())
    copy = local_copy(
        *("coinbase-advanced", exchange(venue).url, tmp_path),
        limits=FAST,
        subscribe={**config["subscribe"], "batch": 1},
    )
    made = recorded(wsrec, copy, "--channels", "trades,book,ticker,candles", "--symbols", "BTC-USD,NO-USD")
    assert sorted(made.payloads) == sorted(frame.encode() for frame in venue.sent)
    assert venue.requests[0] == '{"type":"subscribe","channel":"heartbeats"}'
    assert venue.dropped == 0
    topics = {f"{name}:BTC-USD" for name in ("market_trades", "level2", "ticker", "candles")}
    assert made.acked == {"heartbeats", *topics}
    assert made.refused == [([], "NO-USD is not a valid product")] * 4
    assert made.status == 4
    # The numbers of all messages, also of answers and heartbeats; refusals have none.
    numbers = [number for *_, number in made.fields if number is not None]
    assert numbers == [n for n in range(len(numbers) + 2) if n not in (3, 4)]
    (gap,) = [e for e in made.events if e["kind"] == "gap"]
    assert (gap["channel"], gap["detail"]["scope"], gap["detail"]["missing"]) == (None, "connection", 2)
    channels = Counter(row[0] for row in made.fields)
    assert channels["heartbeats"] >= 1
    assert channels["subscriptions"] == 5
    data = [row[:3] for row in made.fields if row[0] in ("market_trades", "level2", "ticker", "candles")]
    assert {row[1] for row in data} == {"BTC-USD"}
    assert ("market_trades", "BTC-USD", 1775572200123456789) in data
    assert ("ticker", "BTC-USD", 1775572200123456789) in data
    if of_today("coinbase/ws_candles"):
        assert {time for *_, time in data if time != 1775572200123456789} == {
            1775572200123456000,
            1775572201456789000,
            1775572202789012000,
            1775572203000000000,
            1775572205000000000,
        }


@pytest.mark.long
def test_answer_of_today(wsrec, exchange, tmp_path):
    """As it is kept, it confirms what it names."""
    (message,) = of_today("coinbase/ws_subscriptions") or pytest.skip("real messages are not beside the project")
    copy = local_copy("coinbase-advanced", exchange(Replayed([message], 3)).url, tmp_path, limits=FAST)
    made = recorded(wsrec, copy, "--channels", "level2,market_trades", "--symbols", "BTC-USD,ETH-USD")
    assert made.payloads == [message.encode()]
    assert made.fields == [("subscriptions", None, 1775572200000000000, 0)]
    assert made.acked == {"level2:BTC-USD", "market_trades:BTC-USD", "market_trades:ETH-USD"}


@pytest.mark.parametrize("venue", [CoinbaseExchange({}), CoinbaseAdvanced({})], ids=["exchange", "advanced"])
def test_venue_drops_a_client_that_does_not_subscribe(exchange, venue):
    venue.idle_limit = 0.2
    with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError, match="1008"):
        client.recv(5)
    assert venue.dropped == 1


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    """Coinbase Pro, when `level2` was open to all, and no heartbeat was requested."""
    messages = received_in_session("coinbase")
    config = yaml.safe_load(catalogue()["coinbase"].read_text())
    channels = {key: value for key, value in config["channels"].items() if key in ("matches", "ticker")}
    channels["level2"] = {"topic": "level2:{symbol}"}
    names = {"match": "matches", "last_match": "matches", "snapshot": "level2", "l2update": "level2"}
    copy = local_copy(
        "coinbase",
        exchange(Replayed(messages, 3)).url,
        tmp_path,
        channels=channels,
        fields={**config["fields"], "channel": [{"path": "type", "map": names}, "type"]},
        limits=FAST,
    )
    products = "SKL-USD,SKL-BTC,BAND-GBP,NMR-EUR,BAND-BTC,YFI-BTC,DASH-BTC,NU-GBP,CRV-EUR,SKL-GBP"
    made = recorded(wsrec, copy, "--symbols", products, "--channels", "level2,ticker,matches")
    assert made.payloads == [message.encode() for message in messages]
    assert made.refused == []
    assert made.acked == {
        f"{name}:{product}" for name in ("level2", "ticker", "matches") for product in products.split(",")
    }
    data = [row for row in made.fields if row[0] != "subscriptions"]
    assert {row[0] for row in data} == {"level2", "ticker", "matches"}
    assert all(row[1] in products for row in data)
    # only whole books have no time
    assert sum(row[2] is None for row in data) == sum('"type":"snapshot"' in message for message in messages)
    assert [e["detail"] for e in made.events if e["kind"] == "gap"] == []
    assert made.status == 0
