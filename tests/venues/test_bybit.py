from __future__ import annotations

import json

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.effort import thinned
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


TEN = "trades,book,bbo,ticker,orderbook.200,orderbook.1000,kline.1,kline.5,kline.15"
SYMBOLS = {
    "spot": ("BTCUSDT", "orderbook.full"),
    "linear": ("BTCUSDT", "allLiquidation"),
    "inverse": ("BTCUSD", "kline.D"),
}


@pytest.mark.long
@pytest.mark.parametrize("category", thinned(SYMBOLS))
def test_is_recorded(wsrec, exchange, tmp_path, category):
    symbol, another = SYMBOLS[category]
    topics = {
        f"publicTrade.{symbol}": [trades(f"publicTrade.{symbol}", symbol, *numbers) for numbers in ((7, 7, 9), (9,))],
        # 13 is left out; then the service begins anew, and then comes a snapshot.
        f"orderbook.50.{symbol}": [
            *book(f"orderbook.50.{symbol}", symbol, [10, 11, 12, 14, 1, 2]),
            *book(f"orderbook.50.{symbol}", symbol, [77, 78]),
        ],
        f"orderbook.1.{symbol}": list(book(f"orderbook.1.{symbol}", symbol, [5, 5, 8])),
        f"orderbook.200.{symbol}": of_today("bybit/ws_orderbook_snapshot") + of_today("bybit/ws_orderbook_delta"),
        f"tickers.{symbol}": of_today("bybit/ws_ticker_linear"),
        f"kline.5.{symbol}": of_today("bybit/ws_kline"),
        # Answers to somebody else's requests, and trades by a name that is no topic of today.
        f"kline.15.{symbol}": [
            *of_today("bybit/ws_subscription_ack"),
            *of_today("bybit/ws_subscription_failure"),
            *of_today("bybit/ws_public_trade"),
        ],
    }
    venue = Bybit(category, topics)
    config = yaml.safe_load(catalogue()[f"bybit-{category}"].read_text())
    # Spot's own limit; as it is a request that holds a wrong topic that is refused whole.
    ten = {**config["subscribe"], "batch": 10}
    limits = {**config["limits"], "messages_per_second": 100}
    url = exchange(venue).url
    copy = local_copy(f"bybit-{category}", url, tmp_path, keep_alive=PING, subscribe=ten, limits=limits)
    made = recorded(wsrec, copy, "--channels", f"{TEN},{another}", "--symbols", f"{symbol.lower()},WRONG")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.requests.count('{"op":"ping"}') >= 2
    right, wrong = [json.loads(request)["args"] for request in venue.requests[:2]]
    assert made.acked == set(right)
    of_others = [([], "Invalid topic: invalid.topic.BTCUSDT")] if of_today("bybit/ws_subscription_failure") else []
    # each is requested again without the topic that was named, until none is left
    assert sorted(made.refused) == sorted([*of_others, *(([topic], f"Invalid topic: {topic}") for topic in wrong)])
    assert made.status == 4
    assert config["subscribe"]["batch"] == (10 if category == "spot" else 50)
    assert [row for row in made.fields if row[0] in ("publicTrade", "orderbook.50")] == [
        *(("publicTrade", symbol, TIME, 9) for _ in range(2)),
        *(("orderbook.50", symbol, TIME, number) for number in (10, 11, 12, 14, 1, 2, 77, 78)),
    ]
    assert [row[3] for row in made.fields if row[:3] == ("orderbook.1", symbol, TIME)] == [5, 5, 8]
    (gap,) = [e["detail"] for e in made.events if e["kind"] == "gap"]
    assert (gap["expected"], gap["missing"]) == (13, 1)
    assert [e["detail"]["found"] for e in made.events if e["kind"] == "sequence_reset"] == [1, 77]
    if topics[f"kline.5.{symbol}"]:
        today = [row for row in made.fields if row[2] != TIME and row[1]]
        assert set(today) == {
            ("orderbook.1", "BTCUSDT", 1709891679000000000, 123456789),
            ("orderbook.1", "BTCUSDT", 1709891679500000000, 123456790),
            ("tickers", "BTCUSDT", 1673272861686000000, None if category == "spot" else 24987956059),
            ("kline.5", "BTCUSDT", 1672324988882000000, None),
            ("trade.linear", "BTCUSDT", 1709891679005000000, None),
        }


