from __future__ import annotations

import copy
import json

import pytest
import yaml

from tests.venues.deribit import Deribit
from tests.venues.mock import Replayed, local_copy, of_today, received_in_session, recorded
from wsrec.feed.load import catalogue

FAST = {"connects": 10, "connects_interval": 1, "messages_per_second": 50}
PERPETUAL = "BTC-PERPETUAL"
TODAY = {
    "trades.BTC-PERPETUAL.100ms": ["deribit/ws_trades"],
    "book.BTC-PERPETUAL.100ms": ["deribit/ws_book_snapshot", "deribit/ws_book_delta"],
    "book.BTC-PERPETUAL.none.10.100ms": ["deribit/ws_book_grouped_snapshot"],
    "quote.BTC-PERPETUAL": ["deribit/ws_quote"],
    "ticker.BTC-PERPETUAL.100ms": ["deribit/ws_ticker"],
    "chart.trades.BTC-PERPETUAL.1": ["deribit/ws_chart"],
    "deribit_volatility_index.btc_usd": ["deribit/ws_volatility_index"],
}
READ = [
    ("trades.100ms", PERPETUAL, 1765531356452000000, 271252855),
    ("book.100ms", PERPETUAL, 1699999999000000000, 123456789),
    ("book.100ms", PERPETUAL, 1699999999500000000, 123456790),
    ("book.none.10.100ms", PERPETUAL, 1769246173071000000, 136725664747),
    ("quote", PERPETUAL, 1765541767174000000, None),
    ("ticker.100ms", PERPETUAL, 1765541474086000000, None),
    ("chart.trades.1", PERPETUAL, None, None),
    ("deribit_volatility_index", "btc_usd", 1619777946007000000, None),
]


@pytest.mark.long
def test_is_recorded(wsrec, exchange, tmp_path):
    messages = {topic: [text for name in names for text in of_today(name)] for topic, names in TODAY.items()}
    if not all(messages.values()):
        pytest.skip("real messages are not beside the project")
    # after 123456790 comes a change that follows another one
    later = json.loads(messages["book.BTC-PERPETUAL.100ms"][1])
    later["params"]["data"] |= {"change_id": 123456799, "prev_change_id": 123456795}
    messages["book.BTC-PERPETUAL.100ms"].append(json.dumps(later))
    venue = Deribit(messages)
    feed = local_copy("deribit", exchange(venue).url, tmp_path, limits=FAST)
    channels = "trades,book,bbo,ticker,book.none.10.100ms,chart.trades.1,deribit_volatility_index"
    made = recorded(wsrec, feed, "--symbols", f"{PERPETUAL},btc_usd", "--channels", channels)
    assert made.payloads == [frame.encode() for frame in venue.sent]
    assert venue.dropped == 0
    assert venue.answered >= 2
    assert made.acked == TODAY.keys()
    # what the result leaves out was refused
    (refused,) = made.refused
    assert len(refused[0]) == 7
    assert "trades.btc_usd.100ms" in refused[0]
    assert made.status == 4
    found = [row for row in made.fields if row[1]]
    assert sorted(found) == sorted([*READ, ("book.100ms", PERPETUAL, 1699999999500000000, 123456799)])
    assert {row[0] for row in made.fields if not row[1]} == {"answer", "heartbeat"}
    (gap,) = [event for event in made.events if event["kind"] == "gap"]
    assert (gap["channel"], gap["detail"]["expected"], gap["detail"]["found"]) == ("book.100ms", 123456790, 123456795)


def with_raw():
    """The channels of the catalogue, and those that take a login: read as the ones that are gathered for 100 ms."""
    channels = yaml.safe_load(catalogue()["deribit"].read_text())["channels"]
    for kind in ("trades", "book", "ticker"):
        channels[f"{kind}.raw"] = copy.deepcopy(channels[f"{kind}.100ms"]) | {"topic": f"{kind}.{{symbol}}.raw"}
        del channels[f"{kind}.raw"]["common"]
    return channels


@pytest.mark.long
def test_raw_is_refused_without_a_login(wsrec, exchange, tmp_path):
    venue = Deribit({})
    feed = local_copy("deribit", exchange(venue).url, tmp_path, limits=FAST, channels=with_raw())
    made = recorded(wsrec, feed, "--symbols", PERPETUAL, "--channels", "book.raw")
    stated = "13778: raw_subscriptions_not_available_for_unauthorized"
    assert (made.status, made.refused) == (4, [([f"book.{PERPETUAL}.raw"], stated)])


@pytest.mark.long
def test_answers_of_today(wsrec, exchange, tmp_path):
    answers = [*of_today("deribit/ws_subscribe_response"), *of_today("deribit/ws_error")]
    if not answers:
        pytest.skip("real messages are not beside the project")
    feed = local_copy("deribit", exchange(Replayed(answers, 2)).url, tmp_path, limits=FAST)
    made = recorded(wsrec, feed, "--symbols", PERPETUAL, "--channels", "trades,book")
    assert made.payloads == [text.encode() for text in answers]
    assert [row[0] for row in made.fields] == ["answer", "answer"]
    # both have the id 1: what the second refuses was confirmed before
    assert made.acked == {f"trades.{PERPETUAL}.100ms", f"book.{PERPETUAL}.100ms"}
    assert (made.status, made.refused) == (4, [([], "10028: too_many_requests")])


@pytest.mark.long
def test_session_of_2021(wsrec, exchange, tmp_path):
    messages = received_in_session("deribit")
    topics = json.loads(messages[0])["result"]
    messages[0] = messages[0].replace('"id":0', '"id":1')
    combo = of_today("deribit/ws_trades_option_combo")
    symbols = sorted({topic.split(".")[1] for topic in topics})
    venue = Replayed([*messages, *combo], 2)
    feed = local_copy("deribit", exchange(venue).url, tmp_path, limits=FAST, channels=with_raw())
    made = recorded(wsrec, feed, "--symbols", ",".join(symbols), "--channels", "trades.raw,book.raw,ticker.raw")
    assert made.payloads == [message.encode() for message in [*messages, *combo]]
    assert (made.status, made.refused, made.acked) == (0, [], set(topics))
    assert not [event for event in made.events if event["kind"] in ("gap", "sequence_reset")]
    assert made.fields.pop() == ("trades.raw", "BTC-CS-19MAY26-70000_75000", 1779118041756000000, 1)
    data = [json.loads(message)["params"]["data"] for message in messages if '"params"' in message]
    assert made.fields[-len(data) :] == [
        (
            "book.raw" if "change_id" in one else "ticker.raw",
            one["instrument_name"],
            one["timestamp"] * 10**6,
            one.get("change_id"),
        )
        for one in data
    ]
