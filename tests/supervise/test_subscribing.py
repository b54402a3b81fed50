"""A recording of an exchange that wants everything at once: a token, a pause, a time, answers to its pings."""

from __future__ import annotations

import asyncio
import gzip
import json
import os

from tests.conftest import events_of

SECRET = "s3cr3t-t0ken"
FEED = """
name: demanding
description: An exchange that wants everything at once
sockets:
  main:
    url: "{wss}/?token={{token}}&id={{uuid}}"
    token: {{url: "{https}/token?apikey={secret}", token: data.token}}
symbols:
  pattern: '[A-Z]+'
  words: letters
  example: BTC
  listing: {{url: "{https}/symbols"}}
on_connect: {{wait: 0.1, send: ['{{"id":{{id}},"hello":true}}']}}
subscribe:
  message: '{{"id":{{id}},"sub":{{topics}},"nonce":{{time_ms}}}}'
  batch: 2
keep_alive: {{answers: [{{path: ping, value: ping, text: '{{"pong":{{value}}}}'}}]}}
limits: {{streams_per_connection: 2, messages_per_second: 20, connects: 10, connects_interval: 1}}
ack: {{id: id, error_code: [error], error_message: [error]}}
fields: {{channel: [ch], symbol: [s], binary: gzip}}
channels: {{trade: {{topic: "trade.{{symbol}}", default: true, weight: 2}}}}
"""


def packed(message):
    return gzip.compress(json.dumps(message).encode())


def test_is_recorded_whole(wsrec, exchange, https, ca_file, tmp_path):
    refused = []

    async def handler(connection):
        if f"token={SECRET}" not in connection.request.path:
            refused.append(connection.request.path)
            return
        assert json.loads(await connection.recv())["hello"]
        requested = json.loads(await connection.recv())
        await connection.send(packed({"id": requested["id"], "ok": requested["nonce"] > 1e12}))
        for number in range(3):
            await connection.send(packed({"ping": number}))
            try:
                async with asyncio.timeout(60):
                    assert json.loads(await connection.recv()) == {"pong": number}
            except TimeoutError:
                refused.append("no pong")
                return
            for topic in requested["sub"]:
                await connection.send(packed({"ch": "trade", "s": topic.partition(".")[2], "n": number}))

    server = exchange(handler, tls=True)
    api = https(lambda path: {"data": {"token": SECRET}} if path.startswith("/token") else ["ETH", "BTC", "XRP"])
    feed = tmp_path / "demanding.yaml"
    feed.write_text(FEED.format(wss=server.url.removesuffix("/stream"), https=api.url, secret=SECRET))
    environment = {**os.environ, "SSL_CERT_FILE": str(ca_file), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ("record", feed, "--symbols", "all", "--until-close", "--out", tmp_path / "out", "--ca-file", ca_file)
    result = wsrec.run(*words, "--json", env=environment)
    assert result.returncode == 0, result.stderr
    assert refused == []
    assert json.loads(result.stdout)["gaps"] == 0
    assert "[demanding] 3 symbols, listed just now" in result.stderr
    acked = [topic for row in events_of(tmp_path / "out", "ack") for topic in row["detail"]["topics"]]
    assert sorted(acked) == ["trade.BTC", "trade.ETH", "trade.XRP"]
    assert events_of(tmp_path / "out", "unanswered") == []
    recorded = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert recorded
    assert not any(SECRET.encode() in data for data in recorded)
    assert SECRET not in result.stdout + result.stderr
