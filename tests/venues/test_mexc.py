from __future__ import annotations

import json

import pytest

from tests.venues.mexc import Futures, Spot
from tests.venues.mock import feed_keys, local_copy, recorded
from wsrec import open_capture
from wsrec.feed.load import load_feed
from wsrec.feed.table_columns import Table
from wsrec.tables.reading import read_tables


@pytest.mark.long
def test_spot_is_recorded_raw(wsrec, exchange, tmp_path):
    venue = Spot()
    copy = local_copy(
        "mexc",
        exchange(venue).url,
        tmp_path,
        keep_alive={"every": 0.4, "text": '{"method":"PING"}'},
        ack={**feed_keys("mexc")["ack"], "timeout": 0.1},
    )
    made = recorded(wsrec, copy, "--symbols", "BTCUSDT,NONE", "--channels", "trades,book,bbo,ticker")
    assert made.payloads == [frame.encode() if isinstance(frame, str) else frame for frame in venue.sent]
    assert venue.dropped == 0
    topics = {
        *(f"spot@public.aggre.{kind}.v3.api.pb@100ms@BTCUSDT" for kind in ("deals", "depth", "bookTicker")),
        "spot@public.miniTicker.v3.api.pb@BTCUSDT@UTC+8",
    }
    assert made.acked == topics
    # What it does not say in its code is no refusal, but an answer that did not come.
    assert made.refused == []
    unanswered = [
        topic for event in made.events if event["kind"] == "unanswered" for topic in event["detail"]["topics"]
    ]
    assert sorted(unanswered) == sorted(topic.replace("BTCUSDT", "NONE") for topic in topics)
    assert made.status == 4
    tables = read_tables(open_capture(tmp_path / "out"), [Table.TRADES, Table.QUOTES], feeds={"mexc": load_feed(copy)})
    prices = {table: batch["price" if table is Table.TRADES else "bid_price"].to_pylist() for table, batch in tables}
    assert prices == {Table.TRADES: [100.1] * 2, Table.QUOTES: [99.9] * 2}
    read = [row for row, frame in zip(made.fields, venue.sent, strict=True) if isinstance(frame, bytes)]
    time = 1_731_000_000_003_000_000
    assert {(channel, symbol, at - time) for channel, symbol, at, _ in read} == {
        (channel, "BTCUSDT", after)
        for channel in ("aggre.deals@100ms", "aggre.depth@100ms", "aggre.bookTicker@100ms", "miniTicker")
        for after in (0, 1_000_000)
    }
    assert sorted(row[0::3] for row in read if row[3] is not None) == [
        ("aggre.bookTicker@100ms", 10),
        ("aggre.bookTicker@100ms", 12),
        ("aggre.depth@100ms", 10),
        ("aggre.depth@100ms", 12),
    ]
    assert {row[0] for row in made.fields} >= {"answer", "pong"}
    # the book lacks 11
    assert [(event["kind"], event["detail"]["missing"]) for event in made.events if event["kind"] == "gap"] == [
        ("gap", 1)
    ]


@pytest.mark.long
def test_spot_that_refuses_by_its_code(wsrec, exchange, tmp_path):
    class Full(Spot):
        def __init__(self):
            super().__init__()
            self.taken = set(map(str, range(30)))

    venue = Full()
    copy = local_copy("mexc", exchange(venue).url, tmp_path, keep_alive={"every": 0.3, "text": '{"method":"PING"}'})
    made = recorded(wsrec, copy, "--symbols", "BTCUSDT", "--channels", "trades")
    assert [text.partition(":")[0] for _, text in made.refused] == ["1"]
    assert (made.status, made.acked) == (4, set())


@pytest.mark.long
def test_futures_are_recorded(wsrec, exchange, tmp_path):
    venue = Futures()
    copy = local_copy(
        "mexc-futures",
        exchange(venue).url,
        tmp_path,
        keep_alive={"every": 0.9, "text": '{"method":"ping"}'},
        limits={"connects": 10, "connects_interval": 1, "messages_per_second": 50},
    )
    channels = "trades,book,ticker,depth.full"
    made = recorded(wsrec, copy, "--symbols", "BTC_USDT,NONE_USDT,BAD_USDT", "--channels", channels)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    # A symbol that does not exist may be confirmed, and then silent.
    assert made.acked >= {f"{c}:{s}" for c in ("deal", "depth", "ticker") for s in ("BTC_USDT", "NONE_USDT")}
    assert made.refused == [([], "Contract [BAD_USDT] not exists")] * 4
    assert made.status == 4
    own = [row for row in made.fields if row[0] in ("deal", "depth", "depth.full", "ticker")]
    assert sorted(own, key=str) == sorted(
        [
            ("deal", "BTC_USDT", 1755487578000000000, None),
            ("depth.full", "BTC_USDT", 1755487578000000000, None),
            ("ticker", "BTC_USDT", 1755487578000000000, None),
            *(("depth", "BTC_USDT", 1755487578000000000 + n * 10**6, seq) for n, seq in enumerate([5, 9, 10, 15])),
        ],
        key=str,
    )
    (gap,) = [event["detail"] for event in made.events if event["kind"] == "gap"]
    assert (gap["what"], gap["missing"]) == ("missing", 3)
    full = [json.loads(request) for request in venue.requests if "depth.full" in request]
    assert [request["param"]["limit"] for request in full] == [20, 20, 20]
