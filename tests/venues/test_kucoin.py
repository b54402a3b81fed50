from __future__ import annotations

import json
import uuid

import pytest

from tests.effort import thinned
from tests.venues.kucoin import Kucoin
from tests.venues.mock import Replayed, local_copy, received_in_session, recorded

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100}
PING = {"every": 0.35, "text": '{"id":"{id}","type":"ping"}'}
AT = 1764000000123


def message(topic, subject, **data):
    return json.dumps({"type": "message", "topic": topic, "subject": subject, "data": data})


def spot():
    symbol = "BTC-USDT"
    trade = {"symbol": symbol, "side": "buy", "price": "0.08", "size": "0.01", "time": f"{AT}456789", "tradeId": "5c24"}
    ranges = [(10, 12), (13, 13), (16, 16)]
    return {
        f"/market/match:{symbol}": [
            message(f"/market/match:{symbol}", "trade.l3match", sequence=str(seq), **trade) for seq in (7, 9)
        ],
        f"/market/level2:{symbol}": [
            message(
                f"/market/level2:{symbol}",
                "trade.l2update",
                changes={"asks": [["0", "0", str(last)]], "bids": []},
                symbol=symbol,
                time=AT,
                sequenceStart=first,
                sequenceEnd=last,
            )
            for first, last in ranges
        ],
        f"/market/ticker:{symbol}": [
            message(f"/market/ticker:{symbol}", "trade.ticker", sequence="1545896668986", bestAsk="0.08", time=AT)
        ],
        f"/spotMarket/level1:{symbol}": [
            message(f"/spotMarket/level1:{symbol}", "level1", asks=["51908", "10"], bids=["51907", "1"], timestamp=AT)
        ],
        f"/spotMarket/level2Depth5:{symbol}": [
            message(f"/spotMarket/level2Depth5:{symbol}", "level2", asks=[["9", "8"]], bids=[], timestamp=AT)
        ],
        f"/market/candles:{symbol}_1min": [
            message(
                f"/market/candles:{symbol}_1min",
                "trade.candles.update",
                symbol=symbol,
                candles=["1589968800"],
                time=AT * 10**6,
            )
        ],
    }


def futures():
    symbol = "XBTUSDTM"
    trade = {"symbol": symbol, "side": "buy", "size": 1, "price": "7", "tradeId": "5e", "ts": AT * 10**6 + 456789}
    return {
        f"/contractMarket/execution:{symbol}": [
            message(f"/contractMarket/execution:{symbol}", "match", sequence=36, **trade)
        ],
        f"/contractMarket/level2:{symbol}": [
            message(f"/contractMarket/level2:{symbol}", "level2", sequence=seq, change="5000.0,sell,83", timestamp=AT)
            for seq in (18, 19, 23)
        ],
        f"/contractMarket/tickerV2:{symbol}": [
            message(f"/contractMarket/tickerV2:{symbol}", "tickerV2", symbol=symbol, sequence=107, ts=AT * 10**6)
        ],
        f"/contract/instrument:{symbol}": [
            message(f"/contract/instrument:{symbol}", "mark.index.price", indexPrice=4000.23, timestamp=AT)
        ],
    }


MS, NS = AT * 10**6, AT * 10**6 + 456789
MARKETS = {
    "kucoin": (
        spot,
        ("BTC-USDT", "NONE-USDT"),
        "trades,book,bbo,ticker,level2Depth5,candles_1min",
        [
            *(("match", NS, number) for number in (7, 9)),
            *(("level2", MS, number) for number in (12, 13, 16)),
            *(
                ("ticker", MS, 1545896668986),
                ("level1", MS, None),
                ("level2Depth5", MS, None),
                ("candles_1min", MS, None),
            ),
        ],
        (14, 16),
    ),
    "kucoin-futures": (
        futures,
        ("XBTUSDTM", "NONEUSDTM"),
        "trades,book,bbo,ticker",
        [
            ("execution", NS, 36),
            *(("level2", MS, number) for number in (18, 19, 23)),
            *(("tickerV2", MS, 107), ("instrument", MS, None)),
        ],
        (20, 23),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", thinned(MARKETS))
def test_is_recorded(wsrec, exchange, https, ca_file, tmp_path, monkeypatch, name):
    topics, (symbol, unknown), channels, read, gap = MARKETS[name]
    venue = Kucoin(topics(), 2 * len(topics()))
    host = exchange(venue, tls=True).url.removesuffix("/stream")
    api = https(lambda path: venue.bullet(f"{host}/") if path == "/api/v1/bullet-public" else (404, {}, b""))
    token = {"url": f"{api.url}/api/v1/bullet-public", "token": "data.token"}
    socket = {
        "url": "wss://ws.invalid/?token={token}&connectId={uuid}",
        "token": {**token, "endpoint": "data.instanceServers[0].endpoint"},
    }
    feed = local_copy(name, host, tmp_path, limits=FAST, keep_alive=PING, sockets={"main": socket})
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    made = recorded(wsrec, feed, "--symbols", f"{symbol},{unknown}", "--channels", channels, "--ca-file", ca_file)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert [requested[:2] for requested in api.requested] == [("POST", "/api/v1/bullet-public")]
    assert uuid.UUID(*venue.ids)
    assert venue.dropped == 0
    assert venue.pings >= 3
    assert made.acked == venue.topics.keys()
    assert {topics for (topics,), _ in made.refused} == {topic.replace(symbol, unknown) for topic in venue.topics}
    assert made.refused[0][1].startswith("404: topic ")
    assert made.status == 4
    found = [(channel, time, seq) for channel, at, time, seq in made.fields if at == symbol]
    assert sorted(found, key=str) == sorted(read, key=str)
    assert {row[0] for row in made.fields if not row[1]} == {"welcome", "ack", "error", "pong"}
    (lost,) = [event["detail"] for event in made.events if event["kind"] == "gap"]
    assert (lost["expected"], lost["found"]) == gap
    secret = venue.token.encode()
    assert not any(secret in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    messages = received_in_session("kucoin")
    read = [json.loads(text) for text in messages]
    data = [one for one in read if one["type"] == "message"]
    symbols = {one["data"]["symbol"] for one in data if "symbol" in one["data"]} | {
        one["topic"].partition(":")[2] for one in data if one["subject"] == "trade.ticker"
    }
    url = exchange(Replayed(messages, 4 * len(symbols))).url
    feed = local_copy("kucoin", url, tmp_path, limits=FAST, sockets={"main": {"url": url}}, on_connect=None)
    channels = "trades,book,ticker,candles_1min"
    made = recorded(wsrec, feed, "--symbols", ",".join(symbols), "--channels", channels)
    assert made.payloads == [message.encode() for message in messages]
    # the recording was shortened: most requests have no answer in it, which is reported
    assert (made.status, made.refused) == (4, [])
    assert sum(one["type"] == "ack" for one in read) < 4 * len(symbols)
    found = [row for row in made.fields if row[1]]
    assert len(found) == len(data)
    for (channel, symbol, time, seq), one in zip(found, data, strict=True):
        body, (kind, _, suffix) = one["data"], one["topic"].partition(":")
        assert channel == kind.removeprefix("/market/") + ("_1min" if "candles" in kind else "")
        assert symbol == suffix.removesuffix("_1min")
        number = body.get("sequenceEnd", body.get("sequence"))
        assert seq == (None if number is None else int(number))
        # the book had no time then
        scale = 10**6 if channel == "ticker" else 1
        assert time == (int(body["time"]) * scale if "time" in body else None)
    assert not [event for event in made.events if event["kind"] == "gap"]
