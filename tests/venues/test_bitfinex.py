from __future__ import annotations

import json

import pytest

from tests.venues.bitfinex import TIME, Bitfinex
from tests.venues.mock import local_copy, recorded
from wsrec.feed.load import find_feed
from wsrec.monitor.closing_notice import NoticeReader

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100, "streams_per_connection": 25}
BODIES = {
    "trades": [
        [[[401597395, 1574694478808, 0.005, 7245.3], [401597394, 1574694478700, 0.1, 7245.2]]],
        ["te", [401597396, 1574694479808, 0.005, 7245.3]],
        ["tu", [401597396, 1574694479808, 0.005, 7245.3]],
    ],
    "book": [[[[7254.7, 3, 3.3], [7254.6, 1, -0.5]]], [[7254.7, 0, 1]]],
    "ticker": [[[7616.5, 31.89, 7617.5, 43.36, -550.8, -0.07, 7617.1, 8314.7, 8257.8, 7500]]],
    "status": [[[1596124822000, None, 0.89, 0.83, None, 100.0, None, 1.0, 5, None, None, 0.01]]],
}


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    symbols = ["tBTCUSD", "tBTCF0:USTF0", "deriv:tBTCF0:USTF0", "liq:global"]
    venue = Bitfinex(symbols, BODIES, lost=9, awaited=16)
    feed = local_copy("bitfinex", exchange(venue).url, tmp_path, limits=FAST)
    requested = "tBTCUSD,BTC/USDT:USDT,tNONEUSD"
    made = recorded(wsrec, feed, "--symbols", requested, "--channels", "trades,book,book-R0-25,ticker,deriv,liq")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    taken = ("trades", "book-P0-250", "book-R0-25", "ticker")
    topics = {f"{channel}:{symbol}" for channel in taken for symbol in ("tBTCUSD", "tBTCF0:USTF0")}
    assert made.acked == topics | {"deriv:tBTCF0:USTF0", "liq:global"}
    # the error does not say of what
    assert made.refused == [([], "10300: subscribe: invalid")] * 6
    assert made.status == 4
    data = [(text, row) for text, row in zip(map(json.loads, made.payloads), made.fields, strict=True) if row[3]]
    assert [row[3] for _, row in data] == [number for number in range(1, len(data) + 2) if number != 9]
    assert {row[2] for _, row in data} == {TIME * 10**6}
    streams = {(row[0], row[1]) for text, row in data if text[1] != "hb"}
    assert streams == {tuple(topic.split(":", 1)) for topic in topics} | {("deriv", "tBTCF0:USTF0"), ("liq", None)}
    assert {row[:2] for text, row in data if text[1] == "hb"} == {("heartbeat", symbol) for _, symbol in streams}
    assert {row[0] for row in made.fields if not row[3]} == {"info", "conf", "subscribed", "error"}
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["detail"]["expected"], gap["detail"]["missing"]) == (None, 9, 1)


def test_says_when_it_is_about_to_close():
    notices = NoticeReader(find_feed("bitfinex"))
    codes = [notices.read(json.dumps({"event": "info", "code": n}).encode()) for n in (20051, 20060, 20061)]
    assert codes == ["20051", None, "20061"]
    assert notices.read(b'{"event":"info","version":2,"platform":{"status":1}}') is None
