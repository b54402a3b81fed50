from __future__ import annotations

import json

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.venues.binance import Binance
from tests.venues.mock import Replayed, by_path, local_copy, of_today, received_in_session, recorded
from wsrec.feed.load import catalogue

SPOT = {
    "btcusdt@trade": [
        f'{{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":{number},"p":"0.001","q":"100","T":1672515782135,"m":true}}'
        for number in (12345, 12346)
    ],
    "btcusdt@depth@100ms": [
        f'{{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":{first},"u":{last},"b":[["0.0024","10"]],"a":[]}}'
        for first, last in ((157, 160), (161, 161), (165, 170))
    ],
    "btcusdt@bookTicker": ['{"u":400900217,"s":"BTCUSDT","b":"25.35190000","B":"31.2","a":"25.36","A":"40.6"}'],
    "btcusdt@ticker": ['{"e":"24hrTicker","E":1672515782136,"s":"BTCUSDT","p":"0.0015","C":86400000,"n":18151}'],
    "btcusdt@depth5": ['{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}'],
}
TIME = 1672515782136000000
READ = {
    "btcusdt@trade": [("trade", "BTCUSDT", TIME, 12345), ("trade", "BTCUSDT", TIME, 12346)],
    "btcusdt@depth@100ms": [("depth@100ms", "BTCUSDT", TIME, number) for number in (160, 161, 170)],
    "btcusdt@bookTicker": [("bookTicker", "BTCUSDT", None, 400900217)],
    "btcusdt@ticker": [("ticker", "BTCUSDT", TIME, None)],
    "btcusdt@depth5": [("depth5", "BTCUSDT", None, 160)],
}


@pytest.mark.long
@pytest.mark.parametrize("feed", ["binance", "binance-us"])
def test_is_recorded_over_the_end_of_a_connection(wsrec, exchange, tmp_path, feed):
    venue = Binance(SPOT, says_so=True)
    config = yaml.safe_load(catalogue()[feed].read_text())
    channels = {**config["channels"], "wrong": {"topic": "{symbol}/wrong"}}
    copy = local_copy(
        feed, exchange(venue).url, tmp_path, channels=channels, subscribe={**config["subscribe"], "batch": 5}
    )
    made = recorded(wsrec, copy, "--symbols", "btcusdt", "--channels", "trades,book,bbo,ticker,depth5,wrong")
    assert sorted(made.payloads) == sorted(frame.encode() for frame in venue.sent)
    assert made.acked == SPOT.keys()
    assert {tuple(topics) for topics, _ in made.refused} == {("btcusdt/wrong",)}
    assert made.refused[0][1] == "2: Invalid request: invalid stream"
    assert made.status == 4
    assert [e for e in made.events if e["kind"] == "replaced"]
    assert venue.pongs >= 6
    read = [(json.loads(p)["stream"], row) for p, row in zip(made.payloads, made.fields, strict=True) if b"@" in p]
    for stream, rows in READ.items():
        # on both connections
        assert sorted(row[1:] for at, row in read if at == stream) == sorted([row[1:] for row in rows] * 2)
        assert {row[0] for at, row in read if at == stream} == {rows[0][0]}
    gaps = [e["detail"] for e in made.events if e["kind"] == "gap"]
    assert {(gap["expected"], gap["found"], gap["missing"]) for gap in gaps} == {(162, 165, 3)}


FUTURES = {
    "btcusdt@trade": ["binance/trade_stream", ("trade", "BTCUSDT", 123456789000000, 5933014)],
    "btcusdt@depth@100ms": ["binance/depth_update_stream", ("depth@100ms", "BTCUSDT", 123456789000000, 160)],
    "bnbusdt@bookTicker": ["binance/book_ticker_stream", ("bookTicker", "BNBUSDT", 1568014460893000000, 400900217)],
    "btcusdt@aggTrade": ["binance/agg_trade_stream", ("aggTrade", "BTCUSDT", 123456789000000, 5933014)],
    "btcusdt@ticker": ["binance/ticker_stream", ("ticker", "BTCUSDT", 1672515782136000000, None)],
    "btcusdt@markPrice": ["binance/mark_price_stream", ("markPrice", "BTCUSDT", 1562305380000000000, None)],
    "btcusdt@kline_1m": ["binance/kline_stream_closed", ("kline_1m", "BTCUSDT", 1638747660000000000, None)],
    "ethusdt@kline_1m": ["binance/kline_stream_open", ("kline_1m", "BTCUSDT", 1638747660000000000, None)],
    "btcusdt@forceOrder": ["binance/liquidation_stream", ("forceOrder", "BTCUSDT", 1568014460893000000, None)],
}
ALL = "trades,book,bbo,aggTrade,ticker,markPrice,kline_1m,forceOrder"