@pytest.mark.long
def test_options_are_recorded(wsrec, exchange, tmp_path):
    option = "BTC-6JAN23-17500-C"
    topics = {
        "publicTrade.BTC": [trades("publicTrade.BTC", option, 4)],
        f"orderbook.25.{option}": list(book(f"orderbook.25.{option}", option, [3, 4])),
        f"tickers.{option}": of_today("bybit/ws_ticker_option"),
    }
    venue = Bybit("option", topics)
    copy = local_copy(
        "bybit-option",
        exchange(venue).url,
        tmp_path,
        keep_alive=PING,
        subscribe={"message": '{"req_id":"{id}","op":"subscribe","args":{topics}}', "batch": 6},
    )
    made = recorded(wsrec, copy, "--channels", "trades,book,ticker", "--symbols", f"BTC,{option},WRONG")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    rows = [row for row in made.fields if row[1]]
    assert rows[:3] == [
        ("publicTrade", option, TIME, 4),
        ("orderbook.25", option, TIME, 3),
        ("orderbook.25", option, TIME, 4),
    ]
    assert rows[3:] in ([], [("tickers", option, 1672917511074000000, None)])
    assert {f"orderbook.25.{option}", "publicTrade.BTC"} <= made.acked
    # A request of which nothing is right.
    assert [stated for _, stated in made.refused] == ["publicTrade.WRONG"]
    assert made.status == 4
    # what came of the base's topic is not taken for silence of it
    (capture,) = json.loads(wsrec.run("verify", tmp_path / "out", "--json").stdout)["captures"]
    silent = {s["topic"] for session in capture["sessions"] for s in session["streams"] if s["state"] == "silent"}
    assert silent == {"orderbook.25.BTC", "tickers.BTC"}


def test_venue_drops_a_client_without_pings(exchange):
    venue = Bybit("spot", {})
    venue.idle_limit = 0.2
    with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError, match="1008"):
        client.recv(5)
    assert venue.dropped == 1


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    """The topics of then: the book has no numbers, and answers repeat the request."""
    messages = received_in_session("bybit")
    symbols = "BCHUSDT,XTZUSDT,UNIUSDT,LTCUSDT,DOTUSDT,LINKUSDT,ADAUSDT,ETHUSDT"
    config = yaml.safe_load(catalogue()["bybit-linear"].read_text())
    copy = local_copy(
        "bybit-linear",
        exchange(Replayed(messages, 16)).url,
        tmp_path,
        subscribe={"message": '{"op":"subscribe","args":["{topic}"]}'},
        limits={**config["limits"], "messages_per_second": 100},
        ack={"key": ["request.args[]"], "errors": [{"path": "success", "equals": False}]},
        fields={
            **config["fields"],
            "channel": [
                {"value": "subscribe", "needs": ["request.op"]},
                {"path": "topic", "capture": r"^(.+)\.[^.]+$"},
            ],
            "symbol": [{"path": "topic", "capture": r"\.([^.]+)$"}],
            "exchange_time": [{"path": "timestamp_e6", "unit": "us"}, "data[].trade_time_ms"],
        },
        channels={"trade": {"topic": "trade.{symbol}"}, "orderBookL2_25": {"topic": "orderBookL2_25.{symbol}"}},
    )
    made = recorded(wsrec, copy, "--symbols", symbols, "--channels", "trade,orderBookL2_25")
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused) == (0, [])
    assert len(made.acked) == 16
    data = [row for row in made.fields if row[0] != "subscribe"]
    assert {row[0] for row in data} == {"trade", "orderBookL2_25"}
    assert all(row[1] in symbols and row[2] for row in data)
