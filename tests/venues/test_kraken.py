from __future__ import annotations

import json

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.monitor.test_checksum import PlainBook, v2
from tests.venues.kraken import Kraken, KrakenFutures
from tests.venues.mock import Replayed, local_copy, of_today, received_in_session, recorded
from wsrec.feed.load import catalogue

PING = {"every": 0.3, "text": '{"method":"ping","req_id":{id}}'}
FAST = {"messages_per_second": 20, "connects": 20, "connects_interval": 1}
TIME = 1696613755440295000


def stated(channel, kind, **more):
    row = {"symbol": "ETH/USD", "timestamp": "2023-10-06T17:35:55.440295Z", **more}
    return json.dumps({"channel": channel, "type": kind, "data": [row]})


SPOT = {
    ("trade", "BTC/USD"): of_today("kraken/ws_trade_update"),
    ("trade", "ETH/USD"): [stated("trade", "update", trade_id=number, price=1.10) for number in (4, 5, 9)],
    ("book-1000", "BTC/USD"): of_today("kraken/ws_book_snapshot") + of_today("kraken/ws_book_update"),
    ("book-1000", "ETH/USD"): [stated("book", kind, bids=[], asks=[], checksum=7) for kind in ("snapshot", "update")],
    ("ticker-bbo", "BTC/USD"): of_today("kraken/ws_ticker_snapshot"),
    ("ticker-bbo", "ETH/USD"): [stated("ticker", "update", bid=1.0, bid_qty=2.0, ask=1.1, ask_qty=3.0)],
    ("ohlc-1", "BTC/USD"): of_today("kraken/ws_ohlc_update"),
    ("instrument", ""): ['{"channel":"instrument","type":"snapshot","data":{"assets":[],"pairs":[]}}'],
}
# single orders need a token, so no channel has them; their fields are read all the same
LEVEL3 = ["snapshot", "update_add", "update_delete", "update_modify_price", "update_modify_qty"]


def test_spot_is_recorded(wsrec, exchange, tmp_path):
    orders = [message for name in LEVEL3 for message in of_today(f"kraken/ws_l3_{name}")]
    rest = of_today("kraken/ws_subscribe_response") + of_today("kraken/ws_pong")
    venue = Kraken({**SPOT, ("instrument", ""): SPOT["instrument", ""] + orders + rest})
    copy = local_copy("kraken", exchange(venue).url, tmp_path, keep_alive=PING, limits=FAST)
    channels = "trades,book,bbo,ohlc-1,instrument"
    made = recorded(wsrec, copy, "--channels", channels, "--symbols", "XBT/USD,eth/usd,NO/USD")
    assert sorted(made.payloads) == sorted(frame.encode() for frame in venue.sent)
    assert venue.dropped == 0
    pings = [json.loads(request)["req_id"] for request in venue.requests if "ping" in request]
    # two connections: both tickers of a symbol would be one on the same
    assert sorted(pings) == [1000000, 1000000, 1000001, 1000001]
    names = ("trade", "book1000", "ticker-bbo", "ohlc-1")
    assert made.acked == {"instrument", *(f"{name}:{symbol}" for name in names for symbol in ("BTC/USD", "ETH/USD"))}
    assert made.refused == [([], "Currency pair not supported NO/USD")] * 4
    assert made.status == 4
    eth = [row for row in made.fields if row[1] == "ETH/USD" and row[2]]
    assert sorted(eth, key=str) == sorted(
        [
            *(("trade", "ETH/USD", TIME, number) for number in (4, 5, 9)),
            *[("book", "ETH/USD", TIME, None)] * 2,
            ("ticker", "ETH/USD", TIME, None),
        ],
        key=str,
    )
    others = {row[0] for row in made.fields if row[1] is None}
    assert others == {"status", "heartbeat", "pong", "instrument", "subscribe"}
    if orders:
        assert {row for row in made.fields if row[1] == "BTC/USD" and row[2]} == {
            ("trade", "BTC/USD", TIME, 10218209),
            ("book", "BTC/USD", TIME, None),
            ("ticker", "BTC/USD", 1671960659123456000, None),
            *(("level3", "BTC/USD", 1705320000000000000 + s * 10**9, None) for s in range(5)),
        }


