from __future__ import annotations

import json

import pytest

from tests.venues.gate import Gate
from tests.venues.mock import Replayed, by_path, local_copy, received_in_session, recorded
from wsrec.feed.load import find_feed
from wsrec.monitor.closing_notice import NoticeReader

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100}
TIME = 1764000000123


def message(channel, result, event="update"):
    head = {"time": TIME // 1000, "time_ms": TIME, "channel": channel, "event": event}
    return json.dumps({**head, "result": result})


def changes(channel, symbol, *ranges, **more):
    return [message(channel, {"t": TIME - 3, "s": symbol, "U": u, "u": v, "b": [], "a": [], **more}) for u, v in ranges]


def ping(market):
    return {"every": 0.3, "text": f'{{"time":{{time_s}},"channel":"{market}.ping"}}'}


@pytest.mark.long
def test_spot_is_recorded(wsrec, exchange, tmp_path):
    pair = {"currency_pair": "BTC_USDT"}
    trade = {"id": 816995772, "create_time": 1619093543, "create_time_ms": "1619093543708.2642", "side": "sell", **pair}
    first, *rest = changes("spot.obu", "ob.BTC_USDT.400", (50, 50), (51, 53), (54, 54))
    first = first.replace('"t":', '"full": true, "t":')
    venue = Gate(
        "spot",
        {
            "spot.trades BTC_USDT": [message("spot.trades", trade)],
            "spot.order_book_update BTC_USDT 100ms": changes(
                "spot.order_book_update", "BTC_USDT", (157, 160), (161, 161), (165, 170)
            ),
            "spot.obu ob.BTC_USDT.400": [first, *rest],
            "spot.book_ticker BTC_USDT": [message("spot.book_ticker", {"t": TIME, "u": 48733182, "s": "BTC_USDT"})],
            "spot.tickers BTC_USDT": [message("spot.tickers", {**pair, "last": "19106.55"})],
            "spot.candlesticks 1m BTC_USDT": [message("spot.candlesticks", {"t": "1606292580", "n": "1m_BTC_USDT"})],
        },
        12,
    )
    feed = local_copy("gateio", exchange(venue).url, tmp_path, limits=FAST, keep_alive=ping("spot"))
    channels = "trades,book,bbo,ticker,spot.obu.400,spot.candlesticks.1m"
    made = recorded(wsrec, feed, "--symbols", "BTC/USDT,NONE_USDT", "--channels", channels)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.pings >= 2
    topics = {
        "spot.trades:{}",
        "spot.order_book_update:{}",
        "spot.book_ticker:{}",
        "spot.tickers:{}",
        "spot.obu:ob.{}.400",
        "spot.candlesticks:1m:{}",
    }
    assert made.acked == {topic.format("BTC_USDT") for topic in topics}
    assert {tuple(topics) for topics, _ in made.refused} == {(topic.format("NONE_USDT"),) for topic in topics}
    assert made.refused[0][1] == "2: unknown currency pair NONE_USDT"
    assert made.status == 4
    at = TIME * 10**6
    assert sorted((row for row in made.fields if row[1]), key=str) == sorted(
        [
            ("spot.trades", "BTC_USDT", at, 816995772),
            *(("spot.order_book_update", "BTC_USDT", at, number) for number in (160, 161, 170)),
            *(("spot.obu.400", "BTC_USDT", at, number) for number in (50, 53, 54)),
            ("spot.book_ticker", "BTC_USDT", at, 48733182),
            ("spot.tickers", "BTC_USDT", at, None),
            ("spot.candlesticks.1m", "BTC_USDT", at, None),
        ],
        key=str,
    )
    assert {row[0] for row in made.fields if not row[1]} == {"subscribe", "spot.pong"}
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["detail"]["expected"], gap["detail"]["found"]) == ("spot.order_book_update", 162, 165)


