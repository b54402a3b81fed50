"""Bitstamp: a message a channel, answers by channel; unknown markets are confirmed and stay silent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from tests.venues.mock import Frame, Refusal, Venue

KINDS = ("live_trades_", "diff_order_book_", "order_book_", "detail_order_book_", "live_orders_", "funding_rate_")


class Bitstamp(Venue):
    """Closes normally after three heartbeats and `awaited` subscriptions.

    Args:
        channels: what each channel sends.
        awaited: see above.

    """

    idle_limit = 5.0

    def __init__(self, channels: Mapping[str, Sequence[str]], awaited: int) -> None:
        super().__init__()
        self.channels, self.awaited = channels, awaited
        self.heartbeats = 0

    def is_life(self, request: Frame) -> bool:
        return json.loads(request) == {"event": "bts:heartbeat"}

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if self.is_life(request):
            self.heartbeats += 1
            yield '{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}'
            if self.heartbeats >= 3 and len(self.requests) - self.heartbeats == self.awaited:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"event", "data"}
        assert requested["event"] == "bts:subscribe"
        assert requested["data"].keys() == {"channel"}
        channel = requested["data"]["channel"]
        if not channel.startswith(KINDS):
            yield '{"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}'
            return
        yield json.dumps({"event": "bts:subscription_succeeded", "channel": channel, "data": {}})
        yield from self.channels.get(channel, ())
