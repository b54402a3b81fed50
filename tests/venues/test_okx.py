from __future__ import annotations

import asyncio
import json

import pytest
import yaml
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.venues.mock import Replayed, by_path, local_copy, of_today, received_in_session, recorded
from tests.venues.okx import Okx
from wsrec.feed.load import catalogue

PING = {"every": 0.3, "text": "ping"}
TIME = 1597026383085000000


def stated(channel, instrument, *rows, **more):
    return json.dumps({"arg": {"channel": channel, "instId": instrument}, **more, "data": list(rows)})


def book(*numbers):
    """Changes of ETH-USDT, each with its number and the one before; -1: the whole book."""
    for number, before in numbers:
        row = {"asks": [], "bids": [], "ts": "1597026383085", "checksum": 0, "prevSeqId": before, "seqId": number}
        yield stated("books", "ETH-USDT", row, action="snapshot" if before == -1 else "update")


TRADE = {"tradeId": "130639474", "px": "42219.9", "sz": "0.12", "side": "buy", "ts": "1597026383085"}
PUBLIC = {
    ("trades", "BTC-USD"): of_today("okx/ws_trades"),
    ("books", "BTC-USDT"): of_today("okx/ws_books_snapshot") + of_today("okx/ws_books_update"),
    ("bbo-tbt", "BTC-USDT"): of_today("okx/ws_bbo_tbt"),
    ("tickers", "BTC-USDT"): of_today("okx/ws_tickers"),
    ("funding-rate", "BTC-USDT-SWAP"): of_today("okx/ws_funding_rate"),
    ("instruments", "SWAP"): of_today("okx/ws_instruments"),
    # Kept without the message around the rows.
    ("opt-summary", "BTC-USD"): [
        '{"arg":{"channel":"opt-summary","instFamily":"BTC-USD"},"data":' + rows + "}"
        for rows in of_today("okx/ws_opt_summary")
    ],
    # Nothing changed, then 25 is left out, then the numbers begin anew after maintenance, and the whole book comes.
    ("books", "ETH-USDT"): list(book((20, -1), (20, 20), (24, 20), (30, 25), (3, 30), (9, 3), (50, -1), (51, 50))),
    ("trades", "ETH-USDT"): [stated("trades", "ETH-USDT", {"instId": "ETH-USDT", "seqId": 7, **TRADE})],
    ("bbo-tbt", "ETH-USDT"): [
        stated("bbo-tbt", "ETH-USDT", {"asks": [], "bids": [], "ts": "1597026383085", "seqId": number})
        for number in (4, 4, 9)
    ],
}
BUSINESS = {
    ("candle1D", "BTC-USDT"): of_today("okx/ws_candle"),
    ("trades-all", "ETH-USDT"): [stated("trades-all", "ETH-USDT", {"instId": "ETH-USDT", **TRADE})],
}
TODAY = {
    ("books", "BTC-USDT", TIME, 123456),
    ("books", "BTC-USDT", TIME, 123457),
    ("bbo-tbt", "BTC-USDT", TIME, 123456),
    ("tickers", "BTC-USDT", TIME, None),
    ("trades", "BTC-USD", 1630048897897000000, None),
    ("funding-rate", "BTC-USDT-SWAP", 1744590349506000000, None),
    ("instruments-SWAP", "BTC-USDT-SWAP", None, None),
    ("opt-summary", "BTC-USD", 1711612800000000000, None),
    ("candle1D", "BTC-USDT", None, None),
}
CHANNELS = "trades,book,bbo,ticker,funding-rate,instruments-SWAP,opt-summary,candle1D,trades-all"