def futures(symbol, awaited):
    trade = {"size": -108, "id": 27753479, "create_time_ms": 1545136464123, "price": "96.4", "contract": symbol}
    return Gate(
        "futures",
        {
            f"futures.trades {symbol}": [message("futures.trades", [trade, {**trade, "id": 27753480}])],
            f"futures.order_book_update {symbol} 100ms 100": changes(
                "futures.order_book_update", symbol, (3, 5), (6, 6)
            ),
            f"futures.obu ob.{symbol}.50": changes("futures.obu", f"ob.{symbol}.50", (7, 7), (8, 9), full=False),
            f"futures.order_book {symbol} 20 0": [
                message("futures.order_book", {"t": TIME, "contract": symbol, "asks": [], "bids": []}, "all"),
                message("futures.order_book", [{"p": "49525.6", "s": 0, "c": symbol, "t": TIME}]),
            ],
            f"futures.book_ticker {symbol}": [message("futures.book_ticker", {"t": TIME, "u": 9, "s": symbol})],
            f"futures.tickers {symbol}": [
                message("futures.tickers", [{"contract": symbol, "last": "118.4"}]),
                message("futures.tickers", {"contract": symbol, "last": "118.5"}),
            ],
        },
        awaited,
    )


@pytest.mark.long
def test_futures_are_recorded_at_two_addresses(wsrec, exchange, tmp_path):
    venues = {"/v4/ws/usdt": futures("BTC_USDT", 12), "/v4/ws/btc": futures("BTC_USD", 6)}
    url = exchange(by_path(venues)).url
    feed = local_copy("gateio-futures", url, tmp_path, limits=FAST, keep_alive=ping("futures"))
    channels = "trades,book,bbo,ticker,futures.obu.50,futures.order_book"
    symbols = "BTC/USDT:USDT,BTC/USD:BTC,NONE_USDT"
    made = recorded(wsrec, feed, "--symbols", symbols, "--channels", channels)
    assert sorted(made.payloads) == sorted(frame.encode() for venue in venues.values() for frame in venue.sent)
    assert [venue.dropped for venue in venues.values()] == [0, 0]
    assert made.status == 4
    assert (len(made.acked), len(made.refused)) == (12, 6)
    assert all(topic.rpartition(":")[2] in ("NONE_USDT", "ob.NONE_USDT.50") for (topic,), _ in made.refused)
    numbers = [
        *(("futures.trades", 27753480), ("futures.order_book_update", 5), ("futures.order_book_update", 6)),
        *(("futures.obu.50", 7), ("futures.obu.50", 9), ("futures.order_book", None), ("futures.order_book", None)),
        *(("futures.book_ticker", 9), ("futures.tickers", None), ("futures.tickers", None)),
    ]
    for symbol in ("BTC_USDT", "BTC_USD"):
        found = [(channel, seq) for channel, at, _, seq in made.fields if at == symbol]
        assert sorted(found, key=str) == sorted(numbers, key=str)
    assert {row[2] for row in made.fields} == {TIME * 10**6}
    assert not [event for event in made.events if event["kind"] == "gap"]


def test_futures_say_when_they_are_about_to_close():
    notices = NoticeReader(find_feed("gateio-futures"))
    assert notices.read(b'{"time":1,"channel":"futures.system","event":"update","result":{}}') == "futures.system"
    assert notices.read(b'{"time":1,"channel":"futures.pong","event":""}') is None


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    """Answers had no payload then, so that nothing says of what they are."""
    messages = received_in_session("gateio")
    read = [json.loads(text) for text in messages]
    data = [one for one in read if one["event"] == "update"]
    symbols = {one["result"]["s"] for one in data if one["channel"] == "spot.order_book_update"}
    assert len(symbols) == 10
    feed = local_copy("gateio", exchange(Replayed(messages, 40)).url, tmp_path, limits=FAST, ack=None)
    channels = "trades,book,ticker,spot.candlesticks.1m"
    made = recorded(wsrec, feed, "--symbols", ",".join(symbols), "--channels", channels)
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused) == (0, [])
    found = [row for row in made.fields if row[1]]
    assert len(found) == len(data)
    for (channel, symbol, time, seq), one in zip(found, data, strict=True):
        result = one["result"]
        assert channel == (f"{one['channel']}.1m" if "n" in result else one["channel"])
        assert symbol == (result.get("s") or result.get("currency_pair") or result["n"].removeprefix("1m_"))
        assert (time, seq) == (one["time"] * 10**9, result.get("u", result.get("id")))
    assert not [event for event in made.events if event["kind"] == "gap"]
