"""The page's examples of requests: each one, put into an otherwise complete feed, loads and is planned."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.feeds import parse_feed
from wsrec.feed.placeholders import fill, fill_when_sent
from wsrec.plan.connections import plan
from wsrec.plan.target import Target

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "feeds.md"
SECTION = PAGE.read_text().partition("## Subscriptions")[2].partition("\n## ")[0]
RECIPES = re.findall(r"^```yaml\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
REST: dict[str, Any] = {
    "name": "x",
    "description": "d",
    "sockets": {"main": {"url": "wss://example.com/ws"}},
    "symbols": {"pattern": "[A-Z_]+", "words": "letters", "example": "BTC_USDT"},
    "limits": {"connects": 10, "connects_interval": 1},
    "subscribe": {"message": '{"args":{topics}}'},
    "channels": {"trades": {"topic": "trades.{symbol}"}},
}


def test_there_are_some():
    assert len(RECIPES) > 10


@pytest.mark.parametrize("recipe", RECIPES)
def test_loads_and_is_planned(recipe):
    feed = parse_feed(yaml.safe_dump({**REST, **yaml.safe_load(recipe)}).encode(), "recipe.yaml")
    connections = plan([Target(feed=feed, symbols=("BTC_USDT", "ETH_USDT"), channels=tuple(feed.channel_table))])
    assert connections
    for connection in connections:
        assert connection.topics
        for text in (*connection.first, *(subscription.text for subscription in connection.requests)):
            json.loads(fill_when_sent(fill(text, {"id": 1})))


def test_every_placeholder_is_in_the_table():
    table = set(re.findall(r"`\{(\w+)\}`", "".join(re.findall(r"^\| `\{.*?\|", SECTION, re.MULTILINE))))
    assert table == {"topics", "arguments", "symbols", "channel", "topic", "symbol", "id", "time_ms", "time_s", "uuid"}