def test_is_recorded(wsrec, exchange, tmp_path):
    paths = {"/ws/v5/public": Okx(PUBLIC), "/ws/v5/business": Okx(BUSINESS)}
    config = yaml.safe_load(catalogue()["okx"].read_text())
    copy = local_copy(
        "okx",
        exchange(by_path(paths)).url,
        tmp_path,
        keep_alive=PING,
        # A connection that is about to end would be replaced, and so not end the recording.
        closing_notice=[],
        limits={**config["limits"], "connects": 100},
    )
    # As users write them: a pair, and a perpetual.
    made = recorded(wsrec, copy, "--channels", CHANNELS, "--symbols", "BTC-USD,btc/usdt,BTC/USDT:USDT,ETH-USDT")
    assert sorted(made.payloads) == sorted(frame.encode() for venue in paths.values() for frame in venue.sent)
    assert [(venue.dropped, venue.requests.count("ping")) for venue in paths.values()] == [(0, 2), (0, 2)]
    requested = {topic for e in made.events if e["kind"] == "subscribe" for topic in e["detail"]["topics"]}
    there = {f"{channel}:{name}" for channel, name in (*PUBLIC, *BUSINESS)}
    assert made.acked == there
    # Each of the others is refused by its name; nothing is left without an answer.
    assert {topic for topics, _ in made.refused for topic in topics} == requested - there
    assert all(len(topics) == 1 for topics, _ in made.refused)
    assert made.refused[0][1].startswith("60018: Wrong URL or channel:")
    assert made.status == 4
    eth = [row for row in made.fields if row[1] == "ETH-USDT" and row[2]]
    assert [row for row in eth if row[0] != "trades-all"] == [
        ("trades", "ETH-USDT", TIME, 7),
        *(("books", "ETH-USDT", TIME, number) for number in (20, 20, 24, 30, 3, 9, 50, 51)),
        *(("bbo-tbt", "ETH-USDT", TIME, number) for number in (4, 4, 9)),
    ]
    assert ("trades-all", "ETH-USDT", TIME, None) in eth
    (gap,) = [e["detail"] for e in made.events if e["kind"] == "gap"]
    assert (gap["expected"], gap["found"]) == (24, 25)
    assert [e["detail"]["found"] for e in made.events if e["kind"] == "sequence_reset"] == [-1]
    answers = {"subscribe", "error", "pong", "notice"}
    assert {row[0] for row in made.fields if row[0] in answers} == answers
    if of_today("okx/ws_trades"):
        assert {row for row in made.fields if row[1] != "ETH-USDT" and row[0] not in answers} == TODAY


@pytest.mark.long
def test_a_notice_replaces_the_connection(wsrec, exchange, tmp_path):
    class Announces(Okx):
        """Says so on the first connection, and ends the other one when the first is gone."""

        first = None

        def answer(self, request):
            if request == "ping":
                yield "pong"
            else:
                yield from super().answer(request)

        async def beside(self, connection):
            if self.first is None:
                self.first = connection
                await asyncio.sleep(0.2)
                await connection.send('{"event":"notice","code":"64008","msg":"The connection will soon be closed"}')
                return
            await self.first.wait_closed()
            await connection.close(1000, "done")

    venue = Announces({("trades", "ETH-USDT"): PUBLIC["trades", "ETH-USDT"]})
    copy = local_copy("okx", exchange(venue).url, tmp_path, keep_alive=PING)
    made = recorded(wsrec, copy, "--channels", "trades", "--symbols", "ETH-USDT")
    (replaced,) = [e["detail"] for e in made.events if e["kind"] == "replaced"]
    assert replaced["proved"]
    assert made.status == 0


def test_venue_drops_a_client_without_pings(exchange):
    venue = Okx({})
    venue.idle_limit = 0.2
    with connect(exchange(venue).url) as client, pytest.raises(ConnectionClosedError, match="1008"):
        client.recv(5)
    assert venue.dropped == 1


@pytest.mark.long
def test_session_of_2022(wsrec, exchange, tmp_path):
    """No numbers yet in the books of then, and no id of the connection in answers."""
    messages = received_in_session("okx")
    copy = local_copy("okx", exchange(Replayed(messages, 1)).url, tmp_path)
    symbols = "BTC-USD-220527,UNI-USD-SWAP,BTC-USDT"
    made = recorded(wsrec, copy, "--symbols", symbols, "--channels", "tickers,trades,books")
    assert made.payloads == [message.encode() for message in messages]
    assert (made.status, made.refused) == (0, [])
    assert made.acked == {
        f"{channel}:{symbol}" for channel in ("tickers", "trades", "books") for symbol in symbols.split(",")
    }
    data = [row for row in made.fields if row[0] != "subscribe"]
    assert {row[0] for row in data} == {"tickers", "trades", "books"}
    assert all(row[1] in symbols and row[2] for row in data)
    assert {row[3] for row in data} == {None}
