"""Hyperliquid: a greeting that is no JSON, one subscription a message, real messages of today where they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.venues.mock import Frame, Refusal, Venue

COINS = {"BTC", "PURR/USDC"}
OF_A_COIN = {"trades", "l2Book", "bbo", "activeAssetCtx"}


class Hyperliquid(Venue):
    """Closes normally after two pings.

    Args:
        messages: the folder of real messages.

    """

    idle_limit = 5.0

    def __init__(self, messages: Path) -> None:
        super().__init__()
        self.messages = messages
        self.pings = 0
        self.taken: list[dict[str, str]] = []

    def greeting(self) -> Iterator[Frame]:
        yield "Websocket connection established."

    def is_life(self, request: Frame) -> bool:
        return request == '{"method":"ping"}'

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested == {"method": "ping"}:
            self.pings += 1
            yield '{"channel":"pong"}'
            if self.pings == 2:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"method", "subscription"}
        assert requested["method"] == "subscribe"
        wanted = requested["subscription"]
        kind, coin = wanted["type"], wanted.get("coin")
        whole = kind in ("allMids", "allDexsAssetCtxs") and wanted.keys() == {"type"}
        if not whole and (kind not in OF_A_COIN or wanted.keys() != {"type", "coin"} or coin not in COINS):
            yield json.dumps({"channel": "error", "data": f"Invalid subscription {json.dumps(wanted)}"})
        elif wanted in self.taken:
            yield json.dumps({"channel": "error", "data": f"Already subscribed: {json.dumps(wanted)}"})
        else:
            self.taken.append(wanted)
            yield json.dumps({"channel": "subscriptionResponse", "data": requested})
            yield from self.data(kind, coin)

    def data(self, kind: str, coin: str | None) -> Iterator[str]:
        if kind == "allMids":
            yield (self.messages / "ws_allmids.json").read_text()
        elif kind == "allDexsAssetCtxs":
            yield (self.messages / "ws_all_dexs_asset_ctxs.json").read_text()
        elif kind == "l2Book":
            book = json.loads((self.messages / "ws_book_data.json").read_text())
            yield json.dumps({"channel": "l2Book", "data": {**book, "coin": coin}})
        elif kind == "trades":
            trades = [{"coin": coin, "side": "A", "px": "98450.5", "sz": "0.1", "time": t, "tid": 5} for t in (11, 12)]
            yield json.dumps({"channel": "trades", "data": trades})
        elif kind == "bbo":
            best = {"coin": coin, "time": 1703875200000, "bbo": [{"px": "98450.5", "sz": "2.5", "n": 3}, None]}
            yield json.dumps({"channel": "bbo", "data": best})
        else:
            channel = "activeSpotAssetCtx" if "/" in str(coin) else "activeAssetCtx"
            yield json.dumps({"channel": channel, "data": {"coin": coin, "ctx": {"markPx": "98450.5"}}})
