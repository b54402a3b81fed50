"""Bybit v5: topics by name, an answer a request (for options: a list of topics), pings as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tests.venues.mock import Frame, Refusal, Venue

TOPIC = re.compile(r"(publicTrade|orderbook\.(1|25|50|100|200|1000|full)|tickers|kline\.\w+|allLiquidation)\.([\w-]+)")


class Bybit(Venue):
    """One category; closes normally with the second ping or a later one, once every wrong topic was named.

    Args:
        category: `spot`, `linear`, `inverse` or `option`.
        topics: what each topic sends; topics of other symbols are refused.

    """

    idle_limit = 5.0

    def __init__(self, category: str, topics: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.category = category
        self.topics = topics
        self.symbols = {topic.rpartition(".")[2] for topic in topics}
        self.characters = self.pings = 0
        self._wrong: set[str] = set()
        self._named: set[str] = set()

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["op"] == "ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested["op"] == "ping":
            assert requested == {"op": "ping"}
            self.pings += 1
            pong = {"op": "pong", "args": ["1675418560633"], "conn_id": "c"}
            if self.category != "option":
                pong = {"success": True, "ret_msg": "pong", "conn_id": "c", "req_id": "", "op": "ping"}
            yield json.dumps(pong)
            if self.pings >= 2 and self._wrong == self._named:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"req_id", "op", "args"}
        assert requested["op"] == "subscribe"
        self.characters += len("".join(requested["args"]))
        assert self.characters <= 21_000
        wrong = [topic for topic in requested["args"] if not self._exists(topic)]
        stated = f"Invalid topic: {wrong[0]}" if wrong else ""
        if self.category == "spot" and len(requested["args"]) > 10:
            wrong, stated = requested["args"], "args size >10"
        self._wrong.update(wrong)
        self._named.update(wrong if self.category == "option" else wrong[:1])
        if self.category == "option":
            right = [topic for topic in requested["args"] if topic not in wrong]
            data = {"failTopics": wrong, "successTopics": right}
            yield json.dumps({"success": bool(right), "conn_id": "c", "data": data, "type": "COMMAND_RESP"})
            taken = right
        else:
            ok = {"ret_msg": stated or ("subscribe" if self.category == "spot" else "")}
            yield json.dumps(
                {"success": not stated, **ok, "conn_id": "c", "req_id": requested["req_id"], "op": "subscribe"}
            )
            taken = [] if stated else requested["args"]
        for topic in taken:
            yield from self.topics.get(topic, ())

    def _exists(self, topic: str) -> bool:
        found = TOPIC.fullmatch(topic)
        return found is not None and found[3] in self.symbols
