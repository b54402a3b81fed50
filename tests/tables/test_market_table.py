"""Every real message beside the project makes rows, or is of a kind that is named here with its reason."""

from __future__ import annotations

import re

import pytest

from tests.real_messages import DATA
from tests.tables.market_table import Made, markdown, sessions_and_messages

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"real messages are not beside the project: {DATA}")

# feed, source and reason as regular expressions; why it is right that they make no rows
EXPLAINED = {
    (".*", ".*", "answer: of no channel"): "acknowledgements and answers of errors",
    ("htx", "session", "ping: of no channel"): "pings that are answered",
    ("bitmex|kucoin", "session", "of no channel: welcome"): "the greeting of a connection",
    ("bybit-v2", "session", "of no channel: without a name"): "acknowledgements",
    ("bybit-option", "messages", "of no channel: subscribe"): "an acknowledgement of another market",
    ("kucoin", "session", "level2: .*: only advances the sequence"): "declared: a change without a level",
    ("bybit-linear", "session", "of no channel: .*"): "API v2 of 2021: read as bybit-v2",
    ("kraken", "session", "of no channel: without a name"): "API v1 of 2021, of arrays: not in the catalogue",
    ("binance(-us)?", "messages", "of no channel: (forceOrder|markPrice)"): "of futures",
    ("bybit-.*", "messages", "of no channel: trade.linear"): "no topic of v5",
    ("bybit-option", "messages", r"of no channel: (kline|orderbook)\.N"): "of linear perpetuals",
    ("coinbase", "messages", "of no channel: without a name"): "of Advanced Trade: read as coinbase-advanced",
    ("coinbase-advanced", "messages", "heartbeats: the channel has no tables"): "says nothing of a market",
    ("deribit", "messages", "deribit_volatility_index: the channel has no tables"): "no table has a volatility",
    ("dydx", "messages", "v4_block_height: the channel has no tables"): "says nothing of a market",
    ("hyperliquid", "messages", "allDexsAssetCtxs: without symbols; .*"): "declared: symbols are not in it",
    ("hyperliquid", "messages", "allMids: the channel has no tables"): "middle prices: no table has them",
    ("kraken", "messages", "of no channel: (levelN|pong)"): "level 3 needs an account; an answer to our ping",
    ("kraken|kraken-futures", "messages", "of no channel: without a name"): "of the other of the two",
    ("okx", "messages", "(instruments-SWAP|opt-summary): the channel has no tables"): "listings, greeks",
    ("bitmex", "messages", "orderBookL2: .*: before the first snapshot"): "declared: a change that follows no snapshot",
}


@pytest.fixture(scope="module")
def found() -> list[Made]:
    return list(sessions_and_messages())


def _reasons(found: list[Made]) -> list[tuple[str, str, str]]:
    return [(each.feed, each.source, reason) for each in found for reason in each.none]


def test_what_makes_no_rows_is_explained(found: list[Made]) -> None:
    unexplained = [
        reason
        for reason in _reasons(found)
        if not any(all(map(re.fullmatch, patterns, reason)) for patterns in EXPLAINED)
    ]
    assert unexplained == []


def test_every_explanation_is_needed(found: list[Made]) -> None:
    reasons = _reasons(found)
    for patterns in EXPLAINED:
        assert any(all(map(re.fullmatch, patterns, reason)) for reason in reasons), patterns


def test_all_others_make_rows(found: list[Made]) -> None:
    for each in found:
        # a message may make rows and lose a part of them: then it is counted in both
        assert each.makers + sum(each.none.values()) >= each.messages, each
    of_sessions = sum(each.makers for each in found if each.source == "session")
    assert of_sessions >= 20_780
    assert markdown(found).count("\n| ") == len(found) + 1
