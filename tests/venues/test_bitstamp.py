from __future__ import annotations

import json

import pytest
import yaml

from tests.venues.bitstamp import Bitstamp
from tests.venues.mock import Replayed, local_copy, received_in_session, recorded
from wsrec.feed.load import catalogue, find_feed
from wsrec.monitor.closing_notice import NoticeReader

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 100}
TRADE = (
    '{"data":{"id":216000477,"timestamp":"1641343699","amount":0.0792,"amount_str":"0.07920000","price":3805.44,'
    '"price_str":"3805.44","type":0,"microtimestamp":"1641343699596000","buy_order_id":1443875737346049,'
    '"sell_order_id":1443875731320832},"channel":"live_trades_ethusd","event":"trade"}'
)


def change(time):
    return (
        f'{{"data":{{"timestamp":"{time // 10**6}","microtimestamp":"{time}","bids":[],"asks":[["0.886","0.0"]]}},'
        '"channel":"diff_order_book_ethusd","event":"data"}'
    )


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    times = [1641343691580748, 1641343691697531, 1641343691648492]
    venue = Bitstamp({"live_trades_ethusd": [TRADE], "diff_order_book_ethusd": [change(time) for time in times]}, 6)
    channels = yaml.safe_load(catalogue()["bitstamp"].read_text())["channels"] | {"wrong": {"topic": "wrong_{symbol}"}}
    keep_alive = {"every": 0.3, "text": '{"event":"bts:heartbeat"}'}
    feed = local_copy("bitstamp", exchange(venue).url, tmp_path, limits=FAST, keep_alive=keep_alive, channels=channels)
    made = recorded(wsrec, feed, "--symbols", "ethusd,nonesuch", "--channels", "trades,book,wrong")
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.heartbeats >= 3
    # an unknown market is confirmed too
    kinds = ("live_trades", "diff_order_book")
    assert made.acked == {f"{kind}_{symbol}" for kind in kinds for symbol in ("ethusd", "nonesuch")}
    # the refusal does not say of what
    assert made.refused == [([], "Bad subscription string.")] * 2
    assert made.status == 4
    assert [row for row in made.fields if not row[0].startswith("bts:")] == [
        ("live_trades", "ethusd", 1641343699596000000, 216000477),
        *(("diff_order_book", "ethusd", time * 1000, time) for time in times),
    ]
    assert {row[0] for row in made.fields if row[0].startswith("bts:")} == {
        "bts:heartbeat",
        "bts:error",
        "bts:subscription_succeeded",
    }
    (gap,) = [event["detail"] for event in made.events if event["kind"] == "gap"]
    assert (gap["what"], gap["found"]) == ("back", times[-1])


def test_says_when_it_is_about_to_close():
    notices = NoticeReader(find_feed("bitstamp"))
    assert notices.read(b'{"event":"bts:request_reconnect","channel":"","data":""}') == "bts:request_reconnect"
    assert notices.read(b'{"event":"bts:heartbeat","channel":"","data":""}') is None


@pytest.mark.long
def test_session_of_2022(wsrec, exchange, tmp_path):
    messages = received_in_session("bitstamp")
    read = [json.loads(text) for text in messages]
    topics = {one["channel"] for one in read if one["event"].startswith("bts:")}
    feed = local_copy("bitstamp", exchange(Replayed(messages, 20)).url, tmp_path, limits=FAST)
    symbols = ",".join({topic.rpartition("_")[2] for topic in topics})
    made = recorded(wsrec, feed, "--symbols", symbols, "--channels", "trades,book")
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused, made.acked) == (0, [], topics)
    data = [one for one in read if not one["event"].startswith("bts:")]
    assert [row for row in made.fields if not row[0].startswith("bts:")] == [
        (*_parts(one["channel"]), int(one["data"]["microtimestamp"]) * 1000, _number(one["data"])) for one in data
    ]
    assert not [event for event in made.events if event["kind"] == "gap"]


def _parts(channel):
    return channel.rpartition("_")[::2]


def _number(data):
    return data["id"] if "id" in data else int(data["microtimestamp"])