def book_of(changes, left_out=()):
    """A made-up book of 10 levels: its messages, with the right checksums, without those left out."""
    plain, messages = PlainBook(10), []
    for number in range(changes):
        asks = [(f"1.{20 + number % 7}", f"0.{number % 5}0500000")]
        bids = [(f"1.{19 - number % 7}", "3.00000000")]
        plain.apply(asks, bids)
        messages.append(v2("update" if number else "snapshot", asks, bids, plain.crc(), "ADA/USD").decode())
    return [message for number, message in enumerate(messages) if number not in left_out]


@pytest.mark.long
@pytest.mark.parametrize("left_out", [(12,), ()])
def test_a_lost_book_message_is_a_gap(wsrec, exchange, tmp_path, left_out):
    venue = Kraken({("book-10", "ADA/USD"): book_of(40, left_out)})
    copy = local_copy("kraken", exchange(venue).url, tmp_path, keep_alive=PING, limits=FAST)
    made = recorded(wsrec, copy, "--channels", "book10", "--symbols", "ADA/USD")
    gaps = [event for event in made.events if event["kind"] == "gap"]
    assert [(gap["channel"], gap["symbol"], gap["detail"]["rule"]) for gap in gaps] == [
        ("book", "ADA/USD", "checksum") for _ in left_out
    ]
    lines = [json.loads(line) for line in (tmp_path / "out" / ".wsrec" / "manifest.jsonl").read_text().splitlines()]
    assert [line["gaps"] for line in lines] == [len(left_out)]
    # reads the messages again, and holds what it finds against the event
    verified = json.loads(wsrec.run("verify", tmp_path / "out", "--json").stdout)
    (capture,) = verified["captures"]
    assert not [finding for finding in capture["findings"] if finding["kind"] == "contradiction"]
    (stream,) = [each for each in capture["sessions"][0]["streams"] if each["channel"] == "book"]
    assert (stream["rule"], stream["gaps"]) == ("checksum", len(left_out))
    assert stream["state"] == ("incomplete" if left_out else "unbroken")


@pytest.mark.long
def test_two_depths_of_a_symbol_are_not_distinguished_and_not_checked(wsrec, exchange, tmp_path):
    books = {(f"book-{depth}", "ADA/USD"): book_of(40, {12}) for depth in (10, 25)}
    copy = local_copy("kraken", exchange(Kraken(books)).url, tmp_path, keep_alive=PING, limits=FAST)
    made = recorded(wsrec, copy, "--channels", "book10,book25", "--symbols", "ADA/USD")
    assert not [event for event in made.events if event["kind"] == "gap"]
    (capture,) = json.loads(wsrec.run("verify", tmp_path / "out", "--json").stdout)["captures"]
    assert not [finding for finding in capture["findings"] if finding["kind"] == "contradiction"]


def test_spot_drops_a_client_without_pings(exchange):
    venue = Kraken({})
    venue.idle_limit = 0.3
    with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError, match="1008"):
        list(client)
    assert venue.dropped == 1


def level(number, side="sell"):
    head = {"feed": "book", "product_id": "PF_XBTUSD", "side": side, "seq": number}
    return json.dumps({**head, "price": 34981, "qty": 0, "timestamp": 1612269953629})


FUTURES = {
    ("trade", "PI_XBTUSD"): of_today("kraken/ws_futures_trade_snapshot") + of_today("kraken/ws_futures_trade"),
    ("book", "PI_XBTUSD"): [
        *of_today("kraken/ws_futures_book_snapshot"),
        *of_today("kraken/ws_futures_book_snapshot_with_zero_qty"),
        *of_today("kraken/ws_futures_book_delta"),
    ],
    ("ticker", "PI_XBTUSD"): of_today("kraken/ws_futures_ticker"),
    ("trade", "PF_XBTUSD"): ['{"feed":"trade","product_id":"PF_XBTUSD","uid":"u","seq":5,"time":1612266317519}'],
    # 3 is left out
    ("book", "PF_XBTUSD"): [level(number) for number in (1, 2, 4, 5)],
}


