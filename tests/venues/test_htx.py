from __future__ import annotations

import ast
import gzip
import json

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.effort import thinned
from tests.venues.htx import Htx
from tests.venues.mock import Replayed, by_path, local_copy, received_in_session, recorded

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100}
AT = 1618678027942


def message(topic, **tick):
    return json.dumps({"ch": topic, "ts": AT, "tick": tick})


def trade(topic):
    one = {"id": 100182534526255757567432481, "ts": AT - 2, "tradeId": 100045088885, "price": 9.2e-07}
    return message(topic, id=100182534526, ts=AT - 2, data=[{**one, "direction": "buy"}])


def times(fields, symbol):
    assert {time for _, at, time, _ in fields if at == symbol} == {AT * 10**6}
    return sorted(((channel, seq) for channel, at, _, seq in fields if at == symbol), key=str)


@pytest.mark.long
def test_spot_is_recorded_at_two_addresses(wsrec, exchange, tmp_path):
    book = "market.btcusdt.mbp.400"
    numbers = [(101, 100), (105, 101), (109, 107)]
    ws = {
        "market.btcusdt.trade.detail": [trade("market.btcusdt.trade.detail")],
        "market.btcusdt.bbo": [message("market.btcusdt.bbo", seqId=121, quoteTime=AT - 1, symbol="btcusdt")],
        "market.btcusdt.detail": [message("market.btcusdt.detail", amount=12224.2, open=9790.5)],
        "market.btcusdt.depth.step0": [message("market.btcusdt.depth.step0", bids=[], asks=[], version=31, ts=AT)],
    }
    feed = {book: [message(book, seqNum=n, prevSeqNum=p, bids=[], asks=[[645.1, 26.7]]) for n, p in numbers]}
    venues = {"/ws": Htx(ws, 2, 8), "/feed": Htx(feed, 2, 2)}
    copy = local_copy("htx", exchange(by_path(venues)).url, tmp_path, limits=FAST)
    symbols, channels = "BTC/USDT,nonesuch", "trades,book,bbo,ticker,depth.step0"
    made = recorded(wsrec, copy, "--symbols", symbols, "--channels", channels)
    assert sorted(made.payloads) == sorted(frame for venue in venues.values() for frame in venue.sent)
    assert [(venue.dropped, venue.pongs >= 3) for venue in venues.values()] == [(0, True)] * 2
    assert made.acked == {*ws, book}
    # the refusal does not say of what but in words
    assert {stated for _, stated in made.refused} == {
        f"bad-request: invalid topic {topic.replace('btcusdt', 'nonesuch')}" for topic in made.acked
    }
    assert made.status == 4
    expected = [("trade.detail", None), ("bbo", 121), ("detail", None), ("depth.step0", 31)]
    expected += [("mbp.400", number) for number, _ in numbers]
    assert times(made.fields, "btcusdt") == sorted(expected, key=str)
    assert {row[0] for row in made.fields if not row[1]} == {"ping", "subscribed", "error"}
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["detail"]["expected"], gap["detail"]["found"]) == ("mbp.400", 105, 107)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "path", "symbol", "unknown"),
    thinned(
        [
            ("htx-linear-swap", "/linear-swap-ws", "BTC-USDT", "NONE-USDT"),
            ("htx-coin-swap", "/swap-ws", "BTC-USD", "NONE-USD"),
            ("htx-coin-futures", "/ws", "BTC_CQ", "NONE_CQ"),
        ]
    ),
)
def test_derivatives_are_recorded(wsrec, exchange, tmp_path, name, path, symbol, unknown):
    book = f"market.{symbol}.depth.size_150.high_freq"
    # a snapshot begins anew: only 13 is a gap
    versions = [("snapshot", 10), ("update", 11), ("update", 13), ("snapshot", 40), ("update", 41)]
    topics = {
        f"market.{symbol}.trade.detail": [trade(f"market.{symbol}.trade.detail")],
        book: [message(book, event=kind, version=n, mrid=n, ts=AT, bids=[], asks=[]) for kind, n in versions],
        f"market.{symbol}.bbo": [message(f"market.{symbol}.bbo", version=10, mrid=10, ts=AT)],
        f"market.{symbol}.detail": [message(f"market.{symbol}.detail", vol="1", id=1)],
    }
    venue = Htx(topics, 5, 8)
    feed = local_copy(name, exchange(by_path({path: venue})).url, tmp_path, limits=FAST)
    made = recorded(wsrec, feed, "--symbols", f"{symbol},{unknown}", "--channels", "trades,book,bbo,ticker")
    assert made.payloads == venue.sent
    assert venue.dropped == 0
    assert venue.pongs >= 3
    assert made.acked == topics.keys()
    assert (len(made.refused), made.status) == (4, 4)
    expected = [("trade.detail", None), ("bbo", 10), ("detail", None)]
    expected += [("depth.size_150.high_freq", number) for _, number in versions]
    assert times(made.fields, symbol) == sorted(expected, key=str)
    (gap,) = [event["detail"] for event in made.events if event["kind"] == "gap"]
    assert (gap["expected"], gap["found"]) == (12, 13)
    assert [event for event in made.events if event["kind"] == "sequence_reset"]


def test_a_client_that_does_not_answer_pings_is_dropped(exchange):
    venue = Htx({}, 2)
    with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError, match="1003"):
        list(client)
    assert venue.dropped == 1


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    messages = [ast.literal_eval(text) for text in received_in_session("huobi")]
    read = [json.loads(gzip.decompress(one)) for one in messages]
    topics = {one["subbed"] for one in read if "subbed" in one}
    symbols = {topic.split(".")[1] for topic in topics}
    venues = {"/ws": Replayed(messages, len(topics))}
    feed = local_copy("htx", exchange(by_path(venues)).url, tmp_path, limits=FAST)
    made = recorded(wsrec, feed, "--symbols", ",".join(symbols), "--channels", "trades,depth.step0")
    assert made.payloads == messages
    assert (made.status, made.refused, made.acked) == (0, [], topics)
    expected = [
        (*reversed(one["ch"].split(".", 2)[1:]), one["ts"] * 10**6, one["tick"].get("version"))
        for one in read
        if "ch" in one
    ]
    assert [row for row in made.fields if row[1]] == expected
    assert sum(row[0] == "ping" for row in made.fields) == 6
    assert not [event for event in made.events if event["kind"] == "gap"]
