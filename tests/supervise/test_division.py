"""One dead topic in a request that the exchange refuses whole: the others are recorded, also after a reconnection."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conftest import events_of, messages_of

FEED = """
name: strict
description: an exchange that refuses a request for one dead topic in it
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: letters, example: A}}
default_symbols: [AA, BB, DEAD, CC, EE]
subscribe: {{message: '{{"op":"sub","args":{{topics}},"req":{{id}},"at":{{time_ms}}}}', batch: 50}}
limits: {{streams_per_connection: 100, messages_per_second: 20, connects: 60, connects_interval: 1}}
ack: {{id: req, errors: [{{path: ok, equals: false}}], error_message: [msg], timeout: 2}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trade: {{topic: "trade.{{symbol}}", default: true}}}}
"""
GOOD = {"AA", "BB", "CC", "EE"}


class Strict:
    """Refuses a request with a dead topic, a topic that it has already, a number that it has had, and more than 20 a s.

    Attributes:
        requested: by connection, the topics of each request.

    """

    def __init__(self, words: str, starts: int = 1) -> None:
        self.words, self.starts = words, starts
        self.requested: list[list[list[str]]] = []
        self.wrong: list[str] = []

    async def __call__(self, connection) -> None:
        mine: list[list[str]] = []
        self.requested.append(mine)
        topics: set[str] = set()
        numbers: set[int] = set()
        last = 0.0
        loop = asyncio.get_running_loop()

        async def read() -> None:
            nonlocal last
            async for text in connection:
                request = json.loads(text)
                mine.append(request["args"])
                if request["req"] in numbers or topics & set(request["args"]) or loop.time() - last < 0.04:
                    self.wrong.append(text)
                numbers.add(request["req"])
                last = loop.time()
                dead = [topic for topic in request["args"] if "DEAD" in topic]
                answer = {"req": request["req"], "ok": not dead}
                if dead:
                    answer["msg"] = self.words.format(topic=dead[0])
                else:
                    topics.update(request["args"])
                await connection.send(json.dumps(answer))

        reading = asyncio.ensure_future(read())
        number = 0
        while not reading.done():
            number += 1
            for topic in sorted(topics):
                await connection.send(json.dumps({"c": "trade", "s": topic.partition(".")[2], "n": number}))
            done = {topic.partition(".")[2] for topic in topics} == GOOD and number > 40
            if done and len(self.requested) < self.starts:
                connection.transport.abort()
            elif done:
                await connection.close()
            await asyncio.sleep(0.05)
        await asyncio.wait((reading,))


@pytest.mark.parametrize(
    ("words", "starts"),
    [("something is invalid", 2), ("handler not found, topic:{topic}", 1)],
    ids=["by halves and after a reconnection", "named"],
)
@pytest.mark.long
def test_only_the_dead_one_is_refused(wsrec, exchange, tmp_path, words, starts):
    server = Strict(words, starts)
    feed = tmp_path / "strict.yaml"
    feed.write_text(FEED.format(url=exchange(server).url))
    out = tmp_path / "out"
    result = wsrec.run("record", feed, "--out", out, "--until-close", "--duration", "40s", "--quiet")
    assert result.returncode == 4, result.stderr
    assert server.wrong == []
    rows = messages_of(out, columns=["direction", "symbol", "seq"]).to_pylist()
    assert {row["symbol"] for row in rows if row["direction"] == "recv" and row["symbol"]} == GOOD
    (refused,) = events_of(out, "refused")
    assert refused["detail"]["topics"] == ["trade.DEAD"]
    (first, *_) = events_of(out, "split")
    assert len(first["detail"]["topics"]) == 5
    assert first["detail"]["message"] == words.format(topic="trade.DEAD")
    assert "the exchange refused trade.DEAD" in result.stderr
    assert "1 refused, unanswered or late subscription" in result.stderr
    # every answer belongs to the request with the number that was sent, also of those that the plan did not have
    rows = messages_of(out, columns=["request", "text", "seq"]).to_pylist()
    sent = {row["request"]: json.loads(row["text"]) for row in rows if row["request"] is not None}
    assert {number: text["req"] for number, text in sent.items()} == dict(zip(sent, sent, strict=True))
    assert min(sent) == 1 < max(sent)
    for kind in ("subscribe", "ack", "refused", "split"):
        for event in events_of(out, kind):
            assert sent[event["detail"]["request"]]["args"] == event["detail"]["topics"]
    for requested in server.requested[1:]:
        assert sorted(topic for topics in requested for topic in topics) == sorted(f"trade.{symbol}" for symbol in GOOD)