@pytest.mark.long
def test_futures_are_recorded(wsrec, exchange, tmp_path):
    venue = KrakenFutures(FUTURES)
    copy = local_copy("kraken-futures", exchange(venue).url, tmp_path, keep_alive={"every": 0.4}, limits=FAST)
    symbols = "BTC/USD:BTC,BTC/USD:USD,PF_NOUSD"
    made = recorded(wsrec, copy, "--channels", "trades,book,ticker,heartbeat", "--symbols", symbols)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert (venue.pings, venue.dropped) == (2, 0)
    products = ("PI_XBTUSD", "PF_XBTUSD")
    assert made.acked == {"heartbeat", *(f"{feed}:{p}" for feed in ("trade", "book", "ticker") for p in products)}
    assert made.refused == [([], "Invalid product id PF_NOUSD")] * 3
    assert made.status == 4
    assert [row for row in made.fields if row[1] == "PF_XBTUSD"] == [
        ("trade", "PF_XBTUSD", 1612266317519000000, 5),
        *(("book", "PF_XBTUSD", 1612269953629000000, number) for number in (1, 2, 4, 5)),
    ]
    assert ("heartbeat", None, 1534262350627000000, None) in made.fields
    (gap,) = [e["detail"] for e in made.events if e["kind"] == "gap"]
    assert (gap["expected"], gap["found"], gap["missing"]) == (3, 4, 1)
    if of_today("kraken/ws_futures_ticker"):
        assert [row for row in made.fields if row[1] == "PI_XBTUSD"] == [
            ("trade_snapshot", "PI_XBTUSD", 1612269657781000000, 655508),
            ("trade", "PI_XBTUSD", 1612266317519000000, 653355),
            *[("book_snapshot", "PI_XBTUSD", 1612269825817000000, 326072249)] * 2,
            ("book", "PI_XBTUSD", 1612269953629000000, 326094134),
            ("ticker", "PI_XBTUSD", 1676393235406000000, None),
        ]


def test_futures_drop_a_client_without_pings(exchange):
    venue = KrakenFutures({}, seconds=0.2)
    with connect(exchange(venue).url, ping_interval=None) as client, pytest.raises(ConnectionClosedError, match="1008"):
        list(client)
    assert venue.dropped == 1


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    """API v1: data are arrays that end with channel and pair."""
    messages = received_in_session("kraken")
    config = yaml.safe_load(catalogue()["kraken"].read_text())
    copy = local_copy(
        "kraken",
        exchange(Replayed(messages, 1)).url,
        tmp_path,
        sockets={"main": {"url": exchange(Replayed(messages, 1)).url}},
        symbols={**config["symbols"], "currencies": {}},
        subscribe={
            "message": '{"event":"subscribe","pair":{symbols},"subscription":{"name":"book","depth":1000}}',
            "batch": 50,
        },
        ack={"key": [{"join": "{channelName}:{pair}"}], "errors": [{"path": "errorMessage"}]},
        fields={
            "channel": ["event", "[-2]"],
            "symbol": ["[-1]", "pair"],
            "exchange_time": ["[1].a[-1][2]", "[1].b[-1][2]", "[1].as[0][2]"],
            "time_unit": "s",
        },
        channels={"book-1000": {"topic": "book-1000:{symbol}"}},
    )
    pairs = "WAVES/EUR,XMR/USD,KSM/XBT,GRT/ETH,SC/EUR,ETH/CHF,OCEAN/XBT,OMG/USD,XBT/CHF,ADA/XBT"
    made = recorded(wsrec, copy, "--symbols", pairs, "--channels", "book-1000")
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused) == (0, [])
    assert made.acked == {f"book-1000:{pair}" for pair in pairs.split(",")}
    data = [row for row in made.fields if row[0] == "book-1000"]
    assert len(data) == 4279
    assert all(row[1] in pairs and row[2] for row in data)