def test_usdm_has_two_groups(wsrec, exchange, tmp_path):
    """A stream at the wrong address would be confirmed and stay silent."""
    messages = {stream: of_today(name) for stream, (name, _) in FUTURES.items()}
    if not all(messages.values()):
        pytest.skip("real messages are not beside the project")
    public = ("@trade", "@depth@100ms", "@bookTicker")
    groups = {
        "/public/stream": Binance({s: m for s, m in messages.items() if s.endswith(public)}, 10),
        "/market/stream": Binance({s: m for s, m in messages.items() if not s.endswith(public)}, 10),
    }
    copy = local_copy("binance-usdm", exchange(by_path(groups)).url, tmp_path)
    made = recorded(wsrec, copy, "--channels", ALL, "--symbols", "BTCUSDT,BNBUSDT,ETHUSDT")
    assert sorted(made.payloads) == sorted(f.encode() for venue in groups.values() for f in venue.sent)
    assert (made.status, made.refused, len(made.acked)) == (0, [], 3 * 8)
    assert {row for row in made.fields if row[1]} == {read for _, read in FUTURES.values()}


@pytest.mark.long
def test_coinm_is_recorded(wsrec, exchange, tmp_path):
    head = '"E":1591270260907,"T":1591270260891,"s":"BTCUSD_PERP","ps":"BTCUSD"'
    venue = Binance(
        {
            "btcusd_perp@trade": [f'{{"e":"trade",{head},"t":7}}'],
            "btcusd_perp@depth@100ms": [
                f'{{"e":"depthUpdate",{head},"U":{number},"u":{number},"pu":{before},"b":[],"a":[]}}'
                for number, before in ((20, 10), (35, 20), (50, 40))
            ],
            "btcusd_perp@bookTicker": [f'{{"e":"bookTicker",{head},"u":51}}'],
        },
        10,
    )
    copy = local_copy("binance-coinm", exchange(venue).url, tmp_path)
    made = recorded(wsrec, copy, "--symbols", "BTC/USD:BTC")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    time = 1591270260907000000
    assert made.fields[1:] == [
        ("trade", "BTCUSD_PERP", time, 7),
        *(("depth@100ms", "BTCUSD_PERP", time, number) for number in (20, 35, 50)),
        ("bookTicker", "BTCUSD_PERP", time, 51),
    ]
    (gap,) = [e["detail"] for e in made.events if e["kind"] == "gap"]
    assert (gap["expected"], gap["found"]) == (35, 40)


def test_venue_closes_on_too_many_messages(exchange):
    with connect(exchange(Binance({})).url) as client:
        for number in range(7):
            client.send(json.dumps({"method": "SUBSCRIBE", "params": [], "id": number}))
        with pytest.raises(ConnectionClosedError, match="1008"):
            list(client)


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    messages = received_in_session("binance")
    made = recorded(
        wsrec,
        local_copy("binance", exchange(Replayed(['{"result":null,"id":1}', *messages], 1)).url, tmp_path),
        *("--symbols", "NKNUSDT,BLZETH,LRCBTC,RUNEEUR", "--channels", "depth@100ms,bookTicker,kline_1m,aggTrade"),
    )
    assert made.payloads[1:] == [message.encode() for message in messages]
    assert (made.status, made.refused) == (0, [])
    assert all(row[1] for row in made.fields[1:])
    assert len({row[1] for row in made.fields[1:]}) == 4
    assert not [e for e in made.events if e["kind"] in ("gap", "unanswered")]
