"""wsrec.MessageFieldReader: the recorder's columns, read in the callback."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import wsrec
from tests.exchange import sends
from wsrec.decode.reader import PythonFieldReader
from wsrec.feed.load import find_feed

pytestmark = pytest.mark.usefixtures("core")


def fields_of(exchange: Any, feed: str | Path, messages: list[str | bytes]) -> list[wsrec.MessageFields]:
    read = wsrec.MessageFieldReader(feed)
    found: list[wsrec.MessageFields] = []
    server = exchange(sends(messages))

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            wsrec.connect(server.url, on_message=lambda message: found.append(read(message))) as connection,
        ):
            await connection.wait_closed()

    asyncio.run(main())
    return found


TRADE = {"stream": "btcusdt@trade", "data": {"e": "trade", "E": 1700000000123, "s": "BTCUSDT", "t": 42}}


def test_of_a_feed_of_the_catalogue(exchange):
    found = fields_of(exchange, "binance", [json.dumps(TRADE), "not JSON", "[]"])
    assert found[0] == ("btcusdt@trade", "BTCUSDT", 1700000000123000000, 42) or found[0].symbol == "BTCUSDT"
    assert found[0].exchange_time == 1_700_000_000_123_000_000
    assert found[0].exchange_seq == 42
    assert found[1:] == [(None, None, None, None)] * 2


def test_of_compressed_messages_of_a_feed_of_ones_own(exchange, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ndescription: of one's own\nsockets: {main: {url: 'wss://localhost/'}}\n"
        "subscribe: {message: '{\"ask\":{topics}}'}\nchannels: {trade: {topic: t}}\n"
        "limits: {connects: 10, connects_interval: 1}\n"
        "fields: {channel: [ch], symbol: [s], exchange_time: [t], binary: gzip}\n"
    )
    message = json.dumps({"ch": "trade", "s": "A", "t": 7}).encode()
    found = fields_of(exchange, file, [gzip.compress(message), message, gzip.compress(message)[:-9]])
    assert found == [("trade", "A", 7_000_000, None)] * 2 + [(None,) * 4]


def test_the_same_as_the_recorders(exchange):
    messages = [json.dumps({**TRADE, "data": {**TRADE["data"], "t": n, "s": f"S{n % 3}"}}) for n in range(50)]
    reader = PythonFieldReader(find_feed("binance"))
    payload = pa.array([message.encode() for message in messages], pa.large_binary())
    columns = reader.read(payload, pa.array([True] * len(messages)).to_numpy(zero_copy_only=False))
    wanted = list(zip(*(column.to_pylist() for column in columns[:4]), strict=True))
    assert [tuple(fields) for fields in fields_of(exchange, "binance", list(messages))] == wanted


def test_ids_are_learned_on_each_connection_apart(exchange):
    known = [
        {"event": "subscribed", "channel": "trades", "chanId": 5, "symbol": "tBTCUSD", "pair": "BTCUSD"},
        [5, "hb"],
    ]
    first = fields_of(exchange, "bitfinex", [json.dumps(message) for message in known])
    alone = fields_of(exchange, "bitfinex", [json.dumps(known[1])])
    assert first[1].symbol == "tBTCUSD"
    assert alone[0].symbol is None


def test_an_unknown_feed_is_refused():
    with pytest.raises(wsrec.ConfigError, match="no feed 'binence'"):
        wsrec.MessageFieldReader("binence")
