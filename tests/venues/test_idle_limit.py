"""The mocks are as strict as their venues: no sign of life, and they cut off; another shape, and they say nothing."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.venues.bitget import Bitget
from tests.venues.crypto_com import CryptoCom
from tests.venues.gemini import Gemini
from tests.venues.hyperliquid import Hyperliquid
from tests.venues.mexc import Futures, Spot
from tests.venues.upbit import PingCounter, Upbit

VENUES = {
    "bitget": lambda folder: Bitget(("instType", "channel", "instId"), "SPOT", {"trade"}),
    "crypto-com": lambda folder: CryptoCom(),
    "gemini": lambda folder: Gemini(),
    "hyperliquid": Hyperliquid,
    "mexc": lambda folder: Spot(),
    "mexc-futures": lambda folder: Futures(),
    "upbit": lambda folder: Upbit(),
}
# Each almost what the venue takes.
WRONG = {
    "bitget": '{"op":"subscribe","args":[{"instType":"SPOT","topic":"trade","symbol":"BTCUSDT"}]}',
    "crypto-com": '{"id":1,"method":"subscribe","params":{"channels":["trade.BTC_USDT"]}}',
    "gemini": '{"id":1,"method":"subscribe","params":["btcusd@trade"]}',
    "hyperliquid": '{"method":"subscribe","subscription":[{"type":"trades","coin":"BTC"}]}',
    "mexc": '{"method":"SUBSCRIPTION","params":["spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT"],"id":1}',
    "mexc-futures": '{"method":"sub.deal","param":{"symbol":"BTC_USDT"}}',
    "upbit": '[{"ticket":"1"},{"type":"trade","codes":["KRW-BTC"]},{"format":"DEFAULT"}]',
}


def closed_with(exchange, venue, *requests):
    """The code that it closes with after these requests."""
    url = exchange(venue, create_connection=PingCounter).url.replace("/stream", "/?snapshot=-1")
    with connect(url, ping_interval=None) as client:
        for request in requests:
            client.send(request)
        with pytest.raises(ConnectionClosed) as closed:
            listen(client)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def listen(client):
    while True:
        client.recv(5)


@pytest.mark.parametrize("name", VENUES)
def test_who_gives_no_sign_of_life_is_cut_off(exchange, tmp_path, name):
    venue = VENUES[name](tmp_path)
    setattr(venue, "idle" if name == "upbit" else "idle_limit", 0.1)
    closed_with(exchange, venue)
    assert venue.dropped == 1


@pytest.mark.parametrize("name", VENUES)
def test_another_shape_is_not_understood(exchange, tmp_path, name):
    venue = VENUES[name](tmp_path)
    venue.pause = 0.0
    assert closed_with(exchange, venue, WRONG[name]) == 1011
